"""The weighting methods: what a student shows goes in, the weight of every training instance comes out.

A method weighs the instances in one of three places, or not at all:
`refit`, after an epoch, from the features of the student's layers; `early`, before the first epoch, from the
probabilities of an early model; `online`, at every step, from the losses of the batch.
To add a method, write one such function and its line in `METHODS`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from scipy.optimize import brentq
from torch import Tensor

from fairkd import avcs
from fairkd.dedier import confidence_margin, exponential_weights, instance_weights
from fairkd.group_dro import GroupWeights
from fairkd.heads import HeadPosterior, fit_head, fit_posterior

if TYPE_CHECKING:
    from fairkd.experiment import Experiment

Features = dict[int, Tensor]

# Parameters of the experiment that several methods read.
_WEIGHT = {"alpha", "beta", "exponent"}
_LOSS = {"reweight", "normalize_weights", "weight_cap", "permute_weights"}
_SCHEDULE = _LOSS | {"warm_start_epochs", "reweight_every", "stale_weights"}
_EXIT = {"aux_layer"} | _WEIGHT | _SCHEDULE


@dataclass(frozen=True)
class Method:
    """A row of the comparison.

    Args:
        description: one line for tables and help.
        uses_teacher: False trains on the labels alone (the distillation term is left out).
        reads_groups: it sees the group of every training instance, which the others do without.
        refit: ({layer: features (N, D)}, labels (N,), experiment) -> weights (N,), after an epoch.
        every_layer: `refit` gets layers 1 to aux_layer, not aux_layer alone.
        early: (an early model's probabilities (N, C), labels (N,), experiment) -> weights (N,), once.
        online: (groups (N,), experiment) -> a `GroupWeights`, asked at every step.
        parameters: the experiment's parameters that the method reads beside those of every student.
    """

    description: str
    uses_teacher: bool = True
    reads_groups: bool = False
    refit: Callable[[Features, Tensor, "Experiment"], Tensor] | None = None
    every_layer: bool = False
    early: Callable[[Tensor, Tensor, "Experiment"], Tensor] | None = None
    online: Callable[[Tensor, "Experiment"], GroupWeights] | None = None
    parameters: frozenset[str] = frozenset()

    @property
    def reweights(self) -> bool:
        """Whether instances ever differ in weight."""
        return bool(self.refit or self.early or self.online)

    def layers(self, experiment: "Experiment") -> list[int]:
        """The student's layers whose features `refit` gets."""
        return list(range(1 if self.every_layer else experiment.aux_layer, experiment.aux_layer + 1))


def _dedier(features: Features, labels: Tensor, experiment: "Experiment") -> Tensor:
    """Margin of the exit's MAP softmax (Tiwari et al. 2023)."""
    [phi] = features.values()
    probs = fit_head(phi, labels, experiment).logits(phi).softmax(-1)
    confidence = probs.amax(1) if experiment.signal == "top_probability" else None
    return margin_weights(probs, labels, experiment, confidence)


def _laplace(features: Features, labels: Tensor, experiment: "Experiment") -> Tensor:
    """Margin, or another signal, of the exit's Laplace predictive."""
    [phi] = features.values()
    posterior = fit_posterior(fit_head(phi, labels, experiment), phi, labels, experiment)
    probs = posterior.probabilities(phi)
    return margin_weights(probs, labels, experiment, confidence(posterior, phi, probs, experiment.signal))


def _tempered(features: Features, labels: Tensor, experiment: "Experiment") -> Tensor:
    """Margin of the MAP softmax, tempered until it is as wide on average as that of the Laplace predictive."""
    [phi] = features.values()
    head = fit_head(phi, labels, experiment)
    target = confidence_margin(fit_posterior(head, phi, labels, experiment).probabilities(phi)).mean().item()
    logits = head.logits(phi)
    return margin_weights((logits / matched_temperature(logits, target)).softmax(-1), labels, experiment)


def _avcs(features: Features, labels: Tensor, experiment: "Experiment") -> Tensor:
    """Evidence of the exits at layers 1 to aux_layer against the gold label (Jazbec et al. 2024)."""
    thresholds, logits = avcs.thresholds_and_logits(
        lambda phi, y: fit_head(phi, y, experiment).logits, features, labels, experiment.delta, experiment.seed
    )
    against = avcs.evidence(logits, thresholds, labels, experiment.delta)
    return exponential_weights(against, experiment.alpha, experiment.beta, exponent=experiment.exponent)


def _jtt(probs: Tensor, labels: Tensor, experiment: "Experiment") -> Tensor:
    """The errors of an early model weigh `jtt_factor`, all others 1 (Liu et al. 2021, algorithm 1)."""
    return torch.where(probs.argmax(1) != labels, experiment.jtt_factor, 1.0)


def _group_dro(groups: Tensor, experiment: "Experiment") -> GroupWeights:
    """Group weights that rise with the group's loss (Sagawa et al. 2020, algorithm 1)."""
    return GroupWeights(groups, experiment.group_step_size)


def confidence(posterior: HeadPosterior, features: Tensor, probs: Tensor, signal: str) -> Tensor:
    """How sure the exit is, (N,) in [0, 1], by one of the signals.

    "margin" and "top_probability" are of the Laplace predictive `probs` (N, C). "contrast_variance" is
    (1 + pi/8 v)^(-1/2), v the posterior variance of the contrast of the two largest logits: the factor by which
    MacKay 1992 moderates it. "mutual_information" is 1 - I / log C.
    """
    if signal == "margin":
        return confidence_margin(probs)
    if signal == "top_probability":
        return probs.amax(1)
    if signal == "contrast_variance":
        return (1 + math.pi / 8 * posterior.contrast_variance(features)).rsqrt()
    return (1 - posterior.mutual_information(features) / math.log(probs.shape[1])).clamp(0, 1)


def matched_temperature(logits: Tensor, target: float) -> float:
    """The temperature at which the mean confidence margin of softmax(logits / temperature) is `target`."""

    def excess(log_temperature: float) -> float:
        return confidence_margin((logits / math.exp(log_temperature)).softmax(-1)).mean().item() - target

    return math.exp(brentq(excess, -10, 20, xtol=1e-8))


def margin_weights(probs: Tensor, labels: Tensor, experiment: "Experiment", confidence: Tensor | None = None) -> Tensor:
    """`instance_weights` with the experiment's alpha, beta and exponent."""
    return instance_weights(
        probs, labels, experiment.alpha, experiment.beta, exponent=experiment.exponent, confidence=confidence
    )


METHODS: dict[str, Method] = {
    "erm": Method("no teacher, cross-entropy alone", uses_teacher=False),
    "kd": Method("plain distillation (Hinton et al. 2015)"),
    "jtt": Method(
        "errors of an early model (Liu et al. 2021)",
        early=_jtt,
        parameters=frozenset({"jtt_epochs", "jtt_factor"} | _LOSS),
    ),
    "dedier": Method(
        "margin of the exit's MAP softmax (Tiwari et al. 2023)",
        refit=_dedier,
        parameters=frozenset({"signal"} | _EXIT),
    ),
    "laplace": Method(
        "margin of the exit's Laplace predictive",
        refit=_laplace,
        parameters=frozenset({"signal"} | _EXIT),
    ),
    "tempered": Method(
        "control: MAP softmax tempered to the mean margin of the Laplace predictive",
        refit=_tempered,
        parameters=frozenset(_EXIT),
    ),
    "avcs": Method(
        "evidence of the exits up to aux_layer against the label (Jazbec et al. 2024)",
        refit=_avcs,
        every_layer=True,
        parameters=frozenset({"delta"} | _EXIT),
    ),
    "group_dro": Method(
        "group weights, reads the groups of the training pairs (Sagawa et al. 2020)",
        reads_groups=True,
        online=_group_dro,
        parameters=frozenset({"group_step_size", "reweight"}),
    ),
}


def title(spec: str) -> str:
    """How a student is named in tables: its entry of `students`, marked where the method reads group labels."""
    method = spec.partition(",")[0].partition("@")[0]
    return f"{spec} (reads group labels)" if METHODS[method].reads_groups else spec


def merge_weights(previous: Tensor, fresh: Tensor, *, stale: bool) -> Tensor:
    """The weights after a refit, from those before and the refit's own: (N,), (N,) -> (N,).

    Args:
        stale: an instance that the refit leaves at 1 keeps its previous weight (DEDIER's released code).
    """
    return torch.where(fresh == 1, previous, fresh) if stale else fresh


def applied_weights(weights: Tensor, experiment: "Experiment") -> Tensor:
    """The weights as the loss uses them: permuted over the instances, capped, scaled to mean 1, where asked for.

    The permutation is one for the whole run: it keeps every weight and how long an instance has it, and takes away
    alone which instance it is (the control).
    """
    if experiment.permute_weights:
        generator = torch.Generator().manual_seed(experiment.seed)
        weights = weights[torch.randperm(len(weights), generator=generator)]
    if experiment.weight_cap is not None:
        weights = weights.clamp(max=experiment.weight_cap)
    return weights / weights.mean() if experiment.normalize_weights else weights
