"""An exit's MAP, posterior and predictive on random features, beside scikit-learn's and laplace-torch's."""

import time
from typing import Any

import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from fairkd.benchmark.clocks import peak_memory
from fairkd.exits.laplace import KroneckerLaplace
from fairkd.exits.linear import LinearExit

_CLASSES = 3


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
    with peak_memory() as memory:
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

    with peak_memory() as memory:
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
