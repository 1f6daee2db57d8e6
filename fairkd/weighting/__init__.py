"""The weighting methods: what a student shows goes in, the weight of every training instance comes out.

One file a family, each method with its own parameters beside its formula; `METHODS` has them by name. A new method is
one more file here, or a class registered from elsewhere. Tensors in, tensors out: no transformers, no files, no
experiment.
"""

import pkgutil
from importlib import import_module

from fairkd.weighting.loss import distillation_loss
from fairkd.weighting.margins import confidence_margin, instance_weights
from fairkd.weighting.method import (
    METHODS,
    Adjustment,
    ByEarlyModel,
    ByExit,
    ByGroupLoss,
    Debiased,
    Distilled,
    InRefit,
    Lifted,
    Method,
    ReadsExit,
    Rereads,
    Seen,
    Weighted,
    register,
    usable,
)

for _module in pkgutil.iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = [
    "METHODS",
    "Adjustment",
    "ByEarlyModel",
    "ByExit",
    "ByGroupLoss",
    "Debiased",
    "Distilled",
    "InRefit",
    "Lifted",
    "Method",
    "ReadsExit",
    "Rereads",
    "Seen",
    "Weighted",
    "confidence_margin",
    "distillation_loss",
    "instance_weights",
    "register",
    "usable",
]
