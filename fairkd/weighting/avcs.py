"""Evidence against a label from a sequence of exits (Jazbec et al. 2024, anytime-valid confidence sequences).

At exit l the shifted logits above a threshold are the concentrations a of a Dirichlet over the classes' probabilities;
the others are off its support. The predictive-likelihood ratio of a class y is R_l(y) = (a_y / a_0) / pi_y with
pi ~ Dir(a) and a_0 the sum of a. A class whose ratios multiply to more than 1/delta leaves the confidence set.

Logits are shift-invariant and concentrations are not, so logits are centred first. The noise-free form is used,
    E log R_l(y) = log(a_y / a_0) - digamma(a_y) + digamma(a_0)  >= 0,
so log R never falls from exit to exit and the sets are nested by themselves.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fairkd.exits import Exits
from fairkd.exits.design import selected
from fairkd.parameters import parameter
from fairkd.weighting.dedier import MarginWeighted
from fairkd.weighting.margins import exponential_weights
from fairkd.weighting.method import register


def log_ratio(logits: Tensor, threshold: float) -> Tensor:
    """Return E log R(y) of every class at one exit, (N, C) in and out: infinite off the support.

    Args:
        logits: (N, C).
        threshold: what centred logits must exceed to be on the support; a = max(centred logit - threshold, 0).
    """
    a = (_centred(logits) - threshold).clamp(min=0)
    on = a > 0
    safe, total = a.where(on, 1.0), a.sum(1, keepdim=True)
    ratio = (safe / total).log() - safe.digamma() + total.digamma()
    return ratio.clamp(min=0).where(on, math.inf)


def held_out_threshold(logits: Tensor, labels: Tensor, delta: float) -> float:
    """Return the largest threshold that leaves at most a share `delta` of held-out gold labels off the support.

    Args:
        logits: (N, C) of held-out instances.
        labels: (N,).
        delta: in (0, 1).
    """
    gold = _centred(logits).gather(1, labels[:, None].long()).squeeze(1).sort().values
    # Below the quantile, by as little as keeps that instance itself on the support.
    return math.nextafter(gold[math.floor(delta * len(gold))].item(), -math.inf)


def evidence(logits: list[Tensor], thresholds: list[float], labels: Tensor, delta: float) -> Tensor:
    """Return e = clip(log R(gold) / log(1/delta), 0, 1), R multiplied over the exits; (N,) float64.

    1 is a gold label that log R says is outside the set, 0 one that nothing speaks against. The set has no level: of
    labels just above a threshold log R exceeds log(1/delta) too, so more than delta of the gold labels lie outside.

    Raises:
        ValueError: delta outside (0, 1), no exits.
    """
    if not 0 < delta < 1:
        raise ValueError(f"delta is {delta}; it must lie between 0 and 1: the level of the set")
    if not logits:
        raise ValueError("logits is empty; evidence needs at least one exit")
    total = sum(log_ratio(z, t) for z, t in zip(logits, thresholds, strict=True))
    gold = total.gather(1, labels[:, None].long()).squeeze(1)
    return (gold / math.log(1 / delta)).clamp(0, 1)


def thresholds_and_logits(
    fit_logits: Callable, features: dict[int, Tensor], labels: Tensor, delta: float, seed: int
) -> tuple[list[float], list[Tensor]]:
    """Return a threshold and the (N, C) logits of every layer's exit, fitted on nine tenths of the rows.

    The thresholds come from the tenth that the exits have not seen; each cuts off delta / (number of exits) of its gold
    labels, so that all together cut off at most delta of these.

    Args:
        fit_logits: (features, labels) of the rows to fit on -> a function from features to logits.
        features: {layer: (N, D)}, multiplied in the order of the layers.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator)
    held_out, fitted = order[: max(1, len(order) // 10)], order[max(1, len(order) // 10) :]
    thresholds, logits = [], []
    for layer in sorted(features):
        head = fit_logits(selected(features[layer], fitted), labels[fitted])
        logits.append(head(features[layer]))
        thresholds.append(held_out_threshold(logits[-1][held_out], labels[held_out], delta / len(features)))
    return thresholds, logits


def _centred(logits: Tensor) -> Tensor:
    return logits.double() - logits.double().mean(1, keepdim=True)


@register
class Avcs(MarginWeighted):
    """Weights exp(beta e^alpha) on every instance, e the evidence of the exits at layers 1 to aux_layer against it."""

    name = "avcs"
    description = "evidence of the exits up to aux_layer against the label (Jazbec et al. 2024)"

    delta: float = parameter(
        0.05,
        "a label leaves the set at a ratio of 1/delta; the thresholds cut off this share of held-out labels in all",
        "Jazbec et al. 2024",
        gt=0,
        lt=1,
    )

    @property
    def layers(self) -> list[int]:
        """All layers up to aux_layer."""
        return list(range(1, self.aux_layer + 1))

    def weights(self, features: dict[int, Tensor], labels: Tensor, exits: Exits) -> Tensor:
        """See `ByExit.weights`."""
        thresholds, logits = thresholds_and_logits(
            lambda phi, y: exits.head(phi, y).logits, features, labels, self.delta, exits.seed
        )
        against = evidence(logits, thresholds, labels, self.delta)
        return exponential_weights(against, self.alpha, self.beta, exponent=self.exponent)
