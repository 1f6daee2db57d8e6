"""The first epoch, which students of one seed and teacher have in common: trained once, and gone on from by the others.

Plain distillation is what every method is that weighs by an exit until its exit is first fitted. So whoever ends that
epoch first leaves its checkpoint among the caches; a student that is trained later goes on from there, to the digit.
"""

import logging
import shutil
from pathlib import Path

from transformers.trainer_callback import TrainerCallback

from fairkd import files, ranks, runs
from fairkd.experiment import Experiment
from fairkd.training.callbacks import EpochResults, Rereading, Reweighting
from fairkd.training.checkpoints import last_checkpoint, write_manifest
from fairkd.weighting import ByEarlyModel, ByGroupLoss, Distilled

log = logging.getLogger("fairkd")


def plain(experiment: Experiment) -> Experiment | None:
    """The plain student whose first epoch is also the experiment's; None where that is another, or its only one.

    It is another without a teacher, where a method with weights takes the loss by other functions, and by several
    processes, each of which has random numbers of its own.
    """
    method = experiment.weighting
    if not isinstance(method, Distilled) or not method.uses_teacher or isinstance(method, ByEarlyModel | ByGroupLoss):
        return None
    if experiment.student_epochs == 1 or ranks.count() > 1:
        return None
    shared = {"temperature": method.temperature, "kd_weight": method.kd_weight, "kept_epoch": "last epoch"}
    return experiment.vary(method="kd", **shared)


class FirstEpoch(TrainerCallback):
    """Leaves a student's first epoch for others, and sets what its method would have set at the end of it.

    Add it after the callbacks that set something of every instance.
    """

    def __init__(self, name: str, folder: Path, epochs: EpochResults, told: list[Reweighting | Rereading]):
        """Of the student that is trained in `folder`.

        Args:
            name: of the plain student's run, which decides the epoch.
            epochs: what is kept of every epoch.
            told: what sets something of every instance.
        """
        self.name = f"epoch-{name}"
        self.folder, self.epochs, self.told = folder, epochs, told

    def taken_up(self) -> str | None:
        """The checkpoint of another student's first epoch, copied into the folder, if there is one that is whole."""
        found = runs.caches_folder() / self.name
        if not found.is_dir():
            return None
        if damaged := files.damage(found, thoroughly=True):
            log.info("%s: %s; trained again", found.name, damaged)
            return None
        for part in found.iterdir():
            if part.is_dir():
                shutil.copytree(part, self.folder / part.name, dirs_exist_ok=True)
        log.info("its first epoch is that of plain distillation, which is there: going on from it")
        return last_checkpoint(self.folder)

    def on_train_begin(self, args, state, control, model, **kwargs):
        """Set what is in force after the epoch that training goes on from, where that epoch was another student's."""
        epoch = round(state.epoch or 0)
        for each in self.told:
            if epoch and each.due(epoch, args) and not (each.folder / f"{epoch:04d}.parquet").exists():
                each.on_epoch_end(args, state, control, model=model)
                write_manifest(self.folder, state.global_step)

    def on_save(self, args, state, control, **kwargs):
        """Leave the first epoch, unless it is there."""

        def copied(partial: Path) -> None:
            checkpoint, results = partial / f"checkpoint-{state.global_step}", partial / self.epochs.folder.name
            shutil.copytree(self.folder / checkpoint.name, checkpoint)
            results.mkdir()
            shutil.copy2(self.epochs.folder / "0001.parquet", results)
            write_manifest(partial, state.global_step)  # the copied one also names what this student's method kept

        if round(state.epoch) == 1:
            runs.cached(self.name, copied)
