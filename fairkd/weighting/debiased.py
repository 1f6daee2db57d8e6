"""Losses that leave less to learn where a biased reader knows the answer already; no instance weighs more than another.

p_b is what the reader, the method's exit at its MAP, gives the classes of an instance; as long as there is none, the
student is plainly distilled.
"""

import torch
from torch import Tensor

from fairkd.parameters import Fraction, parameter
from fairkd.weighting.margins import check_labels
from fairkd.weighting.method import Adjustment, Debiased, TeacherOptional, register


@register
class ConfReg(Debiased):
    """The teacher's p_t becomes p_t^(1 - p_b(y)), normalised: unsure where the reader is sure of the label.

    As published ("confidence regularization", Utama et al. 2020, Mind the Trade-off) there is no labels' term and no
    temperature; with a temperature T it is p_t^((1 - p_b(y)) / T).
    """

    name = "confreg"
    description = "the teacher is softened where the exit gives the label much (Utama et al. 2020)"

    temperature: float = parameter(1.0, "softens teacher and student logits", "Utama et al. 2020", gt=0, le=100)
    kd_weight: Fraction = parameter(1.0, "lambda: share of the distillation term", "Utama et al. 2020")

    def adjustment(self, probs: Tensor, labels: Tensor) -> Adjustment:
        """See `Debiased.adjustment`."""
        check_labels("probs", probs, labels)
        return Adjustment(teacher_scale=1 - probs.gather(1, labels[:, None].long()).squeeze(1))


@register
class PoE(Debiased, TeacherOptional):
    """The labels' term is the cross-entropy of softmax(log p + log p_b), the student p alone afterwards.

    He et al. 2019 and Clark et al. 2019, a product of experts of which one is fixed. The distillation term, which they
    do not have, is of p alone.
    """

    name = "poe"
    description = "the labels' term is of student times exit (He et al. 2019, Clark et al. 2019)"

    kd_weight: float = parameter(
        0.5,
        "lambda: share of the distillation term; the rest is what the method changes",
        "both terms alike",
        ge=0,
        lt=1,
    )

    def adjustment(self, probs: Tensor, labels: Tensor) -> Adjustment:
        """See `Debiased.adjustment`."""
        check_labels("probs", probs, labels)
        return Adjustment(label_offset=probs.clamp(min=torch.finfo(probs.dtype).tiny).log())
