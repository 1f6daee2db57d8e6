import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from fairkd.exits import design, kronecker, newton
from fairkd.exits.linear import LinearExit

pytestmark = pytest.mark.usefixtures("one_thread")


def problem(n=300, d=5, c=3, seed=0, scale=1.5, dtype=torch.float64):
    """Features with a mean and correlations, labels drawn from a softmax of them."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(d, d, generator=generator, dtype=torch.float64)
    features = torch.randn(n, d, generator=generator, dtype=torch.float64) @ mix + 0.5
    weight = scale * torch.randn(d, c, generator=generator, dtype=torch.float64) / d
    labels = torch.multinomial((features @ weight).softmax(1), 1, generator=generator).squeeze(1)
    return features.to(dtype), labels


def gradient_by_hand(exit, features, labels):
    """The gradient of sum CE + tau/2 ||W||^2 in numpy, (C, D+1)."""
    x = np.hstack([features.double().numpy(), np.ones((len(features), 1))])
    w = np.hstack([exit.weight.numpy(), exit.bias.numpy()[:, None]])
    z = x @ w.T
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    return (p - np.eye(len(w))[labels.numpy()]).T @ x + exit.prior_precision * w


def stacked(exit):
    return torch.cat([exit.weight, exit.bias[:, None]], 1)


@pytest.mark.parametrize("tau", [0.01, 1.0, 30.0])
def test_same_optimum_as_scikit_learn(tau):
    features, labels = problem()
    x = np.hstack([features.numpy(), np.ones((len(features), 1))])
    reference = LogisticRegression(C=1 / tau, fit_intercept=False, tol=1e-10, max_iter=10_000)
    reference.fit(x, labels.numpy())
    exit = LinearExit.fit(features, labels, tau)
    assert np.allclose(stacked(exit).numpy(), reference.coef_, rtol=1e-5, atol=1e-6)


def test_same_optimum_as_scikit_learn_for_two_classes():
    features, labels = problem(c=2)
    x = np.hstack([features.numpy(), np.ones((len(features), 1))])
    # Its one vector w = W_1 - W_0 has ||W||^2 = ||w||^2 / 2, so its prior is half as precise.
    reference = LogisticRegression(C=2.0, fit_intercept=False, tol=1e-10, max_iter=10_000).fit(x, labels.numpy())
    w = stacked(LinearExit.fit(features, labels, 1.0)).numpy()
    assert np.allclose(w[1] - w[0], reference.coef_[0], rtol=1e-5, atol=1e-6)


def test_bias_is_under_the_prior():
    labels = torch.tensor([0] * 9 + [1])
    exit = LinearExit.fit(torch.zeros(10, 2, dtype=torch.float64), labels, prior_precision=2.0)
    b = exit.bias[0].item()  # the stationarity of the bias alone: 10 p_0 - 9 + tau b_0 = 0, b_1 = -b_0
    assert 10 / (1 + math.exp(-2 * b)) - 9 + 2.0 * b == pytest.approx(0, abs=1e-7)
    assert exit.weight.abs().max() < 1e-12
    assert b < 0.5 * math.log(9) - 0.1  # an unpenalised bias would give the log odds


HARD = {
    "separable": lambda x, y: (x + 50 * torch.nn.functional.one_hot(y, x.shape[1]), y, 1e-6),
    "badly scaled": lambda x, y: (x * torch.logspace(-4, 4, x.shape[1], dtype=x.dtype), y, 1.0),
    "more columns than rows": lambda x, y: (x[:4], torch.tensor([0, 1, 2, 0]), 1e-3),
    "collinear": lambda x, y: (torch.cat([x, x], 1), y, 1e-6),
    "far from the origin": lambda x, y: (x + 1e3, y, 1e-2),
    "next to no prior": lambda x, y: (x, y, 1e-8),
    "a prior alone": lambda x, y: (x, y, 1e8),
    "one class": lambda x, y: (x, torch.zeros_like(y), 1e-3),
}


@pytest.mark.parametrize("name", HARD)
def test_reaches_the_gradient_norm_on(name):
    features, labels, tau = HARD[name](*problem())
    exit = LinearExit.fit(features, labels, tau, n_classes=3)
    gradient = torch.from_numpy(gradient_by_hand(exit, features, labels)).flatten()
    x = torch.cat([features, torch.ones(len(features), 1, dtype=torch.float64)], 1)
    p = (x @ stacked(exit).T).softmax(1)
    curvature = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    hessian = torch.einsum("nij,na,nb->iajb", curvature, x, x).reshape(len(gradient), -1)
    hessian.diagonal().add_(tau)
    # Half the squared Newton decrement: what is left to gain, in nats, whatever the features' scale.
    assert (gradient @ torch.linalg.solve(hessian, gradient)).abs() / 2 < 1e-8
    assert exit.relative_gradient_norm(features, labels) <= 1e-9


@pytest.mark.parametrize("n, d, margin, tau", [(3000, 30, 0.0, 1e-4), (400, 60, 0.0, 1e-9), (3000, 10, 0.5, 1e-6)])
def test_separable_by_a_linear_rule(n, d, margin, tau):
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(n, d, generator=generator)
    scores = features @ torch.randn(d, 3, generator=generator)
    top = scores.topk(2).values
    kept = top[:, 0] - top[:, 1] >= margin
    exit = LinearExit.fit(features[kept], scores.argmax(1)[kept], tau)
    assert exit.relative_gradient_norm(features[kept], scores.argmax(1)[kept]) <= 1e-9
    assert (exit.logits(features[kept]).argmax(1) == scores.argmax(1)[kept]).all()


@pytest.mark.parametrize("weighted", [False, True])
def test_dense_inverse_inverts_the_hessian(weighted):
    features, labels = problem(n=40, d=3)
    weight, mean = torch.randn(2, 3, 4, dtype=torch.float64)
    weights = torch.rand(40, dtype=torch.float64) if weighted else None
    fitted = newton.Problem(features, labels, 0.5, weights, mean if weighted else None)
    at = newton.evaluate(weight, fitted, design.feature_norm(features))
    x = torch.cat([features, torch.ones(40, 1, dtype=torch.float64)], 1)

    def objective(w):
        losses = torch.nn.functional.cross_entropy(x @ w.T, labels, reduction="none")
        if weighted:
            return (weights * losses).sum() + 0.25 * (w - mean).square().sum()
        return losses.sum() + 0.25 * w.square().sum()

    hessian = torch.autograd.functional.hessian(objective, weight).reshape(12, 12)
    v = torch.randn(3, 4, dtype=torch.float64)
    assert at.value == pytest.approx(objective(weight).item(), rel=1e-12)
    assert torch.allclose(at.gradient, torch.autograd.functional.jacobian(objective, weight))
    image = newton._hessian_product(v, at.probs, fitted)
    assert torch.allclose(image.flatten(), hessian @ v.flatten())
    assert torch.allclose(newton._dense_inverse(at.probs, fitted)(image), v)


def newton_problem():
    """Somewhere off the mode: what `evaluate` finds there, the Gram matrix, and W = [weight | bias] features."""
    features, labels = problem(n=40, d=3)
    weight = torch.randn(3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    fitted = newton.Problem(features, labels, 0.5)
    at = newton.evaluate(weight, fitted, design.feature_norm(features))
    return fitted, at, torch.cat([features, torch.ones(40, 1, dtype=torch.float64)], 1)


def test_kronecker_inverse_inverts_its_own_dense_form():
    fitted, at, x = newton_problem()
    curvature = torch.stack([p.diag() - p.outer(p) for p in at.probs]).mean(0)
    hessian = torch.kron(curvature, x.T @ x) + 0.5 * torch.eye(12, dtype=torch.float64)
    v = torch.randn(3, 4, dtype=torch.float64)
    inverse = newton._kronecker_inverse(at.probs, kronecker.gram_spectrum(fitted.features), fitted)
    assert torch.allclose(inverse((hessian @ v.flatten()).reshape(3, 4)), v)


def test_a_newton_step_is_solved_as_far_as_it_is_worth(monkeypatch):
    fitted, at, _ = newton_problem()
    product, products = newton._hessian_product, []
    monkeypatch.setattr(newton, "_hessian_product", lambda *given: products.append(1) or product(*given))
    step, solved = newton._newton_step(at, fitted, newton._dense_inverse(at.probs, fitted))
    assert solved and len(products) == 1  # preconditioned by the Hessian itself
    assert torch.allclose(product(step, at.probs, fitted), -at.gradient, atol=1e-7)
    inverse = newton._kronecker_inverse(at.probs, kronecker.gram_spectrum(fitted.features), fitted)
    for residual, share in ((1e-4, 1e-2), (0.5, 0.1)):  # the square root of the residual, at most a tenth
        step, solved = newton._newton_step(at._replace(residual=residual), fitted, inverse)
        left = -at.gradient - product(step, at.probs, fitted)
        norms = [(r * inverse(r)).sum().sqrt() for r in (left, at.gradient)]
        assert solved and 1e-3 * share < norms[0] / norms[1] <= share
    monkeypatch.setattr(newton, "MAX_CG", 1)
    assert not newton._newton_step(at._replace(residual=1e-8), fitted, inverse)[1]


def test_directions_of_a_newton_step_are_conjugate(monkeypatch):
    fitted, at, _ = newton_problem()
    product, tried = newton._hessian_product, []

    def recorded(direction, *given):
        tried.append((direction, product(direction, *given)))
        return tried[-1][1]

    monkeypatch.setattr(newton, "_hessian_product", recorded)
    _, solved = newton._newton_step(at._replace(residual=1e-8), fitted, lambda v: v)
    energies = torch.stack([torch.stack([(d * image).sum() for _, image in tried]) for d, _ in tried])
    scale = energies.diagonal().sqrt()
    assert solved and 3 <= len(tried) <= 12  # as many as there are dimensions
    assert (energies / scale[:, None] / scale - torch.eye(len(tried))).abs().max() < 1e-6


def test_the_line_search_halves_until_the_objective_falls():
    """On (w - 1)^2 from 0: a step of 4 overshoots, 2 gains nothing, 1 is the minimum; uphill nothing falls."""

    def at(w):
        return newton.Evaluation((w.item() - 1) ** 2, 2 * (w - 1), w, 0.0)

    start = torch.zeros(1, dtype=torch.float64)
    weight, there = newton._line_search(start, start + 4, at(start), at)
    assert weight.item() == 1 and there.value == 0
    assert newton._line_search(start, start - 4, at(start), at) is None


@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_a_fit_takes_few_newton_steps(monkeypatch, scale):
    features, labels = problem()
    evaluate, calls = newton.evaluate, []
    monkeypatch.setattr(newton, "evaluate", lambda *given: calls.append(1) or evaluate(*given))
    LinearExit.fit(scale * features, labels)
    assert len(calls) <= 8


def test_relative_gradient_norm_by_hand():
    features, labels = problem(n=20, d=3)
    exit = LinearExit(torch.randn(3, 3, dtype=torch.float64), torch.randn(3, dtype=torch.float64), 0.7)
    x = torch.cat([features, torch.ones(20, 1, dtype=torch.float64)], 1)
    error = (x @ stacked(exit).T).softmax(1) - torch.nn.functional.one_hot(labels, 3)
    scale = error.norm() * x.norm() + 0.7 * stacked(exit).norm()
    expected = np.linalg.norm(gradient_by_hand(exit, features, labels)) / scale.item()
    assert exit.relative_gradient_norm(features, labels) == pytest.approx(expected, rel=1e-9)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.permutations(range(3)), st.randoms(use_true_random=False))
def test_permuting_classes_and_rows(seed, classes, random):
    features, labels = problem(n=60, d=3, seed=seed)
    rows = random.sample(range(60), 60)
    exit = LinearExit.fit(features, labels, n_classes=3)
    permuted = LinearExit.fit(features[rows], torch.tensor(classes)[labels[rows]], n_classes=3)
    assert torch.allclose(stacked(permuted)[list(classes)], stacked(exit), atol=1e-6)
    assert stacked(exit).sum(0).abs().max() < 1e-8  # the prior leaves nothing to the all-ones direction


def test_logits_by_hand_and_dtypes():
    features, labels = problem(dtype=torch.float32)
    exit = LinearExit.fit(features, labels.int())
    expected = features.double() @ exit.weight.T + exit.bias
    assert exit.weight.dtype == exit.bias.dtype == torch.float64
    assert exit.weight.shape == (3, 5) and exit.bias.shape == (3,)
    assert torch.equal(exit.logits(features), expected.float())
    assert exit.logits(features.double()).dtype == torch.float64
    assert exit.logits(features.bfloat16()).dtype == torch.float32
    same = LinearExit.fit(features.double(), labels)
    assert torch.equal(exit.weight, same.weight)


def test_deterministic_and_independent_of_the_chunks(monkeypatch):
    features, labels = problem()
    exit, again = (LinearExit.fit(features, labels) for _ in range(2))
    assert torch.equal(exit.weight, again.weight)
    monkeypatch.setattr(design, "CHUNK", 100)
    assert torch.allclose(LinearExit.fit(features, labels).weight, exit.weight, atol=1e-9)
    assert torch.allclose(exit.logits(features), features @ exit.weight.T + exit.bias)


def test_features_are_detached():
    features, labels = problem()
    assert not LinearExit.fit(features.requires_grad_(), labels).weight.requires_grad


def broken(value):
    features = torch.ones(4, 2)
    features[2, 1] = value
    return features


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"features": broken(math.nan)}, "features hold NaN or infinity"),
        ({"features": broken(math.inf)}, "features hold NaN or infinity"),
        ({"features": torch.ones(0, 2), "labels": torch.ones(0).long()}, r"features have shape \(0, 2\)"),
        ({"features": torch.ones(4)}, r"features have shape \(4,\)"),
        (
            {"features": np.ones((4, 2))},
            r"features are ndarray; they must be a torch tensor: torch.as_tensor\(features",
        ),
        ({"labels": [0, 1, 0, 1]}, "labels are list; they must be a torch tensor"),
        ({"features": torch.ones(4, 2).long()}, "features have dtype torch.int64"),
        ({"labels": torch.tensor([0, 1])}, r"labels have shape \(2,\).*\(4,\)"),
        ({"labels": torch.zeros(4)}, "labels have dtype torch.float32"),
        ({"labels": torch.tensor([0, 1, -1, 0])}, r"labels run from -1 to 1"),
        ({"n_classes": 2, "labels": torch.tensor([0, 1, 2, 0])}, r"labels run from 0 to 2.*0\.\.1"),
        ({"labels": torch.zeros(4).long()}, "n_classes is 1"),
        ({"prior_precision": 0.0}, "prior_precision is 0.0"),
        ({"prior_precision": -1.0}, "prior_precision is -1.0"),
        ({"prior_precision": math.inf}, "prior_precision is inf"),
    ],
)
def test_fit_refuses(changed, says):
    given = {"features": torch.ones(4, 2), "labels": torch.tensor([0, 1, 0, 1])}
    LinearExit.fit(**given)
    with pytest.raises(ValueError, match=says):
        LinearExit.fit(**(given | changed))


def test_says_when_it_does_not_converge(monkeypatch):
    monkeypatch.setattr(newton, "MAX_NEWTON", 1)
    with pytest.raises(RuntimeError, match="relative gradient norm of .*prior_precision"):
        LinearExit.fit(*problem())


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="weight and bias have shapes"):
        LinearExit(torch.zeros(3, 2), torch.zeros(2))
    exit = LinearExit(torch.zeros(3, 2), torch.zeros(3))
    with pytest.raises(ValueError, match="features have width 4, the exit 2"):
        exit.logits(torch.zeros(5, 4))


def test_a_weight_of_two_counts_as_two_and_of_none_as_none():
    features, labels = problem()
    counts = torch.arange(len(labels)) % 3
    repeated = LinearExit.fit(features.repeat_interleave(counts, 0), labels.repeat_interleave(counts), 0.3, n_classes=3)
    weighted = LinearExit.fit(features, labels, 0.3, weights=counts.float())
    assert torch.allclose(stacked(weighted), stacked(repeated), rtol=1e-7, atol=1e-8)
    assert weighted.relative_gradient_norm(features, labels, counts.float()) <= 1e-9
    assert weighted.relative_gradient_norm(features, labels) > 1e-3


def test_a_fit_towards_an_exit_that_is_certain_of_all_labels_stays_there():
    features, labels = torch.tensor([[1000.0], [-1000.0]]).double(), torch.tensor([0, 1])
    certain = LinearExit(torch.tensor([[1.0], [-1.0]]).double(), torch.zeros(2).double())
    exit = LinearExit.fit(features, labels, 0.7, towards=certain)
    assert torch.equal(exit.weight, certain.weight) and torch.equal(exit.bias, certain.bias)


def test_a_fit_towards_an_exit_ends_where_the_pull_and_the_data_balance():
    features, labels = problem()
    old = LinearExit(torch.randn(3, features.shape[1], dtype=torch.float64), torch.randn(3, dtype=torch.float64))
    exit = LinearExit.fit(features, labels, 0.7, towards=old)
    loose = LinearExit.fit(features, labels, 1e8, towards=old)
    assert torch.allclose(stacked(loose), stacked(old), atol=1e-5)
    apart = [(stacked(e) - stacked(old)).norm() for e in (exit, LinearExit.fit(features, labels, 0.7))]
    assert apart[0] < apart[1]


WRONG_WEIGHTS = {"one a row": torch.ones(3), "at least 0": -torch.ones(60), "not all 0": torch.zeros(60)}


@pytest.mark.parametrize("why", WRONG_WEIGHTS)
def test_weights_that_are_none_are_refused(why):
    features, labels = problem(n=60)
    with pytest.raises(ValueError, match=why):
        LinearExit.fit(features, labels, weights=WRONG_WEIGHTS[why])
