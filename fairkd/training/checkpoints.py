"""Checkpoints of an interrupted training: only one that is what the run itself wrote is taken up again.

The trainer reads optimizer and random state with torch's unpickler, for weights only; so nothing is given to it whose
digests are not those of the checkpoint's manifest. Nor is anything believed of an epoch that no manifest names.
"""

import logging
import shutil
from pathlib import Path

from transformers.trainer_callback import TrainerCallback

from fairkd import files, ranks

log = logging.getLogger("fairkd")

# What a run keeps of its epochs beside its checkpoints; a checkpoint is of no use without what there was then.
_EPOCHS = "epoch-*"


class Manifested(TrainerCallback):
    """Writes the manifest of every checkpoint, when all of it is on disk."""

    def on_save(self, args, state, control, **kwargs):
        """Name the checkpoint's files and those of the epochs so far."""
        ranks.wait()  # for each has written a part
        if state.is_world_process_zero:
            write_manifest(Path(args.output_dir), state.global_step)


def write_manifest(folder: Path, step: int) -> None:
    """The manifest of a training's checkpoint at this step, and of all that there is of the epochs so far."""
    checkpoint = folder / f"checkpoint-{step}"
    parts = [checkpoint, *folder.glob(_EPOCHS)]
    files.write_manifest(checkpoint, (f for part in parts for f in part.rglob("*") if f.is_file()))


def last_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint of an interrupted training that is whole.

    Newer ones that are damaged are removed with a warning, and what was kept of later epochs without one, since the
    training goes through them again. If another number of processes wrote the checkpoint, a warning says that random
    numbers go on from elsewhere.
    """
    for path in sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]), reverse=True):
        if not (damaged := files.damage(path, thoroughly=True)):
            before, now = len(list(path.glob("rng_state*.pth"))), ranks.count()
            if before != now:
                log.warning(
                    "%s of %s: written by %d processes, taken up by %d, so the numbers are not those of either alone",
                    path.name, folder.name, before, now,
                )  # fmt: skip
            _forget_what_followed(folder, path)
            log.info("%s: going on from %s", folder.name, path.name)
            return str(path)
        log.warning("%s of %s: %s; passed over", path.name, folder.name, damaged)
        shutil.rmtree(path)
    _forget_what_followed(folder, None)
    return None


def _forget_what_followed(folder: Path, checkpoint: Path | None) -> None:
    """Remove what a training kept of epochs and the checkpoint's manifest does not name."""
    believed = {named.resolve() for named in files.manifested(checkpoint)} if checkpoint else set()
    for part in folder.glob(f"{_EPOCHS}/*"):
        if part.resolve() not in believed:
            part.unlink()
