"""A study submitted to a real Slurm of one node: a job is killed, the study goes on; its tables are a local study's."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# The demo's study in small: two students and two seeds; the teacher is one job, each student and seed another.
STUDY = (
    "-y '{seeds: [0, 1], methods: [kd, dedier@3], refits: [], record: reports/kept, changes: {train_examples: 600, "
    "evaluation_per_group: 20, validation_examples: 30, teacher_epochs: 1, student_epochs: 2}}'"
)
# What a cluster's profile would say: seconds between looks at the queue, and no accounts.
SLURM = (
    "--executor slurm --jobs 4 --latency-wait 30 --slurm-no-account --slurm-status-command squeue "
    "--slurm-init-seconds-before-status-checks 5 --seconds-between-status-checks 5 "
    "--default-resources slurm_partition=one mem_mb=2000 runtime=60"
)


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


def study(folder, *arguments):
    """`make study` in a checkout, begun."""
    command = ["make", "-o", ".venv/.installed", "study", f"PAPERMILL_ARGS={STUDY}", *arguments]
    environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    with (folder / "make.log").open("a") as log:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)


def queue():
    """{job: what it makes} of the jobs that run."""
    command = ["squeue", "--noheader", "--states=RUNNING", "--format=%i %k"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return dict(line.split(maxsplit=1) for line in lines)


def training(folder):
    """The students that are being trained."""
    return [
        path.name for kind in ("kd", "dedier") for path in folder.glob(f"reports/runs/{kind}-*.partial/checkpoint-*")
    ]


def test_a_killed_study_goes_on_and_equals_a_local_one(slurm, tmp_path):
    local, cluster = checkout(tmp_path / "local"), checkout(tmp_path / "cluster")
    assert study(local, "JOBS=2").wait() == 0, (local / "make.log").read_text()
    submitted = study(cluster, f"SNAKEMAKE_ARGS={SLURM}")
    while not training(cluster):
        assert submitted.poll() is None, (cluster / "make.log").read_text()
        time.sleep(0.5)
    killed = [job for job, what in queue().items() if "run" in what]
    subprocess.run(["scancel", "--signal=KILL", "--full", killed[0]], check=True)
    assert submitted.wait() != 0, (cluster / "make.log").read_text()
    assert not (cluster / "reports/demo/05_study.html").exists()
    assert study(cluster, f"SNAKEMAKE_ARGS={SLURM}").wait() == 0, (cluster / "make.log").read_text()
    tables = sorted(path.name for path in (local / "reports/kept").glob("*.csv"))
    assert len(tables) >= 4
    for name in tables:
        assert (cluster / "reports/kept" / name).read_bytes() == (local / "reports/kept" / name).read_bytes(), name
    runs = [{path.name for path in folder.glob("reports/runs/*") if path.is_dir()} for folder in (local, cluster)]
    assert runs[0] == runs[1]
