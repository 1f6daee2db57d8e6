"""Where a run lives: its key, its folder, and the one moment at which it becomes visible.

A run is named by a digest of all that decides it: parameters, code, versions. It is computed in `<name>.partial`, where
an interrupted training finds its checkpoints again; `manifest.json`, written last, says that it is whole; then it is
renamed to `<name>`. So a folder that exists is a finished run; a lock lets one process at a time make it. What is no
longer what was written is set aside as `<name>.damaged` and made again.
"""

import hashlib
import json
import logging
import os
import resource
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from filelock import FileLock, Timeout

from fairkd import files, provenance, ranks
from fairkd.parameters import nearest

log = logging.getLogger("fairkd")

_CHECKOUT = Path(__file__).parents[1]
# What is needed only until a run is whole: checkpoints, what is kept of every epoch, features.
_SCRATCH = ("checkpoint-*", "epoch-*", "features")


def root() -> Path:
    """The project's folder, whatever the caller's: FAIRKD_ROOT, or the checkout that fairkd is installed from."""
    return Path(os.environ.get("FAIRKD_ROOT") or _CHECKOUT).resolve()


def runs_folder() -> Path:
    """Where all runs live, one folder each."""
    return root() / "reports" / "runs"


def local_path(source: str) -> Path | None:
    """The folder or file that `source` means, relative ones taken from `root()`; None where it reads as a hub name.

    What is not there is looked for in the checkout that fairkd is installed from, where its own encoders are. A path
    that does not exist counts as a hub name ("owner/name") unless it is spelt as a path (/, ~ or .).
    """
    for folder in (root(), _CHECKOUT):
        if (path := folder / Path(source).expanduser()).exists():
            return path
    return root() / Path(source).expanduser() if source.startswith(("/", "~", ".")) else None


def fingerprint(source: str | None) -> str | None:
    """What a source is in a key: a hub name as it is; a folder its own name and a digest of its files.

    Hidden files and texts about it (*.md) are left out. A file is read again when its size or its time of change is
    another.
    """
    path = local_path(source) if source else None
    if path is None:
        return source
    parts = sorted(f for f in path.rglob("*") if f.is_file() and _is_content(f, path)) if path.is_dir() else [path]
    found = hashlib.sha256()
    for file in parts:
        found.update(f"{file.relative_to(path)}\0{file.stat().st_size}\0{files.file_digest(file)}".encode())
    return f"{path.name}, sha256 {found.hexdigest()[:16]}"


def _is_content(file: Path, folder: Path) -> bool:
    return file.suffix != ".md" and not any(part.startswith(".") for part in file.relative_to(folder).parts)


def digest(*parts: str | bytes) -> str:
    """A short digest of texts, for a name; where one ends and the next begins counts."""
    found = hashlib.sha256()
    for part in parts:
        part = part.encode() if isinstance(part, str) else part
        found.update(len(part).to_bytes(8) + part)
    return found.hexdigest()[:16]


def identity(parameters: dict[str, Any], *code: str | type) -> dict[str, Any]:
    """All that decides a run: its parameters, the code that computes it (see `provenance.code_digests`), versions."""
    return {"parameters": parameters, "code": provenance.code_digests(*code), "versions": provenance.versions()}


def run_name(kind: str, identity: dict[str, Any]) -> str:
    """The name of a run: what it is, and a short digest of its identity."""
    return f"{kind}-{hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]}"


class MissingRunError(FileNotFoundError):
    """A result is asked for that no run has left yet."""


class Run:
    """A finished run on disk; its tables are read when asked for.

    A run that was made of another one (exits of a student) answers for that one too.
    """

    def __init__(self, folder: Path, of: "Run | None" = None):
        """Open the finished run in `folder`, made of the run `of`."""
        self.folder, self.of = folder, of

    @property
    def model_folder(self) -> Path:
        """An ordinary transformers folder: `pipeline("text-classification", model=run.model_folder)`."""
        return self.path("model")

    @property
    def metrics(self) -> dict[str, Any]:
        """Group report, as in metrics.json."""
        return json.loads(self.path("metrics.json").read_text(encoding="utf-8"))

    @property
    def config(self) -> dict[str, Any]:
        """The parameters that made the run, as in config.yaml."""
        return yaml.safe_load((self.folder / "config.yaml").read_text(encoding="utf-8"))

    @property
    def provenance(self) -> dict[str, Any]:
        """Code, versions, machine, seconds and memory of the run, as in provenance.json."""
        return json.loads((self.folder / "provenance.json").read_text(encoding="utf-8"))

    def path(self, name: str) -> Path:
        """The file or folder `name` of this run, or else of the run that it was made of."""
        own = self.folder / name
        return self.of.path(name) if self.of and not own.exists() else own

    def table(self, name: str) -> pd.DataFrame:
        """One of the run's tables: "predictions", "epochs", "history", "weights" or, of a teacher, "train_logits".

        Raises:
            FileNotFoundError: it has none of this name; the message names those that it has.
        """
        path = self.path(f"{name}.parquet")
        if not path.exists():
            there, run = set(), self
            while run:
                there, run = there | {file.stem for file in run.folder.glob("*.parquet")}, run.of
            said = f"{nearest(name, there)} ({', '.join(sorted(there))})" if there else "it has none"
            raise FileNotFoundError(f"{self.folder.name} has no table {name!r}; {said}")
        return pd.read_parquet(path)

    def __repr__(self) -> str:
        """The folder, from the project's root where it lies there."""
        folder = self.folder.relative_to(root()) if self.folder.is_relative_to(root()) else self.folder
        return f"Run({folder.as_posix()!r})"


def find(name: str) -> Run | None:
    """The finished run of this name, or None; one whose files have changed is renamed to *.damaged, with a warning."""
    folder = runs_folder() / name
    if folder.is_dir() and files.damage(folder):
        with alone(folder):
            _set_aside(folder)
    return Run(folder) if folder.is_dir() else None


def open_run(run: str | Path) -> Run:
    """The finished run of a name, or in a folder: what `python -m fairkd train` prints. Exits have their student.

    Raises:
        MissingRunError: there is none, or its files are not what was written.
    """
    folder = Path(run) if Path(run).is_dir() else runs_folder() / run
    if damage := files.damage(folder):
        there = f"{folder}: {damage}" if folder.is_dir() else f"no finished run {run} in {runs_folder()}"
        raise MissingRunError(f"{there}; python -m fairkd runs lists those that there are")
    of = folder.parent / str(Run(folder).config.get("student"))
    return Run(folder, open_run(of) if of.is_dir() else None)


def _set_aside(folder: Path) -> None:
    """Rename a folder that is no longer what was written; by who holds its lock."""
    if folder.is_dir() and (damaged := files.damage(folder)):
        aside = folder.with_name(f"{folder.name}.damaged")
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)
        log.warning("%s: %s; set aside as %s", folder.name, damaged, aside.name)


def find_or_explain(name: str, command: str) -> Run:
    """The finished run of this name.

    Raises:
        MissingRunError: there is none; the message names `command`, which makes it.
    """
    if run := find(name):
        return run
    aside = runs_folder() / f"{name}.damaged"
    where = f"{runs_folder()} (one that is damaged lies in {aside.name})" if aside.is_dir() else runs_folder()
    raise MissingRunError(
        f"no finished run {name} in {where}: make it with `{command}` (with the same parameters as here), "
        "or make all that a profile needs with `make reports PROFILE=<name>`"
    )


def make(
    kind: str,
    identity: dict[str, Any],
    compute: Callable[[Path], None],
    of: Run | None = None,
    *,
    together: bool = False,
) -> Run:
    """The run of this kind and identity: the finished one, or computed now by `compute(partial folder)`.

    `compute` may find its own checkpoints in the folder. A second process that asks for the same run waits.

    Args:
        of: the run that it is made of, if any.
        together: all processes of `ranks` compute it, the first of which writes; else the first alone.
    """
    name = run_name(kind, identity)
    if not ranks.first():
        while ranks.told(lambda: False):  # the first says whether there is something to compute
            compute(runs_folder() / f"{name}.partial")
        return Run(runs_folder() / name, of)

    def whole(folder: Path) -> None:
        if files.damage(folder):
            _explain_new(kind, identity)
            _clear(folder)
            start, commit = time.perf_counter(), provenance.commit(_CHECKOUT)  # a checkout may move on meanwhile
            if together:
                ranks.told(lambda: True)
            with nullcontext() if together else ranks.apart():
                compute(folder)
                made = {"processes": ranks.count(), "commit": commit}
            made |= {"seconds": round(time.perf_counter() - start, 1), "peak_memory_gib": round(peak_gib(), 2)}
            _write_stated(folder, identity, provenance.machine() | made)
            files.write_manifest(folder, _lasting(folder))
        for pattern in _SCRATCH:
            for scratch in folder.glob(pattern):
                shutil.rmtree(scratch)

    if find(name):
        log.info("%s: found, reused", name)
    else:
        _once(runs_folder() / name, whole)
    ranks.told(lambda: False)
    return Run(runs_folder() / name, of)


def _clear(folder: Path) -> None:
    """Remove what an interrupted computation left but for what it goes on from, and its logs."""
    kept = {folder / "runs"}.union(*(folder.glob(pattern) for pattern in _SCRATCH))
    for path in set(folder.iterdir()) - kept:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _write_stated(folder: Path, identity: dict[str, Any], circumstances: dict[str, Any]) -> None:
    """The run's parameters, and under what circumstances it was made."""
    stated = {name: identity[name] for name in ("versions", "code")}
    files.write_text(folder / "config.yaml", yaml.safe_dump(identity["parameters"], sort_keys=False))
    files.write_json(folder / "provenance.json", circumstances | stated)


def _lasting(folder: Path) -> list[Path]:
    """The files of a run that stay as they are: all but scratch, and logs that a viewer may touch."""
    scratch = {path for pattern in _SCRATCH for path in folder.glob(pattern)}
    there = [f for f in folder.rglob("*") if f.is_file() and not scratch & set(f.parents)]
    return [f for f in there if "runs" not in f.relative_to(folder).parts]


def _explain_new(kind: str, identity: dict[str, Any]) -> None:
    """Say what a run that is made anew differs by from the most similar one of its kind."""
    closest: tuple[int, str, list[str]] | None = None
    for folder in [folder for folder in runs_folder().glob(f"{kind}-*") if not folder.suffix]:
        try:
            stated = {"parameters": Run(folder).config} | Run(folder).provenance
            apart = [
                f"{part} {name}" if part != "parameters" else name
                for part in ("parameters", "code", "versions")
                for name in sorted(identity[part].keys() | stated[part].keys())
                if identity[part].get(name) != stated[part].get(name)
            ]
        except (OSError, ValueError, TypeError, AttributeError, KeyError, yaml.YAMLError):
            continue  # damaged: who asks for it is told
        if apart and (closest is None or len(apart) < closest[0]):
            closest = (len(apart), folder.name, apart)
    if closest:
        more = f" and {closest[0] - 5} more" if closest[0] > 5 else ""
        log.info("%s differs in %s%s", closest[1], ", ".join(closest[2][:5]), more)


def caches_folder() -> Path:
    """Where what is only kept to save time lies."""
    return root() / "reports" / "cache"


def cached(name: str, compute: Callable[[Path], None]) -> Path:
    """The folder of what is only kept to save time (tokens, features), safe to delete; appears whole, as runs do.

    One that is no longer what was written is made again.
    """
    folder = caches_folder() / name

    def whole(partial: Path) -> None:
        shutil.rmtree(partial)  # with what a killed process left there
        partial.mkdir()
        compute(partial)
        files.write_manifest(partial, (file for file in partial.rglob("*") if file.is_file()))

    if folder.is_dir() and files.damage(folder):
        with alone(folder):
            if folder.is_dir() and (damaged := files.damage(folder)):
                log.info("%s: %s; made again", name, damaged)
                shutil.rmtree(folder)
    return folder if folder.is_dir() else _once(folder, whole)


def _once(folder: Path, compute: Callable[[Path], None]) -> Path:
    """`folder`, complete: as it is, or computed beside it and renamed; one process at a time.

    Raises:
        StorageError: the disk is full, or cannot be written to.
    """
    with alone(folder):
        if not folder.is_dir():
            partial = folder.with_name(f"{folder.name}.partial")
            partial.mkdir(exist_ok=True)
            compute(partial)
            partial.rename(folder)
    return folder


@contextmanager
def alone(folder: Path, waits: Callable[[str], None] = log.info) -> Iterator[None]:
    """Hold the lock of a folder; the lock of a process that was killed is free.

    Args:
        folder: what one process at a time makes.
        waits: given who holds the lock, in words, before it is waited for.

    Raises:
        StorageError: the disk is full, or cannot be written to.
    """
    holder, lock = folder.parent / f".{folder.name}.holder", lock_of(folder)
    with files.storing(folder.name, folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            waits(f"{folder.name}: {_holding(holder)} is making it; waiting")
            lock.acquire()
        try:
            said = {"process": os.getpid(), "host": socket.gethostname(), "command": " ".join(sys.argv)[:200]}
            files.write_json(holder, said | {"since": time.strftime("%Y-%m-%d %H:%M:%S")})
            yield
        finally:
            holder.unlink(missing_ok=True)
            lock.release()


def lock_of(folder: Path) -> FileLock:
    """The lock that a process holds while it makes the folder."""
    return FileLock(folder.parent / f".{folder.name}.lock")


def _holding(holder: Path) -> str:
    """Who holds a lock, as it says itself."""
    try:
        said = json.loads(holder.read_text(encoding="utf-8"))
        return f"process {said['process']} on {said['host']} ({said['command']}), since {said['since']},"
    except (OSError, ValueError, KeyError):
        return "another process"


def peak_gib() -> float:
    """The most memory that the process has held so far, GiB."""
    unit = 2**30 if sys.platform == "darwin" else 2**20  # bytes there, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
