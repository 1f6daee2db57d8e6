"""What students have in common is trained once: each is to the digit what it is when it is trained alone."""

import hashlib

import pytest

from fairkd import distil, runs
from fairkd.training.checkpoints import last_checkpoint
from fairkd.training.first_epoch import FirstEpoch, plain
from fairkd.training.student import student_name, train_student
from fairkd.training.trainer import DistillationTrainer

FILES = ("predictions.parquet", "epochs.parquet", "history.parquet", "model/model.safetensors")
OF_ROWS = {"kd": (), "poe": ("reader.parquet",)}


def digests(run):
    names = (*FILES, *OF_ROWS.get(run.config["method"], ("weights.parquet",)))
    return {name: hashlib.sha256(run.path(name).read_bytes()).hexdigest() for name in names}


@pytest.fixture
def steps(monkeypatch):
    """The optimizer's steps as they are done, a number each."""
    done, step = [], DistillationTrainer.training_step

    def counted(self, *args, **kwargs):
        done.append(self.state.global_step + 1)
        return step(self, *args, **kwargs)

    monkeypatch.setattr(DistillationTrainer, "training_step", counted)
    return done


@pytest.fixture
def elsewhere(project, monkeypatch):
    """Another root, with nothing in it."""
    return lambda name: monkeypatch.setenv("FAIRKD_ROOT", str(project / name))


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "kd"},
        {"method": "laplace", "permute_weights": True, "predictive": "mc"},
        {"method": "dedier", "reader": "words", "exit_reads": "hypothesis", "reweight": "kd"},
        {"method": "avcs", "warm_start_epochs": 2},
        {"method": "poe"},
    ],
    ids=lambda changes: changes["method"],
)
def test_a_student_that_goes_on_from_another_is_what_it_is_alone(small, elsewhere, steps, changes):
    given = small.vary(**changes)
    alone = digests(train_student(given))
    elsewhere("again")
    train_student(small.vary(method="selfdebias" if given.method == "kd" else "kd"))
    steps.clear()
    assert digests(train_student(given)) == alone
    assert steps == list(range(5, 13))  # of 12, four an epoch


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "erm"},
        {"method": "group_dro"},
        {"method": "jtt", "jtt_epochs": 1},
        {"method": "dedier", "use_teacher": False},
        {"method": "kd", "student_epochs": 1},
        {"method": "confreg"},  # it has another temperature, and no labels' term
        {"method": "kd", "kd_weight": 0.4},
        {"learning_rate": 3e-4},
        {"student_epochs": 2},  # its learning rate falls faster
        {"seed": 1},
    ],
    ids=str,
)
def test_a_first_epoch_that_is_another_is_not_taken_for_plain_distillations(small, changes):
    begun, kd = plain(small.vary(**changes)), plain(small.vary(method="kd"))
    assert begun is None or student_name(begun) != student_name(kd)


@pytest.mark.parametrize("changes", [{"method": "group_dro"}, {"learning_rate": 3e-4}], ids=str)
def test_a_student_whose_first_epoch_is_another_trains_it(small, steps, changes):
    train_student(small.vary(method="kd"))
    steps.clear()
    train_student(small.vary(**changes))
    assert steps == list(range(1, 13))


def test_confreg_begins_as_plain_distillation_by_its_own_loss(small):
    begun = plain(small.vary(method="confreg"))
    assert (begun.method, begun.weighting.temperature, begun.weighting.kd_weight) == ("kd", 1.0, 1.0)


def test_one_that_was_killed_as_it_went_on_ends_as_it_would_have(small, elsewhere, steps, monkeypatch):
    alone = digests(train_student(small))
    elsewhere("again")
    train_student(small.vary(method="kd"))
    with monkeypatch.context() as patch:
        # After the copy, before the exit is fitted that the second epoch weighs by.
        patch.setattr(FirstEpoch, "on_train_begin", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train_student(small)
    steps.clear()
    assert digests(train_student(small)) == alone and steps == list(range(5, 13))


def test_what_it_set_after_another_students_epoch_is_in_its_checkpoints_manifest(small, monkeypatch):
    train_student(small.vary(method="kd"))
    monkeypatch.setattr(DistillationTrainer, "training_step", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        train_student(small)
    [begun] = runs.runs_folder().glob("laplace-*.partial")
    assert last_checkpoint(begun) == str(begun / "checkpoint-4")
    (begun / "epoch-weights" / "0001.parquet").write_bytes(b"half")
    assert last_checkpoint(begun) is None


def test_a_first_epoch_that_is_damaged_is_trained_again(small, steps):
    train_student(small.vary(method="kd"))
    [kept] = runs.caches_folder().glob("epoch-kd-*")
    assert kept.name == f"epoch-{student_name(small.vary(method='kd'))}"
    [state] = kept.glob("checkpoint-4/optimizer.pt")
    state.write_bytes(state.read_bytes()[:-1] + b"!")
    steps.clear()
    student = distil(small)
    assert steps == list(range(1, 13)) and student.of.config["method"] == "laplace"
