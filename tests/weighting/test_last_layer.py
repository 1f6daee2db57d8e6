"""Weights of a refit against their papers' formulas."""

import math

import numpy as np
import pytest
import torch

from fairkd.weighting import METHODS, Seen, instance_weights
from fairkd.weighting.margins import label_weights, linear_weights

PROBS = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.4, 0.35, 0.25], [0.05, 0.05, 0.9]], dtype=torch.float64)
LABELS = torch.tensor([0, 0, 1, 2])
ALIKE = torch.ones(4, dtype=torch.float64)
SEEN = Seen(LABELS, torch.tensor([0, 1, 1, 1]), ALIKE, PROBS, PROBS.flip(0))


def test_refit_weighs_nothing_and_dfr_each_group_alike():
    assert METHODS["refit"]().weights(SEEN).tolist() == [1, 1, 1, 1]
    found = METHODS["dfr"]().weights(SEEN)
    assert found.tolist() == pytest.approx([2, 2 / 3, 2 / 3, 2 / 3])
    assert METHODS["dfr"].reads_groups and not METHODS["refit"].reads_groups


def test_afr_is_its_equation_balanced_by_class():
    found = METHODS["afr"](gamma=4.0).weights(SEEN).numpy()
    rows_of = {0: 2, 1: 1, 2: 1}
    expected = [math.exp(-4 * PROBS[n, y]) / rows_of[int(y)] for n, y in enumerate(LABELS)]
    np.testing.assert_allclose(found, np.array(expected) / np.mean(expected))


def test_self_takes_the_rows_of_largest_divergence():
    found = METHODS["self"](share=0.5).weights(SEEN)
    divergence = [
        sum(p * math.log(p / q) for p, q in zip(*rows, strict=True)) for rows in zip(PROBS, PROBS.flip(0), strict=True)
    ]
    assert found.tolist() == [float(d >= sorted(divergence)[2]) for d in divergence]  # a row each of two classes


def test_self_balances_the_classes_of_what_it_keeps():
    """LaBonte et al. 2023 refit on class-balanced batches."""
    rows = 8
    head = torch.tensor([[0.9, 0.1]] * rows, dtype=torch.float64)
    labels = torch.tensor([0, 0, 0, 1, 0, 1, 0, 1])
    exit_probs = torch.tensor([[0.1, 0.9]] * 4 + [[0.9, 0.1]] * 4, dtype=torch.float64)  # the first four disagree
    found = METHODS["self"](share=0.5).weights(
        Seen(labels, labels, torch.ones(rows, dtype=torch.float64), head, exit_probs)
    )
    assert found.tolist() == pytest.approx([2 / 3, 2 / 3, 2 / 3, 2, 0, 0, 0, 0])


def test_self_passes_over_rows_of_which_head_and_exit_are_both_certain():
    certain = torch.tensor([[120.0, 0, 0], [1.0, 0, 0], [0.0, 2, 0]]).softmax(-1)
    seen = SEEN._replace(probs=certain, exit_probs=certain[[0, 1, 0]])
    assert METHODS["self"](share=0.3).weights(seen).tolist() == [0, 0, 1]


@pytest.mark.parametrize(("name", "changes"), [("refit", {}), ("afr", {"gamma": 4.0}), ("self", {"share": 0.5})])
def test_a_row_that_stands_for_three_is_three_rows(name, changes):
    """Validation rows drawn by group weigh back to the population, or what reads no groups would read them."""
    method, times = METHODS[name](**changes), torch.tensor([3, 1, 1, 1])
    whole = Seen(*(part.repeat_interleave(times, 0) for part in SEEN))
    expected = torch.zeros(4).double().index_add_(0, torch.arange(4).repeat_interleave(times), method.weights(whole))
    found = method.weights(SEEN._replace(importance=times.double()))
    np.testing.assert_allclose(found / found.sum(), expected / expected.sum())


def test_shapes_of_weights_by_hand():
    margins = [0.5, 0.7, 0.05, 0.85]
    wrong = [False, True, True, False]
    linear = linear_weights(PROBS, LABELS, 2.0, 20.0)
    np.testing.assert_allclose(linear, [1 + 20 * m**2 if w else 1 for m, w in zip(margins, wrong, strict=True)])
    gold = np.array([0.7, 0.1, 0.35, 0.9])
    np.testing.assert_allclose(label_weights(PROBS, LABELS, 2.0), (1 - gold) ** 2)
    np.testing.assert_allclose(label_weights(PROBS, LABELS, 2.0, inverse=True), gold**-2.0)
    for shape, expected in (("complement", (1 - gold) ** 2), ("inverse", gold**-2.0), ("linear", linear)):
        found = METHODS["dedier"](shape=shape, alpha=2.0, beta=20.0).lift(PROBS, LABELS)
        np.testing.assert_allclose(found, expected, err_msg=shape)
    assert torch.equal(METHODS["dedier"]().lift(PROBS, LABELS), instance_weights(PROBS, LABELS))


def test_a_weight_is_as_small_as_what_is_left_of_a_certain_label():
    """1 - p_y is 0 in float32 where p_y rounds to 1."""
    probs = torch.tensor([[20.0, 0.0, -5.0]]).softmax(-1)
    assert 1 - probs[0, 0] == 0
    found = label_weights(probs, torch.tensor([0]), 1.0)
    assert found.item() == pytest.approx(math.exp(-20) + math.exp(-25), rel=1e-5)
