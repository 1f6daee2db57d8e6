"""Side-by-side timings for `06_benchmark.ipynb`: plain loops to compare with, clocks, peak memory.

Both sides of a ratio run in one session on the same machine, on the same pairs, encoders and batch size. Times are the
least of a few, since whatever else the machine does only adds to them.
"""

import multiprocessing
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import torch
from pydantic import Field
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset
from transformers import PreTrainedModel, PrinterCallback, TrainerCallback, set_seed

from fairkd import models
from fairkd.dedier import distillation_terms
from fairkd.exits import LinearExit
from fairkd.experiment import Count, Experiment, Profiled
from fairkd.laplace import KroneckerLaplace
from fairkd.trainer import DistillationTrainer, Reweighting, Task
from fairkd.training import check, training_arguments

_CLASSES = 3


class Benchmark(Profiled):
    """The parameters of `06_benchmark.ipynb`: whose encoders and pairs, and how many of each thing."""

    pairs: Count = Field(2_000, description="training pairs of the student that is timed")
    loop_pairs: Count = Field(256, description="training pairs of the plain loops")
    map_rows: Count = Field(50_000, description="instances of the MAP fit")
    laplace_rows: Count = Field(20_000, description="instances of the Laplace approximation")
    widths: Annotated[list[Count], Field(min_length=1)] = Field([384, 768], description="features an instance")
    most_rows: Count = Field(392_702, description="instances of the largest fit: MultiNLI's")


class Ratios:
    """The table of a benchmark, filled line by line."""

    def __init__(self):
        """An empty table."""
        self._rows: list[tuple[str, float, float, float, str, bool]] = []

    def times(self, what: str, ours: float, other: float, at_least: float) -> None:
        """How many times smaller `ours` is than `other`: seconds, or anything that costs."""
        ratio = other / ours
        self._rows.append((what, ours, other, ratio, f"at least {at_least:g}", ratio >= at_least))

    def share(self, what: str, ours: float, other: float, below: float) -> None:
        """Which part of `other` `ours` is."""
        ratio = ours / other
        self._rows.append((what, ours, other, ratio, f"below {below:g}", ratio < below))

    def table(self) -> pd.DataFrame:
        """A line for each, with whether its target is met."""
        columns = ["what", "ours", "other", "ratio", "target", "met"]
        return pd.DataFrame(self._rows, columns=columns).set_index("what")


def task_of(experiment: Experiment, pairs: int) -> Task:
    """The student's data: `pairs` training pairs of the experiment's, the fewest evaluation pairs."""
    given = experiment.vary(train_examples=pairs, evaluation_examples=6, validation_examples=0)
    return Task.prepare(check(given), given.max_length, models.load_student_tokenizer(given))


class _Clock(TrainerCallback):
    """Seconds of every epoch, without what callbacks added after this one do at its end."""

    def __init__(self):
        self.epochs: list[float] = []

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.start = time.perf_counter()

    def on_epoch_end(self, args, state, control, **kwargs):
        self.epochs.append(time.perf_counter() - self.start)


class _TimedReweighting(Reweighting):
    """Seconds of every re-weighting."""

    seconds: list[float]

    def on_epoch_end(self, args, state, control, **kwargs):
        start = time.perf_counter()
        super().on_epoch_end(args, state, control, **kwargs)
        self.seconds = [*getattr(self, "seconds", []), time.perf_counter() - start]


def student_seconds(experiment: Experiment, task: Task) -> tuple[float, float]:
    """Seconds of one epoch of distillation as `fairkd.distil` does it, and of the re-weighting that it is followed by.

    The least of two epochs. The teacher's logits are at hand, as its run has stored them once for all students.
    """
    given = experiment.vary(student_epochs=3, report_to="none")
    set_seed(0)
    with tempfile.TemporaryDirectory() as folder, models.quiet():
        arguments = training_arguments(given, Path(folder), "student")
        arguments.set_evaluate("no")
        arguments.set_save("no")
        arguments.set_logging("no")
        arguments.disable_tqdm = True
        trainer = DistillationTrainer(
            models.load_student(given, task.splits.entry.labels),
            arguments,
            experiment=given,
            train_dataset=task.train,
            data_collator=task.collate,
            processing_class=task.tokenizer,
            teacher_logits=torch.randn(len(task.train), len(task.splits.entry.labels)),
        )
        clock, reweighting = _Clock(), _TimedReweighting(trainer, task, given, Path(folder) / "weights")
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(clock)
        trainer.add_callback(reweighting)
        trainer.train()
    return min(clock.epochs), min(reweighting.seconds[:-1])


def dedier_loop_seconds(experiment: Experiment, task: Task) -> float:
    """Seconds of one epoch of a loop of the shape of DEDIER's released code, its re-weighting pass included.

    Every pair padded to `max_length` tokens, float32, the teacher asked in every step, and after the epoch a pass of
    the whole student over all pairs for the features of the auxiliary head (which is not timed).
    """
    teacher = models.load_teacher(experiment, task.splits.entry.labels).eval()
    student = models.load_student(experiment, task.splits.entry.labels).train()
    optimiser = torch.optim.AdamW(student.parameters(), lr=experiment.learning_rate)

    def step(batch: dict[str, Tensor]) -> None:
        labels = batch.pop("labels")
        with torch.no_grad():
            taught = teacher(**batch).logits
        seen = student(**_of(student, batch)).logits
        ce, kd = distillation_terms(seen, taught, labels, experiment.temperature)
        _descend((ce + kd).mean(), student, optimiser)

    start = time.perf_counter()
    for batch in _padded(experiment, task):
        step(batch)
    student.eval()
    with torch.no_grad():
        for batch in _padded(experiment, task):
            batch.pop("labels")
            student(**_of(student, batch), output_hidden_states=True)
    return time.perf_counter() - start


def glue_loop_seconds(experiment: Experiment, task: Task) -> float:
    """Seconds of one epoch of the stock GLUE example's shape: padded to `max_length`, float32, no teacher."""
    student = models.load_student(experiment, task.splits.entry.labels).train()
    optimiser = torch.optim.AdamW(student.parameters(), lr=experiment.learning_rate)
    start = time.perf_counter()
    for batch in _padded(experiment, task):
        _supervised_step(student, batch, optimiser)
    return time.perf_counter() - start


def loss_curves(experiment: Experiment, task: Task, steps: int = 10) -> dict[str, list[float]]:
    """Losses of one student on the same batches, dropout off, float32: padded to `max_length`, and to the longest."""
    curves = {}
    for name, padding in (("padded to max_length", "max_length"), ("padded to the longest", "longest")):
        set_seed(0)
        student = models.load_student(experiment, task.splits.entry.labels).eval()
        optimiser = torch.optim.AdamW(student.parameters(), lr=experiment.learning_rate)
        curves[name] = []
        for batch, _ in zip(_padded(experiment, task, padding), range(steps), strict=False):
            curves[name].append(_supervised_step(student, batch, optimiser))
    return curves


def _padded(experiment: Experiment, task: Task, padding: str = "max_length") -> Iterator[dict[str, Tensor]]:
    for start in range(0, len(task.train), experiment.batch_size):
        rows = task.train[start : start + experiment.batch_size]
        names = [name for name in task.tokenizer.model_input_names if name in rows]
        inputs = {name: rows[name] for name in names}
        batch = task.tokenizer.pad(inputs, padding=padding, max_length=experiment.max_length, return_tensors="pt")
        yield dict(batch) | {"labels": torch.tensor(rows["labels"])}


def _of(model: PreTrainedModel, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """What the model takes of a batch: a student of alternate layers knows no token types."""
    known = model.config.model_type != "distilbert"
    return {name: part for name, part in batch.items() if known or name != "token_type_ids"}


def _supervised_step(
    model: PreTrainedModel, batch: dict[str, Tensor], optimiser: torch.optim.Optimizer, bf16: bool = False
) -> float:
    """One step on the labels alone; the loss before it."""
    labels = batch.pop("labels")
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        logits = model(**_of(model, batch)).logits
    loss = functional.cross_entropy(logits.float(), labels)
    _descend(loss, model, optimiser)
    return loss.item()


def _descend(loss: Tensor, model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    optimiser.zero_grad()


def random_problem(rows: int, width: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Correlated float32 features (N, D) of decaying spectrum, and labels (N,) drawn from a softmax of them."""
    generator = torch.Generator().manual_seed(seed)
    scale = torch.logspace(0.5, -1.5, width)
    mix = scale[:, None] * torch.randn(width, width, generator=generator) / width**0.5
    features = torch.randn(rows, width, generator=generator) @ mix
    features += 0.3 * torch.randn(width, generator=generator)
    probs = (features @ (0.5 * torch.randn(width, _CLASSES, generator=generator))).softmax(1)
    return features, torch.multinomial(probs, 1, generator=generator).squeeze(1)


def random_problem_size(rows: int, width: int) -> dict[str, int]:
    """Bytes of a random problem's features: with `alone`, what it costs to have them."""
    return {"bytes": random_problem(rows, width)[0].nbytes}


def map_fit(rows: int, width: int) -> dict[str, float]:
    """Seconds to the MAP, and the relative gradient norm there."""
    features, labels = random_problem(rows, width)
    start = time.perf_counter()
    exit = LinearExit.fit(features, labels)
    return {"seconds": time.perf_counter() - start, "gradient": exit.relative_gradient_norm(features, labels)}


def sklearn_fit(rows: int, width: int) -> dict[str, float]:
    """The same of scikit-learn's LogisticRegression (lbfgs), stopped when its gradient is as small as it gets."""
    features, labels = random_problem(rows, width)
    augmented = torch.cat([features.double(), torch.ones(rows, 1, dtype=torch.float64)], dim=1).numpy()
    start = time.perf_counter()
    found = LogisticRegression(C=1.0, fit_intercept=False, tol=1e-8, max_iter=10_000).fit(augmented, labels.numpy())
    seconds = time.perf_counter() - start
    weight = torch.from_numpy(found.coef_)
    exit = LinearExit(weight[:, :-1].contiguous(), weight[:, -1].contiguous())
    return {"seconds": seconds, "gradient": exit.relative_gradient_norm(features, labels)}


def laplace_fit(rows: int, width: int) -> dict[str, Any]:
    """Seconds and memory to fit the posterior around an exit at hand and to integrate the predictive; its variances.

    "quadrature" and "mc" are the seconds of the two ways to integrate, 200 samples for the second.
    """
    features, labels = random_problem(rows, width)
    exit = LinearExit.fit(features, labels)
    clocks = {}
    with _memory() as memory:
        start = time.perf_counter()
        laplace = KroneckerLaplace.fit(exit, features, labels)
        clocks["fit"] = time.perf_counter() - start
        for method in ("quadrature", "mc"):
            start = time.perf_counter()
            laplace.predict(features, method=method, n_samples=200)
            clocks[method] = time.perf_counter() - start
    variances = _contrast_variances(laplace.logit_covariance(features[:100]))
    return {"seconds": clocks["fit"] + clocks["quadrature"], "variances": variances} | clocks | memory


def laplace_torch_fit(rows: int, width: int) -> dict[str, Any]:
    """The same of laplace-torch: last layer, Kronecker factors, GLM predictive of 200 samples, in batches of 512.

    Its head is bias-free on [phi; 1], so that its definition of the factors is ours. Time and memory are in float32,
    as it is used; the variances in float64, to compare definitions and not rounding.
    """
    from laplace import Laplace  # not among this project's packages, see `alone`

    features, labels = random_problem(rows, width)
    exit = LinearExit.fit(features, labels)
    augmented = torch.cat([features, torch.ones(rows, 1)], dim=1)

    def fitted(dtype: torch.dtype) -> tuple[Any, DataLoader]:
        model = nn.Sequential(nn.Identity(), nn.Linear(width + 1, _CLASSES, bias=False, dtype=dtype))
        model[1].weight.data = exit.stacked.to(dtype)
        batches = DataLoader(TensorDataset(augmented.to(dtype), labels), batch_size=512)
        laplace = Laplace(model, "classification", subset_of_weights="last_layer", hessian_structure="kron")
        laplace.prior_precision = torch.tensor(1.0, dtype=dtype)
        laplace.fit(batches)
        return laplace, batches

    with _memory() as memory:
        start = time.perf_counter()
        laplace, batches = fitted(torch.float32)
        for x, _ in batches:
            laplace(x, pred_type="glm", link_approx="mc", n_samples=200)
        seconds = time.perf_counter() - start
    covariance = fitted(torch.float64)[0]._glm_predictive_distribution(augmented[:100].double())[1]
    return {"seconds": seconds, "variances": _contrast_variances(covariance.detach())} | memory


def whole_exit(rows: int, width: int) -> dict[str, float]:
    """Seconds of everything that a re-weighting does with its features: MAP, posterior, predictive."""
    features, labels = random_problem(rows, width)
    start = time.perf_counter()
    exit = LinearExit.fit(features, labels)
    KroneckerLaplace.fit(exit, features, labels).predict(features)
    return {"seconds": time.perf_counter() - start}


def _contrast_variances(covariance: Tensor) -> list[list[float]]:
    """Variances of the contrasts with the last class, from (N, C, C) covariances of the logits."""
    difference = covariance[:, :-1, :] - covariance[:, -1:, :]
    contrast = difference[:, :, :-1] - difference[:, :, -1:]
    return contrast.diagonal(dim1=1, dim2=2).tolist()


def alone(function: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """What `function` returns in a process of its own, with `memory`, its peak in GiB, unless it measures a part.

    Raises:
        ImportError: the function needs a package that is not installed.
    """
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (function, arguments))


def _measured(function: Callable[..., dict[str, Any]], arguments: tuple) -> dict[str, Any]:
    with _memory() as memory:
        found = function(*arguments)
    return memory | found


@contextmanager
def _memory() -> Iterator[dict[str, float]]:
    """`memory`, filled at the end: by how much the process came to exceed what it holds now, in GiB.

    The system tells only the peak so far. Ballast fills the process up to it first, so that it has to rise; its
    pieces of 4 MiB are the resolution.
    """
    found: dict[str, float] = {}
    ballast, peak = [], _peak()
    while _peak() <= peak:
        ballast.append(b"1" * 2**22)
    peak = _peak()
    yield found
    found["memory"] = max(_peak() - peak, 2**-8)


def _peak() -> float:
    unit = 2**30 if sys.platform == "darwin" else 2**20  # bytes there, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def import_seconds() -> tuple[float, float]:
    """Seconds to import torch and transformers, and those with fairkd; each in a new interpreter, least of two."""

    def clock(statement: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", statement], check=True)
        return time.perf_counter() - start

    both = "import torch, transformers"
    return min(clock(both) for _ in range(2)), min(clock(f"{both}, fairkd") for _ in range(2))


def where_the_time_goes(experiment: Experiment, task: Task, steps: int = 8) -> pd.DataFrame:
    """Share of the processor's time that each operation takes in steps of distillation, the largest first."""
    set_seed(0)
    student = models.load_student(experiment, task.splits.entry.labels).train()
    optimiser = torch.optim.AdamW(student.parameters(), lr=experiment.learning_rate, fused=True)
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities) as profile:
        for batch, _ in zip(_padded(experiment, task, "longest"), range(steps), strict=False):
            _supervised_step(student, batch, optimiser, experiment.bf16)
    events = profile.key_averages()
    total = sum(event.self_cpu_time_total for event in events)
    rows = sorted(((event.self_cpu_time_total / total, event.count, event.key) for event in events), reverse=True)
    return pd.DataFrame(rows, columns=["share", "calls", "operation"]).set_index("operation")
