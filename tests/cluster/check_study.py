"""A study submitted to a real Slurm of one node: a job is killed, the study goes on; its tables are a local study's."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# The demo's study in small: two students and two seeds; the teacher is one job, each student and seed another.
STUDY = (
    "-y '{seeds: [0, 1], methods: [kd, dedier@3], refits: [], record: reports/kept, changes: {train_examples: 600, "
    "evaluation_per_group: 20, validation_examples: 30, teacher_epochs: 1, student_epochs: 4}}'"
)
ONE = "SNAKEMAKE_ARGS=--workflow-profile tests/cluster/one"


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """A cluster of one node, which Slurm's commands reach."""
    folder, script = tmp_path_factory.mktemp("slurm"), ROOT / "tests/cluster/slurm.sh"
    started = subprocess.run([script, "start", folder], stderr=subprocess.PIPE, text=True)
    if started.returncode == 77:
        pytest.skip(started.stderr.strip())
    assert started.returncode == 0, started.stderr
    yield
    subprocess.run([script, "stop", folder], check=True)


def checkout(folder):
    """A copy of the files under version control, with the .venv of this one."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(Path(sys.prefix), target_is_directory=True)
    return folder


@contextmanager
def study(folder, *arguments):
    """`make study` in a checkout, begun; ended with what it started, if it is not yet."""
    command = ["make", "-o", ".venv/.installed", "study", f"PAPERMILL_ARGS={STUDY}", *arguments]
    environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    with (folder / "make.log").open("a") as log:
        begun = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        yield begun
    finally:
        with suppress(ProcessLookupError):
            os.killpg(begun.pid, signal.SIGKILL)
        begun.wait()


def ended(folder, *arguments):
    """Whether `make study` ended well, and what it said."""
    with study(folder, *arguments) as begun:
        done = begun.wait() == 0
    return done, said(folder)


def said(folder):
    return (folder / "make.log").read_text()


def half_made(folder):
    """The students of which an interrupted training has left a checkpoint."""
    found = {path.parts[-3] for path in folder.glob("reports/runs/*.partial/checkpoint-*/manifest.json")}
    return sorted(name.removesuffix(".partial") for name in found if name.startswith(("kd-", "dedier-")))


def job_that_makes(folder, name):
    """The Slurm job in which a run is made, by what the process that makes it says of itself."""
    holder = json.loads((folder / "reports/runs" / f".{name}.holder").read_text())
    environment = Path("/proc", str(holder["process"]), "environ").read_bytes().decode().split("\0")
    return dict(entry.partition("=")[::2] for entry in environment)["SLURM_JOB_ID"]


def test_the_example_is_a_profile_that_submits(slurm, tmp_path):
    done, told = ended(checkout(tmp_path), "SNAKEMAKE_ARGS=--workflow-profile params/cluster/slurm --dry-run")
    assert done, told
    assert "run          5" in told


def test_a_killed_study_goes_on_and_equals_a_local_one(slurm, tmp_path):
    local, cluster = checkout(tmp_path / "local"), checkout(tmp_path / "cluster")
    done, told = ended(local, "JOBS=2")
    assert done, told
    with study(cluster, ONE) as begun:
        while not (trained := half_made(cluster)):
            assert begun.poll() is None, said(cluster)
            time.sleep(0.2)
        killed = trained[0]
        subprocess.run(["scancel", "--signal=KILL", "--full", job_that_makes(cluster, killed)], check=True)
        assert begun.wait() != 0, said(cluster)
    assert half_made(cluster) == [killed]  # the others were not stopped
    assert not (cluster / "reports/demo/05_study.html").exists()
    done, told = ended(cluster, ONE)
    assert done, told
    tables = sorted(path.name for path in (local / "reports/kept").glob("*.csv"))
    assert len(tables) >= 4
    for name in tables:
        assert (cluster / "reports/kept" / name).read_bytes() == (local / "reports/kept" / name).read_bytes(), name
    runs = [{path.name for path in folder.glob("reports/runs/*") if path.is_dir()} for folder in (local, cluster)]
    assert runs[0] == runs[1]
