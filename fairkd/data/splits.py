"""The splits of a data set as examples: drawn, held out, grouped."""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fairkd.data import reading
from fairkd.data.cleaning import clean
from fairkd.data.entry import Entry, entry_named
from fairkd.data.groups import attribute_name, balance, group_names, levels_of, with_groups
from fairkd.data.options import DataOptions, further_identity, merged_classes, source_of
from fairkd.data.reading import DataError, Table

log = logging.getLogger("fairkd")

# A share that is held out as evaluation split is the same whatever else is drawn.
_EVALUATION_SEED = 0


@dataclass(frozen=True)
class Splits:
    """Training, evaluation and validation examples: text columns, id, label, attribute, group, importance.

    The validation examples are held out of training, to choose epochs by; there may be none. `evaluation` are those
    rows of `whole_evaluation` that a finished student is asked. `dropped` is {split: {reason: rows}}, `shared` the
    number of training rows by what they share with the evaluation split.
    """

    train: pd.DataFrame
    evaluation: pd.DataFrame
    validation: pd.DataFrame
    whole_evaluation: pd.DataFrame
    entry: Entry
    dropped: dict[str, dict[str, int]]
    shared: dict[str, int]

    @property
    def frames(self) -> dict[str, pd.DataFrame]:
        """The splits by their names."""
        return {"train": self.train, "evaluation": self.evaluation, "validation": self.validation}

    @property
    def groups(self) -> list[str]:
        """The names of all groups, absent ones included."""
        return list(self.train["group"].cat.categories)

    @property
    def attribute(self) -> str:
        """The attribute's name, a column of every frame."""
        return self.entry.attribute.name

    @property
    def labels(self) -> list[str]:
        """The class names, in the order of the class indices."""
        return self.entry.labels


@dataclass(frozen=True)
class EvaluationSet:
    """A further evaluation set: its rows in its own classes and groups, and how a student's classes become its own.

    `merge` is (C of the student, C of the set), 1 where a student's class is the set's.
    `identity` says what decides the rows.
    """

    frame: pd.DataFrame
    entry: Entry
    merge: np.ndarray
    dropped: dict[str, dict[str, int]]
    identity: dict[str, Any]

    @property
    def attribute(self) -> str:
        """The attribute's name, a column of the frame."""
        return self.entry.attribute.name


def load(options: DataOptions) -> Splits:
    """Load, check and group the splits of a data set.

    Rows without a label, text or level are dropped and counted in `Splits.dropped`.

    Raises:
        DataError: data that cannot be had, a missing column, a value that is not allowed, one class, an empty split.
    """
    entry, dropped = options.entry, {}
    generator = options.generator
    generated = generator.splits(options) if generator else None

    def read(split: str) -> pd.DataFrame:
        rows = generated and reading.from_rows(generated[split], f"{entry.name}, split {split!r}")
        frame, dropped[split] = clean(rows or _table(options, entry, split), entry, split)
        return frame

    train, named = read(entry.splits.train), entry.splits.evaluation
    if isinstance(named, float):
        size = max(1, round(named * len(train)))
        train, whole = _hold_out(train, None, size, "evaluation", entry, _EVALUATION_SEED)
    elif isinstance(named, list):
        # Ids are those of a split; of several together they say which.
        parts = {split: read(split) for split in named}
        parts = [rows.assign(id=f"{split} " + rows["id"].astype(str)) for split, rows in parts.items()]
        whole = pd.concat(parts, ignore_index=True)
    else:
        whole = read(named)
    sizes = options.train_examples, options.validation_examples
    if entry.splits.validation is None:
        train, validation = _hold_out(train, *sizes, "validation_examples", entry, options.data_seed)
    else:
        validation = read(entry.splits.validation) if sizes[1] else train.head(0)
        train = _draw(train, sizes[0] and min(sizes[0], len(train)), "train_examples", options.data_seed)
        validation = _draw(validation, sizes[1], "validation_examples", options.data_seed)
    if train["label"].nunique() < 2:
        only = entry.labels[train["label"].iloc[0]]
        raise DataError(f"{entry.label.column}: all training rows are {only!r}; at least two classes are needed")
    shared = _shared(train, whole, entry)
    evaluation = _draw(whole, options.evaluation_examples, "evaluation_examples", options.data_seed)
    frames = _grouped([train, evaluation, validation, whole], entry)
    if entry.balanced:
        frames = [frames[0], *(balance(frame, frames[0]) for frame in frames[1:])]
    return Splits(*frames, entry, dropped, shared)


def load_evaluation(name: str, options: DataOptions, labels: list[str]) -> EvaluationSet:
    """A further evaluation set, for a student of `labels`.

    Args:
        name: a data set, as `DataOptions.dataset`.
        options: those of the student; where they name a folder as `data` that has this set's split too, and both are of
            one source, it is read from there.
        labels: the student's classes, in the order of their indices.

    Raises:
        DataError: the data cannot be had, or a value is not allowed.
        ParameterError: there is no such set, or it has no class for one of `labels`.
    """
    entry = entry_named(name)
    classes, split = merged_classes(entry, labels), entry.splits.evaluation
    frame, dropped = clean(_table(options, entry, split), entry, split)
    [frame] = _grouped([frame], entry)
    merge = np.zeros((len(labels), len(entry.labels)))
    merge[range(len(labels)), [entry.labels.index(classes[label]) for label in labels]] = 1
    return EvaluationSet(frame, entry, merge, {split: dropped}, further_identity(options, entry))


def _table(options: DataOptions, entry: Entry, split: str) -> Table:
    """One split from where it is: the hub, or a local folder or file."""
    stated, source, path = source_of(options, entry)
    if path is not None:
        if path.is_file() and entry.splits.train and not isinstance(entry.splits.evaluation, float):
            raise DataError(f"{entry.name}: {path.name} is one file; state evaluation: 0.2, a share, or give a folder")
        return reading.read_file(reading.split_file(stated, path, split), entry.columns)
    own = source == entry.source
    where = {name: getattr(entry, name) if own else None for name in ("config", "revision", "files")}
    return reading.read_hub(source, split, entry.columns, **where)


def _draw(frame: pd.DataFrame, size: int | None, name: str, seed: int) -> pd.DataFrame:
    """`size` random rows in their own order; None is all."""
    if size is None:
        return frame
    if size > len(frame):
        raise DataError(f"{name} = {size}: the split has {len(frame)} labelled rows; null takes all")
    return frame.loc[_shuffled(frame, seed)[:size].sort_values()].reset_index(drop=True)


def _shuffled(frame: pd.DataFrame, seed: int) -> pd.Index:
    return frame.sample(frac=1, random_state=seed).index


def _hold_out(
    frame: pd.DataFrame, kept: int | None, held: int, name: str, entry: Entry, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Disjoint random parts of a training split, each in its own order: what is kept, and what is held out of it.

    Where the entry says by which column, rows that share its value are held out together or not at all, so that there
    may be a row or two less than asked. The rows kept do not depend on how many are held out, unless `kept` is None or
    more than there are: then it is what is left.
    """
    stated = f"train_examples = {kept}, {name} = {held}"
    if held >= len(frame):
        raise DataError(f"{stated}: split {entry.splits.train!r} has {len(frame)} labelled rows; hold out fewer")
    if kept is not None and kept + held > len(frame):
        log.info("train_examples = %d: %s has %d rows; all that are left are taken", kept, entry.name, len(frame))
        kept = None
    order = _shuffled(frame, seed)
    column = entry.hold_out_by
    if not column or not held:
        size = len(frame) - held if kept is None else kept
        parts = order[:size], order[size : size + held]
    else:
        if "held" not in frame:
            raise DataError(f"split {entry.splits.train!r} has no column {column!r}, which {entry.name} holds out by")
        size, values = kept or 0, _codes(frame["held"])
        candidates = order[size:][~np.isin(values[order[size:]], values[order[:size]])]
        out = _whole_values(values[candidates], held)
        if not out.any() or held - out.sum() > max(np.bincount(values)):
            free = len(candidates) if kept else out.sum()
            raise DataError(f"{stated}: only {free} rows share no {column} with the training rows; ask for less")
        parts = (candidates[~out] if kept is None else order[:size]), candidates[out]
    return tuple(frame.loc[part.sort_values()].reset_index(drop=True) for part in parts)


def _codes(values: pd.Series) -> np.ndarray:
    """(N,) a number for every value; a missing one shares its own with no other."""
    codes = pd.factorize(values.map(str).where(values.notna(), None))[0]
    missing = codes < 0
    codes[missing] = codes.max(initial=-1) + 1 + np.arange(missing.sum())
    return codes


def _whole_values(values: np.ndarray, size: int) -> np.ndarray:
    """(N,) which rows are taken: all of a value or none, first values first, as many as do not pass `size`."""
    firsts, counts = np.unique(values, return_index=True, return_counts=True)[1:]
    left, taken = size, []
    for i in np.argsort(firsts):
        if not left:
            break
        if counts[i] <= left:
            left -= counts[i]
            taken.append(values[firsts[i]])
    return np.isin(values, taken)


def _shared(train: pd.DataFrame, evaluation: pd.DataFrame, entry: Entry) -> dict[str, int]:
    """How many training rows are in the evaluation split too, and share the value by which rows are held out."""
    pairs = [pd.MultiIndex.from_frame(frame[entry.text]) for frame in (train, evaluation)]
    shared = {"training rows that are in the evaluation split": int(pairs[0].isin(pairs[1]).sum())}
    if "held" in train and "held" in evaluation:
        seen = train["held"].isin(evaluation["held"].dropna())
        shared[f"training rows whose {entry.hold_out_by} is in the evaluation split"] = int(seen.sum())
    for what, count in shared.items():
        if count:
            log.info("%s: %d %s", entry.name, count, what)
    return shared


def _grouped(frames: list[pd.DataFrame], entry: Entry) -> list[pd.DataFrame]:
    """The frames with groups of all levels that are in any of them."""
    frames = [frame.drop(columns="held", errors="ignore") for frame in frames]
    name = entry.attribute.name
    kinds = {str(frame[name].dtype) for frame in frames if len(frame)}
    if len(kinds) > 1:
        raise DataError(f"{name}: its levels are of one kind in one split and of another in another ({sorted(kinds)})")
    stated = entry.attribute.levels
    levels = levels_of(frames, name) if stated is None else list(dict.fromkeys(stated.values()))
    rows = [*group_names(entry.labels, name, levels), *(attribute_name(name, level) for level in levels)]
    if twice := sorted({row for row in rows if rows.count(row) > 1}):
        raise DataError(
            f"{entry.name}: {twice[0]!r} would be the name of two groups, or of a group and a level of {name}; name "
            "labels or levels otherwise (label: map, attribute: levels)"
        )
    frames = [with_groups(frame, entry.labels, name, levels) for frame in frames]
    if absent := [group for group, count in frames[0]["group"].value_counts(sort=False).items() if not count]:
        log.warning("%s: no row is of %s", entry.name, "; ".join(absent))
    return frames
