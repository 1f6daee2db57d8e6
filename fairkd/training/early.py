"""Early answers to texts: the forward pass of a finished student stops at the first exit that is sure.

When it answers is decided in `evaluation.early`, whose answers on the same rows are these.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from fairkd.evaluation.early import criterion_named, draws, sureness, threshold_for
from fairkd.evaluation.groups import importance_of
from fairkd.exits.head import Head
from fairkd.exits.storage import restored_head, restored_posterior
from fairkd.runs import Run
from fairkd.training import models
from fairkd.training.features import pool

Text = str | dict[str, str]


def early_exit(run: Run, criterion: str = "margin", *, depth: float = 0.5, batch_size: int = 128) -> "EarlyExit":
    """The finished student of a run, answering texts at the first exit that is sure.

        answer = fairkd.early_exit(student, "margin", depth=0.5)
        answer([{"text": premise, "text_pair": hypothesis}])  # [{"label": "neutral", "score": 0.93, "layer": 4}]

    Args:
        run: of a student's exits, as `distil` and `student_run` give it.
        criterion: one of `evaluation.early.CRITERIA`: margin, laplace_margin, entropy, patience, random. The last two
            draw numbers, by a text's place among those given.
        depth: layers used / layers, on average over the run's validation rows, which set the threshold; 1 answers as
            the student itself does.
        batch_size: texts of one forward pass; those that are answered leave it.

    Raises:
        ValueError: the run has no exits or no validation rows, an unknown criterion, a depth that no answer can have, a
            batch of no text, a Laplace margin of a posterior that runs do not keep (any but Kronecker's).
    """
    asked = criterion_named(criterion)
    if not run.path("validation.parquet").exists():
        raise ValueError(f"{run} has no exits; give the run that fairkd.distil or fairkd.student_run returns")
    validation = run.table("validation")
    if validation.empty:
        raise ValueError(f"{run} has no validation rows to set a threshold by: set validation_examples above 0")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
    sure = sureness(validation, criterion)
    threshold = threshold_for(sure, importance_of(validation), depth)
    return EarlyExit(run, asked.sure, _probabilities(run, asked.model.endswith("laplace")), threshold, batch_size)


class EarlyExit:
    """A student with a threshold. Made by `early_exit`.

    Attributes:
        threshold: the sureness at which an exit answers.
        layers: the student's.
    """

    def __init__(self, run: Run, sure: Callable, exits: list[Callable[[Tensor], Tensor]], threshold: float, size: int):
        """Open the student of `run`; `exits` give (N, D) features their (N, C) probabilities, a layer each."""
        self._sure, self._exits, self.threshold, self._size = sure, exits, threshold, size
        with models.quiet():
            self._model, self._tokenizer = models.reopened(run)
        self._model.eval()
        config = run.of.config
        self._max_length, self._bf16, self._pooling = config["max_length"], config["bf16"], run.config["pooling"]
        self._names = ["text", "text_pair"][: len(config["entry"]["text"])]
        self.layers = len(exits) + 1

    def __call__(self, texts: Text | Iterable[Text]) -> list[dict[str, Any]]:
        """What the student says of every text: label, score (the label's probability), layer (how many were used).

        Args:
            texts: one text, or many: strings, or, of pairs, {"text": ..., "text_pair": ...}.

        Raises:
            ValueError: something else, such as single texts where the student was trained on pairs.
        """
        given = [texts] if isinstance(texts, str | dict) else list(texts)
        rows = [{"text": text} if isinstance(text, str) else text for text in given]
        if not rows:
            return []
        if wrong := [row for row in rows if not (isinstance(row, dict) and self._takes(row))]:
            asked = "pairs, {'text': ..., 'text_pair': ...}" if len(self._names) == 2 else "single texts"
            raise ValueError(f"{repr(wrong[0])[:80]}: the student was trained on {asked}; give it the like")
        columns = {name: [row[name] for row in rows] for name in self._names}
        tokens = self._tokenizer(**columns, truncation=True, max_length=self._max_length)
        order = sorted(range(len(rows)), key=lambda row: len(tokens["input_ids"][row]))  # batches with little padding
        drawn, answers = draws(len(rows), len(self._exits)), [{}] * len(rows)
        for start in range(0, len(order), self._size):
            part = order[start : start + self._size]
            of_part = {name: [values[row] for row in part] for name, values in tokens.items()}
            batch = self._tokenizer.pad(of_part, return_tensors="pt")
            used, probs = self._pass(batch.to(self._model.device), drawn[part])
            for row, layer, of_row in zip(part, used, probs, strict=True):
                label = self._model.config.id2label[int(of_row.argmax())]
                answers[row] = {"label": label, "score": float(of_row.max()), "layer": int(layer)}
        return answers

    def _takes(self, row: dict[str, Any]) -> bool:
        return row.keys() == set(self._names) and all(isinstance(text, str) for text in row.values())

    def _pass(self, batch: dict[str, Tensor], drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Layers used (B,) and probabilities (B, C) of one batch."""
        asked = _Asked(self, batch["attention_mask"], drawn)
        bf16 = torch.autocast(self._model.device.type, torch.bfloat16, enabled=self._bf16)
        with torch.no_grad(), bf16, _asking(models.layer_stack(self._model.base_model), asked):
            try:
                own = self._model(**batch).logits.float().softmax(-1).double().cpu().numpy()
                asked.probs[asked.waiting] = own[asked.waiting]
            except _Stop:
                pass
        return asked.used, asked.probs


class _Asked:
    """The rows of a batch that wait for an answer as it passes through the layers."""

    def __init__(self, early: EarlyExit, mask: Tensor, drawn: np.ndarray):
        self.early, self.mask, self.drawn = early, mask, drawn
        self.waiting = np.arange(len(mask))  # the rows that are left, in their order
        self.told: list[np.ndarray] = []  # what each exit so far says of them
        self.used = np.full(len(mask), early.layers)
        self.probs = np.empty((len(mask), early._model.config.num_labels))

    def ask(self, layer: int, hidden: Tensor) -> Tensor:
        """Ask the exit at a layer of the rows left, (n, T, D); those that it answers leave. Which of the n stay."""
        phi = pool(hidden, self.mask[self.waiting], self.early._pooling).float().cpu()
        self.told.append(self.early._exits[layer - 1](phi).double().numpy())
        sure = self.early._sure(self.told, self.drawn[self.waiting, layer - 1]) >= self.early.threshold
        gone = self.waiting[sure]
        self.used[gone], self.probs[gone] = layer, self.told[-1][sure]
        self.waiting, self.told = self.waiting[~sure], [probs[~sure] for probs in self.told]
        return torch.from_numpy(~sure).to(hidden.device)


class _Stop(Exception):
    """Every row has its answer."""


@contextmanager
def _asking(stack: torch.nn.ModuleList, asked: _Asked) -> Iterator[None]:
    """Before each block but the first the exit below is asked, and the block is given the rows that are left.

    The loop over the blocks passes what all B rows have in common with each (masks, positions): of these the rows are
    taken. Behind the last block the rows are put back in their places, so that what follows finds B of them.
    """
    n_rows, width = asked.mask.shape

    def left(given: Any) -> Any:
        if isinstance(given, tuple):
            return tuple(map(left, given))
        of_rows = torch.is_tensor(given) and given.ndim > 1 and len(given) == n_rows
        return given[asked.waiting] if of_rows and (given.ndim > 2 or given.shape[1] == width) else given

    def before(layer: int):
        def hook(block, args, kwargs):
            kept = args[0][asked.ask(layer, args[0])]
            if not len(kept):
                raise _Stop
            return (kept, *map(left, args[1:])), {name: left(value) for name, value in kwargs.items()}

        return hook

    def after(block, args, output):
        hidden = output[0] if isinstance(output, tuple) else output
        whole = hidden.new_zeros(n_rows, *hidden.shape[1:])
        whole[asked.waiting] = hidden
        return (whole, *output[1:]) if isinstance(output, tuple) else whole

    with ExitStack() as handles:
        if asked.early.threshold == np.inf:  # no exit is ever sure enough, so none is asked
            yield
            return
        for layer, block in enumerate(list(stack)[1:], start=1):
            handles.callback(block.register_forward_pre_hook(before(layer), with_kwargs=True).remove)
        handles.callback(stack[-1].register_forward_hook(after).remove)
        yield


def _probabilities(run: Run, laplace: bool) -> list[Callable[[Tensor], Tensor]]:
    """What the exits of a run but the last say: a function a layer, (N, D) -> (N, C)."""
    tensors, stated = _stored(run, "exits")
    priors = stated["prior_precision"]
    heads = [restored_head(tensors[f"exit{layer}"], priors[f"exit{layer}"]) for layer in range(1, len(priors))]
    if not laplace:
        return [_softmax(head) for head in heads]
    factors, posteriors = _stored(run, "posteriors")
    if not factors:
        kind = run.config["posterior"]
        raise ValueError(f"criterion is 'laplace_margin': runs keep no posterior = {kind!r}; choose kronecker")
    named = [(head, f"exit{layer}") for layer, head in enumerate(heads, start=1)]
    return [restored_posterior(head, factors[name], posteriors[name]).probabilities for head, name in named]


def _softmax(head: Head) -> Callable[[Tensor], Tensor]:
    return lambda features: head.logits(features).softmax(-1)


def _stored(run: Run, name: str) -> tuple[dict[str, dict[str, Tensor]], dict]:
    """{exit: {part: tensor}} of a file of a run, and what stands in its header."""
    tensors: dict[str, dict[str, Tensor]] = {}
    with safe_open(run.path(f"{name}.safetensors"), framework="pt") as file:
        for key in file.keys():  # noqa: SIM118  it is no mapping
            exit, _, part = key.partition(".")
            tensors.setdefault(exit, {})[part] = file.get_tensor(key)
        return tensors, json.loads(file.metadata()[name])
