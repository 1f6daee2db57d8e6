"""Groups: a label together with a level of the attribute. Data frames only."""

import re
import string
from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd

NEGATION_WORDS = frozenset({"nobody", "no", "never", "nothing"})
# Rows of a report that are no group's and no level's.
REPORT_ROWS = frozenset({"average", "worst_group", "worst_of_means", "mean_of_worsts", "gap", "ece", "nll"})
# Columns that every frame has; `held`, which it has while it is drawn; `split`, which tables add.
RESERVED = frozenset({"id", "label", "group", "importance", "held", "split"})
# Beside the attribute, in tables of runs, columns of its name would overwrite one another, or be renamed by a merge.
_IN_TABLES = frozenset({"epoch", "weight", "given", "parameter", "setting", "exit_right", "layer", "depth"})
_OF_MODELS = re.compile(r"(.*_)?prob_.*|.*_margin")
NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def has_word(text: str, words: Collection[str]) -> bool:
    """Whether `text` holds one of `words`: ASCII punctuation removed, the rest lower-cased and split on spaces."""
    return not frozenset(words).isdisjoint(text.translate(NO_PUNCTUATION).lower().split(" "))


def has_negation(text: str) -> bool:
    """Whether `text` holds a negation word (Gururangan et al. 2018; the rule of Sagawa et al. 2020).

    ASCII punctuation is removed, the rest lower-cased and split on spaces; the words are nobody, no, never, nothing.
    """
    return has_word(text, NEGATION_WORDS)


def is_taken(name: str) -> bool:
    """Whether an attribute cannot be called so: a column of a table, or a row of a report, has this name already."""
    return name in RESERVED | _IN_TABLES | REPORT_ROWS or _OF_MODELS.fullmatch(name) is not None


def group_name(label: str, attribute: str, level: Any) -> str:
    """The name of a group: "entailment, no negation"."""
    return f"{label}, {attribute_name(attribute, level)}"


def group_names(labels: list[str], attribute: str, levels: list[Any]) -> list[str]:
    """The names of all groups, label by label."""
    return [group_name(label, attribute, level) for label in labels for level in levels]


def attribute_name(attribute: str, level: Any) -> str:
    """The name of a level: "negation" and "no negation" of a boolean, "stars 3" of a number, or the text that it is.

    A text that is a row of every report, such as "average", has the attribute's name before it.
    """
    if isinstance(level, str) and level not in REPORT_ROWS:
        return level
    if isinstance(level, bool | np.bool_):
        return attribute if level else f"no {attribute}"
    return f"{attribute} {level}"


def levels_of(frames: list[pd.DataFrame], attribute: str) -> list[Any]:
    """All levels of an attribute in order; of a boolean both, seen or not."""
    values = pd.concat([frame[attribute] for frame in frames])
    return [False, True] if values.dtype == bool else sorted(values.unique().tolist())


def with_groups(frame: pd.DataFrame, labels: list[str], attribute: str, levels: list[Any]) -> pd.DataFrame:
    """The frame with `group`, a category of all groups, absent ones too, and `importance` 1."""
    groups = group_names(labels, attribute, levels)
    level_index = frame[attribute].map({level: i for i, level in enumerate(levels)}).to_numpy(dtype=np.int64)
    codes = frame["label"].to_numpy() * len(levels) + level_index
    return frame.assign(group=pd.Categorical.from_codes(codes, categories=groups), importance=1.0)


def balance(frame: pd.DataFrame, train: pd.DataFrame) -> pd.DataFrame:
    """The frame with an `importance`, mean 1, that weighs its groups to their shares of the training split."""
    if frame.empty:
        return frame
    natural = train["group"].value_counts(normalize=True)
    weight = frame["group"].astype(str).map(natural / frame["group"].value_counts(normalize=True))
    return frame.assign(importance=weight / weight.mean())
