import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import roots_hermitenorm

from fairkd.exits import design, kronecker, predictive
from fairkd.exits.dense import DenseLaplace
from fairkd.exits.laplace import KroneckerLaplace, select_prior_precision
from fairkd.exits.linear import LinearExit

pytestmark = pytest.mark.usefixtures("one_thread")


def problem(n=60, d=4, c=3, seed=0, scale=1.5):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(n, d, generator=generator, dtype=torch.float64) + 0.5
    weight = scale * torch.randn(d, c, generator=generator, dtype=torch.float64)
    return features, torch.multinomial((features @ weight).softmax(1), 1, generator=generator).squeeze(1)


def equal_features(c=3):
    """All phi_n the same, so Lambda_n is one matrix: Kronecker is exact."""
    row = torch.tensor([[0.7, -1.2, 0.4]], dtype=torch.float64)
    return row.repeat(40, 1), torch.arange(40).square() % 7 % c


def constant_curvature(c=3):
    """Every phi_n once with each label: the MAP is W = 0 and Lambda_n constant, phi_n not: Kronecker is exact."""
    features, _ = problem(n=12, d=3)
    return features.repeat_interleave(c, 0), torch.arange(c).repeat(12)


EXACT = {"equal features": equal_features, "constant curvature": constant_curvature}


def augment(features):
    return torch.cat([features.double(), torch.ones(len(features), 1, dtype=torch.float64)], 1)


def stacked(exit):
    return torch.cat([exit.weight, exit.bias[:, None]], 1)


def log_joint(exit, features, labels, temperature=1.0):
    """Minus the tempered objective as a function of W, (C, D+1)."""

    def function(w):
        ce = torch.nn.functional.cross_entropy(augment(features) @ w.T, labels, reduction="sum")
        return -ce / temperature - exit.prior_precision / 2 * w.square().sum()

    return function


def dense_precision(exit, features, labels, temperature=1.0):
    size = exit.weight.numel() + exit.bias.numel()
    function = log_joint(exit, features, labels, temperature)
    return -torch.autograd.functional.hessian(function, stacked(exit)).reshape(size, size)


def covariance_of_logits(precision, features, c):
    """J H^{-1} J^T with the Jacobian of the logits written out, (N, C, C)."""
    jacobian = torch.stack([torch.kron(torch.eye(c, dtype=torch.float64), x[None]) for x in augment(features)])
    return jacobian @ torch.linalg.inv(precision) @ jacobian.mT


def factors(exit, features):
    x = augment(features)
    p = (x @ stacked(exit).T).softmax(1)
    g = torch.stack([q.diag() - q.outer(q) for q in p]).mean(0)
    return g, x.T @ x


def kronecker_precision(exit, features, temperature, prior):
    g, a = factors(exit, features)
    tau = exit.prior_precision
    eye_g, eye_a = (torch.eye(len(m), dtype=torch.float64) for m in (g, a))
    if prior == "factored":
        return torch.kron(g + tau**0.5 * eye_g, a / temperature + tau**0.5 * eye_a)
    return torch.kron(g, a) / temperature + tau * torch.kron(eye_g, eye_a)


def numpy_mean_of_softmax(mean, covariance, n, seed):
    """Monte Carlo mean of softmax and its standard error, independent of the library."""
    z = np.random.default_rng(seed).multivariate_normal(mean.numpy(), covariance.numpy(), size=n, method="eigh")
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    return p.mean(0), p.std(0) / math.sqrt(n)


@pytest.mark.parametrize("c", [2, 3, 5])
@pytest.mark.parametrize("temperature", [1.0, 7.0])
@pytest.mark.parametrize("data", EXACT)
def test_equals_the_dense_posterior_where_kronecker_is_exact(data, temperature, c):
    features, labels = EXACT[data](c)
    exit = LinearExit.fit(features, labels, 0.3, c)
    laplace = KroneckerLaplace.fit(exit, features, labels, likelihood_temperature=temperature)
    new = torch.randn(5, 3, dtype=torch.float64)
    expected = covariance_of_logits(dense_precision(exit, features, labels, temperature), new, c)
    assert torch.allclose(laplace.logit_covariance(new), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("prior", ["exact", "factored"])
@pytest.mark.parametrize("temperature", [1.0, 60.0])
def test_equals_its_own_dense_kronecker_form(prior, temperature):
    features, labels = problem()
    exit = LinearExit.fit(features, labels, 0.3)
    laplace = KroneckerLaplace.fit(exit, features, labels, likelihood_temperature=temperature, prior=prior)
    precision = kronecker_precision(exit, features, temperature, prior)
    new, _ = problem(n=5, seed=1)
    assert torch.allclose(laplace.logit_covariance(new), covariance_of_logits(precision, new, 3), rtol=1e-9)
    assert laplace.eigenvalues.log().sum().item() == pytest.approx(precision.logdet().item(), rel=1e-10)


def test_factored_prior_is_more_precise():
    features, labels = problem()
    exit = LinearExit.fit(features, labels)
    exact, factored = (KroneckerLaplace.fit(exit, features, labels, prior=prior) for prior in ("exact", "factored"))
    difference = exact.logit_covariance(features) - factored.logit_covariance(features)
    assert torch.linalg.eigvalsh(difference).min() > 0


@pytest.mark.parametrize("n, d, seed", [(100, 2, 0), (400, 4, 1), (1000, 8, 2)])
def test_near_the_dense_posterior_elsewhere(n, d, seed):
    features, labels = problem(n, d, seed=seed, scale=0.7 / math.sqrt(d))
    exit = LinearExit.fit(features, labels)
    found = KroneckerLaplace.fit(exit, features, labels).logit_covariance(features)
    expected = covariance_of_logits(dense_precision(exit, features, labels), features, 3)
    basis = kronecker.contrast_basis(3)
    found, expected = (torch.einsum("ci,ncd,di->n", basis, part, basis) for part in (found, expected))
    assert abs((found / expected).mean().item() - 1) < 0.2
    assert ((found / expected).log().abs() < math.log(2)).double().mean() > 0.9
    assert not torch.allclose(found, expected, rtol=1e-6)


def test_the_bias_has_curvature():
    n, tau = 30, 0.5
    features, labels = torch.zeros(n, 2, dtype=torch.float64), torch.arange(n) % 3
    laplace = KroneckerLaplace.fit(LinearExit.fit(features, labels, tau), features, labels)
    # All curvature is the bias's: p = 1/3, so Lambda has eigenvalue 1/3 in the contrasts and 0 along all-ones.
    contrast, ones = 1 / (n / 3 + tau), 1 / tau
    mean = torch.full((3, 3), 1 / 3, dtype=torch.float64)
    expected = contrast * (torch.eye(3, dtype=torch.float64) - mean) + ones * mean
    assert torch.allclose(laplace.logit_covariance(features[:1])[0], expected, rtol=1e-12)


def test_effective_dimension_is_the_mean_trace():
    features, labels = constant_curvature()
    n, d = features.shape
    exit = LinearExit.fit(features, labels, 0.3)
    p = exit.logits(features).softmax(1)
    curvature = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    for prior in ("factored", "exact"):
        laplace = KroneckerLaplace.fit(exit, features, labels, prior=prior)
        mean_trace = torch.einsum("nij,nji->n", curvature, laplace.logit_covariance(features)).mean().item()
        assert laplace.effective_dimension / n == pytest.approx(mean_trace, rel=1e-9)
        assert laplace.effective_dimension < 2 * (d + 1)
    tempered = KroneckerLaplace.fit(exit, features, labels, likelihood_temperature=10.0)
    assert tempered.effective_dimension < laplace.effective_dimension


def test_tempering_widens_and_leaves_the_mode():
    features, labels = problem()
    exit = LinearExit.fit(features, labels)
    spread = [
        KroneckerLaplace.fit(exit, features, labels, likelihood_temperature=t).logit_covariance(features)
        for t in (1.0, 10.0, 60.0)
    ]
    assert torch.linalg.eigvalsh(spread[1] - spread[0]).min() > -1e-9
    assert torch.linalg.eigvalsh(spread[2] - spread[1]).min() > -1e-9
    assert (spread[2] - spread[0]).diagonal(dim1=1, dim2=2).min() > 1e-3


@pytest.mark.parametrize("c", [2, 3, 4])
@pytest.mark.parametrize("temperature", [1.0, 20.0])
def test_quadrature_within_the_error_of_a_million_samples(c, temperature):
    features, labels = problem(c=c)
    exit = LinearExit.fit(features, labels, 1.0, c)
    laplace = KroneckerLaplace.fit(exit, features, labels, likelihood_temperature=temperature)
    rows = features[:2]
    found = laplace.predict(rows)
    own = laplace.predict(rows, method="mc", n_samples=1_000_000, seed=3)
    for i in range(2):
        mean, error = numpy_mean_of_softmax(exit.logits(rows)[i], laplace.logit_covariance(rows)[i], 1_000_000, i)
        assert (np.abs(found[i].numpy() - mean) < 4.5 * error).all()
        assert (np.abs(own[i].numpy() - mean) < 4.5 * math.sqrt(2) * error).all()
    assert (found - exit.logits(rows).softmax(1)).abs().max() > 1e-3  # it is not the MAP that passes here


@pytest.mark.parametrize("dims", [1, 2, 3, 4])
def test_the_finest_grid_is_the_last_that_fits(dims):
    fits = [(12 / predictive._spacing(predictive._finest(dims) + more)) ** dims for more in (0, 1)]
    assert fits[0] <= predictive.MAX_GRID < fits[1]


@pytest.mark.parametrize("deviation", [0.1, 0.4, 0.41, 1.0, 1.01, 2.6, 5.5, 20.0])
@pytest.mark.parametrize("c", [2, 3])
def test_quadrature_to_1e_6(c, deviation):
    """Against Gauss-Hermite in one dimension, where hundreds of nodes are cheap, and a much finer grid in two."""
    generator = torch.Generator().manual_seed(0)
    logits = deviation * torch.randn(8, c, generator=generator, dtype=torch.float64)
    deviations = deviation * torch.rand(8, c - 1, generator=generator, dtype=torch.float64)
    deviations[:, 0] = deviation
    angle = 0.7
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=torch.float64)
    basis = kronecker.contrast_basis(c) @ (turn if c == 3 else torch.eye(1, dtype=torch.float64))
    points = torch.arange(-6.5, 6.5, min(0.25, 0.4 / deviation), dtype=torch.float64)
    mass = (-points.square() / 2).exp()
    if c == 2 and deviation <= 5.5:
        points, mass = (torch.from_numpy(part) for part in roots_hermitenorm(350))
    grid = torch.cartesian_prod(*[points] * (c - 1)).reshape(-1, c - 1)
    mass = torch.cartesian_prod(*[mass / mass.sum()] * (c - 1)).reshape(-1, c - 1).prod(1)
    found = predictive.mean_by_quadrature(logits, deviations, basis)
    for row in range(8):
        z = logits[row] + (grid * deviations[row]) @ basis.T
        expected = mass @ z.softmax(-1)
        assert (found[row] - expected).abs().max() < 1e-6


@pytest.mark.parametrize("temperature", [1.0, 60.0])
def test_mutual_information_and_contrast_variance_by_a_million_samples(temperature):
    features, labels = problem()
    laplace = KroneckerLaplace.fit(
        LinearExit.fit(features, labels), features, labels, likelihood_temperature=temperature
    )
    means, covariances = laplace.exit.logits(features[:4]), laplace.logit_covariance(features[:4])
    for row in range(4):
        z = np.random.default_rng(row).multivariate_normal(means[row].numpy(), covariances[row].numpy(), size=10**6)
        p = np.exp(z - z.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        entropies = -(p * np.log(np.clip(p, 1e-300, None))).sum(1)
        mean = p.mean(0)
        expected = -(mean * np.log(mean)).sum() - entropies.mean()
        found = laplace.mutual_information(features[row : row + 1]).item()
        assert found == pytest.approx(expected, abs=5e-3)
        first, second = means[row].topk(2).indices
        variance = laplace.contrast_variance(features[row : row + 1]).item()
        assert variance == pytest.approx((z[:, first] - z[:, second]).var(), rel=0.01)


@pytest.mark.parametrize("n, d, c", [(60, 4, 3), (300, 6, 3), (200, 5, 2), (150, 3, 4)])
@pytest.mark.parametrize("temperature", [1.0, 25.0])
def test_dense_posterior_is_the_hessian_by_autograd(n, d, c, temperature):
    features, labels = problem(n, d, c, seed=n)
    exit = LinearExit.fit(features, labels, 0.4, c)
    dense = DenseLaplace.fit(exit, features, labels, likelihood_temperature=temperature)
    precision = dense_precision(exit, features, labels, temperature)
    new, _ = problem(20, d, c, seed=1)
    expected = covariance_of_logits(precision, new, c)
    assert torch.allclose(dense.logit_covariance(new), expected, rtol=1e-8, atol=1e-10)
    likelihood = precision - 0.4 * torch.eye(len(precision), dtype=torch.float64)
    assert dense.effective_dimension == pytest.approx(
        (likelihood @ torch.linalg.inv(precision)).trace().item(), rel=1e-8
    )
    mean, error = numpy_mean_of_softmax(exit.logits(new)[0], expected[0], 10**6, seed=0)
    assert (np.abs(dense.predict(new)[0].numpy() - mean) < 6 * error + 1e-6).all()


@pytest.mark.parametrize("n, d, scale", [(200, 3, 0.4), (600, 6, 0.4), (2000, 12, 0.2)])
def test_kronecker_predictive_is_near_the_dense_one(n, d, scale):
    """Random problems: the predictive of the factors is nearer to the dense one than MAP is."""
    features, labels = problem(n, d, seed=n, scale=scale)
    exit = LinearExit.fit(features, labels)
    dense = DenseLaplace.fit(exit, features, labels).predict(features)
    kron = KroneckerLaplace.fit(exit, features, labels).predict(features)
    apart, moved = (kron - dense).abs().mean(), (exit.logits(features).softmax(1) - dense).abs().mean()
    assert apart < moved / 2
    assert (kron - dense).abs().max() < 0.01


def test_dense_effective_dimension_is_the_mean_trace_and_below_its_bound():
    """mean_n tr(Lambda_n Cov z_n) = T d_eff / N <= T (C-1)(D+1) / N, exactly, for the dense posterior."""
    features, labels = problem(n=200, d=5)
    exit = LinearExit.fit(features, labels)
    for temperature in (1.0, 10.0, 200.0):
        dense = DenseLaplace.fit(exit, features, labels, likelihood_temperature=temperature)
        p = exit.logits(features).softmax(1)
        curvature = torch.diag_embed(p) - p[:, :, None] * p[:, None]
        mean_trace = (curvature * dense.logit_covariance(features)).sum((1, 2)).mean().item()
        assert mean_trace == pytest.approx(temperature * dense.effective_dimension / 200, rel=1e-9)
        assert mean_trace < temperature * 2 * 6 / 200


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.permutations(range(3)), st.randoms(use_true_random=False))
def test_permuting_classes_and_rows(seed, classes, random):
    features, labels = problem(seed=seed)
    rows = random.sample(range(60), 60)
    fits = [(features, labels), (features[rows], torch.tensor(classes)[labels[rows]])]
    first, second = (
        KroneckerLaplace.fit(LinearExit.fit(x, y, 1.0, 3), x, y, likelihood_temperature=5.0) for x, y in fits
    )
    probs, covariance = second.predict(features[:4]), second.logit_covariance(features[:4])
    assert torch.allclose(probs[:, classes], first.predict(features[:4]), atol=1e-6)
    assert torch.allclose(covariance[:, classes][:, :, classes], first.logit_covariance(features[:4]), atol=1e-6)
    assert first.log_marginal_likelihood() == pytest.approx(second.log_marginal_likelihood(), rel=1e-8)
    assert torch.allclose(probs.sum(1), torch.ones(4, dtype=torch.float64), atol=1e-12)


@settings(max_examples=10, deadline=None)
@given(st.floats(-300, 300))
def test_adding_a_constant_to_logits_changes_nothing(shift):
    logits, deviations = torch.randn(4, 3, dtype=torch.float64), torch.rand(4, 2, dtype=torch.float64)
    basis = kronecker.contrast_basis(3)
    for mean in (predictive.mean_by_quadrature, lambda *a: predictive.mean_by_sampling(*a, 50, 0)):
        assert torch.allclose(mean(logits + shift, deviations, basis), mean(logits, deviations, basis), atol=1e-11)


def test_samples_are_seeded_and_fresh_for_every_instance():
    features, labels = problem()
    laplace = KroneckerLaplace.fit(LinearExit.fit(features, labels), features, labels, likelihood_temperature=20.0)
    same_rows = features[:1].repeat(6, 1)
    probs = laplace.predict(same_rows, method="mc", seed=4)
    assert torch.equal(probs, laplace.predict(same_rows, method="mc", seed=4))
    assert not torch.allclose(probs, laplace.predict(same_rows, method="mc", seed=5), atol=1e-4)
    assert len(probs[:, 0].unique()) == 6


def test_chunks_and_dtypes(monkeypatch):
    features, labels = problem()
    exit = LinearExit.fit(features.float(), labels)
    laplace = KroneckerLaplace.fit(exit, features.float(), labels)
    probs, covariance = laplace.predict(features), laplace.logit_covariance(features)
    assert probs.dtype == covariance.dtype == torch.float64
    assert laplace.predict(features.float()).dtype == laplace.logit_covariance(features.float()).dtype == torch.float32
    assert laplace.predict(features.bfloat16()).dtype == torch.float32
    monkeypatch.setattr(design, "CHUNK", 50)
    monkeypatch.setattr(predictive, "CHUNK", 5000)
    assert torch.allclose(laplace.predict(features), probs, atol=1e-12)
    assert torch.allclose(laplace.logit_covariance(features), covariance, atol=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 7.0])
@pytest.mark.parametrize("data", EXACT)
def test_evidence_against_the_dense_one(data, temperature):
    features, labels = EXACT[data]()
    exit = LinearExit.fit(features, labels, 0.3)
    laplace = KroneckerLaplace.fit(exit, features, labels, likelihood_temperature=temperature)
    function, w = log_joint(exit, features, labels, temperature), stacked(exit)
    precision = dense_precision(exit, features, labels, temperature)
    slope = torch.autograd.functional.jacobian(function, w).flatten()
    m = w.numel()
    # The prior's normaliser, and the integral of exp of the second-order expansion around the exit.
    prior = m / 2 * math.log(0.3 / (2 * math.pi))
    integral = m / 2 * math.log(2 * math.pi) - precision.logdet() / 2 + slope @ torch.linalg.solve(precision, slope) / 2
    expected = (function(w) + prior + integral).item()
    assert laplace.log_marginal_likelihood() == pytest.approx(expected, rel=1e-9)


def test_evidence_against_integration():
    """One weight vector for two classes has three contrasts' worth of freedom; one constant feature leaves two."""
    features, labels = torch.full((50, 1), 0.5, dtype=torch.float64), (torch.arange(50) % 3 > 0).long()
    tau = 0.8
    laplace = KroneckerLaplace.fit(LinearExit.fit(features, labels, tau), features, labels)
    # z_1 - z_0 is normal under the prior with variance 2 * 1.25 / tau: integrate the likelihood over it.
    z = torch.linspace(-15, 15, 20001, dtype=torch.float64)
    log_likelihood = 33 * torch.nn.functional.logsigmoid(z) + 17 * torch.nn.functional.logsigmoid(-z)
    assert labels.sum() == 33
    prior = torch.distributions.Normal(torch.tensor(0.0).double(), math.sqrt(2.5 / tau)).log_prob(z)
    exact = (torch.logsumexp(log_likelihood + prior, 0) + math.log(30 / 20000)).item()
    assert laplace.log_marginal_likelihood() == pytest.approx(exact, abs=0.02)


@pytest.mark.parametrize("seed", [0, 1])
def test_evidence_is_stationary_at_the_chosen_prior_precision(seed):
    features, labels = problem(n=400, d=6, seed=seed, scale=0.5)
    exit, tau = select_prior_precision(features, labels)
    assert exit.prior_precision == tau and 1e-3 < tau < 1e5

    def evidence(log_tau):
        refit = LinearExit.fit(features, labels, math.exp(log_tau))
        return KroneckerLaplace.fit(refit, features, labels).log_marginal_likelihood()

    at, h = math.log(tau), 0.05
    low, mid, high = (evidence(at + step) for step in (-h, 0, h))
    slope, curvature = (high - low) / (2 * h), (high - 2 * mid + low) / h**2
    assert curvature < -0.1
    assert abs(slope) < 0.01 * abs(curvature)  # within 1 % of the stationary tau
    assert abs(evidence(at + 1) - evidence(at - 1)) > 0 and mid > max(evidence(at + 1), evidence(at - 1)) + 0.1


def test_features_that_tell_nothing_go_to_the_upper_bound():
    features, labels = constant_curvature()
    assert select_prior_precision(features, labels, bounds=(0.1, 100.0))[1] == pytest.approx(100.0, rel=0.01)


def test_the_largest_evidence_is_found_where_there_are_two_maxima():
    """Features of two scales, most of what tells the labels in the small ones."""
    generator = torch.Generator().manual_seed(0)
    large, small = torch.randn(400, 3, generator=generator) * 5, torch.randn(400, 20, generator=generator) / 100
    features = torch.cat([large, small], 1).double()
    labels = ((100 * small).sum(1) + large.sum(1) / 20 > 0).long()

    def evidence(tau):
        exit = LinearExit.fit(features, labels, tau)
        return KroneckerLaplace.fit(exit, features, labels).log_marginal_likelihood()

    exit, _ = select_prior_precision(features, labels)
    found = KroneckerLaplace.fit(exit, features, labels).log_marginal_likelihood()
    assert found >= max(evidence(10.0**power) for power in np.linspace(-4, 6, 41)) - 1e-3


def off_mode(exit, features, labels):
    return {
        "another prior": (LinearExit(exit.weight, exit.bias, 2.0), features, labels),
        "another bias": (LinearExit(exit.weight, exit.bias + torch.tensor([1e-3, 0, 0]), 1.0), features, labels),
        "untrained": (LinearExit(torch.zeros(3, 4), torch.zeros(3)), features, labels),
        "fewer rows": (exit, features[:-1], labels[:-1]),
        "another label": (exit, features, torch.cat([labels[:-1], (labels[-1:] + 1) % 3])),
        "moved features": (exit, features * 1.001, labels),
    }


@pytest.mark.parametrize("case", off_mode(LinearExit(torch.zeros(3, 4), torch.zeros(3)), *problem()))
def test_refuses_an_exit_off_its_mode(case):
    features, labels = problem()
    exit = LinearExit.fit(features, labels)
    KroneckerLaplace.fit(exit, features, labels)
    with pytest.raises(ValueError, match="off its mode.*Refit"):
        KroneckerLaplace.fit(*off_mode(exit, features, labels)[case])


def test_weights_through_float32_are_still_at_the_mode():
    features, labels = problem(n=500)
    exit = LinearExit.fit(features, labels)
    stored = LinearExit(exit.weight.float(), exit.bias.float(), exit.prior_precision)
    KroneckerLaplace.fit(stored, features, labels)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"prior": "diagonal"}, "prior is 'diagonal'.*exact, factored"),
        ({"likelihood_temperature": 0.0}, "likelihood_temperature is 0.0"),
        ({"likelihood_temperature": math.nan}, "likelihood_temperature is nan"),
        ({"likelihood_temperature": math.inf}, "likelihood_temperature is inf"),
        ({"features": torch.zeros(60, 3)}, "features have width 3, the exit 4"),
        ({"features": torch.full((60, 4), math.nan)}, "features hold NaN"),
        ({"labels": torch.full((60,), 3)}, "labels run from 3 to 3"),
    ],
)
def test_fit_refuses(changed, says):
    features, labels = problem()
    given = {"exit": LinearExit.fit(features, labels), "features": features, "labels": labels}
    with pytest.raises(ValueError, match=says):
        KroneckerLaplace.fit(**(given | changed))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"method": "probit"}, "method is 'probit'.*quadrature, mc"),
        ({"method": "mc", "n_samples": 0}, "n_samples is 0"),
        ({"features": torch.zeros(2, 3)}, "features have width 3"),
    ],
)
def test_predict_refuses(changed, says):
    features, labels = problem()
    laplace = KroneckerLaplace.fit(LinearExit.fit(features, labels), features, labels)
    with pytest.raises(ValueError, match=says):
        laplace.predict(**({"features": features} | changed))


def test_quadrature_of_many_classes_advises_monte_carlo():
    features, labels = problem(c=5)
    laplace = KroneckerLaplace.fit(LinearExit.fit(features, labels, 1.0, 5), features, labels)
    with pytest.raises(ValueError, match="5 classes.*use 'mc'"):
        laplace.predict(features)
    assert laplace.predict(features, method="mc").shape == (60, 5)


@pytest.mark.parametrize("bounds", [(1.0, 0.1), (1.0, 1.0), (0.0, 1.0), (-1.0, 1.0), (1.0, math.inf)])
def test_bounds_are_checked(bounds):
    with pytest.raises(ValueError, match="bounds are"):
        select_prior_precision(*problem(), bounds=bounds)


def test_a_weighted_posterior_is_that_of_the_weighted_dense_hessian():
    features, labels = problem()
    weights = torch.rand(len(labels), dtype=torch.float64) * 3
    exit = LinearExit.fit(features, labels, 0.4, weights=weights)

    def log_posterior(w):
        losses = torch.nn.functional.cross_entropy(augment(features) @ w.T, labels, reduction="none")
        return -(weights * losses).sum() - 0.2 * w.square().sum()

    size = stacked(exit).numel()
    precision = -torch.autograd.functional.hessian(log_posterior, stacked(exit)).reshape(size, size)
    dense = DenseLaplace.fit(exit, features, labels, weights=weights)
    assert torch.allclose(dense.logit_covariance(features), covariance_of_logits(precision, features, 3))


def test_weights_are_counts_to_factors_and_evidence():
    features, labels = problem()
    counts = torch.arange(len(labels)) % 3
    many, of_many = features.repeat_interleave(counts, 0), labels.repeat_interleave(counts)
    exit = LinearExit.fit(many, of_many, 0.4)
    weighted = KroneckerLaplace.fit(exit, features, labels, weights=counts)
    repeated = KroneckerLaplace.fit(exit, many, of_many)
    assert torch.allclose(weighted.logit_covariance(features), repeated.logit_covariance(features))
    assert weighted.log_marginal_likelihood() == pytest.approx(repeated.log_marginal_likelihood(), rel=1e-10)
    tau = select_prior_precision(features, labels, weights=counts)[1]
    assert tau == pytest.approx(select_prior_precision(many, of_many)[1], rel=1e-3)
    with pytest.raises(ValueError, match="off its mode"):
        KroneckerLaplace.fit(exit, features, labels)
