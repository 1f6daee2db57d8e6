"""Early answers of record: tables that say the same thing, beside the page that they come from."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

RECORD = Path(__file__).resolve().parents[2] / "reports" / "record"
FOLDERS = sorted(path.parent for path in RECORD.glob("*/early_report.csv"))
pytestmark = pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)


def test_differences_are_those_of_the_accuracies_at_one_depth(folder):
    report = pd.read_csv(folder / "early_report.csv")
    of = report[report["of"] == "accuracy"].set_index(["target", "student", "criterion", "row"])["value"].sort_index()
    apart = pd.read_csv(folder / "early_differences.csv").dropna(subset="value")
    apart = apart[apart["row"].isin(["average", *report["row"][report["of"] == "depth"]])]
    ours, theirs = (
        list(zip(apart["student"], apart[who], apart["row"], strict=True)) for who in ("criterion", "baseline")
    )
    fits = [
        np.allclose(of[target][ours].to_numpy() - of[target][theirs].to_numpy(), apart["value"], atol=2e-5)
        for target in report["target"].unique()
    ]
    assert sum(fits) == 1


def test_values_lie_in_their_intervals_and_at_full_depth_all_criteria_are_the_student(folder):
    report = pd.read_csv(folder / "early_report.csv").dropna(subset="value")
    assert (report["low"] <= report["value"] + 1e-5).all() and (report["value"] <= report["high"] + 1e-5).all()
    whole = report[(report["target"] == 1) & (report["of"] == "accuracy")]
    of_row = whole.groupby(["student", "row"])["value"]
    assert (of_row.max() == of_row.min()).all() and set(of_row.size()) == {5}
    depth = report[(report["of"] == "depth") & (report["row"] == "average")]
    assert np.abs(depth["value"] - depth["target"]).max() < 0.25  # patience has few depths
    assert (folder / "07_early_exit.html").exists()
    assert {path.name for path in folder.glob("*.png")} >= {"accuracy_by_depth.png", "depth_by_group.png"}
