"""The exits as they are asked for: hidden layers, linear layer at its MAP, posterior, predictive."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, InstanceOf
from torch import Tensor

from fairkd.exits.hidden import HiddenLayers
from fairkd.exits.laplace import Kronecker, select_prior_precision
from fairkd.exits.linear import LinearExit
from fairkd.exits.posterior import QUADRATURE_CLASSES, LaplacePosterior, Posterior
from fairkd.parameters import Count, Parameters, Precision, Width, parameter


class ExitOptions(Parameters):
    """How exits are fitted and read."""

    pooling: Literal["cls", "mean"] = parameter("cls", "what an exit reads of a layer", "cls: the classifier's own")
    exit_hidden: Annotated[list[Width], Field(max_length=8)] = parameter(
        [], "widths of hidden layers below an exit's linear layer", "deck: none"
    )
    prior_precision: Precision | Literal["evidence"] = parameter(1.0, "tau, or chosen by evidence", "MacKay 1992")
    predictive: Literal["auto", "quadrature", "mc"] = parameter(
        "auto", "how the predictive is integrated; auto: quadrature up to 4 classes, mc above", "deck: mc"
    )
    n_samples: Count = parameter(200, "Monte Carlo samples an instance, where predictive is mc", "deck")


@dataclass(frozen=True, eq=False)
class Head:
    """An exit head: hidden layers, if any, and the linear exit on top of them."""

    hidden: HiddenLayers
    exit: LinearExit

    def logits(self, features: Tensor) -> Tensor:
        """(N, D) features of the student's layer -> (N, C)."""
        return self.exit.logits(self.hidden(features))

    def tensors(self) -> dict[str, Tensor]:
        """Everything needed to use the head, by name."""
        named = {"weight": self.exit.weight.contiguous(), "bias": self.exit.bias.contiguous()}
        for i, (weight, bias) in enumerate(zip(self.hidden.weights, self.hidden.biases, strict=True)):
            named |= {f"hidden{i}.weight": weight.contiguous(), f"hidden{i}.bias": bias.contiguous()}
        return named


@dataclass(frozen=True, eq=False)
class HeadPosterior:
    """The posterior of a head's linear layer, asked at the features that the head reads."""

    head: Head
    posterior: LaplacePosterior
    predictive: dict[str, str | int]

    def probabilities(self, features: Tensor) -> Tensor:
        """The predictive p(y | x): (N, D) -> (N, C)."""
        return self.posterior.predict(self.head.hidden(features), **self.predictive)

    def mutual_information(self, features: Tensor) -> Tensor:
        """(N, D) -> (N,), see `LaplacePosterior.mutual_information`."""
        return self.posterior.mutual_information(self.head.hidden(features), **self.predictive)

    def contrast_variance(self, features: Tensor) -> Tensor:
        """(N, D) -> (N,), see `LaplacePosterior.contrast_variance`."""
        return self.posterior.contrast_variance(self.head.hidden(features))


class Exits(Parameters):
    """Fits exits and their posteriors to features, all in the same way.

    Attributes:
        options: how.
        posterior: which uncertainty, with its own parameters.
        n_classes: C; by default one more than the largest label.
        seed: of hidden layers and Monte Carlo samples.
    """

    options: InstanceOf[ExitOptions] = ExitOptions()
    posterior: InstanceOf[Posterior] = Kronecker()
    n_classes: int | None = None
    seed: int = 0

    def head(self, features: Tensor, labels: Tensor) -> Head:
        """The head at its MAP, at the prior precision asked for or at the one the evidence prefers.

        Args:
            features: (N, D).
            labels: (N,).
        """
        hidden = HiddenLayers.fit(features, labels, self.options.exit_hidden, self.seed)
        read, tau = hidden(features), self.options.prior_precision
        if tau == "evidence":
            return Head(hidden, select_prior_precision(read, labels, self.n_classes)[0])
        return Head(hidden, LinearExit.fit(read, labels, tau, n_classes=self.n_classes))

    def uncertain(self, head: Head, features: Tensor, labels: Tensor) -> HeadPosterior:
        """The posterior of a head fitted on these very features and labels: (N, D), (N,)."""
        return self._asked(head, self.posterior.fit(head.exit, head.hidden(features), labels))

    def uncertain_at(
        self, temperatures: Iterable[float], head: Head, features: Tensor, labels: Tensor
    ) -> Iterator[HeadPosterior]:
        """The posteriors of `uncertain` at other likelihood temperatures."""
        fitted = self.posterior.fit_at(temperatures, head.exit, head.hidden(features), labels)
        return (self._asked(head, posterior) for posterior in fitted)

    def _asked(self, head: Head, fitted: LaplacePosterior) -> HeadPosterior:
        few = len(head.exit.bias) <= QUADRATURE_CLASSES
        method = {"auto": "quadrature" if few else "mc"}.get(self.options.predictive, self.options.predictive)
        return HeadPosterior(head, fitted, {"method": method, "n_samples": self.options.n_samples, "seed": self.seed})
