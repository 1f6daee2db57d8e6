"""Where a run lives, and what is cached: its key, its folder, and the one moment at which it becomes visible.

A run is computed in `<name>.partial`, where an interrupted training finds its checkpoints again, and renamed to
`<name>` when it is complete. So a folder that exists is a finished run; a lock lets one process at a time make it.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from filelock import FileLock

# The tiny pretrained encoders of the demo, made by `python -m fairkd.demo.pretrain`.
EMBEDDED = {name: Path(__file__).parent / "demo" / "encoders" / name for name in ("demo-bert", "demo-distilbert")}

log = logging.getLogger("fairkd")

# Raised when the meaning of a stored result changes, so that older ones are not taken for it.
_FORMAT = 2


def root() -> Path:
    """The project's folder, whatever the caller's: FAIRKD_ROOT, or the checkout that fairkd is installed from."""
    return Path(os.environ.get("FAIRKD_ROOT") or Path(__file__).parents[1]).resolve()


def runs_folder() -> Path:
    """Where all runs live, one folder each."""
    return root() / "reports" / "runs"


def local_path(source: str) -> Path | None:
    """The folder `source` means, relative ones taken from `root()`; None where it reads as a hub name.

    The names of the embedded encoders mean their folders. A path that does not exist counts as a hub name
    ("owner/name") unless it is spelt as a path (/, ~ or .).
    """
    if source in EMBEDDED:
        return EMBEDDED[source]
    path = root() / Path(source).expanduser()
    return path if path.exists() or source.startswith(("/", "~", ".")) else None


@cache
def fingerprint(source: str | None) -> str | None:
    """What a source is in a key: a hub name as it is; a folder its own name and a digest of its files."""
    path = local_path(source) if source else None
    if path is None:
        return source
    files = sorted(f for f in path.rglob("*") if f.is_file()) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(path)}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return f"{path.name}, sha256 {digest.hexdigest()[:16]}"


def digest(*parts: str | bytes) -> str:
    """A short digest of texts, for a name; where one ends and the next begins counts."""
    found = hashlib.sha256()
    for part in parts:
        part = part.encode() if isinstance(part, str) else part
        found.update(len(part).to_bytes(8) + part)
    return found.hexdigest()[:16]


def run_key(parameters: dict[str, Any]) -> str:
    """A short digest of everything that decides a run's result."""
    text = json.dumps({"format": _FORMAT} | parameters, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class MissingRunError(FileNotFoundError):
    """A result is asked for that no run has left yet."""


class Run:
    """A finished run on disk; its tables are read when asked for."""

    def __init__(self, folder: Path):
        """Open the finished run in `folder`."""
        self.folder = folder

    @property
    def model_folder(self) -> Path:
        """An ordinary transformers folder: `pipeline("text-classification", model=run.model_folder)`."""
        return self.folder / "model"

    @property
    def metrics(self) -> dict[str, Any]:
        """Group report, as in metrics.json."""
        return json.loads((self.folder / "metrics.json").read_text(encoding="utf-8"))

    @property
    def config(self) -> dict[str, Any]:
        """The parameters that made the run, as in config.yaml."""
        return yaml.safe_load((self.folder / "config.yaml").read_text(encoding="utf-8"))

    def table(self, name: str) -> pd.DataFrame:
        """One of the run's tables: "predictions", "epochs", "history", "weights" or, of a teacher, "train_logits"."""
        return pd.read_parquet(self.folder / f"{name}.parquet")

    def __repr__(self) -> str:
        """The folder, from the project's root."""
        return f"Run({self.folder.relative_to(root()).as_posix()!r})"


def find(name: str) -> Run | None:
    """The finished run of this name, or None."""
    folder = runs_folder() / name
    return Run(folder) if folder.is_dir() else None


def find_or_explain(name: str, command: str) -> Run:
    """The finished run of this name.

    Raises:
        MissingRunError: there is none; the message names `command`, which makes it.
    """
    if run := find(name):
        return run
    raise MissingRunError(
        f"no finished run {name} in {runs_folder()}: make it with `{command}` (with the same parameters as here), "
        "or make all that a profile needs with `make reports PROFILE=<name>`"
    )


def make(name: str, compute: Callable[[Path], None]) -> Run:
    """The run of this name: the finished one, or computed now by `compute(partial folder)`.

    `compute` may find its own checkpoints in the folder. A second process that asks for the same run waits.
    """

    def cleaned(folder: Path) -> None:
        compute(folder)
        for checkpoint in folder.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)

    if find(name):
        log.info("%s: found, reused", name)
    return Run(_once(runs_folder() / name, cleaned))


def cached(name: str, compute: Callable[[Path], None]) -> Path:
    """The folder of what is only kept to save time (tokens, features), safe to delete; made as `make` does."""
    return _once(root() / "reports" / "cache" / name, compute)


def _once(folder: Path, compute: Callable[[Path], None]) -> Path:
    """`folder`, complete: as it is, or computed beside it and renamed; one process at a time."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f".{folder.name}.lock"):
        if not folder.is_dir():
            partial = folder.with_name(f"{folder.name}.partial")
            partial.mkdir(exist_ok=True)
            compute(partial)
            partial.rename(folder)
    return folder


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write `content` so that the same content is the same bytes; NaN becomes null."""
    path.write_text(json.dumps(_plain(content), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _plain(value):
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and value != value else value
