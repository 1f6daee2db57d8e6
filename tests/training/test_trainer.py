"""What the trainer is told, and when a training is stopped: without training anything."""

import math
from types import SimpleNamespace

import pytest

from fairkd.training.callbacks import Finite
from fairkd.training.trainer import training_arguments


def test_teacher_and_student_are_trained_by_their_own_parameters(small, tmp_path):
    given = small.vary(
        teacher_epochs=7, teacher_learning_rate=0.25, teacher_seed=5, student_epochs=6, learning_rate=0.125, seed=4,
        batch_size=8, weight_decay=0.5, warmup_ratio=0.0625,
    )  # fmt: skip
    for role, expected in (("teacher", (7, 0.25, 5)), ("student", (6, 0.125, 4))):
        found = training_arguments(given, tmp_path / "kd-1.partial", role)
        assert (found.num_train_epochs, found.learning_rate, found.seed) == expected
        assert (found.per_device_train_batch_size, found.weight_decay, found.warmup_steps) == (8, 0.5, 0.0625)
        assert found.eval_strategy == found.save_strategy == found.logging_strategy == "epoch"
        assert found.lr_scheduler_type == "linear" and found.train_sampling_strategy == "group_by_length"
        assert not (found.bf16 or found.remove_unused_columns or found.logging_nan_inf_filter)
        assert found.save_total_limit == 2 and found.disable_tqdm and found.run_name == "kd-1"


@pytest.mark.parametrize("logs", [{"loss": math.nan}, {"eval_loss": math.inf}, {"loss": 1.0, "grad_norm": math.nan}])
def test_a_training_that_diverges_is_stopped(logs):
    args, state = SimpleNamespace(learning_rate=0.1), SimpleNamespace(epoch=1.5, global_step=12)
    Finite().on_log(args, state, None, logs=None)
    Finite().on_log(args, state, None, logs={"loss": 1.0, "epoch": 2.0})
    with pytest.raises(FloatingPointError, match=r"is (nan|inf) in epoch 2, step 12: .*\(now 0.1\)"):
        Finite().on_log(args, state, None, logs=logs)
