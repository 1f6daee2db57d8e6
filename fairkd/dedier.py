"""Confidence margins, the weights made of them, and the distillation loss they weight.

Source: Tiwari et al. 2023 (DEDIER), equations 1 to 3 and its released code; distillation after Hinton et al. 2015.
"""

import torch
from torch import Tensor
from torch.nn import functional

EXPONENTS = ("power", "product")
REWEIGHTS = ("kd", "both")


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
    _check_labels("probs", probs, labels)
    _check_unit("probs", probs)
    if confidence is None:
        confidence = confidence_margin(probs)
    _check_shape("confidence", confidence, labels.shape)
    lifted = exponential_weights(confidence, alpha, beta, exponent=exponent)
    return torch.where(probs.argmax(-1) != labels, lifted, 1.0)


def exponential_weights(score: Tensor, alpha: float = 0.2, beta: float = 3.0, *, exponent: str = "power") -> Tensor:
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


def distillation_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    weights: Tensor | None = None,
    *,
    temperature: float = 2.0,
    kd_weight: float = 0.5,
    reweight: str = "both",
) -> Tensor:
    """Return mean_n [(1 - lambda) w_ce l_ce + lambda w_kd l_kd], l_kd = T^2 KL(softmax(t/T) || softmax(s/T)).

    The mean is over the N instances, not over the sum of the weights, so that one instance's term does not depend
    on its batch (Tiwari et al. 2023; T^2 keeps the gradient's scale, Hinton et al. 2015).

    Args:
        student_logits: (N, C).
        teacher_logits: (N, C), taken as constants.
        labels: (N,) gold classes.
        weights: (N,) instance weights; None means 1.
        temperature: T, above 0.
        kd_weight: lambda, in [0, 1].
        reweight: "both" puts the weights on both losses, "kd" on distillation alone.

    Returns:
        () the loss.

    Raises:
        ValueError: temperature, kd_weight or reweight out of range, shapes that do not match, labels that are no
            classes, no instances.
    """
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature is {temperature}; it must be a finite number above 0")
    if not 0 <= kd_weight <= 1:
        raise ValueError(f"kd_weight is {kd_weight}; it must lie in [0, 1]: the share of distillation in the loss")
    if reweight not in REWEIGHTS:
        raise ValueError(f"reweight is {reweight!r}; choose one of {', '.join(REWEIGHTS)}")
    _check_labels("student_logits", student_logits, labels)
    _check_shape("teacher_logits", teacher_logits, student_logits.shape)
    if weights is None:
        weights = student_logits.new_ones(len(labels))
    _check_shape("weights", weights, labels.shape)

    ce, kd = distillation_terms(student_logits, teacher_logits, labels, temperature)
    return weighted_losses(ce, kd, weights, kd_weight, reweight).mean()


def distillation_terms(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Return l_ce and l_kd of every instance, (N,) each: `distillation_loss` before weights and mean.

    Nothing is checked, so that a step of training on a GPU waits for nothing.
    """
    ce = functional.cross_entropy(student_logits, labels.long(), reduction="none")
    log_student = (student_logits / temperature).log_softmax(-1)  # (N, C)
    log_teacher = (teacher_logits.detach() / temperature).log_softmax(-1)  # (N, C)
    return ce, temperature**2 * (log_teacher.exp() * (log_teacher - log_student)).sum(-1)


def weighted_losses(ce: Tensor, kd: Tensor, weights: Tensor | float, kd_weight: float, reweight: str) -> Tensor:
    """Return (1 - lambda) w_ce l_ce + lambda w_kd l_kd of every instance, (N,): `distillation_loss` before the mean."""
    ce_weights = weights if reweight == "both" else 1.0
    return (1 - kd_weight) * ce_weights * ce + kd_weight * weights * kd


def _check_unit(name: str, values: Tensor) -> None:
    low, high = values.aminmax()
    if not (low >= 0 and high <= 1 + 1e-3):  # written so that NaN is refused too
        advice = ": apply softmax to logits first" if name == "probs" else ""
        raise ValueError(f"{name} run from {low:g} to {high:g}; they must lie in [0, 1]{advice}")


def _check_shape(name: str, value: Tensor, shape: tuple[int, ...]) -> None:
    if value.shape != shape:
        raise ValueError(f"{name} has shape {tuple(value.shape)}; it must be {tuple(shape)}, row for row the same")


def _check_labels(name: str, scores: Tensor, labels: Tensor) -> None:
    """Refuse what is not (N, C) scores, N >= 1, with (N,) classes in 0..C-1."""
    if scores.ndim != 2 or len(scores) == 0:
        raise ValueError(f"{name} has shape {tuple(scores.shape)}; it must be (N, C) with at least one row")
    _check_shape("labels", labels, scores.shape[:1])
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise ValueError(f"labels has dtype {labels.dtype}; it must be an integer type: class numbers")
    low, high = labels.aminmax()
    if low < 0 or high >= scores.shape[1]:
        raise ValueError(
            f"labels run from {int(low)} to {int(high)}, but {name} has {scores.shape[1]} classes: "
            f"they must lie in 0..{scores.shape[1] - 1}; drop unlabelled rows first"
        )
