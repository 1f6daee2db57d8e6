import pandas as pd

from fairkd import study
from fairkd.evaluation import Comparison

DIFFERENCES = pd.DataFrame(
    [
        ("kd", "dedier@3", "a", -0.9, -1.0, -0.8),
        ("dedier@3", "kd", "a", 0.9, 0.8, 1.0),
        ("laplace@3", "kd", "a", -0.2, -0.3, -0.1),
        ("laplace@3", "dedier@3", "a", 0.01, -0.02, 0.04),
        ("laplace@6", "dedier@3", "a", 0.02, 0.01, 0.04),
        ("laplace@3", "dedier@3", "average", 0.02, 0.01, 0.03),
        ("laplace@3", "kd", "average", 0.0, 0.0, 0.0),
        ("laplace@3", "dedier@3", "b", 0.9, 0.8, 1.0),
    ],
    columns=["student", "baseline", "row", "value", "low", "high"],
)


def compared(of_kd, of_teacher):
    """With values and intervals of group a and of the average."""
    rows = [("teacher", "a", *of_teacher), ("kd", "a", *of_kd)]
    rows += [("teacher", "average", 0.99, 0.98, 1.0), ("kd", "average", 0.98, 0.97, 0.99)]
    report = pd.DataFrame(rows, columns=["student", "row", "value", "low", "high"])
    return Comparison(report, DIFFERENCES, pd.DataFrame())


def test_a_difference_is_told_apart_where_its_interval_leaves_0_out():
    assert study.in_words(DIFFERENCES, ["a", "average"]).splitlines() == [
        "- **a**, against `kd`: more: dedier@3 +0.900 [+0.800, +1.000]; less: laplace@3 -0.200 [-0.300, -0.100].",
        "- **a**, against `dedier@3`: more: laplace@6 +0.020 [+0.010, +0.040]; "
        "not told apart: laplace@3 +0.010 [-0.020, +0.040].",
        "- **average**, against `kd`: not told apart: laplace@3 +0.000 [+0.000, +0.000].",
        "- **average**, against `dedier@3`: more: laplace@3 +0.020 [+0.010, +0.030].",
    ]
    assert study.in_words(DIFFERENCES.head(0), ["a"]) == "Nothing to compare with."


def test_findings_name_the_lost_group_who_gives_it_back_and_what_laplace_adds():
    assert study.findings(compared((0.1, 0.0, 0.2), (0.9, 0.8, 1.0)), "a", "kd").splitlines() == [
        "- `kd` **loses a**: 0.100 [0.000, 0.200], on average 0.980 [0.970, 0.990]; "
        "its teacher has 0.900 [0.800, 1.000] and 0.990 [0.980, 1.000].",
        "- **Against `kd` in that group**: more: dedier@3 +0.900 [+0.800, +1.000]; "
        "less: laplace@3 -0.200 [-0.300, -0.100].",
        "- **Against `kd` on average**: not told apart: laplace@3 +0.000 [+0.000, +0.000].",
        "- **What Laplace adds**, `laplace@3` minus `dedier@3`: in that group +0.010 [-0.020, +0.040] "
        "(not told apart), on average +0.020 [+0.010, +0.030].",
    ]


def test_a_group_whose_interval_meets_that_of_the_average_is_not_called_lost():
    said = study.findings(compared((0.9, 0.7, 0.98), (0.99, 0.985, 1.0)), "a", "kd")
    assert said.startswith("- `kd` **is not told apart from its average in a**: 0.900")


def test_what_its_teacher_loses_too_is_said_to_be_the_teachers():
    said = study.findings(compared((0.1, 0.0, 0.2), (0.2, 0.1, 0.3)), "a", "kd")
    assert "**loses a**: 0.100" in said and "; its teacher does so too: it has 0.200 [0.100, 0.300] and 0.990" in said


def test_a_difference_that_rounds_to_0_has_no_sign_of_its_own_but_its_bounds_have():
    tiny = DIFFERENCES.tail(2).assign(row="a", value=-1e-5, low=-2e-5, high=0.0)
    assert "laplace@3 +0.000 [-0.000, +0.000]" in study.in_words(tiny, ["a"])
