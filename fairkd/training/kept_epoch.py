"""Early stopping: of a training's epochs, the one that validation rows choose is the student."""

from __future__ import annotations

import logging
from pathlib import Path

import transformers
from safetensors.torch import load_model, save_model
from transformers.trainer_callback import TrainerCallback

from fairkd import evaluation, ranks
from fairkd.training.callbacks import EpochResults

log = logging.getLogger("fairkd")


class KeptEpoch(TrainerCallback):
    """Keeps the weights of every epoch that a rule finds the best so far, and gives them back when training has ended.

    All of them stay in `folder` until then: an older checkpoint may be the one that a training is resumed from. Add it
    after the callback that keeps the epochs' predictions.
    """

    def __init__(self, rule: str, epochs: EpochResults, folder: Path):
        """Keep epochs by `rule`, one of `evaluation.SELECTIONS`, from what `epochs` has of each."""
        self.rule, self.epochs, self.folder = rule, epochs, folder

    def on_train_begin(self, args, state, control, model, **kwargs):
        """Keep the epoch that training goes on from, where that was another student's."""
        if state.epoch and ranks.first():
            self._keep(round(state.epoch), model)

    def on_evaluate(self, args, state, control, model, **kwargs):
        """Keep the epoch, if it is the best so far."""
        if ranks.first():
            self._keep(round(state.epoch), model)

    def _keep(self, epoch: int, model: transformers.PreTrainedModel) -> None:
        if not self._file(epoch).exists() and self._best() == epoch:  # a checkpoint's manifest names what is there
            self.folder.mkdir(exist_ok=True)
            save_model(model, str(self._file(epoch)))

    def give_back(self, model: transformers.PreTrainedModel) -> None:
        """Put the weights of the best epoch into the model."""
        best = self._best()
        load_model(model, str(self._file(best)))
        log.info("epoch %d is the student, by %s", best, self.rule)

    def _best(self) -> int:
        return int(evaluation.chosen(self.epochs.collect(), self.rule))

    def _file(self, epoch: int) -> Path:
        return self.folder / f"{epoch:04d}.safetensors"
