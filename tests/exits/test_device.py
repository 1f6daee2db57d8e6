"""Exits, posteriors, predictives, weights and losses are on the device of what they are given, and the same there."""

import numpy as np
import pytest
import torch

from fairkd import KroneckerLaplace, LinearExit, distillation_loss, instance_weights
from fairkd.exits import POSTERIORS, ExitOptions, Exits
from fairkd.exits.dense import DenseLaplace
from fairkd.exits.laplace import select_prior_precision
from fairkd.weighting import METHODS, ByEarlyModel, ByExit, ByGroupLoss, Debiased, InRefit, Seen
from fairkd.weighting.loss import distillation_terms
from tests.elsewhere import ELSEWHERE, elsewhere

pytestmark = pytest.mark.usefixtures("one_thread")
N, C = 36, 3


def given():
    """Features of two layers (N, D), labels, groups, weights (N,) and logits (N, C)."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(N) % C
    shift = labels[:, None] * torch.tensor([0.5, -0.5, 0.0, 0.2])
    layers = {layer: torch.randn(N, 4, generator=generator) + shift for layer in (1, 2)}
    weights, logits = torch.rand(N, generator=generator), torch.randn(N, C, generator=generator)
    return {"layers": layers, "labels": labels, "groups": torch.arange(N) % 4, "weights": weights, "logits": logits}


def exits_and_posteriors(layers, labels, groups, weights, logits):
    phi = layers[2]
    plain = LinearExit.fit(phi, labels)
    weighed = LinearExit.fit(phi, labels, weights=weights, towards=plain)
    chosen, _ = select_prior_precision(phi, labels, weights=weights)
    made = [plain.logits(phi), weighed.logits(phi), chosen.weight]
    for posterior in (KroneckerLaplace, DenseLaplace):
        found = posterior.fit(plain, phi, labels, likelihood_temperature=2.0)
        made += [found.logit_covariance(phi), found.contrast_variance(phi)]
        for method in ("quadrature", "mc"):
            made += [found.predict(phi, method), found.mutual_information(phi, method)]
    return [*made, KroneckerLaplace.fit(chosen, phi, labels, weights=weights, prior="factored").predict(phi)]


def on_hard_data(layers, labels, groups, weights, logits):
    """Nearly separable, so that the fit takes its dense preconditioner."""
    phi = torch.nn.functional.one_hot(labels).float() * 1e3 + layers[1][:, :3]
    return [LinearExit.fit(phi, labels, 1e-4).logits(phi)]


def weights_of_every_method(layers, labels, groups, weights, logits):
    probs, made = logits.softmax(-1), [instance_weights(logits.softmax(-1), labels)]
    exits = Exits(options=ExitOptions(exit_hidden=[5]), posterior=POSTERIORS["kronecker"](), n_classes=C)
    for kind in METHODS.values():
        method = kind(aux_layer=2) if "aux_layer" in kind.model_fields else kind()
        if isinstance(method, ByExit):
            made.append(method.weights({layer: layers[layer] for layer in method.layers}, labels, exits))
        elif isinstance(method, ByEarlyModel):
            made.append(method.weights(probs, labels))
        elif isinstance(method, InRefit):
            made.append(
                method.weights(Seen(labels, groups, torch.ones_like(probs[:, 0]), probs, layers[1][:, :C].softmax(-1)))
            )
        elif isinstance(method, ByGroupLoss):
            made.append(method.start(groups).step(weights, torch.arange(0, N).to(labels)))
        elif isinstance(method, Debiased):
            adjusted = method.adjustment(probs, labels)
            made += distillation_terms(layers[1][:, :C], logits, labels, 2.0, adjusted)
    applied = METHODS["dedier"](permute_weights=True, weight_cap=1.0, normalize_weights=True).applied(weights, 0)
    return [*made, applied]


def loss(layers, labels, groups, weights, logits):
    return [distillation_loss(layers[1][:, :C], logits, labels, weights)]


@pytest.mark.parametrize("what", [exits_and_posteriors, on_hard_data, weights_of_every_method, loss])
def test_results_are_where_the_features_are_and_the_same(what):
    expected = what(**given())
    with elsewhere():
        inputs = {name: each.to(ELSEWHERE) for name, each in given().items() if name != "layers"}
        found = what(layers={n: phi.to(ELSEWHERE) for n, phi in given()["layers"].items()}, **inputs)
        assert {tensor.device for tensor in found} == {ELSEWHERE}
        found = [tensor.cpu() for tensor in found]
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_a_tensor_made_on_the_processor_does_not_mix_with_one_elsewhere():
    with elsewhere(), pytest.raises(RuntimeError, match="tensors are on lazy and on the processor"):
        torch.ones(3).to(ELSEWHERE) + torch.ones(3)
