"""The disk that runs will take, against what they take."""

import shutil
from collections import namedtuple
from pathlib import Path

from fairkd import distil, fine_tune, load, runs
from fairkd.study import disk
from fairkd.study.disk import needed
from fairkd.study.plan import plan


def sizes(*patterns):
    return sum(f.stat().st_size for pattern in patterns for f in runs.root().glob(f"reports/{pattern}") if f.is_file())


def test_what_remains_is_no_less_than_weights_and_no_more_than_all_there_is(bare):
    given = bare.vary(method="kd", student_epochs=1)
    splits, grid = load(given), plan(given, [("kd", 0), ("refit", 0)]).values()
    whole = needed(given, splits, grid)
    assert needed(given, splits, plan(given, [("kd", 0), ("refit", 0), ("jtt", 0)]).values()).runs == 3 + 2
    fine_tune(given)
    left = needed(given, splits, grid)
    assert (whole.runs, left.runs) == (3, 2) and left.kept < whole.kept
    distil(given.student("refit"))
    assert needed(given, splits, grid) is None
    weights = sizes("runs/*/model/*.safetensors", "runs/*/posteriors.safetensors")
    assert weights < whole.kept < sizes("runs/*/*", "runs/*/model/*", "cache/*/*")


def test_the_states_of_all_layers_and_three_checkpoints_are_counted_for_each_run_at_a_time(small, monkeypatch):
    given, written = small.vary(method="kd", student_epochs=1), []
    splits = load(given)
    fine_tune(given)
    grid = plan(given, [("kd", 0), ("kd", 1)]).values()
    one, two = (needed(given, splits, grid, at_once) for at_once in (1, 2))
    assert two.meanwhile == 2 * one.meanwhile
    remove = shutil.rmtree

    def removed(path, **more):
        written.append((Path(path).name, size(path), size(path, "model.safetensors")))
        remove(path, **more)

    monkeypatch.setattr(shutil, "rmtree", removed)
    distil(given)
    [states] = [taken for name, taken, _ in written if name == "features"]
    rows = len(splits.train) + len(splits.whole_evaluation) + len(splits.validation)
    assert states == 2 * 4 * 16 * rows  # two layers of width 16, in float32
    [[checkpoint, weights]] = [taken for name, *taken in written if name.startswith("checkpoint")]
    assert 3 * 2 * weights < one.meanwhile < 3 * checkpoint  # which has more beside weights and their means
    longer = given.vary(student_epochs=2)
    *_, plain, reads = plan(longer, [("kd", 2), ("avcs@2", 2)]).values()
    assert needed(longer, splits, [reads]).meanwhile == needed(longer, splits, [plain]).meanwhile + states
    stopped = longer.vary(kept_epoch="validation average")
    *_, early = plan(stopped, [("kd", 2)]).values()
    models = needed(stopped, splits, [early]).meanwhile - needed(longer, splits, [plain]).meanwhile
    assert 1.6 * weights < models <= 2 * weights  # a file has a head too
    *_, without = plan(longer, [("kd", 2)], exits=False).values()
    assert needed(longer, splits, [without]).kept < needed(longer, splits, [plain]).kept
    monkeypatch.setattr(disk, "_CHECKPOINTS", 0)
    assert needed(longer, splits, [without]).meanwhile == 0
    assert needed(longer, splits, [plain]).meanwhile == states


def test_the_first_epoch_is_kept_once_for_a_seed(small):
    splits = load(small)
    fine_tune(small)

    def kept(*students):
        return needed(small, splits, plan(small, students).values()).kept

    kd, dedier, tempered = ("kd", 0), ("dedier@1", 0), ("tempered@1", 0)
    another = kept(kd, dedier, tempered) - kept(kd, dedier)
    assert another == kept(kd, tempered) - kept(kd) and another < kept(kd, ("tempered@1", 1)) - kept(kd)
    before = kept(kd) - kept(("erm", 0))  # which has no first epoch in common with anybody
    distil(small.vary(method="kd"))
    [checkpoint] = runs.caches_folder().glob("epoch-*/checkpoint-*")
    assert 2.5 * size(checkpoint, "model.safetensors") < before < size(checkpoint)  # a small one is a tenth header


def size(folder, name="*"):
    return sum(f.stat().st_size for f in Path(folder).rglob(name) if f.is_file())


def test_what_does_not_fit_is_said_with_what_to_do(bare, monkeypatch):
    splits, grid = load(bare), plan(bare, [("kd", 0)]).values()
    assert str(needed(bare, splits, grid)).startswith("2 runs to make: about 0.0 GB of disk, and 0.0 GB more meanwhile")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: namedtuple("Usage", "free")(1000))
    assert "0.0 GB are free. THIS WILL NOT FIT: make room" in str(needed(bare, splits, grid))
    monkeypatch.undo()
    assert "FIT" not in str(needed(bare, splits, grid))
