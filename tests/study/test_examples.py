import numpy as np
import pandas as pd
import pytest

from fairkd.study import examples


@pytest.fixture
def predictions():
    """Four of group a, wrong about the first three; two of group b, wrong about none; labels 0 throughout."""
    frame = pd.DataFrame({"id": list("uvwxyz"), "label": 0, "group": ["a"] * 4 + ["b"] * 2})
    right = {"student": [0.4, 0.1, 0.3, 0.9, 0.8, 0.7], "exit1": [0.9, 0.2, 0.6, 0.6, 0.6, 0.6]}
    right |= {"exit2": [0.6, 0.6, 0.6, 0.6, 0.6, 0.6], "exit2_laplace": [0.6, 0.9, 0.55, 0.6, 0.6, 0.5]}
    for model, first in right.items():
        first = np.array(first)
        columns = {"prob_0": first, "prob_1": 1 - first, "margin": np.abs(2 * first - 1)}
        frame = frame.assign(**{f"{model}_{name}": values for name, values in columns.items()})
    return frame


def test_the_widest_margins_of_wrong_answers_come_first_and_right_ones_never(predictions):
    found = examples.with_most(predictions, examples.wrong_margins(predictions), 2)
    assert list(found["id"]) == ["v", "w"]


def test_every_group_has_its_own(predictions):
    found = examples.with_most(predictions, examples.moves(predictions), 1)
    assert list(found["id"]) == ["v", "z"]
    assert examples.before_and_after(found).to_numpy().tolist() == [["0.20", "0.80"], ["0.20", "0.00"]]


def test_exits_that_are_wrong_have_a_cross(predictions):
    shown = examples.exit_margins(predictions)
    assert list(shown) == ["exit 1", "exit 2"]
    assert list(shown["exit 1"])[:3] == ["0.80", "0.60 ×", "0.20"]


def test_texts_are_those_of_the_ids_whatever_they_hold(predictions):
    data = pd.DataFrame({"id": list("zyxwvu"), "text": ["z", "y", "x", "w", "<script>v</script>", "$u$"]})
    rows = predictions.iloc[[1, 0]]
    found = examples.told(rows, data, ("text",), ["yes", "no"])
    assert found["text"].tolist() == ["<script>v</script>", "$u$"] and set(found["label"]) == {"yes"}
    assert found.join(examples.exit_margins(rows)).index.tolist() == [1, 0]


def test_a_group_is_told_in_short(predictions):
    assert examples.in_short(predictions, "a", "kd") == (
        "kd is wrong about 3 of the 4 of a, by a margin of 0.80 at most and 0.40 in the median."
    )
    assert examples.in_short(predictions, "b", "kd") == "kd is right about all 2 of b."
    assert examples.in_short(predictions, "c", "kd") == "No row is of c."
