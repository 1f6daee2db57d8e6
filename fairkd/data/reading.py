"""Files and hub data sets into frames: one set of rules, whatever the format.

What a file says is read as it stands: no word means "missing", nothing is rounded, no order of labels is assumed. What
cannot be read is refused, with the file and the line or row.
"""

import csv
import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import datasets
import pandas as pd
import pyarrow as pa
from pyarrow import parquet

_TEXT_TYPES = (".jsonl", ".json", ".csv")
_CONVERTED = (".arrow", ".tsv", ".txt")  # not read, but converted by the hub's library
_SUFFIXES = (*_TEXT_TYPES, *(f"{suffix}.gz" for suffix in _TEXT_TYPES), ".parquet")


class DataError(ValueError):
    """The data cannot be had or are not what the entry says; the message says what to do."""


@dataclass(frozen=True)
class Table:
    """Rows as they were read, in object columns, and where each of them stands.

    `names` are all columns that there are, of which `frame` has those that were asked for.
    """

    frame: pd.DataFrame
    place: str
    names: list[str]
    lines: list[int] | None = None

    def at(self, row: int) -> str:
        """Where a row, counted from 0, is found: "train.jsonl, line 18"."""
        return f"{self.place}, line {self.lines[row]}" if self.lines else f"{self.place}, row {row + 1}"


def from_rows(rows: Iterable[dict[str, Any]], place: str) -> Table:
    """Generated rows as a table."""
    frame = pd.DataFrame(list(rows), dtype=object)
    return Table(frame, place, list(frame))


def read_hub(
    source: str, split: str, columns: list[str] | None, *, config: str | None, revision: str | None, files: str | None
) -> Table:
    """One split of a hub data set, classes by their names.

    Args:
        columns: those that are asked for; None is all.
        config: the data set's configuration.
        revision: its commit or branch.
        files: pattern of the split's files, {split} for its name; None finds them as the hub does.

    Raises:
        DataError: it cannot be had.
    """
    try:
        chosen = {"data_files": {split: files.replace("{split}", split)}} if files else {}
        found = datasets.load_dataset(source, config, split=split, revision=revision, **chosen)
    except Exception as error:  # the hub's client has no common base for "not reachable", "not found", "no split"
        raise DataError(
            f"{source!r} could not be loaded from the hub ({_first_line(error)}). Give a local folder holding "
            f"{split}.jsonl (or .jsonl.gz, .csv, .parquet) with -p data FOLDER; or, if it has been downloaded once, "
            "work offline with HF_HUB_OFFLINE=1"
        ) from None
    table = found.select_columns(_asked(found.column_names, columns)).with_format("arrow")[:]
    return Table(_frame(table, found.features), f"{source}, split {split!r}", found.column_names)


def has_split(path: Path, split: str) -> bool:
    """Whether a local folder has a file of this split."""
    return path.is_dir() and bool(_candidates(path, split))


def is_file_name(source: str) -> bool:
    """Whether a source is named as a file that is read here, which no hub data set is."""
    return source.removesuffix(".gz").endswith(_SUFFIXES)


def split_file(stated: str, path: Path, split: str) -> Path:
    """The one file of a split: in a folder named after it, or as the split states it; a file is itself.

    Args:
        stated: how the folder is stated, "data = 'pairs'".
        path: the folder or file.
        split: the split.

    Raises:
        DataError: there is none, or there are several.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise DataError(f"{stated}: there is no folder {path}")
    files = _candidates(path, split)
    if not files:
        there = sorted(file.name for file in path.iterdir() if file.name.endswith((*_SUFFIXES, *_CONVERTED)))
        raise DataError(
            f"{stated}: no {split}.jsonl, .jsonl.gz, .csv or .parquet in {path}; "
            f"it has {', '.join(there[:10]) or 'no such files'}{_conversion(path, there, split)}"
        )
    if len(files) > 1:
        raise DataError(f"{stated}: {' and '.join(f.name for f in files)} are both split {split!r}; keep one")
    return files[0]


def _conversion(path: Path, there: list[str], split: str) -> str:
    """How a folder's other files become one that is read, with the hub's library; "" where it has none of them."""
    to = f'.to_parquet("{path / split}.parquet")'
    if "dataset_dict.json" in there:
        return f'; convert them: datasets.load_from_disk("{path}")["{split}"]{to}'
    if "dataset_info.json" in there:
        return f'; convert them: datasets.load_from_disk("{path}"){to}'
    if not there or any(name.endswith(_SUFFIXES) for name in there):
        return ""
    first = path / there[0]
    if first.suffix == ".arrow":
        return f'; convert it: datasets.Dataset.from_file("{first}"){to}'
    return f'; convert it, with tabs between its columns: datasets.Dataset.from_csv("{first}", sep="\\t"){to}'


def _candidates(folder: Path, split: str) -> list[Path]:
    names = [split] if split.endswith(_SUFFIXES) else [split + suffix for suffix in _SUFFIXES]
    return [folder / name for name in names if (folder / name).is_file()]


def read_file(path: Path, columns: list[str] | None) -> Table:
    """The rows of one file, with those of `columns` that it has; None is all.

    Raises:
        DataError: the file is broken or empty.
    """
    if path.name.endswith(".parquet"):
        return _read_parquet(path, columns)
    try:
        if path.name.endswith((".csv", ".csv.gz")):
            return _read_csv(path, columns)
        return _read_json(path, columns)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        hint = "is cut off" if isinstance(error, EOFError) else f"is damaged, or no gzip file ({error})"
        raise DataError(f"{path.name} {hint}; get it again, or drop .gz from the name of a plain file") from None
    except OSError as error:
        raise DataError(f"{path.name} cannot be read: {error.strerror or error}") from None


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The numbered lines of a UTF-8 file, compressed or not, with their ends."""
    with _opened(path) as stream:
        for number, line in enumerate(stream, 1):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
                if line.startswith((b"\xff\xfe", b"\xfe\xff")):
                    raise DataError(f"{path.name} is UTF-16 text; save it as UTF-8")
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError as error:
                byte = f"byte 0x{line[error.start]:02x} after {line[: error.start].decode('utf-8')[-20:]!r}"
                raise DataError(f"{path.name}, line {number}: is no UTF-8 text ({byte}); save it as UTF-8") from None
            if "\0" in text:
                raise DataError(f"{path.name}, line {number}: holds a NUL character; save it as UTF-8 text")
            yield number, text


def _opened(path: Path) -> BinaryIO:
    return gzip.open(path) if path.name.endswith(".gz") else path.open("rb")


def _read_json(path: Path, columns: list[str] | None) -> Table:
    """JSON lines; or, in a .json file that begins with a bracket, one list of rows."""
    lines = _lines(path)
    first = next(((number, line) for number, line in lines if line.strip()), None)
    if first is None:
        raise DataError(f"{path.name} is empty")
    if path.name.endswith((".json", ".json.gz")) and first[1].lstrip().startswith("["):
        rows = _parsed("".join([first[1], *(line for _, line in lines)]), path.name)
        rows, numbers = enumerate(rows, 1), None
    else:
        numbered = ((number, line) for part in ([first], lines) for number, line in part if line.strip())
        numbers = []
        rows = ((number, _parsed(line, f"{path.name}, line {number}")) for number, line in numbered)
    seen: dict[str, None] = {}
    values: dict[str, list[Any]] = {}
    for count, (number, row) in enumerate(rows):
        if not isinstance(row, dict):
            what = f"{path.name}, {'row' if numbers is None else 'line'} {number}"
            raise DataError(f'{what}: is no object such as {{"text": ..., "label": ...}}, but {json.dumps(row)[:60]}')
        if not row.keys() <= seen.keys():
            seen |= dict.fromkeys(row)
            values |= {name: [None] * count for name in _asked(row, columns) if name not in values}
        for name, column in values.items():
            column.append(row.get(name))
        if numbers is not None:
            numbers.append(number)
    return Table(pd.DataFrame(values, dtype=object), path.name, list(seen), numbers)


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        what = f"{error.msg} at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else str(error)
        raise DataError(f"{where}: is no JSON ({what}): {text.strip()[:60]!r}") from None


def _read_csv(path: Path, columns: list[str] | None) -> Table:
    """Comma-separated values with a header, quoted by double quotes; every value is text, as it stands."""
    reader = csv.reader((line for _, line in _lines(path)), strict=True)
    start, numbers = 1, []
    values: dict[str, list[str]] = {}
    header: list[str] = []
    try:
        for row in reader:
            number, start = start, reader.line_num + 1
            if not row:
                continue
            if not header:
                header = row
                values = {name: [] for name in _asked(header, columns)}
                if twice := [name for name in values if header.count(name) > 1]:
                    raise DataError(f"{path.name}: the header names {twice[0]!r} twice")
                places = [(column, header.index(name)) for name, column in values.items()]
                continue
            if len(row) != len(header):
                raise DataError(
                    f"{path.name}, line {number}: has {len(row)} fields, the header has {len(header)} "
                    f"({', '.join(header)}); text with commas, quotes or line ends stands in double quotes"
                )
            for column, i in places:
                column.append(row[i])
            numbers.append(number)
    except csv.Error as error:
        raise DataError(
            f"{path.name}, line {start}: {error}; quotes in quoted text are doubled, every one is closed"
        ) from None
    if not numbers:
        raise DataError(f"{path.name} is empty" if not header else f"{path.name} has a header and no rows")
    return Table(pd.DataFrame(values, dtype=object), path.name, header, numbers)


def _read_parquet(path: Path, columns: list[str] | None) -> Table:
    try:
        names = parquet.read_schema(path).names
        table = parquet.read_table(path, columns=_asked(names, columns))
        # Files that the hub's library wrote carry the names of their classes.
        features = datasets.Features.from_arrow_schema(table.schema)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path.name} is damaged, or no parquet file ({_first_line(error)})") from None
    if not table.num_rows:
        raise DataError(f"{path.name} is empty")
    return Table(_frame(table, features), path.name, names)


def _frame(table: pa.Table, features: datasets.Features) -> pd.DataFrame:
    """A frame of Python values, in which class indices are names, so that no order of labels is assumed."""
    frame = table.to_pandas(integer_object_nulls=True).astype(object)
    for name, feature in features.items():
        if isinstance(feature, datasets.ClassLabel) and name in frame:
            names = {i: feature.int2str(i) for i in range(feature.num_classes)}
            frame[name] = frame[name].map(lambda i, names=names: names.get(i, i))
    return frame


def _asked(names: Iterable[str], columns: list[str] | None) -> list[str]:
    return [name for name in names if columns is None or name in columns]


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:200]
