"""What lies in reports/: runs and caches, whole or not, of which parameters and code, how large, what may be deleted.

A run that no experiment of this checkout would find again (other code, other versions) stays until somebody removes it.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from filelock import Timeout

from fairkd import files, provenance, runs
from fairkd.weighting import METHODS


class InventoryError(ValueError):
    """There is no such run, or it cannot be removed now; the message says why."""


@dataclass(frozen=True)
class Kept:
    """One folder of reports/runs.

    Attributes:
        folder: where it is.
        state: finished, damaged (set aside), interrupted (goes on when asked for), or being made.
        made: when it was last written.
        size: bytes.
        why: what makes it safe to delete; "" of what a notebook of this checkout may read.
        stated: some of its parameters.
    """

    folder: Path
    state: str
    made: datetime
    size: int
    why: str
    stated: str

    def row(self) -> tuple[str, ...]:
        """For a table: name, state, made, MB, safe to delete, parameters."""
        safe = f"yes: {self.why}" if self.why else "no"
        when = f"{self.made:%Y-%m-%d %H:%M}"
        return (self.folder.name, self.state, when, f"{self.size / 1e6:.1f}", safe, self.stated)


COLUMNS = ("run", "state", "written", "MB", "safe to delete", "parameters")
_TOLD = (
    "method",
    "student",
    "aux_layer",
    "seed",
    "dataset",
    "train_examples",
    "teacher_epochs",
    "student_epochs",
    "set",
)


def kept_runs() -> list[Kept]:
    """Every run there is, by name."""
    there, found = runs.runs_folder(), []
    for folder in sorted(there.iterdir()) if there.is_dir() else []:
        with suppress(FileNotFoundError):  # renamed or removed meanwhile
            found += [_kept(folder)] if folder.is_dir() else []
    return found


def named(name: str) -> Path:
    """The folder of a run.

    Raises:
        InventoryError: there is none of this name.
    """
    found = {folder.name: folder for folder in runs.runs_folder().glob("*") if folder.is_dir()}
    if name not in found:
        raise InventoryError(f"{name}: there is no such run in {runs.runs_folder()}; see python -m fairkd runs list")
    return found[name]


def describe(name: str) -> str:
    """All that a run says of itself: parameters, circumstances, code, files.

    Raises:
        InventoryError: there is none of this name.
    """
    folder = named(name)
    parts = ["\t".join(_kept(folder).row())]
    for file in ("config.yaml", "provenance.json"):
        if (folder / file).is_file():
            parts.append(f"{file}\n{(folder / file).read_text(encoding='utf-8', errors='replace')}")
    sizes = [f"{f.stat().st_size:>12,}  {f.relative_to(folder).as_posix()}" for f in _files(folder)]
    return "\n".join([*parts, "bytes         file", *sizes])


def verify(names: list[str]) -> dict[str, str | None]:
    """{run: what is wrong with it, None of nothing}, every file read; all finished runs, if none is named.

    Raises:
        InventoryError: there is none of a name.
    """
    chosen = [named(name) for name in names] or [k.folder for k in kept_runs() if k.state == "finished"]
    return {folder.name: files.damage(folder, thoroughly=True) for folder in chosen}


def remove(names: list[str]) -> int:
    """Delete runs; the bytes that are free.

    Raises:
        InventoryError: there is none of a name, or a process is making it; then nothing is deleted.
    """
    chosen = [_kept(named(name)) for name in names]
    for each in chosen:
        if each.state == "being made":
            raise InventoryError(f"{each.folder.name}: a process is making it; end that first")
    for each in chosen:
        with _free(each.folder) as free:
            if not free:
                raise InventoryError(f"{each.folder.name}: a process has begun to make it; nothing of it is removed")
            shutil.rmtree(each.folder)
    return sum(each.size for each in chosen)


def caches() -> dict[str, tuple[int, int]]:
    """{kind of cache: (how many, bytes)}."""
    found: dict[str, tuple[int, int]] = {}
    for folder in runs.caches_folder().glob("*"):
        if folder.is_dir():
            kind = folder.name.partition("-")[0]
            count, size = found.get(kind, (0, 0))
            found[kind] = (count + 1, size + _size(folder))
    return dict(sorted(found.items()))


def clean_caches() -> int:
    """Delete every cache that nobody is making; the bytes that are free."""
    freed = 0
    for folder in [folder for folder in runs.caches_folder().glob("*") if folder.is_dir()]:
        with _free(folder) as free:
            if free:
                freed += _size(folder)
                shutil.rmtree(folder)
    return freed


def _kept(folder: Path) -> Kept:
    stated, code = _mapping(folder / "config.yaml", yaml.safe_load), _mapping(folder / "provenance.json", json.loads)
    state = {".damaged": "damaged", ".partial": "interrupted"}.get(folder.suffix, "finished")
    if state == "interrupted":
        with _free(folder) as free:
            if not free:
                state = "being made"
    elif state == "finished" and files.damage(folder):
        state = "damaged"
    told = ", ".join(f"{name}={stated[name]}" for name in (*_TOLD, *_own(stated)) if stated.get(name) is not None)
    made = datetime.fromtimestamp(max([f.stat().st_mtime for f in _files(folder)], default=folder.stat().st_mtime))
    goes_on = state == "interrupted" and any(folder.glob(f"checkpoint-*/{files.MANIFEST}"))
    return Kept(folder, state, made, _size(folder), "" if goes_on else _why(state, code), told)


def _mapping(file: Path, parse: Callable[[str], Any]) -> dict:
    """What stands in a file of a run; nothing, where the file is missing or damaged."""
    try:
        found = parse(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def _own(stated: dict) -> list[str]:
    """What of a run's method is not the method's default: two runs that differ in it alone are told apart by it."""
    method = METHODS.get(stated.get("method"))
    fields = method.model_fields if method else {}
    return [name for name in fields if name in stated and name not in _TOLD and stated[name] != fields[name].default]


def _why(state: str, code: dict) -> str:
    """What makes a run that does not go on from a checkpoint safe to delete."""
    if state == "being made":
        return ""
    if state != "finished":
        return "it is damaged" if state == "damaged" else "it is begun anew"
    modules = {name: digest for name, digest in code.get("code", {}).items() if name.startswith("fairkd.")}
    now = provenance.code_digests(*modules)
    changed = [name for name, digest in modules.items() if now.get(name) != digest]
    versions = provenance.versions()
    changed += [name for name, number in code.get("versions", {}).items() if versions.get(name) != number]
    return f"made by other code ({', '.join(changed[:3])}{', ...' if len(changed) > 3 else ''})" if changed else ""


@contextmanager
def _free(folder: Path) -> Iterator[bool]:
    """Hold the lock under which the folder is made; whether it was to be had."""
    lock = runs.lock_of(folder.with_name(folder.name.removesuffix(".partial")))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in _files(folder))
