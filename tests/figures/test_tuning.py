"""The figure of a tuning tells of every student what was found, where, and which parameter mattered."""

import pandas as pd
import pytest

from fairkd import figures

TRIALS = pd.DataFrame(
    {
        "student": ["dedier@3"] * 3 + ["kd"] * 2,
        "trial": [1, 2, 3, 1, 2],
        "state": ["complete", "pruned", "complete", "complete", "complete"],
        "value": [0.7, 0.6, 0.9, 0.8, 0.75],
        "best": [0.7, 0.7, 0.9, 0.8, 0.8],
    }
)
SHARES = pd.DataFrame(
    {
        "student": ["dedier@3", "dedier@3", "kd"],
        "parameter": ["beta", "kd_weight", "kd_weight"],
        "importance": [0.9, 0.1, float("nan")],
    }
)


def test_the_caption_tells_what_was_found_and_what_mattered():
    drawn = figures.tuning(TRIALS, SHARES, "validation average")
    assert "dedier@3 from 0.700 to 0.900 at trial 3" in drawn.caption
    assert "kd 0.800, no trial does better than the first" in drawn.caption
    assert "of dedier@3 beta mattered most (0.90 of the variance)" in drawn.caption
    assert "of kd " not in drawn.caption and "nan" not in drawn.alt
    assert "dedier@3: 0.700, 0.600, 0.900; 1 pruned" in drawn.alt
    assert len(drawn.table) == len(TRIALS) + len(SHARES)


def test_a_first_trial_that_did_not_end_and_one_that_hardly_differs_are_no_gain():
    ended = TRIALS.assign(value=[None, 0.6, 0.9, 0.8, 0.8001], state=["pruned", *TRIALS["state"][1:]])
    drawn = figures.tuning(ended, SHARES, "validation average")
    assert "dedier@3 0.900 at trial 3; the first was pruned" in drawn.caption and "nan to" not in drawn.caption
    assert "kd 0.800, no trial does better than the first" in drawn.caption


def test_lines_crosses_and_bars_are_those_of_the_tables():
    above, below = figures.tuning(TRIALS, SHARES, "validation average").drawing.axes
    best, complete, pruned = above.lines[:3]
    assert list(best.get_ydata()) == [0.7, 0.7, 0.9]
    assert list(complete.get_xdata()) == [1, 3] and list(pruned.get_xdata()) == [2]
    assert sorted(round(bar.get_width(), 6) for bar in below.patches) == [0, 0.1, 0.9]
    assert [label.get_text() for label in below.get_yticklabels()] == ["beta", "kd_weight"]


def test_a_table_without_its_columns_is_refused():
    with pytest.raises(ValueError, match="the trials lacks the columns best"):
        figures.tuning(TRIALS.drop(columns="best"), SHARES, "validation average")
