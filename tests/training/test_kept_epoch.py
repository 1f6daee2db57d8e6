"""Early stopping: the epoch that validation rows choose is what the run's model, predictions and exits are of."""

import hashlib

import pandas as pd
import pytest

from fairkd import ParameterError, distil, runs
from fairkd.evaluation import SELECTIONS, class_probabilities
from fairkd.study import predictions_at
from fairkd.training import callbacks, train_student
from fairkd.training.first_epoch import plain
from fairkd.training.student import student_name

RULE = "smallest class difference"


@pytest.fixture
def best(monkeypatch):
    """Makes an epoch the best by RULE."""
    return lambda epoch: monkeypatch.setitem(SELECTIONS, RULE, lambda rows: float(rows["epoch"].iloc[0] == epoch))


def of_student(table):
    return class_probabilities(table.set_index("id").sort_index(), "student")


@pytest.mark.parametrize("epoch", [1, 2, 3])
@pytest.mark.parametrize("method", ["laplace", "group_dro"])
def test_the_chosen_epoch_is_the_student(small, best, method, epoch):
    best(epoch)
    given = small.vary(method=method)
    last, kept = train_student(given), distil(given.vary(kept_epoch=RULE))
    pd.testing.assert_frame_equal(kept.table("epochs"), last.table("epochs"))  # the training is the same
    expected = of_student(predictions_at(last, RULE))
    assert abs(of_student(kept.table("predictions")) - expected).max() < 1e-6
    assert (abs(of_student(last.table("predictions")) - expected).max() < 1e-6) == (epoch == 3)
    assert not list(kept.of.folder.glob("epoch-*"))
    assert f"best by {RULE}" in kept.model_folder.joinpath("README.md").read_text()


@pytest.mark.parametrize("epoch", [1, 2])
def test_an_interrupted_training_keeps_the_same_epoch(small, project, best, monkeypatch, epoch):
    best(epoch)
    given = small.vary(kept_epoch=RULE)
    whole = train_student(given)
    monkeypatch.setenv("FAIRKD_ROOT", str(project / "again"))

    def interrupted(self, args, state, control, **kwargs):
        if round(state.epoch) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(callbacks._EveryInstance, "on_epoch_begin", interrupted)
        train_student(given)
    resumed = train_student(given)
    for name in ("predictions.parquet", "model/model.safetensors", "weights.parquet"):
        digest, other = (hashlib.sha256(run.path(name).read_bytes()).hexdigest() for run in (resumed, whole))
        assert digest == other, name


def test_a_first_epoch_of_another_student_may_be_the_one_that_is_kept(small, project, best, monkeypatch):
    best(1)
    given = small.vary(kept_epoch=RULE)
    alone = of_student(train_student(given).table("predictions"))
    monkeypatch.setenv("FAIRKD_ROOT", str(project / "again"))
    kd = train_student(small.vary(method="kd"))
    assert kd.folder.name == student_name(plain(given)) and (runs.caches_folder() / f"epoch-{kd.folder.name}").is_dir()
    assert (of_student(train_student(given).table("predictions")) == alone).all()


def test_what_an_early_model_is_made_of_is_not_chosen(small):
    assert small.vary(method="jtt", kept_epoch=RULE).early().kept_epoch == "last epoch"


def test_a_student_that_reads_group_labels_of_validation_rows_is_marked(small):
    mark = " (reads group labels)"
    assert small.title("kd,kept_epoch=validation worst group") == f"kd,kept_epoch=validation worst group{mark}"
    assert small.title("kd,kept_epoch=validation average") == "kd,kept_epoch=validation average"
    of_profile = small.vary(kept_epoch="validation worst group")
    assert of_profile.title("kd") == f"kd{mark}"
    assert of_profile.title("kd,kept_epoch=last epoch") == "kd,kept_epoch=last epoch"
    assert small.student("kd,kept_epoch=validation average").kept_epoch == "validation average"


def test_it_is_refused_without_validation_rows(small):
    with pytest.raises(ParameterError, match="kept_epoch = 'validation average': needs validation_examples above 0"):
        small.vary(kept_epoch="validation average", validation_examples=0)
