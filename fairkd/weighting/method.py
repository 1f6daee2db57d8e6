"""What a weighting method is: a row of the comparison, its hyper-parameters as fields, its rule as a function.

A method weighs the instances by what it sees, or not at all: `ByExit` by the features of the student's layers, after
an epoch; `ByEarlyModel` by the probabilities of an early model, before the first; `ByGroupLoss` by the losses of the
batch, at every step; `InRefit` by what a finished student says, in a refit of its last layer. `ByExit` and
`ByEarlyModel` may act there too, see `Lifted.place`. `Debiased` changes what an instance's loss is, by what an exit
says of it, and weighs nothing. Subclass one of them and `register` it.
"""

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from fairkd import provenance
from fairkd.exits import Exits
from fairkd.parameters import Count, Epochs, Fraction, Parameters, Precision, parameter
from fairkd.weighting.group_weights import GroupWeights


class Method(Parameters):
    """A row of the comparison: by itself it trains on the labels alone, every instance alike.

    Attributes:
        name: what it is called in a students list.
        description: one line for tables and help.
        reads_groups: it sees the group of every training instance, which the others do without.
        reads_if: {parameter: (another, the values of it with which alone the parameter is read)}, of a class and beside
            those of the classes that it is made of; all of them must hold.
    """

    name: ClassVar[str]
    description: ClassVar[str] = ""
    reads_groups: ClassVar[bool] = False
    reads_if: ClassVar[dict[str, tuple[str, tuple[Any, ...]]]] = {}

    def unread(self, given: Iterable[str]) -> list[str]:
        """A line for each of the parameters given that these others leave unread, see `reads_if`."""
        conditions = [of for base in reversed(type(self).__mro__) for of in vars(base).get("reads_if", {}).items()]
        return [
            f"{name} = {getattr(self, name)!r}: {self.name} reads it only with {other} = "
            f"{' or '.join(map(str, allowed))}, which is {getattr(self, other)} here"
            for name, (other, allowed) in conditions
            if name in given and getattr(self, other) not in allowed
        ]

    @property
    def uses_teacher(self) -> bool:
        """Whether the loss has a distillation term."""
        return False

    @property
    def reweights(self) -> bool:
        """Whether instances ever differ in weight while the student is trained."""
        return isinstance(self, Weighted) and not self.refits_head

    @property
    def refits_head(self) -> bool:
        """Whether the student is a plain one whose last layer is fitted anew, with the weights."""
        return False

    @property
    def has_weights(self) -> bool:
        """Whether a run of it leaves the weights of instances: it re-weights in training or, once, in a refit."""
        return self.reweights or self.refits_head

    @property
    def refits_on_validation(self) -> bool:
        """Whether it learns from the validation rows, which then cannot judge it."""
        return False


class Distilled(Method):
    """A method that learns from the teacher's logits too."""

    temperature: float = parameter(2.0, "softens teacher and student logits", "deck", gt=0, le=100)
    kd_weight: Fraction = parameter(0.5, "lambda: share of the distillation term", "both terms alike")

    @property
    def uses_teacher(self) -> bool:
        """Whether the loss has a distillation term."""
        return True


class TeacherOptional(Distilled):
    """A method that was published without distillation."""

    reads_if = dict.fromkeys(("temperature", "kd_weight"), ("use_teacher", (True,)))

    use_teacher: bool = parameter(True, "false: the labels alone, as the method was published without distillation")

    @property
    def uses_teacher(self) -> bool:
        """Whether the loss has a distillation term."""
        return self.use_teacher


class Weighted(TeacherOptional):
    """A method in which instances differ in weight."""

    reweight: Literal["kd", "both"] = parameter(
        "both", "which of the two loss terms carry the weight", "both: DEDIER's released code; kd: the deck's formula"
    )


def usable(method: Method, weights: Any, n: int) -> Tensor:
    """The weights that a method gave, if they are `n` numbers of at least 0 (or not finite, which the loss is told of).

    As the loss has them: float32, without a gradient of their own.

    Raises:
        ValueError: they are something else; the message says of which method and what.
    """
    if not isinstance(weights, Tensor) or weights.shape != (n,):
        found = f"a tensor of shape {tuple(weights.shape)}" if isinstance(weights, Tensor) else type(weights).__name__
        raise ValueError(f"method {method.name} gave {found} as weights; it must be a torch tensor of shape ({n},)")
    if weights.is_complex():
        raise ValueError(f"method {method.name} gave weights of {weights.dtype}; they must be real numbers")
    if (weights < 0).any():
        raise ValueError(f"method {method.name} gave weights down to {weights.min():g}; they must be at least 0")
    return weights.detach().float()


class Lifted(Weighted):
    """A method whose weights are set before a step and used as they are, or changed as the loss is told to."""

    reads_if = {"head_prior_precision": ("place", ("refit",)), "reweight": ("place", ("training",))}

    place: Literal["training", "refit"] = parameter(
        "training", "where the weights act: in the training, or in a refit of a plain student's last layer", "deck"
    )
    head_prior_precision: Precision | Literal["evidence"] = parameter(
        1.0, "tau of a refitted last layer, or chosen by evidence", "Kirichenko et al. 2023: an L2 penalty"
    )
    normalize_weights: bool = parameter(False, "scale the weights to mean 1", "false: DEDIER, the deck")
    weight_cap: float | None = parameter(
        None, "largest weight, before any are scaled; null: none", "null: DEDIER", ge=1, le=1e9
    )
    permute_weights: bool = parameter(False, "control: the same weights on permuted instances")

    @property
    def refits_head(self) -> bool:
        """See `Method.refits_head`."""
        return self.place == "refit"

    def applied(self, weights: Tensor, seed: int) -> Tensor:
        """The weights as the loss uses them, (N,) -> (N,): permuted, capped, scaled to mean 1, where asked for.

        The permutation is one for the whole run: it keeps every weight and how long an instance has it, and takes
        away alone which instance it is (the control).

        Raises:
            ValueError: no instance has a weight above 0.
        """
        if not weights.any():
            raise ValueError(
                f"{self.name} gives every instance the weight 0; where its exit is certain of every label, a larger "
                "prior_precision makes it less sure"
            )
        if self.permute_weights:
            generator = torch.Generator().manual_seed(seed)
            weights = weights[torch.randperm(len(weights), generator=generator)]
        if self.weight_cap is not None:
            weights = weights.clamp(max=self.weight_cap)
        return weights / weights.mean() if self.normalize_weights else weights


class ReadsExit(Parameters):
    """What an exit of a method reads."""

    reads_if: ClassVar = {"n_words": ("reader", ("words",))}

    aux_layer: int = parameter(3, "student layer the exit reads, 1 .. depth", "deck: 3, and 6", ge=1)
    exit_reads: str = parameter(
        "pair", "text that the exit is fed: pair is all there is, or one column", "pair: deck; one: Poliak et al. 2018"
    )
    reader: Literal["encoder", "words"] = parameter(
        "encoder", "what makes the exit's features: the student's layers, or a bag of words", "encoder: deck"
    )
    n_words: Count = parameter(3000, "most frequent words of the training texts, where reader is words")

    @property
    def layers(self) -> list[int]:
        """The student's layers whose features the method gets."""
        return [self.aux_layer]


class Rereads(ReadsExit):
    """A method whose exit is fitted anew after epochs, to the student as it is."""

    warm_start_epochs: Epochs = parameter(1, "epochs before the first refit of the exit")
    reweight_every: Epochs = parameter(1, "epochs between two refits of the exit", "deck")

    def due(self, epoch: int) -> bool:
        """Whether the exit is fitted anew after this epoch."""
        return epoch >= self.warm_start_epochs and (epoch - self.warm_start_epochs) % self.reweight_every == 0


class ByExit(Rereads, Lifted):
    """A method that weighs anew after epochs, from what exits read of the student as it is."""

    reads_if = dict.fromkeys(("warm_start_epochs", "reweight_every"), ("place", ("training",)))

    @abstractmethod
    def weights(self, features: dict[int, Tensor], labels: Tensor, exits: Exits) -> Tensor:
        """{layer: (N, D)}, (N,) -> (N,) weights; `exits` fits exits to features in the way asked for.

        A bag of words comes as layer 0, and alone.
        """

    def merged(self, previous: Tensor, fresh: Tensor) -> Tensor:
        """The weights after a refit, from those before and the refit's own: (N,), (N,) -> (N,)."""
        return fresh


class Adjustment(NamedTuple):
    """What a biased reader changes in the loss of N instances; None changes nothing.

    Attributes:
        teacher_scale: (N,) factors of the teacher's logits: exponents of its probabilities, before they are normalised.
        label_offset: (N, C) added to the student's logits in the labels' term, and there alone.
    """

    teacher_scale: Tensor | None = None
    label_offset: Tensor | None = None


class Debiased(Rereads, Distilled):
    """A method whose loss takes in what a biased reader, the exit at its MAP, says of every instance."""

    @abstractmethod
    def adjustment(self, probs: Tensor, labels: Tensor) -> Adjustment:
        """The reader's probabilities (N, C), labels (N,) -> what they change in the loss."""


class ByEarlyModel(Lifted):
    """A method that weighs once, by an early model of the labels alone."""

    @property
    @abstractmethod
    def early_epochs(self) -> int:
        """Epochs of the early model."""

    @abstractmethod
    def weights(self, probs: Tensor, labels: Tensor) -> Tensor:
        """The early model's probabilities (N, C), labels (N,) -> (N,) weights."""


Rows = Literal["training", "validation"]


class Seen(NamedTuple):
    """What is known of N rows when a last layer is refitted on them.

    Attributes:
        labels: (N,).
        groups: (N,) group of every row, integers.
        importance: (N,) how many rows of the population each stands for, mean 1: all 1, but for validation rows that
            were drawn by group.
        probs: (N, C) what the finished student says.
        exit_probs: (N, C) what its exit at `aux_layer` says, fitted on the training rows; None without an aux_layer.
    """

    labels: Tensor
    groups: Tensor
    importance: Tensor
    probs: Tensor
    exit_probs: Tensor | None = None


class InRefit(Lifted):
    """A method that weighs the rows on which a finished student's last layer is fitted anew.

    One that reads no groups weighs each row as often as it stands for one of the population, see `Seen`.

    Attributes:
        towards_old: the prior's mean is the last layer as it was; else 0.
    """

    towards_old: ClassVar[bool] = False

    place: Literal["refit"] = parameter("refit", "where the weights act: in a refit of a plain student's last layer")
    refit_on: Rows = parameter("training", "pairs to refit the last layer on", "validation: Kirichenko et al. 2023")

    @property
    def refits_on_validation(self) -> bool:
        """See `Method.refits_on_validation`."""
        return self.refit_on == "validation"

    @abstractmethod
    def weights(self, seen: Seen) -> Tensor:
        """(N,) weights of the rows."""


class ByGroupLoss(Weighted):
    """A method whose weights belong to groups and move at every step."""

    reads_groups: ClassVar[bool] = True

    @abstractmethod
    def start(self, groups: Tensor) -> GroupWeights:
        """The group weights before the first step; `groups` (N,) is the group of every instance."""


METHODS: dict[str, type[Method]] = {}


def register(method: type[Method]) -> type[Method]:
    """Make a method one that a students list may name; a decorator of its class.

    Raises:
        ValueError: see `provenance.entered`.
    """
    return provenance.entered(METHODS, method, Method)
