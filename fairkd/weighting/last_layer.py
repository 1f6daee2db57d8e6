"""Refits of a finished student's last layer: the representation may know what the last layer does not.

The head is fitted to its MAP on the student's own features, with the weights below (Kirichenko et al. 2023).
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from fairkd.parameters import Fraction, Precision, parameter
from fairkd.weighting.method import InRefit, ReadsExit, Rows, Seen, register


@register
class Refit(InRefit):
    """Every row of the population alike: the control of all other refits."""

    name = "refit"
    description = "last layer refitted, every row alike (control)"

    def weights(self, seen: Seen) -> Tensor:
        """See `InRefit.weights`."""
        return seen.importance


@register
class Dfr(InRefit):
    """Rows weigh N / (G N_g), G groups of N_g rows: each group as a whole alike (deep feature reweighting)."""

    name = "dfr"
    description = "last layer refitted with balanced groups, reads them (Kirichenko et al. 2023)"
    reads_groups = True

    def weights(self, seen: Seen) -> Tensor:
        """See `InRefit.weights`."""
        _, group, counts = seen.groups.unique(return_inverse=True, return_counts=True)
        return len(group) / len(counts) / counts[group]


@register
class Afr(InRefit):
    """Held-out rows weigh exp(-gamma p_y) / N_y, near the old last layer (automatic feature reweighting).

    N_y is the number of rows of the label, each counted by its importance; with mean 1, as Qiu et al. 2023 have it up
    to a factor.
    `head_prior_precision` is twice the number of rows times the paper's lambda. Much less, and the head follows the
    weights away from what it knew.
    """

    name = "afr"
    description = "last layer refitted where the student is unsure of the label (Qiu et al. 2023)"
    towards_old = True

    refit_on: Rows = parameter("validation", "pairs to refit the last layer on", "Qiu et al. 2023")
    head_prior_precision: Precision | Literal["evidence"] = parameter(
        600.0, "tau of the pull towards the last layer as it was", "lambda 0.1 of 3,000 rows: Qiu et al. 2023"
    )
    gamma: float = parameter(4.0, "how fast the weight falls with the label's probability", "4 .. 20", ge=0, le=100)

    def weights(self, seen: Seen) -> Tensor:
        """See `InRefit.weights`."""
        lifted = (-self.gamma * seen.probs.gather(1, seen.labels[:, None]).squeeze(1)).exp()
        balanced = lifted * _by_class(seen.labels, seen.importance)
        return balanced / balanced.mean()


@register
class Self(ReadsExit, InRefit):
    """The held-out rows on which exit and last layer disagree most, by KL(head || exit); all others weigh 0.

    Of the n rows kept, of C classes, those of class y weigh n / (C n_y), as LaBonte et al. 2023 balance what they
    refit on; a row is counted, and weighs, by its importance. The exit stands in the place of their early checkpoint.
    """

    name = "self"
    description = "last layer refitted where exit and head disagree most (LaBonte et al. 2023)"
    towards_old = True

    refit_on: Rows = parameter("validation", "pairs to refit the last layer on", "LaBonte et al. 2023")
    share: Fraction = parameter(0.1, "share of the rows that the last layer is refitted on")

    def weights(self, seen: Seen) -> Tensor:
        """See `InRefit.weights`."""
        tiny = torch.finfo(seen.exit_probs.dtype).tiny  # of a probability that underflows, the log would be none
        apart = functional.kl_div(seen.exit_probs.clamp(min=tiny).log(), seen.probs, reduction="none").sum(1)
        order = apart.argsort(descending=True)
        before = seen.importance[order].cumsum(0) - seen.importance[order] / 2  # of a row the half
        kept = order[: max(1, int((before < self.share * seen.importance.sum()).sum()))]
        balanced = _by_class(seen.labels[kept], seen.importance[kept]).to(apart.dtype)
        return torch.zeros_like(apart).index_copy_(0, kept, balanced)


def _by_class(labels: Tensor, importance: Tensor) -> Tensor:
    """(N,) importance with each of C classes as a whole scaled to N / C, N being its sum."""
    classes, of = labels.unique(return_inverse=True)
    sums = importance.new_zeros(len(classes)).index_add_(0, of, importance)
    return importance * importance.sum() / len(classes) / sums[of]
