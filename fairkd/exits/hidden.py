"""Hidden layers between a student's features and an exit's linear layer: the deck's "increasing layers of Aux network".

The layers are those of a scikit-learn MLPClassifier trained on the features; its output layer is thrown away, and the
linear exit on top is fitted to its own mode, since Laplace is taken of that last layer alone.
"""

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

EPOCHS = 20  # of Adam; the linear layer on top is then fitted exactly


@dataclass(frozen=True, eq=False)
class HiddenLayers:
    """ReLU layers on standardised features; none at all leaves features as they are.

    Attributes:
        weights: one (D_out, D_in) float32 for each layer, the standardisation folded into the first.
        biases: one (D_out,) for each layer.
    """

    weights: tuple[Tensor, ...] = ()
    biases: tuple[Tensor, ...] = ()

    @classmethod
    def fit(cls, features: Tensor, labels: Tensor, widths: list[int], seed: int = 0) -> "HiddenLayers":
        """Return the hidden layers of an MLP trained to tell the labels, deterministic given the seed.

        Args:
            features: (N, D).
            labels: (N,).
            widths: width of each layer; none gives no layers.
        """
        if not widths:
            return cls()
        # Here, since importing them takes a second that linear exits need not.
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPClassifier

        x = features.to_dense().double().cpu()
        mean, scale = x.mean(0), x.std(0).clamp(min=1e-6)
        mlp = MLPClassifier(tuple(widths), max_iter=EPOCHS, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the hidden layers need not be at an optimum
            mlp.fit(((x - mean) / scale).float().numpy(), labels.cpu().numpy())
        weights = [torch.from_numpy(w.T).double() for w in mlp.coefs_[:-1]]
        biases = [torch.from_numpy(b).double() for b in mlp.intercepts_[:-1]]
        weights[0] = weights[0] / scale
        biases[0] = biases[0] - weights[0] @ mean
        to_features = {"dtype": torch.float32, "device": features.device}
        return cls(tuple(w.to(**to_features) for w in weights), tuple(b.to(**to_features) for b in biases))

    def __call__(self, features: Tensor) -> Tensor:
        """(N, D) -> (N, width of the last layer)."""
        for weight, bias in zip(self.weights, self.biases, strict=True):
            features = torch.relu(features @ weight.T.to(features) + bias.to(features))
        return features
