"""Which checkpoint an interrupted training goes on from."""

import os
from types import SimpleNamespace

import pytest

from fairkd.training.checkpoints import Manifested, last_checkpoint

FILES = ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json")


@pytest.fixture
def interrupted(tmp_path):
    """A run of two checkpoints, after each of two epochs."""
    for step, epoch in ((4, 1), (8, 2)):
        epochs = [f"epoch-{kind}/{epoch:04d}.parquet" for kind in ("results", "weights", "reader")]
        for name in (*(f"checkpoint-{step}/{file}" for file in FILES), *epochs):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(b"written by the run")
        state = SimpleNamespace(global_step=step, is_world_process_zero=True)
        Manifested().on_save(SimpleNamespace(output_dir=str(tmp_path)), state, None)
    return tmp_path


def harm(file, how):
    """Damage a file as a disk may: its time of change stays."""
    state = file.stat()
    content = file.read_bytes()
    if how == "delete":
        return file.unlink()
    file.write_bytes({"flip": b"V" + content[1:], "halve": content[: len(content) // 2], "empty": b""}[how])
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))


def test_the_newest_is_taken(interrupted):
    assert last_checkpoint(interrupted) == str(interrupted / "checkpoint-8")
    assert last_checkpoint(interrupted / "epoch-weights") is None


@pytest.mark.parametrize("how", ["delete", "flip", "halve", "empty"])
@pytest.mark.parametrize(
    "name", [*FILES, "manifest.json", *(f"../epoch-{kind}/0002.parquet" for kind in ("results", "weights", "reader"))]
)
def test_one_that_is_not_what_was_written_is_passed_over_for_the_one_before(interrupted, caplog, name, how):
    harm(interrupted / "checkpoint-8" / name, how)
    assert last_checkpoint(interrupted) == str(interrupted / "checkpoint-4")
    assert f"checkpoint-8 of {interrupted.name}: " in caplog.text and name.partition("/")[0] in caplog.text
    assert not (interrupted / "checkpoint-8").exists()  # it would be taken for the newest when old ones are removed


def test_weights_of_an_early_epoch_spoil_all_later_checkpoints(interrupted):
    harm(interrupted / "epoch-weights" / "0001.parquet", "flip")
    assert last_checkpoint(interrupted) is None


def test_one_without_its_manifest_was_still_being_written(interrupted):
    (interrupted / "checkpoint-12").mkdir()
    (interrupted / "checkpoint-12" / "trainer_state.json").write_text("{}")
    assert last_checkpoint(interrupted) == str(interrupted / "checkpoint-8")


def test_what_no_manifest_names_of_an_epoch_is_not_believed(interrupted):
    later = [interrupted / f"epoch-{kind}" / "0003.parquet" for kind in ("results", "weights", "reader")]
    for part in later:
        part.write_bytes(b"half")
    last_checkpoint(interrupted)
    kept = sorted(part.name for part in interrupted.glob("epoch-*/*"))
    assert kept == 3 * ["0001.parquet"] + 3 * ["0002.parquet"]
    harm(interrupted / "checkpoint-8" / "optimizer.pt", "flip")
    last_checkpoint(interrupted)
    assert {part.name for part in interrupted.glob("epoch-*/*")} == {"0001.parquet"}
    harm(interrupted / "epoch-results" / "0001.parquet", "empty")
    last_checkpoint(interrupted)
    assert not [*interrupted.glob("epoch-*/*")]
