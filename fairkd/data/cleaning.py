"""From rows as they were read to examples: labels as class indices, text, levels of the attribute.

A row without a label, without text or without a level is dropped and counted by reason; any other value that the entry
does not allow is refused.
"""

import difflib
import logging
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from fairkd.data.entry import Attribute, Entry, Labels
from fairkd.data.groups import has_word
from fairkd.data.reading import DataError, Table
from fairkd.data.registry import RULES

log = logging.getLogger("fairkd")

_WHOLE = re.compile(r"[+-]?[0-9]{1,15}(\.0*)?", re.ASCII)
# Half of a character that UTF-16 writes as two: JSON can hold one, no text can.
_HALF = re.compile("[\ud800-\udfff]")
# More levels are no groups, but a column of names or of measurements.
_MOST_LEVELS = 50


def clean(table: Table, entry: Entry, split: str) -> tuple[pd.DataFrame, dict[str, int]]:
    """The labelled rows: text columns, id, label (class index), attribute, and `held`, the column held out by.

    Args:
        table: all rows of the split.
        split: its name, which counted ids begin with.

    Returns:
        The frame, and how many rows were dropped, by reason.

    Raises:
        DataError: a value that the entry does not allow, or no row is left.
    """
    for column in entry.required:
        if column not in table.names:
            close = difflib.get_close_matches(column, table.names, n=1)
            hint = f"; is it {close[0]!r}?" if close else ""
            raise DataError(f"{table.place} has no column {column!r}; it has {', '.join(table.names)[:400]}{hint}")
    keep = _Kept(table)
    keep.only(_labelled(table, entry.label), "no label")
    for column in entry.text:
        texts = table.frame[column]
        keep.only(texts.notna(), f"no {column}")
        keep.only(~texts.map(lambda text: isinstance(text, str) and not text.strip()).astype(bool), f"empty {column}")
    _check_text(table, entry, keep.rows)
    levels = _levels(table, entry.attribute, keep)
    kept = table.frame[keep.rows]
    if kept.empty:
        why = ", ".join(f"{reason}: {count}" for reason, count in keep.dropped.items())
        raise DataError(f"{table.place}: none of its {len(table.frame)} rows is left ({why})")
    frame = pd.DataFrame({column: kept[column].astype(str) for column in entry.text})
    frame["id"] = _ids(kept, entry.id, split)
    frame["label"] = _class_indices(table, entry.label, keep.rows)
    frame[entry.attribute.name] = levels
    if entry.hold_out_by in kept:
        frame["held"] = kept[entry.hold_out_by]
    return frame.reset_index(drop=True), keep.dropped


class _Kept:
    """Which rows are kept, and how many were dropped for which reason."""

    def __init__(self, table: Table):
        self.rows = np.ones(len(table.frame), dtype=bool)
        self.dropped: dict[str, int] = {}

    def only(self, wanted: pd.Series, reason: str) -> None:
        lost = self.rows & ~wanted.to_numpy(dtype=bool)
        if lost.any():
            self.dropped[reason] = int(lost.sum())
            self.rows &= ~lost


def _key(value: Any) -> str | None:
    """How a value is compared: 1, 1.0, "1" and "1.0" are one; None of a missing one."""
    if value is None or (isinstance(value, float) and value != value) or value is pd.NA:
        return None
    if isinstance(value, bool | np.bool_):
        return str(bool(value)).lower()
    text = str(value)
    return str(int(float(text))) if _WHOLE.fullmatch(text) else text


def _by_value(column: pd.Series, function: Callable[[Any], Any]) -> pd.Series:
    """`function` of every value, asked once for each that differs by itself or by type."""
    known: dict[tuple[type, Any], Any] = {}

    def of(value: Any) -> Any:
        key = (type(value), value if value.__hash__ else str(value))
        if key not in known:
            known[key] = function(value)
        return known[key]

    return pd.Series([of(value) for value in column], index=column.index, dtype=object)


def _labelled(table: Table, labels: Labels) -> pd.Series:
    unlabelled = {None, *map(_key, labels.unlabelled)}
    return _by_value(table.frame[labels.column], lambda value: _key(value) not in unlabelled).astype(bool)


def _class_indices(table: Table, labels: Labels, rows: np.ndarray) -> pd.Series:
    """(N,) class indices of the rows kept, none of which is without a label."""
    column = table.frame[labels.column][rows]
    if labels.threshold is not None:
        return (_numbers(table, column) >= labels.threshold).astype(np.int64)
    index = {_key(name): i for i, name in enumerate(labels.names)}
    index |= {_key(value): labels.names.index(name) for value, name in (labels.map or {}).items()}
    found = _by_value(column, lambda value: index.get(_key(value)))
    if found.isna().any():
        wrong = found.index[found.isna()][0]
        value = column[wrong]
        allowed = f"allowed: {', '.join([*labels.names, *(str(value) for value in labels.map or ())])}"
        hint = ""
        if labels.map is None and re.fullmatch(r"-?[0-9]+", _key(value)):
            hint = f"; numbers have no order of their own: state label: map: {_unnamed(column)} in its file"
        raise DataError(f"{table.at(wrong)}, column {labels.column!r}: unknown label {value!r}; {allowed}{hint}")
    return found.astype(np.int64)


def _unnamed(column: pd.Series) -> str:
    """A `map` to fill in: the whole numbers in a column of labels, the first ten of many."""
    numbers = sorted({int(key) for key in map(_key, column.astype(str).unique()) if re.fullmatch(r"-?[0-9]+", key)})
    return f"{{{', '.join(f'{number}: NAME' for number in numbers[:10])}{', ...' if numbers[10:] else ''}}}"


def _numbers(table: Table, column: pd.Series) -> pd.Series:
    """A column of numbers, booleans or text that is one of them, as floats; missing values are NaN."""
    boolean = {"true": 1.0, "false": 0.0}
    plain = _by_value(column, lambda v: boolean.get(str(v).lower(), v) if _key(v) not in (None, "") else None)
    found = pd.to_numeric(plain, errors="coerce").astype(float)
    if (wrong := plain.notna() & ~np.isfinite(found)).any():
        row = found.index[wrong][0]
        raise DataError(f"{table.at(row)}, column {column.name!r}: {column[row]!r} is no number")
    return found


def _check_text(table: Table, entry: Entry, rows: np.ndarray) -> None:
    """Refuse what is no text: lists, objects, booleans, bytes, and halves of characters that no tokenizer takes."""
    for column in entry.text:
        texts = table.frame[column][rows]
        wrong = ~texts.map(type).isin({str, int, float}) | texts.map(lambda text: bool(_HALF.search(str(text))))
        if wrong.any():
            row = texts.index[wrong.astype(bool)][0]
            raise DataError(f"{table.at(row)}, column {column!r}: {str(texts[row])[:60]!r} is no text")


def _ids(kept: pd.DataFrame, column: str | None, split: str) -> pd.Series | list[str]:
    """The rows' own names where every one has another; else the split's name and the row, counted from 0."""
    if column in kept and kept[column].notna().all():
        ids = kept[column].map(_key)
        if ids.is_unique and not (ids == "").any():
            return kept[column].map(lambda value: value if isinstance(value, str) else _key(value)).astype(str)
    if column is not None:
        why = "not every row has another" if column in kept else "there is no such column"
        log.warning("split %s, id: %s: %s; rows are named by their number", split, column, why)
    return [f"{split}-{i}" for i in kept.index]


def _levels(table: Table, attribute: Attribute, keep: _Kept) -> pd.Series:
    """The attribute of the rows that are kept after it: booleans, whole numbers or text; drops those without."""
    rows = table.frame[keep.rows]
    if attribute.words:
        words = frozenset(attribute.words)
        found = rows[attribute.in_].map(lambda text: has_word(text, words) if isinstance(text, str) else None)
    elif attribute.any_of:
        numbers = pd.DataFrame({column: _numbers(table, rows[column]) for column in attribute.any_of})
        found = (numbers.max(axis=1) >= attribute.threshold).astype(object).where(numbers.notna().any(axis=1), None)
    else:
        found = _ruled(attribute.rule, rows) if attribute.rule else rows[attribute.column]
        if not isinstance(found, pd.Series) or not found.index.equals(rows.index):
            raise DataError(f"rule {attribute.rule!r}: returns no series with the index of its frame")
    found = found.astype(object)
    there = _by_value(found, lambda value: _key(value) is not None and bool(str(value).strip())).astype(bool)
    keep.only(there.reindex(table.frame.index, fill_value=False), f"no {attribute.name}")
    found = found[there]
    if attribute.levels is not None:
        names = {_key(level): name for level, name in attribute.levels.items()}
        named = _by_value(found, lambda value: names.get(_key(value)))
        if named.isna().any():
            row = named.index[named.isna()][0]
            allowed = f"allowed by levels: {', '.join(names)}"
            raise DataError(f"{table.at(row)}, {attribute.name}: unknown level {found[row]!r}; {allowed}")
        return named.astype(str)
    return _typed(table, attribute, found)


def _ruled(name: str, rows: pd.DataFrame) -> Any:
    """What a registered rule says of the rows."""
    try:
        return RULES[name](rows)
    except Exception as error:  # whatever a rule of the user's own may raise
        raise DataError(f"rule {name!r}: {type(error).__name__}: {error}") from error


def _typed(table: Table, attribute: Attribute, found: pd.Series) -> pd.Series:
    """Levels as booleans, whole numbers or text: the first of these that all of them are.

    Text counts as a boolean or number that it spells, as a CSV file has no other; "01" and "1.0" are text.
    """
    keys = _by_value(found, _key)
    seen = keys.unique()
    if len(seen) > _MOST_LEVELS:
        raise DataError(
            f"{table.place}: {attribute.name} has {len(seen)} levels; groups are made of at most {_MOST_LEVELS}"
        )
    lower = {key: key.lower() for key in seen}
    if set(lower.values()) <= {"true", "false"}:
        return (keys.map(lower) == "true").astype(bool)
    as_written = not (found.map(lambda level: isinstance(level, str)) & (found != keys)).any()
    if as_written and all(re.fullmatch(r"-?[0-9]{1,15}", key) for key in seen):
        return keys.astype(np.int64)
    wrong = ~found.map(type).isin({str, int, np.int64})
    if wrong.any():
        row = found.index[wrong][0]
        allowed = "levels are true and false, whole numbers or text"
        raise DataError(f"{table.at(row)}, {attribute.name}: {found[row]!r} is no level; {allowed}")
    return found.astype(str)
