"""Group distributionally robust optimisation (Sagawa et al. 2020): the oracle row, it reads the training groups."""

from torch import Tensor

from fairkd.parameters import parameter
from fairkd.weighting.group_weights import GroupWeights
from fairkd.weighting.method import ByGroupLoss, register


@register
class GroupDro(ByGroupLoss):
    """Group weights that rise with the group's loss (algorithm 1)."""

    name = "group_dro"
    description = "group weights, reads the groups of the training pairs (Sagawa et al. 2020)"

    group_step_size: float = parameter(0.01, "eta of the group weights", "Sagawa et al. 2020", gt=0, le=10)

    def start(self, groups: Tensor) -> GroupWeights:
        """See `ByGroupLoss.start`."""
        return GroupWeights(groups, self.group_step_size)
