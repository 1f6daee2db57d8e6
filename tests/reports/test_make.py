"""The Makefile runs the notebooks in their order, only those not done yet, with stand-ins for the programs."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs GNU make")

# The stand-in for papermill copies the notebook and notes its arguments; a student at layer 13 fails as a cell would.
PAPERMILL = """#!/bin/sh
echo "$@" >> papermill.log
cp "$1" "$2"
case "$*" in *"laplace@13"*) exit 1;; esac
"""
# The stand-in for python is reports/publish.py: a page for a notebook, an index, the students of a profile.
PYTHON = """#!/bin/sh
case "$2" in
  html) cp "$3" "$4" ;;
  index) ls "$3" > "$3/index.html" ;;
  students) cat "$3" ;;
esac
"""
ORDER = ["01_teacher", "02_student", "02_student", "03_analysis", "04_figures", "08_examples"]
STUDY, EARLY = "05_study", "07_early_exit"


@pytest.fixture
def project(tmp_path):
    root = tmp_path / "a folder with spaces"
    for name in ("notebooks", "params", "reports", "fairkd", ".venv/bin"):
        (root / name).mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", root)
    notebooks = [f"notebooks/{name}.ipynb" for name in (*ORDER, STUDY, EARLY)]
    for name in ("pyproject.toml", "reports/publish.py", "fairkd/a.py", *notebooks):
        (root / name).touch()
    (root / "params" / "small.yaml").write_text("kd laplace@3")
    (root / "params" / "bad.yaml").write_text("kd laplace@13")
    for name, text in {"papermill": PAPERMILL, "python": PYTHON}.items():
        (root / ".venv" / "bin" / name).write_text(text)
        (root / ".venv" / "bin" / name).chmod(0o755)
    (root / ".venv" / ".installed").touch()
    return root


def make(root, *arguments):
    """Run make; what it printed, and papermill's command lines of this run."""
    log = root / "papermill.log"
    log.unlink(missing_ok=True)
    result = subprocess.run(["make", *arguments], cwd=root, capture_output=True, text=True, timeout=60)
    return result, log.read_text().splitlines() if log.exists() else []


def test_notebooks_run_in_their_order_once(project):
    result, lines = make(project, "-j2", "reports", "PROFILE=small")
    assert result.returncode == 0, result.stderr
    assert [Path(line.split()[0]).stem for line in lines] == ORDER
    assert all("-k python3 -p profile params/small.yaml" in line for line in lines)
    students = sorted(lines[1:3])
    assert "-r student kd --progress-bar" in students[0]
    assert "-r student laplace@3 --progress-bar" in students[1]
    names = ["01_teacher", "02_student-kd", "02_student-laplace@3", "03_analysis", "04_figures", "08_examples"]
    expected = [f"{name}.{ending}" for name in names for ending in ("html", "ipynb")] + ["index.html"]
    assert sorted(path.name for path in (project / "reports/small").iterdir()) == expected


def test_only_what_is_not_done_yet_runs(project):
    make(project, "reports", "PROFILE=small")
    assert make(project, "reports", "PROFILE=small")[1] == []
    (project / "reports/small/02_student-kd.ipynb").unlink()
    again = make(project, "reports", "PROFILE=small")[1]
    assert [Path(line.split()[0]).stem for line in again] == ["02_student", "03_analysis", "04_figures", "08_examples"]


def test_a_failed_notebook_is_kept_under_another_name(project):
    result, _ = make(project, "reports", "PROFILE=bad")
    assert result.returncode != 0
    assert "reports/bad/02_student-laplace@13.failed.ipynb" in result.stderr
    left = {path.name for path in (project / "reports/bad").iterdir()}
    assert "02_student-laplace@13.failed.ipynb" in left
    assert not {name for name in left if "03_" in name or "running" in name or name == "02_student-laplace@13.ipynb"}


def test_make_alone_lists_the_targets():
    text = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True).stdout
    assert all(f"make {name}" in text for name in ("env", "demo", "reports", "test", "lab", "lint"))


def test_a_student_reaches_its_notebook_as_it_is_written(project):
    (project / "params" / "small.yaml").write_text("kd laplace@3,likelihood_temperature=8000,prior=factored")
    result, lines = make(project, "reports", "PROFILE=small")
    assert result.returncode == 0, result.stderr
    assert "-r student laplace@3,likelihood_temperature=8000,prior=factored --progress-bar" in lines[2]


def test_a_study_runs_its_notebook_with_the_profile(project):
    result, lines = make(project, "study", "PROFILE=small", "PAPERMILL_ARGS=-y 'seeds: [0, 1]'")
    assert result.returncode == 0, result.stderr
    assert (project / "reports" / "small" / "05_study.html").exists()
    [line] = lines
    assert "notebooks/05_study.ipynb" in line and "-k python3 -p profile params/small.yaml -y seeds: [0, 1]" in line
    assert not make(project, "study", "PROFILE=small")[1]


def test_early_answers_are_a_page_of_their_own(project):
    result, [line] = make(project, "early", "PROFILE=small")
    assert result.returncode == 0, result.stderr
    assert (project / "reports" / "small" / "07_early_exit.html").exists()
    assert "notebooks/07_early_exit.ipynb" in line and "-k python3 -p profile params/small.yaml" in line
    assert not make(project, "early", "PROFILE=small")[1]
