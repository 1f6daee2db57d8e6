"""Files that are whole or absent, and folders that can be told to be what was written.

A file is written under another name, synced and renamed. A folder's `manifest.json`, written last, holds size, time of
change and digest of every file in it.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

MANIFEST = "manifest.json"
_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota of the disk is used up",
    errno.EROFS: "the disk can only be read",
    errno.EACCES: "it may not be written to",
    errno.EPERM: "it may not be written to",
}
# Less is left where a write has just failed for want of space, whatever its library says.
_FULL = 2**20


class StorageError(OSError):
    """Something could not be written; the message says what and where, and what to do."""


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    _replacing(path, lambda scratch: scratch.write_text(text, encoding="utf-8"))


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a parquet file whole or not at all."""
    _replacing(path, table.to_parquet)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write `content` so that the same content is the same bytes, whole or not at all; NaN becomes null."""
    write_text(path, json.dumps(_plain(content), indent=2, allow_nan=False) + "\n")


def _replacing(path: Path, write: Callable[[Path], Any]) -> None:
    """Write under another name, sync, rename: a process killed meanwhile leaves no half file under this name."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}.new")
    write(scratch)
    with scratch.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(scratch, path)


def _plain(value):
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and value != value else value


_digests: dict[tuple, str] = {}


def file_digest(file: Path) -> str:
    """SHA-256 of a file's content, read again when its size, its time of change or its inode is another."""
    state = file.stat()
    key = (file, state.st_size, state.st_mtime_ns, state.st_ino)
    if key not in _digests:
        _digests[key] = read_digest(file)
    return _digests[key]


def read_digest(file: Path) -> str:
    """SHA-256 of a file's content, read now."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_manifest(folder: Path, named: Iterable[Path]) -> None:
    """Write the folder's manifest of the files `named`, never of itself; their content is synced first."""
    entries = {}
    for file in sorted(set(named) - {folder / MANIFEST}):
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
        state = file.stat()
        entries[os.path.relpath(file, folder)] = [state.st_size, state.st_mtime_ns, file_digest(file)]
    write_json(folder / MANIFEST, entries)


def manifested(folder: Path) -> list[Path]:
    """The files that the manifest of a whole folder names."""
    return [folder / name for name in json.loads((folder / MANIFEST).read_text(encoding="utf-8"))]


def damage(folder: Path, *, thoroughly: bool = False) -> str | None:
    """What is wrong with a folder's files, by its manifest: the first that is missing or has other content.

    Args:
        thoroughly: read every file; else those of the size and time in the manifest are believed.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        entries = [(name, size, changed, sha256) for name, (size, changed, sha256) in manifest.items()]
    except (OSError, ValueError, TypeError, AttributeError):
        return f"its {MANIFEST} is missing or damaged"
    for name, size, changed, sha256 in entries:
        file = folder / name
        if not file.is_file():
            return f"{name} is missing"
        state = file.stat()
        believed = not thoroughly and (state.st_size, state.st_mtime_ns) == (size, changed)
        if not believed and (state.st_size != size or read_digest(file) != sha256):
            return f"{name} is not what was written"
    return None


@contextmanager
def storing(what: str, folder: Path) -> Iterator[None]:
    """Turn the many errors of a disk that is full or cannot be written to into one `StorageError`."""
    try:
        yield
    except StorageError:
        raise
    except Exception as error:  # parquet, safetensors, tokenizers and torch each have their own
        if reason := _reason(error, folder):
            raise StorageError(
                f"{what} cannot be written to {folder}: {reason}. What was finished before is whole, and the lock is "
                "free. Make room (`python -m fairkd cache clean`, `python -m fairkd runs list`) or make the folder "
                "writable, and give the same command again: it goes on where it was"
            ) from None
        raise


def _reason(error: BaseException | None, folder: Path) -> str | None:
    while error is not None:
        if isinstance(error, OSError) and error.errno in _REASONS:
            inside = not isinstance(error.filename, str | Path) or Path(error.filename).is_relative_to(folder)
            return _REASONS[error.errno] if inside or error.errno == errno.ENOSPC else None
        for number, said in _REASONS.items():
            if f"os error {number})" in str(error):
                return said
        error = error.__cause__ or error.__context__
    return _REASONS[errno.ENOSPC] if folder.is_dir() and shutil.disk_usage(folder).free < _FULL else None
