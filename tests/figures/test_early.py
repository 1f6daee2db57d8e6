import pandas as pd
import pytest

from fairkd import figures

GROUPS = ["a, no", "a, yes"]


def report():
    """Two students, two criteria, three depths: the control is best for "a, yes" at 0.5, where the average is alike."""
    rows = []
    for student in ("kd", "dedier@3"):
        for criterion in ("margin", "random"):
            for target in (0.25, 0.5, 1.0):
                who = {"student": student, "criterion": criterion, "target": target}
                own = 0.1 if criterion == "margin" and target < 1 else 0.4
                for of, values in (
                    ("accuracy", {"average": 0.5 + target / 4, "a, no": 0.8, "a, yes": own}),
                    ("depth", {"average": target - 0.01, "a, no": target, "a, yes": target**2}),
                ):
                    rows += [
                        who | {"of": of, "row": r, "value": v, "low": v - 0.01, "high": v + 0.01}
                        for r, v in values.items()
                    ]
    return pd.DataFrame(rows)


def test_a_line_is_accuracy_against_the_depth_that_was_used():
    figure = figures.accuracy_by_depth(report(), ["average", "a, yes"])
    axes = figure.drawing.axes
    assert [ax.get_title() for ax in axes] == ["kd: average", "kd: a, yes", "dedier@3: average", "dedier@3: a, yes"]
    margin, random = axes[1].lines
    assert list(margin.get_xdata()) == pytest.approx([0.24, 0.49, 0.99])
    assert list(margin.get_ydata()) == [0.1, 0.1, 0.4] and list(random.get_ydata()) == [0.4, 0.4, 0.4]
    assert axes[1].collections[0].get_paths()[0].vertices[:, 1].min() == pytest.approx(0.09)
    assert figure.caption.startswith(
        "Where the criteria lie farthest apart in a, yes, by mean depth: "
        "kd, at 0.25, 0.100 (margin) and 0.400 (random); dedier@3"
    )
    assert "kd, a, yes, margin: 0.100 at 0.24, 0.100 at 0.49, 0.400 at 0.99" in figure.alt
    assert set(figure.table["row"]) == {"average", "a, yes"}
    whole = figures.accuracy_by_depth(report()[lambda r: r["target"] == 1], ["average", "a, yes"])
    assert whole.caption.endswith("by mean depth: kd, nowhere; dedier@3, nowhere.")
    with pytest.raises(ValueError, match="the report lacks the columns of"):
        figures.accuracy_by_depth(report().drop(columns="of"), ["average"])


def test_a_groups_depth_stands_beside_that_of_all():
    figure = figures.depth_by_group(report(), "margin", GROUPS, "a, yes")
    ax = figure.drawing.axes[0]
    diagonal, other, target = ax.lines
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata())
    assert list(other.get_ydata()) == [0.25, 0.5, 1.0] and list(target.get_ydata()) == [0.0625, 0.25, 1.0]
    assert list(target.get_xdata()) == pytest.approx([0.24, 0.49, 0.99]) and target.get_linewidth() == 3
    assert "kd: from 0.25 (a, yes) to 0.50 (a, no) where the average is 0.49" in figure.caption
    assert set(figure.table["of"]) == {"depth"} and set(figure.table["criterion"]) == {"margin"}
    assert "kd, a, yes: 0.06 at 0.24, 0.25 at 0.49, 1.00 at 0.99" in figure.alt
