"""The index of everything: a card a folder of pages, a row a run, from files alone; nothing in them is believed."""

import json
import shutil

import gather
import pandas as pd
import pytest
import yaml
from bs4 import BeautifulSoup

GROUPS = ["entailment, negation", "entailment, no negation", "neutral, negation"]


def number(value):
    return {"value": value, "low": value - 0.01, "high": value + 0.01, "n": 10}


def a_run(folder, name, report, of=None, **config):
    """A run's folder with the files that the index reads."""
    path = folder / name
    path.mkdir(parents=True)
    config = {"dataset": "demo", "entry": {"text": ["premise"]}} | config
    (path / "config.yaml").write_text(yaml.safe_dump(({"student": of} if of else {}) | config))
    made = {"versions": {"fairkd": "0.1.0", "torch": "2.13.0"}, "device": "CPU", "commit": "abc"}
    (path / "provenance.json").write_text(json.dumps(made))
    (path / "metrics.json").write_text(json.dumps({"dropped": {}, "student" if of else "teacher": report}))


@pytest.fixture
def reports(tmp_path):
    """A teacher, a kd student that loses negated entailments, a dedier student; and what is no finished run."""
    runs = tmp_path / "runs"
    values = {"teacher": [0.99, 1.0, 0.9, 0.95], "kd": [0.98, 0.0, 0.99, 0.9], "dedier": [0.97, 0.8, 0.7, 0.9]}
    reports = {who: dict(zip(["average", *GROUPS], map(number, v), strict=True)) for who, v in values.items()}
    a_run(runs, "teacher-000000000000", reports["teacher"], teacher_seed=0)
    for method in ("kd", "dedier"):
        layer = {"aux_layer": 3, "beta": "</script><script>alert(1)</script>"} if method == "dedier" else {}
        a_run(runs, f"{method}-111111111111", {}, seed=1, method=method, **layer)
        a_run(runs, f"exits-{len(method):012x}", reports[method], of=f"{method}-111111111111", seed=0)
    (runs / "exits-222222222222.partial").mkdir()
    return tmp_path


def indexed(reports):
    gather.index(reports)
    return BeautifulSoup((reports / "index.html").read_text(encoding="utf-8"), "html.parser")


def test_every_finished_run_is_a_row_with_its_target_group_and_interval(reports):
    soup = indexed(reports)
    lines = [[cell.get_text() for cell in row.find_all(["th", "td"])] for row in soup.select("#runs tbody tr")]
    assert [line[2:8] for line in lines] == [
        ["dedier", "3", "1", "0.970 [0.960, 0.980]", GROUPS[0], "0.800 [0.790, 0.810]"],
        ["kd", "", "1", "0.980 [0.970, 0.990]", GROUPS[0], "0.000 [-0.010, 0.010]"],
        ["teacher", "", "0", "0.990 [0.980, 1.000]", GROUPS[0], "1.000 [0.990, 1.010]"],
    ]
    assert len({tag["id"] for tag in soup.find_all(id=True)}) == len(soup.find_all(id=True))


def test_exits_whose_student_was_removed_are_no_row(reports):
    shutil.rmtree(reports / "runs" / "dedier-111111111111")
    rows = [row["data-run"] for row in indexed(reports).select("#runs tbody tr")]
    assert rows == ["kd-111111111111", "teacher-000000000000"]


def test_what_is_compared_is_all_of_a_run_and_cannot_leave_its_place(reports):
    soup = indexed(reports)
    details = json.loads(soup.find("script", id="details").get_text())
    assert set(details) == {row["data-run"] for row in soup.select("#runs tbody tr")}
    dedier = details["dedier-111111111111"]
    assert dedier["aux_layer"] == "3" and dedier["version of torch"] == "2.13.0" and dedier["seed"] == "1"
    assert dedier[GROUPS[2]] == "0.900 [0.890, 0.910]"
    assert dedier["beta"].startswith("</script>") and len(soup.find_all("script")) == 2


def test_a_folder_of_pages_is_a_card_with_the_two_numbers(reports):
    folder = reports / "record" / "demo"
    folder.mkdir(parents=True)
    (folder / "index.html").write_text("<h1>Five <b>seeds</b></h1>")
    (folder / "05_study.html").write_text('<div class="celltag_result"><img src="data:," alt="x &lt; y"></div>')
    students = {"teacher": [1, 1, 1, 1, 1], "kd": [0.9, 0, 0.9, 0.8, 0], "jtt": [0.8, 0.6, 0.7, 0.8, 0.6]}
    students["all of one"] = [0.3, 0.9, 0.1, 0.1, 0.1]
    rows = ["average", *GROUPS, "worst_of_means"]
    frame = pd.DataFrame(students, index=rows).rename_axis("row").reset_index().melt("row", var_name="student")
    frame.assign(low=frame["value"], high=frame["value"]).to_csv(folder / "report.csv")
    soup = indexed(reports)
    [card] = soup.select(".card")
    assert card.a["href"] == "record/demo/index.html" and card.a.get_text() == "Five seeds"
    assert card.img["alt"] == "x < y"
    told = [text.get_text() for text in card.find_all(["dt", "dd"])]
    assert told[:3] == [GROUPS[0], "0.000 [0.000, 0.000] kd", "0.600 [0.600, 0.600] jtt"]
    assert told[3:] == ["average", "0.900 [0.900, 0.900] kd", "0.800 [0.800, 0.800] jtt"]


def test_a_card_shows_the_figure_of_the_folder_s_own_words(reports):
    folder = reports / "record" / "demo"
    folder.mkdir(parents=True)
    (folder / "index.html").write_text('<main><h1>Seeds</h1><img src="a%20b.png" alt="five"></main>')
    (folder / "05_study.html").write_text('<div class="celltag_result"><img src="data:," alt="x"></div>')
    (folder / "a b.png").write_bytes(b"image")
    [card] = indexed(reports).select(".card")
    assert (card.img["src"], card.img["alt"]) == ("data:image/png;base64,aW1hZ2U=", "five")
    (folder / "a b.png").unlink()  # named and not there
    [card] = indexed(reports).select(".card")
    assert (card.img["src"], card.img["alt"]) == ("data:,", "x")


def test_without_runs_the_index_says_so(tmp_path):
    soup = indexed(tmp_path)
    assert "None on this disk." in soup.main.get_text() and not soup.find("script")
