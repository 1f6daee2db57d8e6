"""Weights of every method against the formula written out in NumPy, and what must not change them."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import digamma
from scipy.stats import dirichlet

from fairkd.exits import POSTERIORS, ExitOptions, Exits
from fairkd.exits.hidden import HiddenLayers
from fairkd.parameters import ParameterError
from fairkd.weighting import (
    METHODS,
    ByEarlyModel,
    ByExit,
    ByGroupLoss,
    InRefit,
    Method,
    avcs,
    confidence_margin,
    register,
    usable,
)
from fairkd.weighting.dedier import confidence, matched_temperature
from fairkd.weighting.group_weights import GroupWeights

pytestmark = pytest.mark.usefixtures("one_thread")

REFITTED = ["dedier", "laplace", "tempered", "avcs", "selfdebias"]


def exits(posterior="kronecker", likelihood_temperature=1.0, exit_hidden=()):
    """What fits exits, with some of its options changed."""
    return Exits(
        options=ExitOptions(exit_hidden=list(exit_hidden)),
        posterior=POSTERIORS[posterior](likelihood_temperature=likelihood_temperature),
        n_classes=3,
    )


DEMO = exits()


def problem(n=150, d=4, seed=0, layers=(1, 2)):
    """Features of two layers, the second telling more of the labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (n,), generator=generator)
    centres = torch.randn(3, d, generator=generator, dtype=torch.float64)
    noise = {layer: torch.randn(n, d, generator=generator, dtype=torch.float64) for layer in layers}
    return {layer: layer * 0.5 * centres[labels] + noise[layer] for layer in layers}, labels


def weights_of(name, features, labels, given=DEMO, **own):
    method = METHODS[name](aux_layer=2, **own)
    return method.weights({layer: features[layer] for layer in method.layers}, labels, given)


def test_every_method_that_refits_is_tested_here():
    assert sorted(REFITTED) == sorted(name for name, method in METHODS.items() if issubclass(method, ByExit))


@pytest.mark.parametrize(
    ("method", "name", "default", "allowed", "refused"),
    [
        ("kd", "temperature", 2.0, [0.5, 100.0], [0.0, 100.5]),
        ("kd", "kd_weight", 0.5, [0.0, 1.0], [-0.5, 1.5]),
        ("dedier", "aux_layer", 3, [1], [0]),
        ("dedier", "warm_start_epochs", 1, [1], [0]),
        ("dedier", "reweight_every", 1, [1], [0]),
        ("dedier", "alpha", 0.2, [0.0, 10.0], [-0.5, 10.5]),
        ("dedier", "beta", 3.0, [0.0, 20.0], [-0.5, 20.5]),
        ("dedier", "weight_cap", None, [1.0], [0.5]),
        ("avcs", "delta", 0.05, [0.01, 0.99], [0.0, 1.0]),
        ("jtt", "jtt_epochs", 2, [1], [0]),
        ("jtt", "jtt_factor", 6.0, [0.5, 1e4], [0.0, 1e4 + 0.5]),
        ("group_dro", "group_step_size", 0.01, [0.5, 10.0], [0.0, 10.5]),
    ],
)
def test_parameters_have_their_sources_defaults_and_bounds(method, name, default, allowed, refused):
    assert getattr(METHODS[method](), name) == default
    for value in allowed:
        assert getattr(METHODS[method](**{name: value}), name) == value
    for value in refused:
        with pytest.raises(ParameterError, match=name):
            METHODS[method](**{name: value})


def test_what_a_method_is():
    of = {name: (m().uses_teacher, m().reweights, m.reads_groups) for name, m in METHODS.items()}
    assert of == {name: (True, True, False) for name in (*REFITTED, "jtt")} | {
        "erm": (False, False, False), "kd": (True, False, False), "group_dro": (True, True, True),
        "confreg": (True, False, False), "poe": (True, False, False),
        **{name: (True, False, name == "dfr") for name in ("refit", "dfr", "afr", "self")},
    }  # fmt: skip
    assert [name for name, m in METHODS.items() if m().refits_head] == ["refit", "dfr", "afr", "self"]
    assert not METHODS["dedier"](place="refit").reweights and METHODS["jtt"](place="refit").refits_head
    for name in (*REFITTED, "jtt"):
        method = METHODS[name]()
        plain = ("normalize_weights", "permute_weights", "stale_weights")
        assert not any(getattr(method, parameter, False) for parameter in plain)
        assert METHODS[name](use_teacher=False).uses_teacher is False
    assert METHODS["jtt"](jtt_epochs=3).early_epochs == 3
    # whose weights of what is right are no 1, by which one that lasts would be told
    assert "stale_weights" not in METHODS["avcs"].model_fields
    assert METHODS["avcs"](aux_layer=3).layers == [1, 2, 3] and METHODS["dedier"](aux_layer=3).layers == [3]
    assert ByExit.__abstractmethods__ == {"weights"} and ByGroupLoss.__abstractmethods__ == {"start"}
    assert ByEarlyModel.__abstractmethods__ == {"weights", "early_epochs"} and InRefit.__abstractmethods__ == {
        "weights"
    }


def test_refits_are_due_from_the_warm_start_on_at_their_interval():
    method = METHODS["dedier"](warm_start_epochs=2, reweight_every=3)
    assert [epoch for epoch in range(10) if method.due(epoch)] == [2, 5, 8]


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def by_the_formula(probs, labels, alpha=0.2, beta=3.0):
    weights = []
    for p, y in zip(probs, labels, strict=True):
        top, second = sorted(p)[:-3:-1]
        weights.append(1.0 if np.argmax(p) == y else math.exp(beta * (top - second) ** alpha))
    return np.array(weights)


def test_dedier_is_the_formula_on_the_softmax_of_its_exit():
    features, labels = problem()
    logits = DEMO.head(features[2], labels).exit.logits(features[2]).numpy()
    found = weights_of("dedier", features, labels)
    np.testing.assert_allclose(found, by_the_formula(softmax(logits), labels.numpy()), rtol=1e-9)
    assert 0.1 < (found > 1).double().mean() < 0.9


def test_dedier_by_the_top_probability_is_the_formula_on_it():
    features, labels = problem()
    probs = softmax(DEMO.head(features[2], labels).exit.logits(features[2]).numpy())
    found = weights_of("dedier", features, labels, signal="top_probability")
    expected = [1.0 if p.argmax() == y else math.exp(3 * p.max() ** 0.2) for p, y in zip(probs, labels, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("posterior", ["kronecker", "dense"])
def test_laplace_is_the_formula_on_sampled_logits(posterior):
    """A hundred thousand logits of each instance, drawn in NumPy from the exit's Gaussian; T widens it visibly."""
    features, labels = problem(60)
    given = exits(likelihood_temperature=30.0, posterior=posterior)
    head = given.head(features[2], labels)
    fitted = given.uncertain(head, features[2], labels).posterior
    means, covariances = head.exit.logits(features[2]).numpy(), fitted.logit_covariance(features[2]).numpy()
    rng = np.random.default_rng(0)
    probs = np.stack(
        [softmax(rng.multivariate_normal(m, c, size=10**5)).mean(0) for m, c in zip(means, covariances, strict=True)]
    )
    margins = np.sort(probs, 1)[:, -1] - np.sort(probs, 1)[:, -2]
    clear = margins > 0.02  # nearer to a tie, the samples' own error decides the argmax
    found = weights_of("laplace", features, labels, given).numpy()
    np.testing.assert_allclose(found[clear], by_the_formula(probs, labels.numpy())[clear], rtol=0.05)
    plain = by_the_formula(softmax(means), labels.numpy())
    assert np.abs(found / plain - 1).max() > 0.02


def test_tempered_matches_the_mean_margin_of_laplace():
    features, labels = problem()
    given = exits(likelihood_temperature=50.0)
    head = given.head(features[2], labels)
    logits = head.logits(features[2])
    target = confidence_margin(given.uncertain(head, features[2], labels).probabilities(features[2])).mean().item()
    temperature = matched_temperature(logits, target)
    assert temperature > 1.01
    probs = softmax(logits.numpy() / temperature)
    assert np.mean(np.sort(probs, 1)[:, 2] - np.sort(probs, 1)[:, 1]) == pytest.approx(target, abs=1e-7)
    found = weights_of("tempered", features, labels, given)
    np.testing.assert_allclose(found, by_the_formula(probs, labels.numpy()), rtol=1e-6)


def test_jtt_weighs_the_early_models_errors():
    probs = torch.tensor([[0.8, 0.1, 0.1], [0.2, 0.5, 0.3], [0.1, 0.2, 0.7]])
    found = METHODS["jtt"](jtt_factor=4.0).weights(probs, torch.tensor([0, 0, 1]))
    assert found.tolist() == [1, 4, 4]


def test_ratio_of_classes_is_the_mean_over_the_dirichlet():
    """E log R against samples of the Dirichlet itself; a class below the threshold is infinitely unlikely."""
    logits = torch.tensor([[3.0, 1.0, -4.0]], dtype=torch.float64)
    found = avcs.log_ratio(logits, -1.5)[0].numpy()
    a = np.array([3.0, 1.0]) - 0.0 + 1.5  # the logits' mean is 0
    pi = dirichlet.rvs(a, size=400_000, random_state=0)
    expected = (np.log(a / a.sum()) - np.log(pi)).mean(0)
    np.testing.assert_allclose(found[:2], expected, atol=5e-3)
    np.testing.assert_allclose(found[:2], np.log(a / a.sum()) - digamma(a) + digamma(a.sum()), rtol=1e-12)
    assert found[2] == math.inf


def test_evidence_multiplies_exits_and_is_clipped():
    logits = [torch.tensor([[1.0, 0.0, -1.0]] * 3, dtype=torch.float64), torch.tensor([[2.0, 0.0, -2.0]] * 3).double()]
    labels = torch.arange(3)
    thresholds = [-1.5, -1.0]
    ratios = [avcs.log_ratio(z, t)[0] for z, t in zip(logits, thresholds, strict=True)]
    expected = [min(1.0, (ratios[0][y] + ratios[1][y]).item() / math.log(1 / 0.2)) for y in range(3)]
    assert avcs.evidence(logits, thresholds, labels, 0.2).tolist() == pytest.approx(expected)
    assert expected[2] == 1 and 0 < expected[0] < expected[1] < 1
    one, two = (avcs.evidence(logits[:n], thresholds[:n], labels, 0.2) for n in (1, 2))
    assert (two >= one).all()  # sets are nested: what has left does not come back
    for delta in (-0.5, 0.0, 1.0):
        with pytest.raises(ValueError, match="delta is"):
            avcs.evidence(logits, thresholds, labels, delta)


@pytest.mark.parametrize("delta", [0.05, 0.3])
def test_threshold_leaves_its_share_of_held_out_labels_off_the_support(delta):
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(200, 3, generator=generator).double(), torch.randint(3, (200,), generator=generator)
    threshold = avcs.held_out_threshold(logits, labels, delta)
    off = avcs.log_ratio(logits, threshold)[range(200), labels].isinf().double().mean()
    assert off == pytest.approx(delta, abs=1e-9)


def avcs_by_the_formula(logits, labels, held_out, delta, alpha=0.2, beta=3.0):
    """Weights by Jazbec et al. 2024, one instance after another; logits: every exit's, fitted without held-out rows."""
    logits = [[[v - sum(row) / len(row) for v in row] for row in exit] for exit in logits]
    thresholds = []
    for exit in logits:
        gold = [exit[n][labels[n]] for n in held_out]
        cut_off = {t: sum(g < t for g in gold) / len(gold) for t in gold}
        thresholds.append(max(t for t in gold if cut_off[t] <= delta / len(logits)))
    weights = []
    for n, y in enumerate(labels):
        log_ratio = 0.0
        for exit, threshold in zip(logits, thresholds, strict=True):
            a = [max(v - threshold, 0.0) for v in exit[n]]
            on = a[y] > 0
            log_ratio += math.log(a[y] / sum(a)) - digamma(a[y]) + digamma(sum(a)) if on else math.inf
        against = min(max(log_ratio / math.log(1 / delta), 0.0), 1.0)
        weights.append(math.exp(beta * against**alpha))
    return weights


@pytest.mark.parametrize("delta", [0.1, 0.4])
def test_avcs_is_the_formula_with_thresholds_of_rows_its_exits_have_not_seen(delta):
    features, labels = problem()
    rows = torch.randperm(150, generator=torch.Generator().manual_seed(DEMO.seed))
    held_out, fitted = rows[:15], rows[15:]
    logits = [DEMO.head(features[k][fitted], labels[fitted]).exit.logits(features[k]).tolist() for k in (1, 2)]
    expected = avcs_by_the_formula(logits, labels.tolist(), held_out.tolist(), delta)
    np.testing.assert_allclose(weights_of("avcs", features, labels, delta=delta), expected, rtol=1e-6)


def test_avcs_holds_out_a_tenth_and_at_least_one_row():
    fitted = []

    def fit_logits(features, labels):
        fitted.append(len(labels))
        return lambda phi: phi

    for n in (5, 30, 39):
        features, labels = torch.randn(n, 3), torch.zeros(n, dtype=torch.long)
        avcs.thresholds_and_logits(fit_logits, {1: features}, labels, 0.1, seed=0)
    assert fitted == [4, 27, 36]


def test_group_dro_is_the_exponentiated_gradient():
    groups = torch.tensor([0, 0, 0, 0, 0, 0, 2, 2])  # group 1 is absent
    weights = METHODS["group_dro"](group_step_size=0.5).start(groups)
    q = np.array([0.5, 0.5])
    assert weights.instance_weights.mean().item() == pytest.approx(1)
    for index, losses in (([0, 1, 6], [1.0, 2.0, 4.0]), ([7, 6, 2], [3.0, 1.0, 0.5]), ([3, 4], [0.2, 0.1])):
        found = weights.step(torch.tensor(losses), torch.tensor(index))
        member = np.array([0 if i < 6 else 1 for i in index])
        mean = np.array([2 * sum(np.array(losses)[member == g]) / len(index) for g in (0, 1)])
        q = q * np.exp(0.5 * mean) / (q * np.exp(0.5 * mean)).sum()
        assert found.tolist() == pytest.approx((2 * q)[member].tolist(), rel=1e-5)
    assert weights.instance_weights.tolist() == pytest.approx([*[q[0] / 0.75] * 6, *[q[1] / 0.25] * 2], rel=1e-5)
    assert weights.instance_weights.mean().item() == pytest.approx(1, rel=1e-6)
    other = GroupWeights(groups, 0.5)
    other.restore(weights.instance_weights)
    assert torch.allclose(other.q, weights.q)


@pytest.mark.parametrize("name", REFITTED)
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 1000))
def test_permuting_rows_permutes_the_weights(name, seed):
    """avcs holds rows out at random, so for it the held-out rows are permuted along."""
    features, labels = problem(seed=seed)
    order = torch.randperm(150, generator=torch.Generator().manual_seed(seed))
    if name == "avcs":
        drawn = torch.randperm(150, generator=torch.Generator().manual_seed(DEMO.seed))
        order = torch.arange(150)
        order[drawn[:15]] = drawn[:15].flip(0)
        order[drawn[15:]] = drawn[15:].flip(0)
    first = weights_of(name, features, labels)
    second = weights_of(name, {layer: phi[order] for layer, phi in features.items()}, labels[order])
    torch.testing.assert_close(second, first[order], rtol=1e-4, atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(shift=st.floats(-50, 50), seed=st.integers(0, 100))
def test_a_constant_added_to_logits_changes_no_weight(shift, seed):
    generator = torch.Generator().manual_seed(seed)
    logits, labels = 2 * torch.randn(40, 3, generator=generator).double(), torch.randint(3, (40,), generator=generator)
    assert matched_temperature(logits + shift, 0.3) == pytest.approx(matched_temperature(logits, 0.3), rel=1e-6)
    ratios = [avcs.log_ratio(z, -0.5) for z in (logits, logits + shift)]
    torch.testing.assert_close(ratios[1], ratios[0], rtol=1e-6, atol=1e-6)
    thresholds = [avcs.held_out_threshold(z, labels, 0.1) for z in (logits, logits + shift)]
    assert thresholds[0] == pytest.approx(thresholds[1], abs=1e-9)


@pytest.mark.parametrize("name", ["dedier", "laplace", "tempered"])
@pytest.mark.parametrize("signal", ["margin", "top_probability"])
def test_an_instance_its_exit_gets_right_is_never_up_weighted(name, signal):
    features, labels = problem(seed=3)
    given, own = exits(likelihood_temperature=5.0), {} if name == "tempered" else {"signal": signal}
    head = given.head(features[2], labels)
    probs = head.logits(features[2]).softmax(-1)
    if name == "laplace":
        probs = given.uncertain(head, features[2], labels).probabilities(features[2])
    right = probs.argmax(1) == labels
    weights = weights_of(name, features, labels, given, **own)
    assert (weights[right] == 1).all() and (weights[~right] > 1).all()


def test_signals_are_confidences_and_fall_as_the_posterior_widens():
    features, labels = problem()
    head = DEMO.head(features[2], labels)
    means = {}
    for temperature in (1.0, 20.0, 150.0):
        given = exits(likelihood_temperature=temperature)
        fitted = given.uncertain(head, features[2], labels)
        probs = fitted.probabilities(features[2])
        for signal in ("margin", "top_probability", "contrast_variance", "mutual_information"):
            values = confidence(fitted, features[2], probs, signal)
            assert values.min() >= 0 and values.max() <= 1
            means.setdefault(signal, []).append(values.mean().item())
    for signal, values in means.items():
        assert values[0] > values[1] > values[2], signal
    weights = {s: weights_of("laplace", features, labels, signal=s) for s in means}
    assert not torch.allclose(weights["contrast_variance"], weights["mutual_information"], rtol=1e-3)


def test_moderation_by_variance_is_mackays():
    features, labels = problem()
    given = exits(likelihood_temperature=20.0)
    head = given.head(features[2], labels)
    fitted = given.uncertain(head, features[2], labels)
    covariance = fitted.posterior.logit_covariance(features[2]).numpy()
    top = np.argsort(head.logits(features[2]).numpy(), 1)[:, :-3:-1]
    variance = [c[i, i] + c[j, j] - 2 * c[i, j] for c, (i, j) in zip(covariance, top, strict=True)]
    expected = 1 / np.sqrt(1 + math.pi / 8 * np.array(variance))
    np.testing.assert_allclose(confidence(fitted, features[2], None, "contrast_variance"), expected, rtol=1e-9)


def test_applied_weights_are_permuted_capped_and_scaled():
    weights, method = torch.tensor([1.0, 2.0, 9.0, 4.0]), METHODS["dedier"]
    assert method().applied(weights, 0) is weights
    assert method(weight_cap=3.0).applied(weights, 0).tolist() == [1, 2, 3, 3]
    assert method(normalize_weights=True).applied(weights, 0).mean() == 1
    permuted = method(permute_weights=True).applied(weights, 1)
    assert sorted(permuted.tolist()) == [1, 2, 4, 9] and not torch.equal(permuted, weights)
    assert torch.equal(permuted, method(permute_weights=True).applied(weights, 1))


@pytest.mark.parametrize("normalized", [True, False])
def test_weights_that_are_all_0_train_nothing(normalized):
    with pytest.raises(ValueError, match="selfdebias gives every instance the weight 0.*larger prior_precision"):
        METHODS["selfdebias"](normalize_weights=normalized).applied(torch.zeros(4), 0)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (-torch.ones(3), "method dedier gave weights down to -1; they must be at least 0"),
        (torch.ones(4), r"gave a tensor of shape \(4,\) as weights; it must be a torch tensor of shape \(3,\)"),
        (np.ones(3), "gave ndarray as weights"),
        (None, "gave NoneType as weights"),
        (torch.ones(3, dtype=torch.complex64), "gave weights of torch.complex64; they must be real numbers"),
    ],
)
def test_weights_that_the_loss_cannot_use_are_refused_by_their_methods_name(weights, message):
    with pytest.raises(ValueError, match=message):
        usable(METHODS["dedier"](), weights, 3)
    assert usable(METHODS["dedier"](), torch.zeros(3), 3).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    "weights",
    [
        torch.tensor([True, False, True]),
        torch.tensor([1, 0, 1]),
        torch.tensor([1, 0, 1], dtype=torch.float64),
        torch.tensor([1.0, 0.0, 1.0], requires_grad=True),
    ],
)
def test_weights_of_any_number_type_are_used_as_the_loss_has_them(weights):
    used = METHODS["jtt"](normalize_weights=True).applied(usable(METHODS["jtt"](), weights, 3), 0)
    assert used.dtype == torch.float32 and not used.requires_grad
    assert used.tolist() == [1.5, 0, 1.5]


def test_a_name_of_fairkd_and_one_that_no_entry_can_state_are_refused():
    before = dict(METHODS)
    with pytest.raises(ValueError, match="name = 'kd': is that of fairkd.weighting.plain.Kd; choose another"):
        register(type("Kd2", (METHODS["erm"],), {"name": "kd"}))
    with pytest.raises(ValueError, match="name = 'Foo': should be a word of small letters"):
        register(type("Foo", (METHODS["erm"],), {"name": "Foo"}))
    with pytest.raises(ValueError, match="Half: lacks weights"):
        register(type("Half", (ByExit,), {"name": "half"}))
    with pytest.raises(ValueError, match="name = None: should be a word of small letters"):
        register(type("Nameless", (Method,), {}))
    with pytest.raises(ValueError, match="Alone: should be a subclass of Method"):
        register(type("Alone", (), {"name": "alone"}))
    assert before == METHODS


def test_a_parameter_that_a_property_would_hide_is_refused():
    weights = {"weights": lambda self, probs, labels: torch.ones(len(labels))}
    epochs = {"__annotations__": {"early_epochs": int}, "early_epochs": 1}
    with pytest.warns(UserWarning, match="early_epochs"):  # pydantic's
        own = type("Own", (ByEarlyModel,), {"name": "own", "__module__": __name__} | weights | epochs)
    with pytest.raises(ValueError, match="Own: early_epochs is a property of it and no parameter; .* another name"):
        register(own)
    assert "own" not in METHODS


def test_stale_weights_stay_where_the_refit_leaves_an_instance_alone():
    previous, fresh = torch.tensor([1.0, 5.0, 5.0]), torch.tensor([2.0, 1.0, 3.0])
    assert METHODS["dedier"]().merged(previous, fresh).tolist() == [2, 1, 3]
    assert METHODS["dedier"](stale_weights=True).merged(previous, fresh).tolist() == [2, 5, 3]
    assert METHODS["selfdebias"]().merged(previous, fresh).tolist() == [2, 1, 3]


@pytest.mark.parametrize("widths", [[8], [8, 5]])
def test_hidden_layers_are_deterministic_and_the_linear_layer_on_top_is_at_its_mode(widths):
    features, labels = problem(400)
    shifted = 50 + 20 * features[1]  # standardisation is folded in
    given = exits(exit_hidden=widths)
    head, again = (given.head(shifted, labels) for _ in range(2))
    assert torch.equal(head.exit.weight, again.exit.weight)
    hidden = head.hidden(shifted.float())
    assert hidden.shape == (400, widths[-1]) and hidden.min() >= 0
    assert head.exit.relative_gradient_norm(head.hidden(shifted), labels) < 1e-8
    deep = (head.logits(shifted).argmax(1) == labels).double().mean()
    chance = labels.bincount().max() / 400
    assert deep > chance + 0.05
    assert set(head.tensors()) >= {"weight", "bias", f"hidden{len(widths) - 1}.weight"}
    probs = given.uncertain(head, shifted, labels).probabilities(shifted)
    torch.testing.assert_close(probs.sum(1), torch.ones(400, dtype=probs.dtype))


def test_hidden_layers_see_no_unit_and_take_a_constant_feature():
    features, labels = problem()
    first, other = (HiddenLayers.fit(x, labels, [8])(x) for x in (features[1], 1e-3 * features[1]))
    torch.testing.assert_close(other, first, rtol=1e-4, atol=1e-4)
    constant = torch.cat([features[1], torch.ones(150, 1, dtype=torch.float64)], dim=1)
    assert HiddenLayers.fit(constant, labels, [8])(constant).isfinite().all()


def test_permuting_rows_permutes_the_weights_of_jtt_and_group_dro():
    generator = torch.Generator().manual_seed(0)
    probs, labels = torch.rand(40, 3, generator=generator).softmax(1), torch.randint(3, (40,), generator=generator)
    groups, order = torch.randint(6, (40,), generator=generator), torch.randperm(40, generator=generator)
    jtt = [METHODS["jtt"]().weights(probs[rows], labels[rows]) for rows in (slice(None), order)]
    assert torch.equal(jtt[1], jtt[0][order])
    first, second = (METHODS["group_dro"]().start(groups[rows]) for rows in (slice(None), order))
    losses = torch.rand(40, generator=generator)
    torch.testing.assert_close(
        second.step(losses[order], torch.arange(40)), first.step(losses, torch.arange(40))[order]
    )
    torch.testing.assert_close(second.instance_weights, first.instance_weights[order])
