import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fairkd.weighting import confidence_margin, distillation_loss, instance_weights

FEW = settings(max_examples=30, deadline=None)
LOGITS = arrays(np.float64, (6, 3), elements=st.floats(-20, 20))
LABELS = arrays(np.int64, 6, elements=st.integers(0, 2))


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def loss_by_hand(student, teacher, labels, weights, temperature, kd_weight, reweight):
    total = 0.0
    for s, t, y, w in zip(student, teacher, labels, weights, strict=True):
        ce = -math.log(softmax(s)[y])
        p, q = softmax(t / temperature), softmax(s / temperature)
        kd = temperature**2 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        total += (1 - kd_weight) * (w if reweight == "both" else 1) * ce + kd_weight * w * kd
    return total / len(labels)


@pytest.mark.parametrize(
    ("probs", "margin"),
    [([0.5, 0.2, 0.3], 0.2), ([0.1, 0.9], 0.8), ([0.25] * 4, 0.0), ([0.05, 0.15, 0.2, 0.6], 0.4)],
)
def test_margin_is_top_minus_second(probs, margin):
    assert confidence_margin(torch.tensor(probs, dtype=torch.float64)).item() == pytest.approx(margin, abs=1e-15)


def test_margin_keeps_leading_dimensions():
    assert confidence_margin(torch.rand(2, 5, 3)).shape == (2, 5)
    assert confidence_margin(torch.tensor([1.0, 0.0])).shape == ()


def test_margin_of_two_classes_is_their_distance():
    p = torch.rand(20, dtype=torch.float64)
    assert torch.allclose(confidence_margin(torch.stack([p, 1 - p], 1)), (2 * p - 1).abs())


def test_a_single_number_has_no_margin():
    with pytest.raises(ValueError, match=r"shape \(\)"):
        confidence_margin(torch.tensor(0.5))


def test_weights_by_hand():
    probs = torch.tensor([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1], [0.3, 0.3, 0.4]], dtype=torch.float64)
    labels = torch.tensor([0, 1, 0])
    power = instance_weights(probs, labels, alpha=0.5, beta=2.0)
    product = instance_weights(probs, labels, alpha=0.5, beta=2.0, exponent="product")
    assert power.tolist() == pytest.approx([1, math.exp(2 * math.sqrt(0.5)), math.exp(2 * math.sqrt(0.1))])
    assert product.tolist() == pytest.approx([1, math.exp(0.5), math.exp(0.1)])


def test_default_is_the_multinli_preset():
    weight = instance_weights(torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([2]))
    assert weight.item() == pytest.approx(math.exp(3.0), rel=1e-6)
    half = instance_weights(torch.tensor([[0.75, 0.25, 0.0]]), torch.tensor([2]))
    assert half.item() == pytest.approx(math.exp(3.0 * 0.5**0.2), rel=1e-6)
    assert weight.dtype == torch.float32


def test_rounding_above_one_and_zero_exponents_are_allowed():
    """A softmax in half precision sums to 1.001 at most; the weight is then as at 1."""
    rounded = instance_weights(torch.tensor([[1.0005, 0.0]]), torch.tensor([1]), alpha=1.0)
    assert rounded.item() == pytest.approx(math.exp(3.0), rel=1e-6)
    given = torch.tensor([[0.9, 0.1]]), torch.tensor([1])
    assert instance_weights(*given, beta=0.0).item() == 1
    assert instance_weights(*given, alpha=0.0).item() == pytest.approx(math.exp(3.0), rel=1e-6)


@FEW
@given(LOGITS, LABELS)
def test_right_instances_are_never_up_weighted(logits, labels):
    probs = softmax(logits)
    weights = instance_weights(torch.from_numpy(probs), torch.from_numpy(labels)).numpy()
    right = probs.argmax(1) == labels
    assert (weights[right] == 1).all()
    assert (weights >= 1).all() and (weights <= math.exp(3) * (1 + 1e-12)).all()


@FEW
@given(LOGITS, LABELS, st.floats(-50, 50), st.permutations(range(3)), st.permutations(range(6)))
def test_weights_under_shifts_and_permutations(logits, labels, shift, classes, rows):
    def weigh(z, y):
        return instance_weights(torch.from_numpy(softmax(z)), torch.from_numpy(y), alpha=1.0)

    z = np.round(logits, 2) + 1e-4 * np.arange(3)  # no ties, whose argmax a permutation would move
    expected = weigh(z, labels)
    assert torch.allclose(weigh(z + shift, labels), expected, rtol=1e-9)
    assert torch.allclose(weigh(z[:, classes], np.argsort(classes)[labels]), expected, rtol=1e-12)
    assert torch.equal(weigh(z[list(rows)], labels[list(rows)]), expected[list(rows)])


@pytest.mark.parametrize("reweight", ["kd", "both"])
@pytest.mark.parametrize("kd_weight", [0.0, 0.3, 1.0])
@FEW
@given(LOGITS, LOGITS, LABELS, arrays(np.float64, 6, elements=st.floats(0.5, 20)), st.floats(0.5, 5))
def test_loss_by_hand(reweight, kd_weight, student, teacher, labels, weights, temperature):
    found = distillation_loss(
        torch.from_numpy(student),
        torch.from_numpy(teacher),
        torch.from_numpy(labels),
        torch.from_numpy(weights),
        temperature=temperature,
        kd_weight=kd_weight,
        reweight=reweight,
    )
    expected = loss_by_hand(student, teacher, labels, weights, temperature, kd_weight, reweight)
    assert found.shape == ()
    assert found.item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


@FEW
@given(LOGITS, LOGITS, LABELS, st.floats(-9, 9))
def test_loss_sees_no_shift_of_logits(student, teacher, labels, shift):
    labels = torch.from_numpy(labels)
    expected = distillation_loss(torch.from_numpy(student), torch.from_numpy(teacher), labels)
    moved = distillation_loss(torch.from_numpy(student + shift), torch.from_numpy(teacher - shift), labels)
    assert moved.item() == pytest.approx(expected.item(), rel=1e-9, abs=1e-9)


def test_defaults_and_a_perfect_student():
    z, labels = torch.randn(7, 3, dtype=torch.float64), torch.randint(3, (7,))
    ce = torch.nn.functional.cross_entropy(z, labels)
    assert distillation_loss(z, z, labels).item() == pytest.approx(0.5 * ce.item())
    one = distillation_loss(z, -z, labels, torch.ones(7), temperature=2.0, kd_weight=0.5, reweight="both")
    assert distillation_loss(z, -z, labels).item() == pytest.approx(one.item())


def test_no_gradient_reaches_the_teacher():
    student, teacher = (torch.randn(5, 3, requires_grad=True) for _ in range(2))
    distillation_loss(student, teacher, torch.zeros(5, dtype=torch.long)).backward()
    assert teacher.grad is None and student.grad.abs().sum() > 0


def good():
    return {
        "student_logits": torch.zeros(4, 3),
        "teacher_logits": torch.zeros(4, 3),
        "labels": torch.tensor([0, 1, 2, 0]),
        "weights": torch.ones(4),
    }


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("temperature", 0.0, "temperature is 0.0.*above 0"),
        ("temperature", math.nan, "temperature is nan"),
        ("temperature", math.inf, "temperature is inf"),
        ("kd_weight", 1.2, r"kd_weight is 1.2.*\[0, 1\]"),
        ("kd_weight", -0.1, "kd_weight"),
        ("reweight", "ce", "reweight is 'ce'.*kd, both"),
        ("teacher_logits", torch.zeros(4, 2), r"teacher_logits has shape \(4, 2\).*\(4, 3\)"),
        ("student_logits", torch.zeros(4), "student_logits has shape"),
        ("labels", torch.tensor([0, 1]), r"labels has shape \(2,\)"),
        ("labels", torch.tensor([0, 1, 3, 0]), r"labels run from 0 to 3.*0\.\.2"),
        ("labels", torch.tensor([0, 1, -1, 0]), "labels run from -1"),
        ("labels", torch.zeros(4), "labels has dtype torch.float32"),
        ("weights", torch.ones(4, 1), r"weights has shape \(4, 1\)"),
    ],
)
def test_loss_refuses(name, value, says):
    assert distillation_loss(**good()).isfinite()
    with pytest.raises(ValueError, match=says):
        distillation_loss(**(good() | {name: value}))


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("exponent", "log", "exponent is 'log'.*power, product"),
        ("alpha", -0.1, "alpha is -0.1"),
        ("beta", math.inf, "beta is inf"),
        ("probs", torch.tensor([[2.0, -1.0]]), "probs run from -1 to 2.*softmax"),
        ("probs", torch.tensor([[math.nan, 1.0]]), "probs run from nan"),
        ("probs", torch.tensor([[-0.1, 1.0]]), "probs run from -0.1"),
        ("probs", torch.tensor([[0.0, 1.1]]), "to 1.1"),
        ("confidence", torch.tensor([1.1]), "confidence run from 1.1"),
        ("probs", torch.ones(1, 1), "2 classes"),
        ("probs", torch.ones(0, 2), "probs has shape"),
        ("labels", torch.tensor([2]), "labels run from 2 to 2"),
    ],
)
def test_weights_refuse(name, value, says):
    given = {"probs": torch.tensor([[0.4, 0.6]]), "labels": torch.tensor([0])}
    assert instance_weights(**given).item() > 1
    with pytest.raises(ValueError, match=says):
        instance_weights(**(given | {name: value}))
