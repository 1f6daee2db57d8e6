"""Every parameter of a run, checked before anything is computed.

The field defaults are the demo profile: `params/demo.yaml` and the parameters cell of every notebook say the
same, and a test holds the three together.
"""

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from fairkd import runs
from fairkd.data import DATASETS
from fairkd.methods import METHODS

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class ParameterError(ValueError):
    """A parameter of the experiment is wrong; the message names it, its value and what is allowed."""


def _nearest(name: str, allowed) -> str:
    """A sentence that names the allowed spelling closest to `name`, or all of them."""
    close = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"allowed: {', '.join(sorted(allowed))}"


class Parameters(BaseModel):
    """Parameters of a notebook, checked: frozen and strict, an unknown name or a wrong type is a `ParameterError`."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    def __init__(self, **parameters: Any):
        """Check `parameters`; raises `ParameterError` with one line for each that is wrong."""
        try:
            super().__init__(**parameters)
        except ValidationError as error:
            lines = [_explain(e, type(self).model_fields) for e in error.errors()]
            raise ParameterError("\n".join(lines)) from None

    @classmethod
    def from_notebook(cls, namespace: dict[str, Any]) -> Self:
        """The parameters of a notebook: `Experiment.from_notebook(globals())`.

        Every plain value (number, text, list, None) in the namespace is taken for a parameter, so a misspelt
        name that papermill injected is refused here. Call it before the notebook defines anything else.
        """
        plain = (bool, int, float, str, list, tuple, dict, type(None))
        ipython = {"In", "Out"}
        return cls(
            **{
                name: value
                for name, value in namespace.items()
                if isinstance(value, plain) and not name.startswith("_") and name not in ipython
            }
        )

    def vary(self, **changes: Any) -> Self:
        """The same with some parameters changed, checked again."""
        return type(self)(**(self.model_dump() | changes))


class Experiment(Parameters):
    """One teacher, one student and the data they see: the whole configuration of a run.

    Build it with keyword arguments, from a params file (`from_file`) or from a notebook's parameters
    (`from_notebook`).
    """

    # Data
    dataset: str = Field("demo", description="entry of fairkd.DATASETS")
    data: str | None = Field(None, description="hub name or folder; null: the entry's own source")
    train_examples: Count | None = Field(8_000, description="training pairs; null: all there are")
    evaluation_examples: Count | None = Field(3_900, description="evaluation pairs; null: all there are")
    validation_examples: Annotated[int, Field(ge=0)] = Field(
        600, description="held-out training pairs, to choose epochs"
    )
    max_length: Annotated[int, Field(ge=8)] = Field(64, description="tokens a pair is truncated to")
    data_seed: Seed = Field(0, description="seed of the demo corpus and of the subset drawn")
    negation_rates: Annotated[list[Fraction], Field(min_length=3, max_length=3)] = Field(
        [0.022, 0.029, 0.16], description="demo corpus only: P(negation | label), entailment neutral contradiction"
    )

    # Teacher
    teacher_model: str = Field("demo-bert", description="hub name, folder or embedded encoder")
    teacher_epochs: Annotated[int, Field(ge=0)] = Field(3, description="0: the checkpoint is a ready classifier")
    teacher_learning_rate: Positive = Field(5e-4, description="peak of the teacher's linear schedule")
    teacher_seed: Seed = Field(0, description="seed of the teacher's head, batches and dropout")

    # Student
    method: str = Field("laplace", description="weighting method, entry of fairkd.METHODS")
    aux_layer: int = Field(3, description="student layer the exit reads, 1 .. depth")
    student_model: str | None = Field("demo-distilbert", description="null: alternate layers of teacher_model")
    student_epochs: Count = Field(5, description="epochs of distillation")
    learning_rate: Positive = Field(1e-4, description="peak of the student's linear schedule")
    seed: Seed = Field(0, description="seed of the student's head, batches and dropout")

    # Both
    batch_size: Count = Field(64, description="pairs a training batch, teacher and student")
    warmup_ratio: Share = Field(0.1, description="share of the steps in which the learning rate rises")
    weight_decay: NonNegative = Field(0.01, description="AdamW's decoupled decay")
    bf16: bool = Field(False, description="bf16 autocast, where the processor or GPU has it")
    report_to: str = Field("tensorboard", description="tracker of transformers.Trainer, or none")

    # Distillation (Tiwari et al. 2023)
    temperature: Positive = Field(2.0, description="softens teacher and student logits")
    kd_weight: Fraction = Field(0.5, description="lambda: share of the distillation term")
    reweight: Literal["kd", "both"] = Field("both", description="which of the two loss terms carry the weight")
    alpha: NonNegative = Field(0.2, description="exponent of the margin")
    beta: NonNegative = Field(3.0, description="factor of the margin")
    exponent: Literal["power", "product"] = Field("power", description="beta*cm**alpha or beta*cm*alpha")
    signal: Literal["margin", "top_probability", "contrast_variance", "mutual_information"] = Field(
        "margin", description="confidence of the exit in the weight; the last two need method laplace"
    )
    warm_start_epochs: Count = Field(1, description="epochs before the first refit of the exit")
    reweight_every: Count = Field(1, description="epochs between two refits of the exit")
    stale_weights: bool = Field(False, description="an instance once wrong keeps its weight (DEDIER's code)")
    normalize_weights: bool = Field(False, description="scale the weights to mean 1")
    weight_cap: Annotated[float, Field(ge=1, allow_inf_nan=False)] | None = Field(
        None, description="largest weight; null: none"
    )
    permute_weights: bool = Field(False, description="control: the same weights on permuted instances")

    # Other methods
    delta: Annotated[float, Field(gt=0, lt=1)] = Field(0.05, description="avcs: share of sets that may miss the label")
    jtt_epochs: Count = Field(2, description="jtt: epochs of the early model")
    jtt_factor: Positive = Field(6.0, description="jtt: weight of the early model's errors")
    group_step_size: Positive = Field(0.01, description="group_dro: eta of the group weights")

    # Exits and their Laplace approximation
    pooling: Literal["cls", "mean"] = Field("cls", description="what an exit reads of a layer")
    exit_hidden: list[Count] = Field([], description="widths of hidden layers below an exit's linear layer")
    prior_precision: Positive | Literal["evidence"] = Field(1.0, description="tau, or chosen by evidence")
    likelihood_temperature: Positive = Field(1.0, description="T_lik: 1 exact, N the curvature of a mean loss")
    prior: Literal["exact", "factored"] = Field("exact", description="how the prior enters the Kronecker factors")
    posterior: Literal["kronecker", "dense"] = Field("kronecker", description="dense: exact, the control")
    predictive: Literal["quadrature", "mc"] = Field("quadrature", description="how the predictive is integrated")
    n_samples: Count = Field(200, description="Monte Carlo samples an instance, predictive mc only")

    # Analysis
    students: Annotated[list[str], Field(min_length=1)] = Field(
        ["kd", "dedier@3", "laplace@3", "laplace@6"], description="students compared, such as laplace@3"
    )

    @field_validator("aux_layer")
    @classmethod
    def _layer_counts_from_one(cls, value: int) -> int:
        if value < 1:
            raise ValueError("layers count from 1 (the first) to the student's depth (the last)")
        return value

    @field_validator("dataset", "method")
    @classmethod
    def _registered(cls, value: str, info) -> str:
        known = DATASETS if info.field_name == "dataset" else METHODS
        if value not in known:
            raise ValueError(f"is not known; {_nearest(value, known)} ({', '.join(known)})")
        return value

    @field_validator("signal")
    @classmethod
    def _has_posterior(cls, value: str, info) -> str:
        if info.data.get("method") == "dedier" and value not in ("margin", "top_probability"):
            raise ValueError("the MAP softmax of dedier has no posterior; choose margin, top_probability, or laplace")
        return value

    @field_validator("students")
    @classmethod
    def _specs(cls, specs: list[str]) -> list[str]:
        for spec in specs:
            _read_spec(spec)
        return specs

    @classmethod
    def from_file(cls, path: str | Path, **overrides: Any) -> "Experiment":
        """The experiment of a params file (YAML, flat), with `overrides` on top."""
        parameters = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        if not isinstance(parameters, dict):
            raise ParameterError(f"{path}: expected one 'name: value' a line")
        return cls(**(parameters | overrides))

    def student(self, spec: str) -> "Experiment":
        """This experiment as a `students` entry has it: "kd", "laplace@3", "laplace@3,likelihood_temperature=8000".

        Raises:
            ParameterError: the entry has an unknown method or parameter, or a value that is not allowed.
        """
        try:
            return self.vary(**_read_spec(spec))
        except ValueError as error:
            raise ParameterError(f"students, {spec!r}: {error}") from None

    def data_parameters(self) -> dict[str, Any]:
        """Everything that decides the examples; folders stand for their content."""
        return self._chosen(_DATA if self.dataset == "demo" else _DATA - {"negation_rates"})

    def teacher_parameters(self) -> dict[str, Any]:
        """Everything that decides the teacher's result; folders stand for their content."""
        return self.data_parameters() | self._chosen(_TEACHER | _BOTH)

    def student_parameters(self) -> dict[str, Any]:
        """Everything that decides the student's result, its teacher included."""
        method = METHODS[self.method]
        names = _STUDENT | _BOTH | _EXITS | method.parameters
        if method.uses_teacher:
            names = names | {"temperature", "kd_weight"}
        return self.teacher_parameters() | self._chosen(names)

    def _chosen(self, names: set[str]) -> dict[str, Any]:
        chosen = {name: value for name, value in self.model_dump().items() if name in names}
        for name in sorted({"data", "teacher_model", "student_model"} & chosen.keys()):
            chosen[name] = runs.fingerprint(chosen[name])
        return chosen


PARAMS = Path(__file__).parents[1] / "params"


class Profiled(Parameters):
    """Parameters that start from a profile: a file of params/, with some of its parameters changed."""

    profile: str = Field("demo", description="file of params/ without .yaml, or the path of one")
    changes: dict[str, Any] = Field({}, description="parameters of the profile to change")

    @property
    def experiment(self) -> Experiment:
        """The profile, changed.

        Raises:
            ParameterError: there is no such profile, or a change is wrong.
        """
        path = Path(self.profile) if self.profile.endswith(".yaml") else PARAMS / f"{self.profile}.yaml"
        if not path.is_file():
            known = ", ".join(sorted(file.stem for file in PARAMS.glob("*.yaml")))
            raise ParameterError(f"profile = {self.profile!r}: there is no such file; params/ has {known}")
        return Experiment.from_file(path, **self.changes)


_DATA = {
    "dataset", "data", "train_examples", "evaluation_examples", "validation_examples", "max_length", "data_seed",
    "negation_rates",
}  # fmt: skip
_TEACHER = {"teacher_model", "teacher_epochs", "teacher_learning_rate", "teacher_seed"}
_STUDENT = {"method", "student_model", "student_epochs", "learning_rate", "seed"}
_BOTH = {"batch_size", "warmup_ratio", "weight_decay", "bf16"}
# Every student's run has the exit at every layer and its Laplace approximation.
_EXITS = {
    "pooling", "exit_hidden", "prior_precision", "likelihood_temperature", "prior", "posterior", "predictive",
    "n_samples",
}  # fmt: skip


def _read_spec(spec: str) -> dict[str, Any]:
    """The parameters of a `students` entry, method[@layer][,name=value]...; ValueError if it does not read so."""
    student, *changes = spec.split(",")
    method, _, layer = student.partition("@")
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r} in {spec!r}; {_nearest(method, METHODS)}")
    if layer and not (layer.isdecimal() and int(layer) >= 1):
        raise ValueError(f"{spec!r} should read method@aux_layer, for example laplace@3")
    parameters = {"method": method} | ({"aux_layer": int(layer)} if layer else {})
    for change in changes:
        name, _, value = change.partition("=")
        if name not in Experiment.model_fields or not value:
            raise ValueError(
                f"{change!r} in {spec!r} should read name=value; {_nearest(name, Experiment.model_fields)}"
            )
        parameters[name] = yaml.safe_load(value)
    return parameters


_HINTS = {
    "float_type": "should be a number; YAML reads 5e-5 as text, write 5.0e-5",
    "int_type": "should be a whole number",
    "bool_type": "should be true or false",
    "string_type": "should be text",
    "list_type": "should be a list; with papermill use -y 'name: [a, b]'",
}


def _explain(error: dict[str, Any], known: Iterable[str]) -> str:
    """One line of a `ParameterError`: the parameter, its value, what is allowed."""
    name = str(error["loc"][0])
    if error["type"] == "extra_forbidden":
        return f"{name}: there is no such parameter; {_nearest(name, known)}"
    text = error["msg"].removeprefix("Value error, ")
    hint = _HINTS.get(error["type"], text[0].lower() + text[1:])
    return f"{name} = {error['input']!r}: {hint}"
