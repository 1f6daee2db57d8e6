"""Group weights that are learnt while training (Sagawa et al. 2020, algorithm 1)."""

import torch
from torch import Tensor


class GroupWeights:
    """The weights q of the groups, on the simplex, for batches whose instances are drawn with uniform groups.

    With G groups an instance of group g weighs G q_g in its batch, so the mean weighted loss is an unbiased estimate
    of  sum_g q_g E_g[loss]. Weights alone, on batches drawn as they come, have the same mean; but where a group is one
    instance in two hundred its weight is in the tens, and students of a usual learning rate collapse.

    Attributes:
        q: (G,) weights of the groups present, sum 1; uniform at first.
    """

    def __init__(self, groups: Tensor, step_size: float):
        """Start uniform on the groups present.

        Args:
            groups: (N,) the group of every training instance, integers.
            step_size: eta of the exponentiated gradient step, above 0.
        """
        self.step_size = step_size
        _, self.group_of, counts = groups.unique(return_inverse=True, return_counts=True)
        self.shares = counts / counts.sum()
        self.q = torch.full_like(self.shares, 1 / len(counts))

    def step(self, losses: Tensor, index: Tensor) -> Tensor:
        """Raise the weights of groups with a large loss, q_g <- q_g exp(eta loss_g) / sum; return those of the batch.

        Args:
            losses: (B,) unweighted losses of a batch.
            index: (B,) its rows.

        Returns:
            (B,) weights of the batch's instances under the new q.
        """
        groups, n_groups = self.group_of[index], len(self.q)
        mean = torch.zeros_like(self.q).index_add_(0, groups, losses.detach().float()) * n_groups / len(losses)
        self.q = (self.q.log() + self.step_size * mean).softmax(0)
        return n_groups * self.q[groups]

    @property
    def instance_weights(self) -> Tensor:
        """(N,) what each instance counts for in an epoch, its draws included: q_g / share_g, mean 1."""
        return (self.q / self.shares)[self.group_of]

    def restore(self, instance_weights: Tensor) -> None:
        """Take up the group weights from the instance weights that they gave."""
        q = torch.zeros_like(self.q).index_copy_(0, self.group_of.to(self.q.device), instance_weights.to(self.q))
        self.q = q * self.shares

    def to(self, device: torch.device) -> "GroupWeights":
        """These weights on another device."""
        self.group_of, self.shares, self.q = (part.to(device) for part in (self.group_of, self.shares, self.q))
        return self
