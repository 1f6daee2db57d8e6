"""Make and the graph run the notebooks in their order, only those not done yet, with stand-ins for the programs."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from fairkd.study.early import EarlyStudy
from fairkd.study.grid import Study
from fairkd.study.plan import arguments, plan

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs GNU make")

# The stand-in for papermill copies the notebook and notes its arguments; a student at layer 13 fails as a cell would.
# Asked what its arguments say, it is papermill itself.
PAPERMILL = f"""#!/bin/sh
case "$*" in *--prepare-only*) exec "{Path(sys.executable).parent}/papermill" "$@";; esac
echo "$@" >> papermill.log
cp "$1" "$2"
case "$*" in *"laplace@13"*) exit 1;; esac
"""
# The stand-in for python is reports/publish.py (a page for a notebook, an index), and fairkd, which makes an empty run
# by the name that `planned` has for its arguments, and fails of dedier@13.
PYTHON = """#!/bin/sh
case "$2" in
  html) cp "$3" "$4" ;;
  index) echo "$@" > "$3/index.html" ;;
  fairkd)
    echo "$@" >> python.log
    case "$*" in *"dedier@13"*) exit 1;; esac
    while read -r name arguments; do
      [ "-m fairkd $arguments" != "$*" ] || mkdir -p "$FAIRKD_ROOT/reports/runs/$name"
    done < planned ;;
esac
"""
ORDER = ["01_teacher", "02_student", "02_student", "03_analysis", "04_figures", "08_examples"]


@pytest.fixture
def project(tmp_path):
    root = tmp_path / "a folder with spaces"
    for name in ("notebooks", "params", "reports/template", "fairkd", ".venv/bin"):
        (root / name).mkdir(parents=True)
    for name in ("Makefile", "Snakefile", "notebooks/05_study.ipynb"):
        shutil.copy(ROOT / name, root / name)
    for name in (
        "pyproject.toml",
        "reports/publish.py",
        "reports/markup.py",
        *(f"notebooks/{name}.ipynb" for name in (*ORDER, "07_early_exit", "09_tuning")),
    ):
        (root / name).touch()
    profile(root, "kd, laplace@3")
    for name, text in {"papermill": PAPERMILL, "python": PYTHON}.items():
        (root / ".venv" / "bin" / name).write_text(text)
        (root / ".venv" / "bin" / name).chmod(0o755)
    (root / ".venv" / "bin" / "snakemake").symlink_to(Path(sys.executable).parent / "snakemake")
    (root / ".venv" / ".installed").touch()
    return root


def profile(root, students, more=""):
    (root / "params" / "small.yaml").write_text(f"students: [{students}]\n{more}")


def planning(root, kind, students, seeds, *, exits):
    """State the runs of a study of small.yaml for the stand-in of fairkd; their names."""
    asked = kind(profile=str(root / "params/small.yaml"))
    runs = plan(asked.experiment, [(spec, seed) for spec in students for seed in seeds], exits=exits)
    lines = [" ".join([name, *arguments(run, "params/small.yaml", {})]) for name, run in runs.items()]
    (root / "planned").write_text("".join(f"{line}\n" for line in lines))
    return list(runs)


def begun(root, *arguments, runs_in=None):
    """A make that runs."""
    environment = os.environ | {"FAIRKD_ROOT": str(runs_in or root), "PYTHONPATH": str(ROOT)}
    command = ["make", "PROFILE=small", *arguments]
    return subprocess.Popen(
        command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def ended(process):
    """A make that has ended, and what it printed."""
    stdout, stderr = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def make(root, *arguments, **where):
    """Run make; what it printed, and papermill's and fairkd's command lines of this run."""
    logs = [root / "papermill.log", root / "python.log"]
    for log in logs:
        log.unlink(missing_ok=True)
    result = ended(begun(root, *arguments, **where))
    return result, *(log.read_text().splitlines() if log.exists() else [] for log in logs)


def stems(lines):
    """The notebooks as they ran; the last three, of which none needs another, by their names."""
    found = [Path(line.split()[0]).stem for line in lines]
    return found[:-3] + sorted(found[-3:])


def test_a_report_runs_in_its_order_and_only_what_is_not_done(project):
    result, lines, _ = make(project, "reports", "JOBS=2")
    assert result.returncode == 0, result.stderr
    assert stems(lines) == ORDER
    assert all("-k python3 -p profile params/small.yaml" in line for line in lines)
    students = sorted(lines[1:3])
    assert "-r student kd --progress-bar" in students[0]
    assert "-r student laplace@3 --progress-bar" in students[1]
    names = ["01_teacher", "02_student-kd", "02_student-laplace@3", "03_analysis", "04_figures", "08_examples"]
    expected = [f"{name}.{ending}" for name in names for ending in ("html", "ipynb")] + ["index.html"]
    assert sorted(path.name for path in (project / "reports/small").iterdir()) == expected
    # Nothing is left to do; then a page is lost; then a parameter of one student is another.
    assert make(project, "reports")[1] == []
    (project / "reports/small/02_student-kd.ipynb").unlink()
    assert stems(make(project, "reports")[1]) == ORDER[2:]
    again = make(project, "reports", "PAPERMILL_ARGS=-p beta 2.0")[1]
    assert ["kd" in line for line in again if "02_" in line] == [False]
    assert stems(again) == ORDER[2:]
    assert all("-p beta 2.0" in line for line in again)
    # A student leaves: its page stays, and is not listed.
    assert (project / "reports/small/index.html").read_text().endswith(" 02_student-kd 02_student-laplace@3\n")
    profile(project, "laplace@3")
    assert make(project, "reports")[0].returncode == 0
    assert (project / "reports/small/index.html").read_text().endswith("reports/small 02_student-laplace@3\n")
    assert (project / "reports/small/02_student-kd.html").exists()


def test_what_fails_is_kept_and_stops_only_what_needs_it(project):
    profile(project, "'laplace@13,likelihood_temperature=8000,prior=factored', kd")
    result, lines, _ = make(project, "reports")
    assert result.returncode != 0
    name = "02_student-laplace@13,likelihood_temperature=8000,prior=factored"
    assert f"reports/small/{name}.failed.ipynb" in result.stderr
    left = {path.name for path in (project / "reports/small").iterdir()}
    assert {f"{name}.failed.ipynb", "02_student-kd.ipynb"} <= left
    assert not {found for found in left if "03_" in found or "running" in found or found == f"{name}.ipynb"}
    assert any("-r student laplace@13,likelihood_temperature=8000,prior=factored --progress-bar" in x for x in lines)


def test_a_second_make_of_a_profile_waits_for_the_first_and_finds_its_pages(project):
    first, second = [ended(process) for process in [begun(project, "reports"), begun(project, "reports")]]
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert stems((project / "papermill.log").read_text().splitlines()) == ORDER
    [waited] = [line for line in (first.stdout + second.stdout).splitlines() if line.endswith("; waiting")]
    assert re.match(r"small: (process \d+ on \S+ \(.*\), since .*,|another process) is making it; waiting$", waited)
    with FileLock(project / "reports" / ".small.lock"):  # who only looks does not wait
        assert make(project, "reports", "SNAKEMAKE_ARGS=--dry-run")[0].returncode == 0


def test_a_study_is_a_job_a_student_and_seed(project):
    planning(project, Study, ["kd", "jtt", "refit"], [0, 1], exits=False)
    methods = "-y 'methods: [kd, jtt, refit, dedier@13]' -y 'seeds: [0, 1]'"
    result, lines, jobs = make(project, "study", "JOBS=2", f"PAPERMILL_ARGS={methods}")
    assert result.returncode != 0 and lines == []  # without dedier there is no study, with all others made
    made = [
        (job.split("--part ")[1].split()[0], *job.split("student=")[1].replace("-p seed=", "").split()) for job in jobs
    ]
    grid = [
        (part, f'"{spec}"', seed)
        for part, spec in (("early", "jtt"), *(("student", s) for s in ("kd", "jtt", "refit", "dedier@13")))
        for seed in "01"
    ]
    assert sorted(made) == sorted([("teacher", '"kd"', "0"), *grid])
    assert all("--without-exits" in job for job in jobs)
    assert made[0][0] in ("teacher", "early")
    assert made.index(("early", '"jtt"', "1")) < made.index(("student", '"jtt"', "1"))
    assert "11 runs to make: about " in result.stdout and "jobs done, about" in result.stdout


def test_make_alone_lists_the_targets():
    text = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True).stdout
    assert all(f"make {name}" in text for name in ("env", "demo", "reports", "study", "tune", "test", "lab", "lint"))


def test_a_notebook_over_a_grid_reads_its_finished_runs(project):
    planning(project, EarlyStudy, ["kd", "laplace@3"], [0, 1], exits=True)
    given = "PAPERMILL_ARGS=-y 'students: [kd, laplace@3]' -y 'seeds: [0, 1]'"
    result, [line], jobs = make(project, "early", "JOBS=2", given)
    assert result.returncode == 0, result.stderr
    assert (project / "reports" / "small" / "07_early_exit.html").exists()
    assert "notebooks/07_early_exit.ipynb" in line and "-y students: [kd, laplace@3] -y seeds: [0, 1]" in line
    assert len(jobs) == 5


def test_a_tuning_writes_its_profile_under_its_own_name(project):
    result, [line], _ = make(project, "tune", "PAPERMILL_ARGS=-p trials 4")
    assert result.returncode == 0, result.stderr
    assert (project / "reports" / "small" / "09_tuning.html").exists()
    assert "notebooks/09_tuning.ipynb" in line and "-p best reports/tuned/small.yaml -p trials 4" in line


def test_a_profile_is_any_file_by_its_path_and_a_name_that_is_none_is_refused_in_one_line(project):
    (project / "reports" / "tuned").mkdir()
    for file in ("an own.yaml", "reports/tuned/small.yaml"):
        (project / file).write_text("students: [kd]\n")
    result, [line], _ = make(project, "tune", f"PROFILE={project / 'an own.yaml'}")
    assert result.returncode == 0, result.stderr
    assert (project / "reports" / "an own" / "index.html").exists()
    assert f"-p profile {project / 'an own.yaml'} -p best reports/tuned/an own.yaml" in line
    # Neither the pages of the profile that has its name, nor itself, are written over.
    result, [line], _ = make(project, "tune", "PROFILE=reports/tuned/small.yaml")
    assert result.returncode == 0, result.stderr
    assert "reports/tuned-small/" in line and "-p best reports/tuned/tuned-small.yaml" in line
    result, lines, _ = make(project, "reports", "PROFILE=smal")
    assert result.returncode != 0 and lines == []
    said, failed = result.stderr.splitlines()
    assert said.startswith("no profile smal; there are: small, ") and failed.startswith("make")


@pytest.mark.parametrize(("jobs", "cores"), [("1", 16), ("6", 12), ("20", 20)])
def test_as_many_jobs_as_asked_for_share_the_processors(project, jobs, cores):
    programs = project / ".venv" / "bin"
    (programs / "snakemake").unlink()
    for name, text in {"snakemake": 'echo "$@"', "nproc": 'echo "${OMP_NUM_THREADS:-16}"'}.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PATH": f"{programs}:{os.environ['PATH']}"}
    command = ["make", "reports", f"JOBS={jobs}"]
    said = subprocess.run(command, cwd=project, capture_output=True, text=True, env=environment).stdout
    assert f"--cores {cores} " in said


@pytest.mark.parametrize("jobs", ["0", "two"])
def test_no_job_at_a_time_is_refused_in_one_line(project, jobs):
    result, lines, _ = make(project, "reports", f"JOBS={jobs}")
    assert result.returncode != 0 and lines == []
    [said] = result.stderr.splitlines()
    assert f"JOBS={jobs}: state a number from 1 on" in said


def test_an_entry_with_a_space_or_of_many_letters_has_a_page(project):
    spaced, long = "kd,kept_epoch=validation average", f"laplace@3,alpha=0.{'3' * 220}"
    profile(project, f"kd, '{spaced}', '{long}'")
    result, lines, _ = make(project, "reports")
    assert result.returncode == 0, result.stderr
    assert [f"-r student {spec} --progress-bar" in "".join(lines) for spec in (spaced, long)] == [True, True]
    names = sorted(path.name for path in (project / "reports/small").glob("02_*.html"))
    assert names[:2] == ["02_student-kd,kept_epoch=validationaverage.html", "02_student-kd.html"]
    assert re.fullmatch(rf"02_student-{re.escape(long[:100])}-[0-9a-f]{{16}}\.html", names[2])


def test_a_wrong_entry_or_argument_ends_it_with_its_own_words(project):
    for students, said in {
        "kd, 'dedier@3', 'dedier@3,beta=3.0'": "students, 'dedier@3,beta=3.0': is the same student as 'dedier@3'",
        "kd, 'kd,beta=3.0'": "students, 'kd,beta=3.0': ",
    }.items():
        profile(project, students)
        result, lines, _ = make(project, "reports")
        assert result.returncode != 0 and lines == []
        assert result.stderr.splitlines()[-2].startswith(said) and "Traceback" not in result.stderr, result.stderr
    result, lines, _ = make(project, "reports", "PAPERMILL_ARGS=-z 3")
    assert result.returncode != 0 and lines == []
    assert "PAPERMILL_ARGS=-z 3: papermill refuses them, for the reason above\n" in result.stderr
    assert "No such option" in result.stderr and "Traceback" not in result.stderr, result.stderr


def test_what_the_analysis_alone_reads_makes_it_again(project):
    others = {"source": "others", "splits": {"evaluation": "test"}, "text": ["premise", "hypothesis"]}
    others |= {
        "label": {"names": ["entailment", "neutral", "contradiction"]},
        "attribute": {"name": "kind", "column": "kind"},
    }
    (project / "others.yaml").write_text(json.dumps(others))
    (project / "others").mkdir()
    (project / "others" / "test.csv").write_text("premise,hypothesis,label,kind\n")
    profile(project, "kd")
    assert make(project, "reports")[0].returncode == 0
    given = "PAPERMILL_ARGS=-y 'evaluate_on: [others.yaml]'"
    assert stems(make(project, "reports", given)[1]) == ORDER[3:]
    (project / "others" / "test.csv").write_text("premise,hypothesis,label,kind\na,b,0,c\n")
    assert stems(make(project, "reports", given)[1]) == ORDER[3:]


def test_runs_that_lie_elsewhere_are_found_and_a_study_follows_the_file_that_is_given(project, tmp_path):
    for name in planning(project, EarlyStudy, ["kd", "laplace@3"], [0], exits=True):
        (tmp_path / "reports" / "runs" / name).mkdir(parents=True)
        (tmp_path / "reports" / "runs" / name / "manifest.json").write_text("{}")
    for depth in (0.5, 0.75):
        (project / "given.yaml").write_text(f"students: [kd, laplace@3]\ndepths: [{depth}]\n")
        result, lines, jobs = make(project, "early", "PAPERMILL_ARGS=-f given.yaml", runs_in=tmp_path)
        assert result.returncode == 0, result.stderr
        assert stems(lines) == ["07_early_exit"] and jobs == []


def test_a_run_of_another_name_than_was_planned_has_no_mark(project):
    teacher, student = planning(project, Study, ["kd"], [0], exits=False)
    (project / "planned").write_text((project / "planned").read_text().replace(student, "of-a-changed-profile"))
    given = "PAPERMILL_ARGS=-y 'methods: [kd]'"
    result, lines, jobs = make(project, "study", given)
    assert result.returncode != 0 and lines == [] and len(jobs) == 2
    [said] = [line for line in result.stderr.splitlines() if line.startswith("No run ")]
    assert said.startswith(f"No run {student}: ") and said.endswith("changed meanwhile; give the command again")
    assert [path.name for path in (project / "reports" / "runs").glob(".*.done")] == [f".{teacher}.study.done"]
