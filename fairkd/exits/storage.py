"""Heads and Kronecker posteriors as named tensors, as a finished student's run keeps them, and back."""

from torch import Tensor

from fairkd.exits.head import Head, HeadPosterior
from fairkd.exits.hidden import HiddenLayers
from fairkd.exits.kronecker import Spectrum
from fairkd.exits.laplace import KroneckerLaplace
from fairkd.exits.linear import LinearExit


def stored_posterior(posterior: HeadPosterior) -> tuple[dict[str, Tensor], dict]:
    """The tensors of a Kronecker posterior and its further arguments; nothing of another kind, which is not kept."""
    fitted = posterior.posterior
    if not isinstance(fitted, KroneckerLaplace):
        return {}, {}
    parts = {"curvature": fitted.curvature, "gram": fitted.gram}
    tensors = {
        f"{name}.{field}": tensor.contiguous()
        for name, part in parts.items()
        for field, tensor in part._asdict().items()
    }
    stated = {name: getattr(fitted, name) for name in ("likelihood_temperature", "prior", "log_likelihood")}
    return tensors, stated | {"predictive": posterior.predictive}


def restored_head(tensors: dict[str, Tensor], prior_precision: float) -> Head:
    """The head whose tensors are these, see `Head.tensors`."""
    depth = sum(name.startswith("hidden") and name.endswith(".weight") for name in tensors)
    layers = [tuple(tensors[f"hidden{i}.{part}"] for i in range(depth)) for part in ("weight", "bias")]
    return Head(HiddenLayers(*layers), LinearExit(tensors["weight"], tensors["bias"], prior_precision))


def restored_posterior(head: Head, tensors: dict[str, Tensor], stated: dict) -> HeadPosterior:
    """The posterior around a head from what `stored_posterior` gave."""
    spectra = {n: Spectrum(tensors[f"{n}.values"], tensors[f"{n}.vectors"]) for n in ("curvature", "gram")}
    own = {name: value for name, value in stated.items() if name != "predictive"}
    return HeadPosterior(head, KroneckerLaplace(head.exit, **own, **spectra), stated["predictive"])
