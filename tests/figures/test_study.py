from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from fairkd import figures
from fairkd.figures.drawing import folded


@pytest.fixture
def report():
    rows = [("kd", "average", 0.9, 0.88, 0.92), ("kd", "worst_of_means", 0.2, 0.1, 0.4)]
    rows += [("dedier@3", "average", 0.8, 0.78, 0.82), ("dedier@3", "worst_of_means", 0.6, 0.5, 0.65)]
    return pd.DataFrame(rows, columns=["student", "row", "value", "low", "high"])


def test_average_against_worst_group_has_a_point_with_intervals_for_each_student(report):
    figure = figures.average_against_worst_group(report)
    ax = figure.drawing.axes[0]
    assert len(ax.containers) == 2
    for container, (x, y) in zip(ax.containers, [(0.9, 0.2), (0.8, 0.6)], strict=True):
        points, _, bars = container
        assert (points.get_xdata()[0], points.get_ydata()[0]) == (x, y)
        assert len(bars) == 2
    assert "dedier@3 0.800 and 0.600" in figure.alt
    assert [text.get_text() for text in ax.texts] == ["kd", "dedier@3"]  # named beside the axes, from below
    assert figure.caption.endswith("between 0.200 (kd) and 0.600 (dedier@3).")
    [vertical] = ax.containers[0][2][1].get_segments()
    np.testing.assert_allclose(vertical[:, 1], [0.1, 0.4])


def test_names_of_many_lines_lie_beside_the_axes_apart_from_each_other():
    """Sixteen students whose accuracies are alike, as on language."""
    rows = [
        (f"laplace@{layer},exit_reads=hypothesis,{more}", row, value + layer / 1000, value - 0.05, value + 0.05)
        for layer in range(1, 9)
        for more in ("place=refit", "alpha=1.0,beta=6.0")
        for row, value in (("average", 0.7), ("worst_of_means", 0.4))
    ]
    report = pd.DataFrame(rows, columns=["student", "row", "value", "low", "high"])
    ax = figures.average_against_worst_group(report).drawing.axes[0]
    ax.figure.draw_without_rendering()
    names = sorted((Text.get_window_extent(text) for text in ax.texts), key=lambda box: box.y0)
    assert all(lower.y1 <= upper.y0 + 1 for lower, upper in pairwise(names))
    assert ax.bbox.y0 - 10 <= names[0].y0 and names[-1].y1 <= ax.bbox.y1 + 10
    assert np.ptp(ax.get_ylim()) < 0.2  # not from 0 to 1


LONG = "dedier@3,reader=words,exit_reads=hypothesis,alpha=1.0,beta=6.0,permute_weights=true"


def test_a_name_longer_than_the_drawing_is_folded_above_its_line_and_clear_of_the_dots(report):
    students = ["kd", LONG]
    report = report.replace("dedier@3", LONG)
    single = pd.DataFrame(
        [(student, seed, row, 0.5) for student in students for seed in (0, 1) for row in report["row"].unique()],
        columns=["student", "seed", "row", "value"],
    )
    drawing = figures.students_by_seed(report, single, ["worst_of_means", "average"]).drawing
    drawing.draw_without_rendering()
    ax = drawing.axes[0]
    [name] = [text for text in ax.texts if text.get_text().replace("\n", "") == LONG]
    box = Text.get_window_extent(name)
    assert box.x0 >= 0 and box.x1 <= drawing.bbox.x1
    dot = ax.transData.transform((0.5, ax.lines[2].get_ydata()[0]))[1]
    assert box.y1 < dot - 4


def test_a_legend_of_long_names_takes_fewer_columns(report):
    names = [f"laplace@{i},exit_reads=hypothesis,place=refit" for i in range(4)] + [LONG]
    rows = [(student, row, 0.5, 0.4, 0.6) for student in names for row in ("a", "average")]
    drawing = figures.group_accuracies(pd.DataFrame(rows, columns=["student", "row", "value", "low", "high"])).drawing
    drawing.draw_without_rendering()
    [legend] = drawing.legends
    assert [text.get_text().replace("\n", "") for text in legend.get_texts()] == names
    assert legend.get_window_extent().x1 <= drawing.bbox.x1


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("kd", ["kd"]),
        ("laplace@6,exit_reads=hypothesis", ["laplace@6,", "exit_reads=hypothesis"]),
        ("neutral, negation", ["neutral, negation"]),
        ("a_word_of_more_letters_than_fit", ["a_word_of_more_letters_than_fit"]),
        ("a=1,b=2,a_word_of_letters=1,c=3", ["a=1,b=2,", "a_word_of_letters=1,c=3"]),
    ],
)
def test_a_name_is_folded_where_it_must_be(name, lines):
    assert folded(name, 24).split("\n") == lines


def test_every_seed_is_a_dot_beside_the_mean_and_its_interval(report):
    seeds = [("kd", 0, "average", 0.89), ("kd", 1, "average", 0.91), ("dedier@3", 0, "average", 0.8)]
    seeds += [("kd", 0, "worst_of_means", 0.0), ("kd", 1, "worst_of_means", 0.4)]
    single = pd.DataFrame(seeds, columns=["student", "seed", "row", "value"])
    teacher = report[report["student"] == "kd"].assign(student="teacher", value=1.0)
    figure = figures.students_by_seed(pd.concat([report, teacher]), single, ["worst_of_means", "average"])
    group, average = figure.drawing.axes
    bar, mean, dots = average.lines[:3]
    assert list(bar.get_xdata()) == [0.88, 0.92] and list(mean.get_xdata()) == [0.9]
    assert list(dots.get_xdata()) == [0.89, 0.91]
    assert [text.get_text() for text in group.texts] == ["kd", "0.200", "dedier@3", "0.600", "teacher", "1.000"]
    assert "worst_of_means: from 0.200 (kd) to 0.600 (dedier@3)" in figure.caption
    assert "the 2 seeds of kd lie 0.40 apart in worst_of_means" in figure.caption
    assert "kd 0.200 (seeds: 0.00, 0.40)" in figure.alt


def test_shifts_are_means_over_seeds_with_a_band(report):
    sweep = pd.DataFrame(
        {
            "student": "laplace@3",
            "likelihood_temperature": [1.0, 100.0] * 2,
            "margin_shift": [0.001, 0.2, 0.003, 0.4],
            "weight_shift": [0.01, 0.1, 0.01, 0.1],
            "logit_variance": [0.01, 1.0, 0.01, 1.0],
            "expected": [0.01, 1.0, 0.01, 1.0],
            "bound": [0.02, 2.0, 0.02, 2.0],
        }
    )
    figure = figures.shifts_by_temperature(sweep)
    left, right = figure.drawing.axes
    np.testing.assert_allclose(left.lines[0].get_ydata(), [0.002, 0.3])
    assert [line.get_label() for line in right.lines] == ["measured", "T d_eff / N", "bound"]
    assert left.get_xscale() == left.get_yscale() == "log"
    assert "from 0.0020 to 0.3000" in figure.alt
    with pytest.raises(ValueError, match="lacks the columns bound"):
        figures.shifts_by_temperature(sweep.drop(columns="bound"))


def test_agreement_draws_every_instance():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"map_margin": rng.random(50), "dense_margin": rng.random(50)})
    table = table.assign(kronecker_margin=table["dense_margin"], dense_variance=rng.random(50) + 0.1)
    table = table.assign(kronecker_variance=2 * table["dense_variance"])
    figure = figures.agreement(table)
    shift, variance = figure.drawing.axes
    points = shift.collections[0].get_offsets()
    assert len(points) == 50 and np.allclose(points[:, 0], points[:, 1])
    assert np.allclose(variance.collections[0].get_offsets()[:, 1] / variance.collections[0].get_offsets()[:, 0], 2)
    assert "Correlation of the shifts 1.000" in figure.alt
