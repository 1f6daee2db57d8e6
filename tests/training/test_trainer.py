"""What the trainer is told, and when a training is stopped: without training anything."""

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import TrainingArguments

from fairkd import distil, runs
from fairkd.training import callbacks, trainer
from fairkd.training.callbacks import Finite
from fairkd.training.student import train_student
from fairkd.training.trainer import training_arguments
from fairkd.weighting.loss import distillation_terms


def test_teacher_and_student_are_trained_by_their_own_parameters(small, tmp_path):
    given = small.vary(
        teacher_epochs=7, teacher_learning_rate=0.25, teacher_seed=5, teacher_weight_decay=0.25,
        student_epochs=6, learning_rate=0.125, seed=4,
        batch_size=8, weight_decay=0.5, warmup_ratio=0.0625, max_grad_norm=0.5,
    )  # fmt: skip
    for role, expected in (("teacher", (7, 0.25, 5, 0.25)), ("student", (6, 0.125, 4, 0.5))):
        found = training_arguments(given, tmp_path / "kd-1.partial", role)
        assert (found.num_train_epochs, found.learning_rate, found.seed, found.weight_decay) == expected
        assert (found.per_device_train_batch_size, found.warmup_steps, found.max_grad_norm) == (8, 0.0625, 0.5)
        assert found.eval_strategy == found.save_strategy == found.logging_strategy == "epoch"
        assert found.lr_scheduler_type == "linear" and found.train_sampling_strategy == "group_by_length"
        assert not (found.bf16 or found.remove_unused_columns or found.logging_nan_inf_filter)
        assert found.save_total_limit == 2 and found.disable_tqdm and found.run_name == "kd-1"
        assert found.report_to == []
        other = training_arguments(given.vary(bf16=True, report_to="tensorboard"), tmp_path / "kd-1.partial", role)
        assert other.bf16 and other.report_to == ["tensorboard"]


def test_of_several_gpus_one_is_used_so_that_a_batch_is_the_size_that_the_key_says(small, tmp_path, monkeypatch):
    monkeypatch.setattr(TrainingArguments, "n_gpu", property(lambda arguments: arguments._n_gpu or 4))
    found = training_arguments(small.vary(batch_size=8), tmp_path, "student")
    assert found.n_gpu == 1 and found.train_batch_size == 8


LOWER = r"the training diverged; lower learning_rate \(now 0.0001\) or beta \(now 3\)$"


@pytest.mark.parametrize("logs", [{"eval_loss": math.inf}, {"loss": 1.0, "grad_norm": math.nan}])
def test_a_training_that_diverges_is_stopped_with_the_likely_parameters(small, logs):
    state = SimpleNamespace(global_step=20, max_steps=30, num_train_epochs=3)
    finite = Finite(SimpleNamespace(first_diverged=lambda: 0), small, "student")
    finite.on_log(None, state, None, logs=None)
    finite.on_log(None, state, None, logs={"loss": 1.0, "epoch": 2.0})
    with pytest.raises(FloatingPointError, match=rf"{list(logs)[-1]} is not finite from epoch 2, step 20 on: {LOWER}"):
        finite.on_log(None, state, None, logs=logs)


def test_a_loss_that_is_not_finite_is_noted_at_its_step_and_nothing_of_the_epoch_is_kept(small, monkeypatch):
    steps = 0

    def spoilt(logits, *args):
        nonlocal steps
        steps += 1
        return distillation_terms(logits * (math.nan if steps == 6 else 1), *args)

    monkeypatch.setattr(trainer, "distillation_terms", spoilt)  # of the student, 4 steps an epoch
    with pytest.raises(FloatingPointError, match=f"loss is not finite from epoch 2, step 6 on: {LOWER}"):
        distil(small)
    [partial] = runs.runs_folder().glob("laplace-*")
    assert [path.name for path in partial.glob("checkpoint-*")] == ["checkpoint-4"]


def test_a_long_epoch_is_stopped_within_a_hundred_steps(small):
    finite = Finite(SimpleNamespace(first_diverged=lambda: 150), small, "teacher")
    finite.on_step_end(None, SimpleNamespace(global_step=199), None)
    with pytest.raises(FloatingPointError, match=r"epoch 1, step 150 on: .*teacher_learning_rate \(now 0.0005\)$"):
        finite.on_step_end(None, SimpleNamespace(global_step=200, max_steps=900, num_train_epochs=3), None)


def test_features_that_are_not_finite_stop_the_training(small, monkeypatch):
    spoilt = {2: torch.full((240, 16), math.nan)}
    monkeypatch.setattr(callbacks, "reading", lambda *given, **more: lambda model: spoilt)
    with pytest.raises(FloatingPointError, match=r"layer 2 after epoch 1 are not finite: .*learning_rate"):
        distil(small)


def test_the_states_that_a_training_reads_lie_on_disk_meanwhile(small, monkeypatch):
    where, original = [], callbacks._EveryInstance.features

    def features(self, model, epoch):
        states = original(self, model, epoch)
        where.extend(Path(phi.untyped_storage().filename) for phi in states.values())
        assert all(file.stat().st_size == 240 * 16 * 4 for file in where)
        return states

    monkeypatch.setattr(callbacks._EveryInstance, "features", features)
    train_student(small)
    assert [file.name for file in where] == ["layer1", "layer1"] and not any(file.exists() for file in where)
