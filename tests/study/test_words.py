import pandas as pd

from fairkd import study


def test_a_difference_is_told_apart_where_its_interval_leaves_0_out():
    rows = [
        ("kd", "dedier@3", "a", -0.9, -1.0, -0.8),
        ("dedier@3", "kd", "a", 0.9, 0.8, 1.0),
        ("laplace@3", "kd", "a", -0.2, -0.3, -0.1),
        ("laplace@3", "dedier@3", "a", 0.01, -0.02, 0.04),
        ("laplace@3", "dedier@3", "average", 0.0, 0.0, 0.0),
        ("laplace@3", "dedier@3", "b", 0.9, 0.8, 1.0),
    ]
    differences = pd.DataFrame(rows, columns=["student", "baseline", "row", "value", "low", "high"])
    assert study.in_words(differences, ["a", "average"]).splitlines() == [
        "- **a**, against `kd`. Told apart: dedier@3 +0.900 [+0.800, +1.000], laplace@3 -0.200 [-0.300, -0.100].",
        "- **a**, against `dedier@3`. Not told apart: laplace@3 +0.010 [-0.020, +0.040].",
        "- **average**, against `dedier@3`. Not told apart: laplace@3 +0.000 [+0.000, +0.000].",
    ]
    only = differences[differences["baseline"] == "kd"]
    assert study.in_words(only, ["a"]).startswith("- **a**, against `kd`. Told apart: dedier@3 +0.900")
    assert study.in_words(differences.head(0), ["a"]) == "Nothing to compare with."
