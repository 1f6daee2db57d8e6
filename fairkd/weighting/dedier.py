"""Instances that an early exit gets wrong, lifted by how sure it is of them (Tiwari et al. 2023).

`dedier` takes the margin of the exit's softmax, `laplace` that of its Laplace predictive (the method under study),
`tempered` is the control between them: a softmax as unsure on average as the predictive, by one number.
"""

import math
from typing import Literal

import scipy
import torch
from torch import Tensor

from fairkd.exits import Exits, HeadPosterior
from fairkd.parameters import parameter
from fairkd.weighting.margins import confidence_margin, instance_weights, label_weights, linear_weights
from fairkd.weighting.method import ByExit, register


class MarginWeighted(ByExit):
    """Weights exp(beta cm^alpha), cm how sure one is that an instance is wrong (Tiwari et al. 2023, equation 2)."""

    alpha: float = parameter(0.2, "exponent of the margin", "DEDIER's preset for MultiNLI", ge=0, le=10)
    beta: float = parameter(3.0, "factor of the margin", "DEDIER's preset for MultiNLI", ge=0, le=20)
    exponent: Literal["power", "product"] = parameter(
        "power", "beta*cm**alpha or beta*cm*alpha", "power: DEDIER's released code; product: as the deck prints it"
    )


class Lasting(ByExit):
    """Weights of an exit's errors, of which one may last once the exit is right: its fresh weight is 1."""

    reads_if = {"stale_weights": ("place", ("training",))}

    stale_weights: bool = parameter(False, "an instance once wrong keeps its weight", "true: DEDIER's released code")

    def merged(self, previous: Tensor, fresh: Tensor) -> Tensor:
        """See `ByExit.merged`."""
        return torch.where(fresh == 1, previous, fresh) if self.stale_weights else fresh


class ExitWeighted(Lasting, MarginWeighted):
    """Weights by what one exit says of an instance; of the shapes only "exponential" knows another confidence."""

    reads_if = {
        "beta": ("shape", ("exponential", "linear")),
        "exponent": ("shape", ("exponential",)),
        "signal": ("shape", ("exponential",)),
        "stale_weights": ("shape", ("exponential", "linear")),
    }

    shape: Literal["exponential", "linear", "inverse", "complement"] = parameter(
        "exponential",
        "exp(beta cm^alpha) or 1 + beta cm^alpha on the exit's errors; 1 / p_y^alpha or (1 - p_y)^alpha on all",
        "exponential: DEDIER; complement: Utama et al. 2020",
    )

    def lift(self, probs: Tensor, labels: Tensor, confidence: Tensor | None = None) -> Tensor:
        """The weights in this method's shape, (N, C), (N,) -> (N,)."""
        if self.shape == "exponential":
            return instance_weights(probs, labels, self.alpha, self.beta, exponent=self.exponent, confidence=confidence)
        if self.shape == "linear":
            return linear_weights(probs, labels, self.alpha, self.beta)
        return label_weights(probs, labels, self.alpha, inverse=self.shape == "inverse")


@register
class Dedier(ExitWeighted):
    """Margin of the exit's MAP softmax."""

    name = "dedier"
    description = "margin of the exit's MAP softmax (Tiwari et al. 2023)"

    signal: Literal["margin", "top_probability"] = parameter("margin", "confidence of the exit in the weight", "DEDIER")

    def weights(self, features: dict[int, Tensor], labels: Tensor, exits: Exits) -> Tensor:
        """See `ByExit.weights`."""
        [phi] = features.values()
        probs = exits.head(phi, labels).logits(phi).softmax(-1)
        return self.lift(probs, labels, probs.amax(1) if self.signal == "top_probability" else None)


@register
class SelfDebias(ByExit):
    """Weights 1 - p_y, p the reader's MAP softmax (Utama et al. 2020)."""

    name = "selfdebias"
    description = "the more the exit gives the label, the less it weighs (Utama et al. 2020)"

    def weights(self, features: dict[int, Tensor], labels: Tensor, exits: Exits) -> Tensor:
        """See `ByExit.weights`."""
        [phi] = features.values()
        return label_weights(exits.head(phi, labels).logits(phi).softmax(-1), labels, 1.0)


@register
class Laplace(ExitWeighted):
    """Margin, or another signal, of the exit's Laplace predictive."""

    name = "laplace"
    description = "margin of the exit's Laplace predictive"

    signal: Literal["margin", "top_probability", "contrast_variance", "mutual_information"] = parameter(
        "margin", "confidence of the exit in the weight", "deck"
    )

    def weights(self, features: dict[int, Tensor], labels: Tensor, exits: Exits) -> Tensor:
        """See `ByExit.weights`."""
        [phi] = features.values()
        posterior = exits.uncertain(exits.head(phi, labels), phi, labels)
        probs = posterior.probabilities(phi)
        return self.lift(probs, labels, confidence(posterior, phi, probs, self.signal))


@register
class Tempered(ExitWeighted):
    """Margin of the MAP softmax, tempered until it is as wide on average as that of the Laplace predictive."""

    name = "tempered"
    description = "control: MAP softmax tempered to the mean margin of the Laplace predictive"

    def weights(self, features: dict[int, Tensor], labels: Tensor, exits: Exits) -> Tensor:
        """See `ByExit.weights`."""
        [phi] = features.values()
        head = exits.head(phi, labels)
        target = confidence_margin(exits.uncertain(head, phi, labels).probabilities(phi)).mean().item()
        logits = head.logits(phi)
        return self.lift((logits / matched_temperature(logits, target)).softmax(-1), labels)


def confidence(posterior: HeadPosterior | None, features: Tensor, probs: Tensor, signal: str) -> Tensor:
    """How sure the exit is, (N,) in [0, 1], by one of the signals.

    "margin" and "top_probability" are of the Laplace predictive `probs` (N, C). "contrast_variance" is
    (1 + pi/8 v)^(-1/2), v the posterior variance of the contrast of the two largest logits: the factor by which
    MacKay 1992 moderates it. "mutual_information" is 1 - I / log C. Of an exit at its MAP (posterior None) both are 1.
    """
    if signal == "margin":
        return confidence_margin(probs)
    if signal == "top_probability":
        return probs.amax(1)
    if posterior is None:
        return torch.ones_like(probs[:, 0])
    if signal == "contrast_variance":
        return (1 + math.pi / 8 * posterior.contrast_variance(features)).rsqrt()
    return (1 - posterior.mutual_information(features) / math.log(probs.shape[1])).clamp(0, 1)


def matched_temperature(logits: Tensor, target: float) -> float:
    """The temperature at which the mean confidence margin of softmax(logits / temperature) is `target`."""

    def excess(log_temperature: float) -> float:
        return confidence_margin((logits / math.exp(log_temperature)).softmax(-1)).mean().item() - target

    return math.exp(scipy.optimize.brentq(excess, -10, 20, xtol=1e-8))
