"""Just train twice (Liu et al. 2021, algorithm 1): the errors of an early model are lifted."""

import torch
from torch import Tensor

from fairkd.parameters import Epochs, parameter
from fairkd.weighting.method import ByEarlyModel, register


@register
class Jtt(ByEarlyModel):
    """The errors of an early model weigh `jtt_factor`, all others 1."""

    name = "jtt"
    description = "errors of an early model (Liu et al. 2021)"

    jtt_epochs: Epochs = parameter(2, "epochs of the early model", "Liu et al. 2021, MultiNLI")
    jtt_factor: float = parameter(6.0, "weight of the early model's errors", "Liu et al. 2021, MultiNLI", gt=0, le=1e4)

    @property
    def early_epochs(self) -> int:
        """Epochs of the early model."""
        return self.jtt_epochs

    def weights(self, probs: Tensor, labels: Tensor) -> Tensor:
        """See `ByEarlyModel.weights`."""
        return torch.where(probs.argmax(1) != labels, self.jtt_factor, 1.0)
