import pandas as pd
import pytest

from fairkd import figures


def long(student, beta, average, worst):
    rows = {"average": average, "worst_of_means": worst}
    shared = {"student": student, "parameter": "beta", "setting": beta}
    return [shared | {"row": row, "value": value} for row, value in rows.items()]


def test_a_line_a_student_through_its_settings_and_a_mark_for_each_other():
    of_a = [*long("a", 2.0, 0.7, 0.5), *long("a", 0.0, 0.8, 0.3), *long("a", 8.0, 0.4, 0.1)]  # 8 loses both
    points = pd.DataFrame([*of_a, *long("b", 0.0, 0.8, 0.4)])
    marks = pd.DataFrame([*long("dfr", None, 0.75, 0.6)])
    figure = figures.frontier(points, marks)
    lines = figure.drawing.axes[0].lines
    assert [list(line.get_xdata()) for line in lines] == [[0.8, 0.7], [0.8], [0.75]]
    assert [list(line.get_ydata()) for line in lines] == [[0.3, 0.5], [0.4], [0.6]]
    assert (
        "a from 0.300 at average 0.800 to 0.500 at 0.700 (beta 2)" in figure.alt and "dfr 0.600 at 0.750" in figure.alt
    )
    assert figure.caption.startswith(
        "Of the lines, which are refits, the highest worst group is 0.500, of a at beta 2, "
        "at an average of 0.700. Stars "
    )
    with pytest.raises(ValueError, match="the points lacks the columns setting"):
        figures.frontier(points.drop(columns="setting"), marks)


def test_a_line_that_only_falls_is_not_credited_to_its_weights():
    points = pd.DataFrame([*long("a", 0.0, 0.8, 0.5), *long("a", 2.0, 0.8, 0.5), *long("b", 0.0, 0.8, 0.4)])
    figure = figures.frontier(points, pd.DataFrame(long("dfr", None, 0.75, 0.6)))
    assert "of a at beta 0, at an average of 0.800, where the line begins: what comes after it gives" in figure.caption


def test_what_all_lines_share_is_said_once():
    points = pd.DataFrame([*long("a@3,x=1,y=2", 0.0, 0.8, 0.3), *long("a@6,z=0,x=1", 0.0, 0.8, 0.4)])
    figure = figures.frontier(points, pd.DataFrame(long("kd", None, 0.75, 0.6)))
    written = {text.get_text().replace("\n", "") for text in figure.drawing.axes[0].texts}
    assert written == {"a@3,y=2", "a@6,z=0", "kd"}
    assert "All lines: x=1." in figure.caption
    alone = figures.frontier(points[:2], pd.DataFrame(long("kd", None, 0.75, 0.6)))
    assert "a@3,x=1,y=2 from 0.300" in alone.alt and "All lines" not in alone.caption


def test_a_refit_and_the_student_trained_with_its_weights_are_told_apart():
    points = pd.DataFrame([*long("a@3", 0.0, 0.8, 0.3), *long("b@3", 0.0, 0.8, 0.35)])
    figure = figures.frontier(points, pd.DataFrame(long("a@3", None, 0.75, 0.6)))
    at = {text.get_text(): text.xy for text in figure.drawing.axes[0].texts}
    assert at == {"a@3\n(refit)": (0.8, 0.3), "b@3": (0.8, 0.35), "a@3": (0.75, 0.6)}
    assert "a@3 (refit) from 0.300" in figure.alt and "a@3 0.600" in figure.alt


def test_the_names_of_many_students_lie_beside_the_axes():
    marks = pd.DataFrame([row for i in range(12) for row in long(f"m@{i},first=1,second=2", None, 0.7, 0.5 + i / 1000)])
    figure = figures.frontier(pd.DataFrame(long("a", 0.0, 0.8, 0.3)), marks)
    low, high = figure.drawing.axes[0].get_ylim()
    places = [text.xyann[1] for text in figure.drawing.axes[0].texts]
    assert len(places) == 13 and low <= min(places) and max(places) <= high
