"""Confidence margins, and the weights made of them.

Source: Tiwari et al. 2023 (DEDIER), equations 1 to 3 and its released code.
"""

import torch
from torch import Tensor

EXPONENTS = ("power", "product")


def confidence_margin(probs: Tensor) -> Tensor:
    """Return the top minus the second probability.

    Args:
        probs: (..., C) probabilities, C >= 2.

    Returns:
        (...) margins in [0, 1]. For two classes this is |p0 - p1|, the form in DEDIER's released code.

    Raises:
        ValueError: fewer than two classes.
    """
    if probs.ndim == 0 or probs.shape[-1] < 2:
        raise ValueError(f"probs has shape {tuple(probs.shape)}; its last dimension must hold 2 classes or more")
    top = probs.topk(2, dim=-1).values  # (..., 2)
    return top[..., 0] - top[..., 1]


def instance_weights(
    probs: Tensor,
    labels: Tensor,
    alpha: float = 0.2,
    beta: float = 3.0,
    *,
    exponent: str = "power",
    confidence: Tensor | None = None,
) -> Tensor:
    """Return exp(beta * cm^alpha) where the exit is wrong, 1 where it is right (Tiwari et al. 2023).

    Args:
        probs: (N, C) the exit's probabilities: its MAP softmax (DEDIER) or its Laplace predictive.
        labels: (N,) gold classes.
        alpha: exponent of the margin, at least 0; DEDIER's preset for MultiNLI is 0.2.
        beta: log of the largest weight, at least 0; DEDIER's preset for MultiNLI is 3.
        exponent: "power" is beta * cm^alpha, as DEDIER's code has it; "product" is beta * cm * alpha.
        confidence: (N,) in [0, 1], to stand in the place of the margin; None means the margin of `probs`.

    Returns:
        (N,) weights, each at least 1, in the dtype of `probs`.

    Raises:
        ValueError: unknown exponent, alpha or beta negative or not finite, shapes that do not match, labels that
            are no classes, probs or confidence outside [0, 1] or NaN.
    """
    check_labels("probs", probs, labels)
    _check_unit("probs", probs)
    if confidence is None:
        confidence = confidence_margin(probs)
    check_shape("confidence", confidence, labels.shape)
    lifted = exponential_weights(confidence, alpha, beta, exponent=exponent)
    return torch.where(probs.argmax(-1) != labels, lifted, 1.0)


def linear_weights(probs: Tensor, labels: Tensor, alpha: float, beta: float) -> Tensor:
    """Return 1 + beta * cm^alpha where the exit is wrong, 1 where it is right; as `instance_weights`."""
    check_labels("probs", probs, labels)
    _check_unit("probs", probs)
    return torch.where(probs.argmax(-1) != labels, 1 + beta * confidence_margin(probs) ** alpha, 1.0)


def label_weights(probs: Tensor, labels: Tensor, alpha: float, *, inverse: bool = False) -> Tensor:
    """Return (1 - p_y)^alpha of every instance (Utama et al. 2020, for alpha 1), or 1 / p_y^alpha with `inverse`.

    Args:
        probs: (N, C) the exit's probabilities.
        labels: (N,) gold classes.
        alpha: at least 0.

    Returns:
        (N,) weights, right or wrong alike.
    """
    check_labels("probs", probs, labels)
    _check_unit("probs", probs)
    label = labels[:, None].long()
    if inverse:
        gold = probs.gather(1, label).squeeze(1)
        return gold.clamp(min=torch.finfo(gold.dtype).tiny) ** -alpha
    return probs.scatter(1, label, 0.0).sum(1) ** alpha  # 1 - p_y would be 0 where p_y rounds to 1


def exponential_weights(score: Tensor, alpha: float, beta: float, *, exponent: str = "power") -> Tensor:
    """Return exp(beta * score^alpha), or exp(beta * score * alpha) with exponent "product"; (N,) in, (N,) out.

    Raises:
        ValueError: unknown exponent, alpha or beta negative or not finite, a score outside [0, 1] or NaN.
    """
    if exponent not in EXPONENTS:
        raise ValueError(f"exponent is {exponent!r}; choose one of {', '.join(EXPONENTS)}")
    for name, value in (("alpha", alpha), ("beta", beta)):
        if not 0 <= value < float("inf"):
            raise ValueError(f"{name} is {value}; it must be a finite number of at least 0")
    _check_unit("confidence", score)
    score = score.clamp(max=1)
    return (beta * (score**alpha if exponent == "power" else score * alpha)).exp()


def _check_unit(name: str, values: Tensor) -> None:
    low, high = values.aminmax()
    if not (low >= 0 and high <= 1 + 1e-3):  # written so that NaN is refused too
        advice = ": apply softmax to logits first" if name == "probs" else ""
        raise ValueError(f"{name} run from {low:g} to {high:g}; they must lie in [0, 1]{advice}")


def check_shape(name: str, value: Tensor, shape: tuple[int, ...]) -> None:
    """Refuse a tensor of another shape."""
    if value.shape != shape:
        raise ValueError(f"{name} has shape {tuple(value.shape)}; it must be {tuple(shape)}, row for row the same")


def check_labels(name: str, scores: Tensor, labels: Tensor) -> None:
    """Refuse what is not (N, C) scores, N >= 1, with (N,) classes in 0..C-1."""
    if scores.ndim != 2 or len(scores) == 0:
        raise ValueError(f"{name} has shape {tuple(scores.shape)}; it must be (N, C) with at least one row")
    check_shape("labels", labels, scores.shape[:1])
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise ValueError(f"labels has dtype {labels.dtype}; it must be an integer type: class numbers")
    low, high = labels.aminmax()
    if low < 0 or high >= scores.shape[1]:
        raise ValueError(
            f"labels run from {int(low)} to {int(high)}, but {name} has {scores.shape[1]} classes: "
            f"they must lie in 0..{scores.shape[1] - 1}; drop unlabelled rows first"
        )
