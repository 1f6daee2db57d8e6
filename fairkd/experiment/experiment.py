"""Every parameter of a run, checked before anything is computed.

What all runs share is declared here; what data, exits, a method, a posterior or a generator alone reads is declared
beside it, and goes by its name all the same: `Experiment(method="dedier", beta=2.0)`.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PrivateAttr, field_validator

from fairkd import runs
from fairkd.data import DataOptions, evaluation_identity, generator_of, training_identity
from fairkd.evaluation import SELECTIONS
from fairkd.exits import POSTERIORS, ExitOptions, Exits, Posterior
from fairkd.experiment.parts import contradicted, generator_options, named, shared_names, unread
from fairkd.experiment.profiles import profile_parameters, read_profile
from fairkd.experiment.students import entry, read_student, title
from fairkd.parameters import (
    ParameterError,
    Seed,
    Share,
    Source,
    nearest,
    parameter,
    stated,
)
from fairkd.weighting import METHODS, ByEarlyModel, InRefit, Method, ReadsExit, Rereads, Weighted

# What decides the result of whom; `report_to`, `finished_exits` and `students` decide no training.
_TEACHER = {"teacher_model", "teacher_epochs", "teacher_learning_rate", "teacher_weight_decay", "teacher_seed"}
_BOTH = {"batch_size", "warmup_ratio", "max_grad_norm", "bf16", "threads", "instruction_set"}
_STUDENT = {"student_model", "student_epochs", "learning_rate", "weight_decay", "kept_epoch", "seed"}
_IN_KEYS = {"entry", "source", "teacher", "early"}  # which a run's key has beside parameters


_Decay = Annotated[float, Field(ge=0, le=10)]


class Experiment(DataOptions, ExitOptions):
    """One teacher, one student and the data they see: the whole configuration of a run.

    Build it with keyword arguments, from a profile (`from_file`) or from a notebook's parameters (`from_notebook`).
    Each keyword must be read by this very experiment, its other parameters being what they are; a profile's parameters
    (`defaults`) may be those of other methods, which its students read.
    """

    # Teacher
    teacher_model: Source = parameter("fairkd/demo/encoders/demo-bert", "hub name or folder")
    teacher_epochs: Annotated[int, Field(ge=0, le=1000)] = parameter(
        3, "0: the checkpoint is a ready classifier", "deck"
    )
    teacher_learning_rate: float = parameter(5e-4, "peak of the teacher's linear schedule", "deck: 2e-5", gt=0, lt=1)
    teacher_weight_decay: _Decay = parameter(0.01, "AdamW's decoupled decay, of the teacher", "BERT's habit")
    teacher_seed: Seed = parameter(0, "seed of the teacher's head, batches and dropout")

    # Student
    method: str = parameter("laplace", "weighting method, one of fairkd.METHODS", "deck")
    student_model: Source | None = parameter(
        "fairkd/demo/encoders/demo-distilbert", "hub name or folder; null: alternate layers of teacher_model"
    )
    student_epochs: Annotated[int, Field(ge=1, le=1000)] = parameter(5, "epochs of distillation", "deck")
    learning_rate: float = parameter(1e-4, "peak of the student's linear schedule", "deck: 2e-5", gt=0, lt=1)
    weight_decay: _Decay = parameter(
        0.01, "AdamW's decoupled decay, of the student", "BERT's habit; group_dro: more, Sagawa et al. 2020"
    )
    kept_epoch: Literal[tuple(SELECTIONS)] = parameter(
        "last epoch",
        "epoch whose model the student is: the last, or the one a rule finds best on validation pairs",
        "early stopping, Sagawa et al. 2020",
    )
    seed: Seed = parameter(0, "seed of the student's head, batches and dropout")

    # Both
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = parameter(64, "pairs a training batch", "deck: 16")
    warmup_ratio: Share = parameter(0.1, "share of the steps in which the learning rate rises", "BERT's habit")
    max_grad_norm: float = parameter(
        1.0, "norm that a step's gradient is cut to, weights and all", "transformers", gt=0, le=1e9
    )
    bf16: bool = parameter(False, "bf16 autocast, where the processor or GPU has it")
    threads: Annotated[int, Field(ge=1, le=1024)] | None = parameter(
        None, "threads of the processor; null: as many as it offers; they decide the last digits"
    )
    instruction_set: Literal["avx2"] | None = parameter(
        None, "instructions of the processor; null: the newest it has; they decide the last digits"
    )
    report_to: str = parameter("tensorboard", "tracker of transformers.Trainer, or none")

    # Exits
    posterior: str = parameter("kronecker", "uncertainty of an exit, one of fairkd.POSTERIORS", "dense: the control")
    finished_exits: dict[str, Any] = parameter(
        {}, "how exits of finished students are read, where it differs from training, such as {pooling: mean}"
    )

    # Analysis
    students: Annotated[list[str], Field(min_length=1)] = parameter(
        ["kd", "dedier@3", "laplace@3", "laplace@6"], "students compared, method@layer,name=value,...", "deck"
    )

    _settings: dict[str, Any] = PrivateAttr()
    _shared: dict[str, Any] = PrivateAttr()  # the settings but for those of its own students entry
    _stands: bool = PrivateAttr(default=False)
    _weighting: Method = PrivateAttr()
    _posterior: Posterior = PrivateAttr()

    def __init__(self, defaults: dict[str, Any] | None = None, /, **given: Any):
        """Check the parameters.

        Args:
            defaults: parameters of a profile; one that this experiment does not read may be another method's.
            given: parameters by name; `student` is an entry of a students list, "laplace@3,beta=2".

        Raises:
            ParameterError: one line for each that is wrong.
        """
        spec = given.pop("student", None)
        own_entry = read_student(spec) if spec is not None else {}
        contradicted(given, own_entry, f"student = {spec!r}")
        shared = (defaults or {}) | given
        given |= own_entry
        settings = shared | own_entry
        parts = {
            name: named(name, registry, settings.get(name, type(self).model_fields[name].default))
            for name, registry in (("method", METHODS), ("posterior", POSTERIORS))
        }
        generator = generator_of(settings.get("dataset", "demo"))
        readers = parts | ({"generator": generator} if generator else {})
        wrong = shared_names(type(self).model_fields.keys() | _IN_KEYS, readers)
        wrong += unread(settings, given, type(self).model_fields, parts, settings.get("dataset", "demo"))
        built = {}
        for name, part in parts.items():
            try:
                built[name] = part(**{key: settings[key] for key in settings.keys() & part.model_fields.keys()})
            except ParameterError as error:
                wrong.append(str(error))
        if "method" in built:
            wrong += built["method"].unread(given)
        own = {key: value for key, value in settings.items() if key in type(self).model_fields}
        own |= generator_options(settings)
        try:
            super().__init__(**own)
        except ParameterError as error:
            wrong.append(str(error))
        if wrong:
            raise ParameterError("\n".join(dict.fromkeys(wrong)))
        self._settings, self._shared = settings, shared
        self._weighting, self._posterior = built["method"], built["posterior"]
        self._check_together()

    def _check_together(self) -> None:
        """Refuse values that are allowed one by one."""
        method = self._weighting
        if isinstance(method, ReadsExit):
            try:
                self.entry.columns_read(method.exit_reads)
            except ParameterError as error:
                raise ParameterError(f"exit_reads = {error}") from None
        if isinstance(method, Rereads) and not method.refits_head and method.warm_start_epochs >= self.student_epochs:
            raise ParameterError(
                f"warm_start_epochs = {method.warm_start_epochs}: with student_epochs = {self.student_epochs} no epoch "
                f"would use the exit of {method.name}, which is plain distillation; lower it or train longer (or "
                "method kd)"
            )
        weighs_kd = isinstance(method, Weighted) and method.reweight == "kd" and not method.refits_head
        if weighs_kd and not (method.uses_teacher and method.kd_weight):
            raise ParameterError(
                f"reweight = 'kd': the loss of {method.name} has no distillation term to weigh with use_teacher = "
                f"{method.uses_teacher} and kd_weight = {method.kd_weight}; set reweight = 'both'"
            )
        if method.refits_on_validation and not self.validation_examples:
            raise ParameterError(
                f"refit_on = 'validation': {method.name} needs validation_examples above 0, or refit_on = 'training'"
            )
        if isinstance(method, InRefit) and method.towards_old and method.head_prior_precision == "evidence":
            raise ParameterError(
                f"head_prior_precision = 'evidence': the evidence is of a prior around 0, and {method.name} pulls the "
                "last layer towards the one it was; state a number"
            )
        if self.stops_early and not self.validation_examples:
            raise ParameterError(
                f"kept_epoch = {self.kept_epoch!r}: needs validation_examples above 0, or kept_epoch = 'last epoch'"
            )
        if repeated := sorted({spec for spec in self.students if self.students.count(spec) > 1}):
            raise ParameterError(f"students = {self.students!r}: name {', '.join(repeated)} once")
        allowed = {*ExitOptions.model_fields, "posterior", *type(self._finished_posterior()).model_fields}
        if unknown := sorted(self.finished_exits.keys() - allowed):
            raise ParameterError(f"finished_exits: there is no {unknown[0]!r}; {nearest(unknown[0], allowed)}")
        self.finished()  # its values are checked too

    @field_validator("students")
    @classmethod
    def _specs(cls, specs: list[str]) -> list[str]:
        for spec in specs:
            read_student(spec)
        return specs

    @classmethod
    def from_file(cls, path: str | Path, **overrides: Any) -> Self:
        """The experiment of a profile (YAML, flat), with `overrides` on top.

        Raises:
            ParameterError: the file is no profile, or a parameter is wrong.
        """
        return cls(read_profile(Path(path)), **overrides)

    @classmethod
    def from_notebook(cls, namespace: dict[str, Any]) -> Self:
        """The parameters of a notebook: `Experiment.from_notebook(globals())`.

        Read are what the parameters cell annotates, where None leaves it to the profile, and what has been injected
        after it; nothing else that the kernel holds. So it may be called again at any time.

        Raises:
            ParameterError: an injected name that nothing in this notebook reads, or a wrong value.
        """
        declared, injected = stated(namespace)
        settled = {name: value for name, value in declared.items() if value is not None and name not in injected}
        given = {name: value for name, value in injected.items() if value is not None or name not in declared}
        profile = given.pop("profile", settled.pop("profile", "demo"))
        changes = given.pop("changes", settled.pop("changes", {}))
        defaults = profile_parameters(profile, changes)
        contradicted(given, changes, "changes")
        defaults |= {name: value for name, value in settled.items() if name not in changes}
        if "method" in declared:
            return cls(defaults, **given).read_by_students(changes)
        found = cls.of_students(defaults | given).read_by_students(changes | given)
        if "students" in declared:
            found.compared(found.students)
        return found

    @classmethod
    def of_students(cls, parameters: dict[str, Any]) -> Self:
        """An experiment that stands for its students: as the first of them has it, whose settings are its own alone.

        Raises:
            ParameterError: a parameter is wrong.
        """
        students = parameters.get("students", cls.model_fields["students"].default)
        named = isinstance(students, list) and students and isinstance(students[0], str)
        found = cls(parameters, **({"student": students[0]} if named else {}))
        found._stands = True
        return found

    def read_by_students(self, names: dict[str, Any], specs: list[str] | None = None) -> Self:
        """This experiment, if each of `names` is read by itself or by one of its students.

        Args:
            names: parameters by name.
            specs: entries of other students than `students`.

        Raises:
            ParameterError: one is not.
        """
        specs = self.students if specs is None else specs
        posterior = type(self).model_fields["posterior"].default
        parts = []
        for spec in specs:
            own = {"posterior": posterior} | self._shared | read_student(spec)
            parts += [METHODS[own["method"]], named(f"{spec}: posterior", POSTERIORS, own["posterior"])]
        read = self.reads.union(*(part.model_fields for part in parts))
        for name in sorted(names.keys() - read):
            raise ParameterError(f"{name} = {names[name]!r}: none of the students reads it ({', '.join(specs)})")
        return self

    def compared(self, specs: list[str]) -> dict[str, Self]:
        """{entry: this experiment as the entry has it}, of students that are set side by side.

        Raises:
            ParameterError: as of `student`; two entries are the same student.
        """
        stated: list[tuple[str, dict[str, Any]]] = []
        found = {}
        for spec in specs:
            found[spec] = self.student(spec)
            own = found[spec].resolved()
            if twin := next((other for other, its in stated if its == own), None):
                raise ParameterError(f"students, {spec!r}: is the same student as {twin!r}; name it once")
            stated.append((spec, own))
        return found

    def vary(self, **changes: Any) -> Self:
        """The same with some parameters changed, checked again; `changes` must be read by the changed experiment.

        A change of `student`, an entry, takes the place of the entry that the experiment is of.
        """
        found = type(self)(self._shared if "student" in changes else self._settings, **changes)
        found._shared = self._shared | {name: value for name, value in changes.items() if name != "student"}
        found._stands = self._stands and not {"student", "method"} & changes.keys()
        return found

    def student(self, spec: str) -> Self:
        """This experiment as a `students` entry has it: "kd", "laplace@3", "laplace@3,likelihood_temperature=8000".

        What another entry says, such as the first of `of_students`, is not this one's.

        Raises:
            ParameterError: the entry has an unknown method, or a parameter that the method does not read.
        """
        try:
            return self.vary(student=spec)
        except ParameterError as error:
            raise ParameterError(f"students, {spec!r}: {error}") from None

    def title(self, spec: str) -> str:
        """How the student of a `students` entry is named in tables: the entry, marked where it reads group labels."""
        return title(spec, self.kept_epoch)

    @property
    def stands_for(self) -> list[str]:
        """The students that it stands for, see `of_students`; none of an experiment that is of one student."""
        return self.students if self._stands else []

    @property
    def weighting(self) -> Method:
        """The method, with its own parameters."""
        return self._weighting

    @property
    def aux_layer(self) -> int | None:
        """The layer that the method's exit reads; None of a method without one."""
        return getattr(self._weighting, "aux_layer", None)

    @property
    def spec(self) -> str:
        """The entry of a `students` list that names its method, layer and what of the method is not the default."""
        method = self._weighting
        fields = {name: field.default for name, field in type(method).model_fields.items()}
        own = {name: getattr(method, name) for name in fields}
        return entry(method.name, {n: v for n, v in own.items() if n == "aux_layer" or v != fields[n]})

    @property
    def stops_early(self) -> bool:
        """Whether validation rows choose the epoch whose model the student is."""
        return SELECTIONS[self.kept_epoch] is not None

    @property
    def exit_options(self) -> ExitOptions:
        """How exits are fitted and read in training."""
        return ExitOptions(**self._chosen(ExitOptions.model_fields.keys()))

    def exits(self, n_classes: int) -> Exits:
        """What fits the exits of a student in training."""
        return Exits(options=self.exit_options, posterior=self._posterior, n_classes=n_classes, seed=self.seed)

    def finished(self, n_classes: int | None = None) -> Exits:
        """What fits the exits of a finished student: as in training, but for `finished_exits`."""
        own = {k: v for k, v in self.finished_exits.items() if k in ExitOptions.model_fields}
        options, posterior = self.exit_options.vary(**own), self._finished_posterior()
        return Exits(options=options, posterior=posterior, n_classes=n_classes, seed=self.seed)

    def _finished_posterior(self) -> Posterior:
        name = self.finished_exits.get("posterior", self.posterior)
        kind = named("posterior", POSTERIORS, name)
        settings = self._settings | self.finished_exits
        return kind(**{key: settings[key] for key in settings.keys() & kind.model_fields.keys()})

    @property
    def reads(self) -> set[str]:
        """The names of all parameters that this experiment reads."""
        parts = (type(self), type(self._weighting), type(self._posterior))
        return {name for part in parts for name in part.model_fields} | self.generator_options.keys()

    def resolved(self) -> dict[str, Any]:
        """Every parameter that this experiment reads, with its value."""
        return self.model_dump() | self._weighting.model_dump() | self._posterior.model_dump()

    def teacher_parameters(self) -> dict[str, Any]:
        """Everything that decides the teacher's result; folders stand for their content."""
        return training_identity(self) | self._chosen(_TEACHER | _BOTH)

    def student_parameters(self) -> dict[str, Any]:
        """Everything that decides the student's training, its teacher's parameters included."""
        chosen = self.teacher_parameters() | self._chosen(_STUDENT) | {"method": self.method}
        chosen |= self._weighting.model_dump()
        if self.aux_layer:
            chosen |= self.exit_options.model_dump() | {"posterior": self.posterior} | self._posterior.model_dump()
        return chosen

    def exits_parameters(self) -> dict[str, Any]:
        """Everything that decides the exits of the finished student, beside the student's run."""
        finished = self.finished()
        chosen = evaluation_identity(self) | finished.options.model_dump()
        return chosen | {"posterior": finished.posterior.name, "seed": self.seed} | finished.posterior.model_dump()

    def base(self) -> "Experiment":
        """The plain student whose last layer a method fits anew."""
        return self.vary(method="kd" if self._weighting.uses_teacher else "erm")

    def early(self) -> "Experiment":
        """The early model of a method that has one, a student itself: the labels alone, for a few epochs."""
        if not isinstance(self._weighting, ByEarlyModel):
            raise ValueError(f"{self.method} has no early model")
        return self.vary(method="erm", student_epochs=self._weighting.early_epochs, kept_epoch="last epoch")

    def _chosen(self, names) -> dict[str, Any]:
        chosen = {name: getattr(self, name) for name in type(self).model_fields if name in names}
        for name in sorted({"teacher_model", "student_model"} & chosen.keys()):
            chosen[name] = runs.fingerprint(chosen[name])
        return chosen
