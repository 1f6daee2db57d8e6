"""Results of record: their tables say the same thing, and every number has an interval."""

import re
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import publish
import pytest
import yaml

from fairkd.evaluation import readable

RECORD = Path(__file__).resolve().parents[2] / "reports" / "record"
STUDIES = sorted(path.parent for path in RECORD.glob("*/report.csv"))
pytestmark = pytest.mark.parametrize("folder", STUDIES, ids=lambda path: path.name)


def table(folder, name):
    return pd.read_csv(folder / f"{name}.csv")


def test_means_are_those_of_the_runs_and_lie_in_their_intervals(folder):
    report = table(folder, "report")
    students = report[report["student"] != "teacher"].set_index(["student", "row"])
    runs = table(folder, "runs")
    mean = runs.replace({"row": {"worst_group": "mean_of_worsts"}}).groupby(["student", "row"])["value"].mean()
    students = students.drop(index="worst_of_means", level="row")
    np.testing.assert_allclose(students["value"], mean.loc[students.index], atol=1e-5)
    assert (students["seeds"] == runs["seed"].nunique()).all()
    assert (report["low"] <= report["value"] + 1e-5).all() and (report["value"] <= report["high"] + 1e-5).all()
    assert report["row"].nunique() >= 12  # average, six groups, two levels, worst group, gap, calibration


def test_differences_are_those_of_the_means(folder):
    report = table(folder, "report").set_index(["student", "row"])["value"]
    for _, line in table(folder, "differences").iterrows():
        expected = report[line["student"], line["row"]] - report[line["baseline"], line["row"]]
        assert line["value"] == pytest.approx(expected, abs=2e-5)
        assert line["low"] <= line["value"] + 1e-5 and line["value"] <= line["high"] + 1e-5


def test_the_tables_of_the_findings_are_those_of_the_files(folder):
    """Each line with a student, its average and its target group, each with an interval, in the README."""
    files = [pd.read_csv(path) for path in folder.glob("*.csv")]
    files = [file for file in files if {"student", "row", "value", "low", "high"} <= set(file)]
    known = {}
    for file in files:
        if not {"baseline", "selection", "setting", "criterion"} & set(file):
            for student, of in file.set_index("row").groupby("student"):
                known.setdefault(_stated(student), []).append(of)
    interval = r"(\S+ \[\S+ \S+\])"
    lines = re.findall(rf"^\| ([^|]*) \| {interval} \| {interval} \|", (folder / "README.md").read_text(), re.MULTILINE)
    assert len(lines) >= 15
    for cell, average, group in lines:
        told = {
            tuple(readable(of).loc[["average", target]].str.replace("0.", "."))
            for of in known[_stated(cell.split("`")[1] if "`" in cell else cell)]
            for target in ("neutral, negation", "entailment, negation")
        }
        assert (average.replace("0.", "."), group.replace("0.", ".")) in told, cell


def test_a_line_has_the_accuracies_of_its_seeds(folder):
    """Of the negated neutrals or the worst group, as many digits as the line has."""
    known = {}
    for path in folder.glob("*runs.csv"):
        for (student, _), of in pd.read_csv(path).groupby(["student", "row"]):
            known.setdefault(_stated(student), []).append(of.drop_duplicates("seed").sort_values("seed")["value"])
    lines = re.findall(r"^\| `([^|`]*)`[^|]*\|.*\| ([\d .]+) \|$", (folder / "README.md").read_text(), re.MULTILINE)
    assert len(lines) >= 15
    for student, told in lines:
        digits = len(told.split()[0].rpartition(".")[2])
        values = [[f"{value:.{digits}f}" for value in of] for of in known[_stated(student)]]
        assert [f"{float(value):.{digits}f}" for value in told.split()] in values, student


def test_every_number_with_an_interval_is_one_of_the_files(folder):
    """Told with its sign or, of what is lost, without."""
    rows = [pd.read_csv(path) for of in STUDIES for path in of.glob("*.csv")]
    rows = np.concatenate([of[["value", "low", "high"]] for of in rows if {"value", "low", "high"} <= set(of)])
    rows = np.concatenate([rows, -rows[:, [0, 2, 1]]])
    number = r"([+-]?\d?\.\d+)"
    root = RECORD.parents[1]
    for path in (folder / "README.md", root / "README.md", root / "CITATION.cff"):
        told = re.findall(rf"{number}\s+\[{number},\s+{number}\]", path.read_text(encoding="utf-8"))
        assert told, path
        for one in told:
            digits = len(one[0].rpartition(".")[2])
            apart = np.abs(rows - np.array(one, dtype=float)).max(axis=1).min()
            assert apart <= 0.5 * 10**-digits + 1e-5, f"{path.name}: {one}"  # files have five digits


def _stated(student):
    """What a student is, wherever its weights act: a table says so for all of its lines."""
    return frozenset(student.removesuffix(" (reads group labels)").split(",")) - {"place=refit"}


def test_the_bound_holds_on_every_run(folder):
    sweep = table(folder, "sweep")
    assert (sweep["logit_variance"] <= sweep["bound"]).all() and (sweep["expected"] <= sweep["bound"]).all()
    stated = yaml.safe_load((folder / "parameters.yaml").read_text(encoding="utf-8"))
    assert set(sweep["seed"]) == set(stated["seeds"])
    assert sweep["likelihood_temperature"].max() == pytest.approx(stated["kd"]["train_examples"])


def test_findings_and_the_page_stand_beside_the_tables(folder):
    assert (folder / "README.md").exists() and (folder / "05_study.html").exists()
    drawn = {path.stem for path in folder.glob("*.png")}
    assert drawn >= {"students_by_seed", "average_against_worst_group", "shifts", "agreement"}


def test_the_index_is_that_of_findings_pages_and_tables(folder, tmp_path):
    again = shutil.copytree(folder, tmp_path / folder.name)
    publish.index(again)
    for page in again.glob("*.html"):
        assert page.read_text() == (folder / page.name).read_text(), f"python reports/publish.py index {folder}"


def test_the_figure_at_the_top_is_what_its_block_draws(folder, tmp_path, monkeypatch):
    (tmp_path / "reports").symlink_to(RECORD.parent)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    for block in blocks:
        exec(block, {})
    drawn = sorted(tmp_path.glob("*.png"))
    assert len(drawn) == len(blocks) == (folder / "at_a_glance.png").exists()
    for image in drawn:
        np.testing.assert_array_equal(plt.imread(image), plt.imread(folder / image.name))
