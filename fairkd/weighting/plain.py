"""The two rows in which every instance weighs the same."""

from fairkd.weighting.method import Distilled, Method, register


@register
class Erm(Method):
    """The labels alone."""

    name = "erm"
    description = "no teacher, cross-entropy alone"


@register
class Kd(Distilled):
    """Plain distillation."""

    name = "kd"
    description = "plain distillation (Hinton et al. 2015)"
