"""Two processes that train one model together, against one process; gloo on the CPU."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fairkd import Experiment, ParameterError, __main__, check, distil, files, ranks
from fairkd.runs import Run
from fairkd.training import trainer
from fairkd.training.checkpoints import last_checkpoint

ROOT = Path(__file__).parents[2]
STUDENTS = ("laplace@1", "group_dro")


@pytest.fixture
def still(small, project, encoder):
    """The profile of a small experiment whose encoders draw nothing at random, nor does a batch divide its rows."""
    shutil.copytree(encoder, project / "still")
    config = json.loads((project / "still" / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (project / "still" / "config.json").write_text(json.dumps(config))
    models = dict.fromkeys(["teacher_model", "student_model"], str(project / "still"))
    stated = {"train_examples": 100, "evaluation_per_group": 9, "validation_examples": 18, "report_to": "none"}
    stated |= {
        "teacher_epochs": 1,
        "student_epochs": 2,
        "learning_rate": 0.002,
        "batch_size": 16,
        "threads": 1,
        "students": ["kd"],
    }
    (project / "still.yaml").write_text(json.dumps(stated | models))
    return project / "still.yaml"


def test_two_processes_train_as_one_and_one_that_fails_ends_both(still, project):
    environment = os.environ | {"FAIRKD_ROOT": str(project / "two"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    (project / "two").mkdir()
    command = [sys.executable, str(Path(__file__).parent / "two_processes.py"), str(still), *STUDENTS]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    said = ended.stdout.splitlines()
    assert ended.returncode == 1 and "not reached" not in said
    assert "OSError: the second process has failed" in ended.stderr
    assert ended.stderr.count("no teacher with these parameters yet") == 1  # the first alone speaks
    assert "2 processes share every batch of 16 rows, 8 each" in ended.stderr
    assert sorted({line for line in said if line.startswith("seed")}) == ["seed 0", "seed 1"]
    folders = [Path(line.removeprefix("made ")) for line in said if line.startswith("made")]
    for student, folder in zip(STUDENTS, folders, strict=True):
        one = distil(Experiment.from_file(still, student=student))
        assert folder.name == one.folder.name
        assert_close(Run(folder, Run(folder.parent / one.of.folder.name)), one)


def assert_close(two, one):
    """The same tables, but for the last digits of what was computed."""
    for name in ("history", "epochs", "weights", "predictions"):
        ours, theirs = one.table(name), two.table(name)
        assert ours.shape == theirs.shape
        for column in ours:
            if ours[column].dtype.kind == "f":
                np.testing.assert_allclose(theirs[column], ours[column], atol=2e-5, err_msg=f"{name} {column}")
            else:
                assert (theirs[column] == ours[column]).all(), f"{name} {column}"
    assert one.table("weights")["weight"].std() > 0.01
    assert [run.of.provenance["processes"] for run in (one, two)] == [1, 2]


def test_a_batch_is_shared_evenly_or_refused(small, monkeypatch):
    monkeypatch.setattr(ranks, "count", lambda: 3)
    with pytest.raises(ParameterError, match=r"batch_size = 32: 3 processes .* multiple of 3, such as 33, or fewer"):
        check(small.vary(batch_size=32))
    assert trainer.training_arguments(small.vary(batch_size=63), Path("x"), "student").per_device_train_batch_size == 21


def test_the_first_process_alone_tells_the_folder(project, monkeypatch, capsys):
    monkeypatch.setattr(__main__, "train", lambda *given, **more: Run(project / "made"))
    for first, told in ((True, f"{project / 'made'}\n"), (False, "")):
        monkeypatch.setattr(ranks, "first", lambda first=first: first)
        __main__.main(["train"])
        assert capsys.readouterr().out == told


def test_a_training_taken_up_by_more_processes_says_so(small, project, monkeypatch, caplog):
    caplog.set_level("INFO", "fairkd")
    checkpoint = project / "x.partial" / "checkpoint-5"
    checkpoint.mkdir(parents=True)
    (checkpoint / "rng_state.pth").touch()
    files.write_manifest(checkpoint, checkpoint.iterdir())
    assert last_checkpoint(checkpoint.parent) == str(checkpoint)
    assert caplog.messages == ["x.partial: going on from checkpoint-5"]
    monkeypatch.setattr(ranks, "count", lambda: 2)
    assert last_checkpoint(checkpoint.parent) == str(checkpoint)
    assert "checkpoint-5 of x.partial: written by 1 processes, taken up by 2" in caplog.text


def test_a_launcher_does_not_change_the_arithmetic(small, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")  # as accelerate launch says it, from its own settings
    check(small)
    assert trainer.training_arguments(small, Path("x"), "student").mixed_precision == "no"
