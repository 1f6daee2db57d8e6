"""What a weighting method is: a row of the comparison, its hyper-parameters as fields, its rule as a function.

A method weighs the instances in one of three places, or not at all: `Refitted` after an epoch, from the features of the
student's layers; `Early` before the first epoch, from the probabilities of an early model; `Online` at every step, from
the losses of the batch. Subclass one of them and `register` it.
"""

from abc import abstractmethod
from typing import ClassVar, Literal

import torch
from torch import Tensor

from fairkd.exits import Exits
from fairkd.parameters import Count, Fraction, Parameters, parameter
from fairkd.weighting.group_weights import GroupWeights


class Method(Parameters):
    """A row of the comparison: by itself it trains on the labels alone, every instance alike.

    Attributes:
        name: what it is called in a students list.
        description: one line for tables and help.
        reads_groups: it sees the group of every training instance, which the others do without.
    """

    name: ClassVar[str]
    description: ClassVar[str]
    reads_groups: ClassVar[bool] = False

    @property
    def uses_teacher(self) -> bool:
        """Whether the loss has a distillation term."""
        return False

    @property
    def reweights(self) -> bool:
        """Whether instances ever differ in weight."""
        return isinstance(self, Weighted)


class Distilled(Method):
    """A method that learns from the teacher's logits too."""

    temperature: float = parameter(2.0, "softens teacher and student logits", "deck", gt=0, le=100)
    kd_weight: Fraction = parameter(0.5, "lambda: share of the distillation term", "both terms alike")

    @property
    def uses_teacher(self) -> bool:
        """Whether the loss has a distillation term."""
        return True


class Weighted(Distilled):
    """A method in which instances differ in weight."""

    use_teacher: bool = parameter(True, "false: the labels alone, as the method was published without distillation")
    reweight: Literal["kd", "both"] = parameter(
        "both", "which of the two loss terms carry the weight", "both: DEDIER's released code; kd: the deck's formula"
    )

    @property
    def uses_teacher(self) -> bool:
        """Whether the loss has a distillation term."""
        return self.use_teacher


class Lifted(Weighted):
    """A method whose weights are set before a step and used as they are, or changed as the loss is told to."""

    normalize_weights: bool = parameter(False, "scale the weights to mean 1", "false: DEDIER, the deck")
    weight_cap: float | None = parameter(None, "largest weight; null: none", "null: DEDIER", ge=1, allow_inf_nan=False)
    permute_weights: bool = parameter(False, "control: the same weights on permuted instances")

    def applied(self, weights: Tensor, seed: int) -> Tensor:
        """The weights as the loss uses them, (N,) -> (N,): permuted, capped, scaled to mean 1, where asked for.

        The permutation is one for the whole run: it keeps every weight and how long an instance has it, and takes
        away alone which instance it is (the control).
        """
        if self.permute_weights:
            generator = torch.Generator().manual_seed(seed)
            weights = weights[torch.randperm(len(weights), generator=generator)]
        if self.weight_cap is not None:
            weights = weights.clamp(max=self.weight_cap)
        return weights / weights.mean() if self.normalize_weights else weights


class Refitted(Lifted):
    """A method that weighs anew after epochs, from what exits read of the student as it is."""

    aux_layer: int = parameter(3, "student layer the exit reads, 1 .. depth", "deck: 3, and 6", ge=1)
    warm_start_epochs: Count = parameter(1, "epochs before the first refit of the exit")
    reweight_every: Count = parameter(1, "epochs between two refits of the exit", "deck")
    stale_weights: bool = parameter(False, "an instance once wrong keeps its weight", "true: DEDIER's released code")

    @property
    def layers(self) -> list[int]:
        """The student's layers whose features `weights` gets."""
        return [self.aux_layer]

    @abstractmethod
    def weights(self, features: dict[int, Tensor], labels: Tensor, exits: Exits) -> Tensor:
        """{layer: (N, D)}, (N,) -> (N,) weights; `exits` fits exits to features in the way asked for."""

    def due(self, epoch: int) -> bool:
        """Whether the weights are set anew after this epoch."""
        return epoch >= self.warm_start_epochs and (epoch - self.warm_start_epochs) % self.reweight_every == 0

    def merged(self, previous: Tensor, fresh: Tensor) -> Tensor:
        """The weights after a refit, from those before and the refit's own: (N,), (N,) -> (N,)."""
        return torch.where(fresh == 1, previous, fresh) if self.stale_weights else fresh


class Early(Lifted):
    """A method that weighs once, by an early model of the labels alone."""

    @property
    @abstractmethod
    def early_epochs(self) -> int:
        """Epochs of the early model."""

    @abstractmethod
    def weights(self, probs: Tensor, labels: Tensor) -> Tensor:
        """The early model's probabilities (N, C), labels (N,) -> (N,) weights."""


class Online(Weighted):
    """A method whose weights belong to groups and move at every step."""

    reads_groups: ClassVar[bool] = True

    @abstractmethod
    def start(self, groups: Tensor) -> GroupWeights:
        """The group weights before the first step; `groups` (N,) is the group of every instance."""


METHODS: dict[str, type[Method]] = {}


def register(method: type[Method]) -> type[Method]:
    """Make a method one that a students list may name; a decorator of its class."""
    METHODS[method.name] = method
    return method
