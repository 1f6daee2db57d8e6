"""The distillation loss, with one weight an instance.

Source: Tiwari et al. 2023 (DEDIER), equation 3 and its released code; distillation after Hinton et al. 2015.
"""

from torch import Tensor
from torch.nn import functional

from fairkd.weighting.margins import check_labels, check_shape
from fairkd.weighting.method import Adjustment

REWEIGHTS = ("kd", "both")


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
    check_labels("student_logits", student_logits, labels)
    check_shape("teacher_logits", teacher_logits, student_logits.shape)
    if weights is None:
        weights = student_logits.new_ones(len(labels))
    check_shape("weights", weights, labels.shape)

    ce, kd = distillation_terms(student_logits, teacher_logits, labels, temperature)
    return weighted_losses(ce, kd, weights, kd_weight, reweight).mean()


def distillation_terms(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    temperature: float,
    adjusted: Adjustment | None = None,
) -> tuple[Tensor, Tensor]:
    """Return l_ce and l_kd of every instance, (N,) each: `distillation_loss` before weights and mean.

    `adjusted` is what a biased reader changes in them. Nothing is checked, so that a step of training on a GPU waits
    for nothing.
    """
    scale, offset = adjusted or (None, None)
    told = student_logits if offset is None else student_logits + offset
    if scale is not None:
        teacher_logits = teacher_logits * scale[:, None]
    ce = functional.cross_entropy(told, labels.long(), reduction="none")
    log_student = (student_logits / temperature).log_softmax(-1)  # (N, C)
    log_teacher = (teacher_logits.detach() / temperature).log_softmax(-1)  # (N, C)
    return ce, temperature**2 * (log_teacher.exp() * (log_teacher - log_student)).sum(-1)


def weighted_losses(ce: Tensor, kd: Tensor, weights: Tensor | float, kd_weight: float, reweight: str) -> Tensor:
    """Return (1 - lambda) w_ce l_ce + lambda w_kd l_kd of every instance, (N,): `distillation_loss` before the mean."""
    ce_weights = weights if reweight == "both" else 1.0
    return (1 - kd_weight) * ce_weights * ce + kd_weight * weights * kd
