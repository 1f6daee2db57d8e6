"""A predictions table, one row an example: how it is made, and how it is read.

Every model has its `{model}_prob_{class index}` columns and `{model}_margin`.
"""

import re

import numpy as np
import pandas as pd


def margins(probs: np.ndarray) -> np.ndarray:
    """Confidence margins (N,) of probabilities (N, C), C >= 2: the top minus the second (Tiwari et al. 2023)."""
    if probs.ndim != 2 or probs.shape[1] < 2:
        raise ValueError(f"probabilities of shape {probs.shape}: give a row for each example, of 2 classes or more")
    top = np.partition(probs, -2, axis=1)  # (N, C), the two largest last
    return top[:, -1] - top[:, -2]


def predictions_table(rows: pd.DataFrame, probabilities: dict[str, np.ndarray], attribute: str) -> pd.DataFrame:
    """One row an example: who it is, and what every model says of it.

    Args:
        rows: examples as `fairkd.data.load` makes them, with a column `split` where they are of several.
        probabilities: {model: (N, C)} in the order of `rows`.
        attribute: the attribute's column.

    Returns:
        id, label, the attribute, group, importance, split if there is one, and for each model
        `{model}_prob_{class index}` and `{model}_margin`, the confidence margin.

    Raises:
        ValueError: probabilities of fewer than two classes, or of another number of examples.
    """
    columns = ["id", "label", attribute, "group", "importance", *({"split"} & set(rows))]
    parts = [rows[columns].reset_index(drop=True)]
    for model, probs in probabilities.items():
        if len(probs) != len(rows):
            raise ValueError(f"{model} has probabilities of {len(probs)} examples, the rows are {len(rows)}")
        probs = np.asarray(probs, dtype=np.float64)
        part = pd.DataFrame(probs, columns=[f"{model}_prob_{c}" for c in range(probs.shape[1])])
        parts.append(part.assign(**{f"{model}_margin": margins(probs)}))
    return pd.concat(parts, axis=1)


def exit_layers(predictions: pd.DataFrame) -> list[int]:
    """The layers whose exits a predictions table has, from the lowest on."""
    return sorted(int(found[1]) for name in predictions if (found := re.fullmatch(r"exit(\d+)_margin", str(name))))


def class_probabilities(predictions: pd.DataFrame, model: str = "student") -> np.ndarray:
    """The (N, C) probabilities of one model of a predictions table."""
    names = [name for name in predictions if name.startswith(f"{model}_prob_")]
    if not names:
        known = sorted({name.rpartition("_prob_")[0] for name in predictions if "_prob_" in name})
        raise KeyError(f"model {model!r} is not in the predictions; they hold {', '.join(known)}")
    return predictions[names].to_numpy()


def is_correct(predictions: pd.DataFrame, model: str = "student") -> pd.Series:
    """Whether the model's most probable class is the label, for every row."""
    return pd.Series(class_probabilities(predictions, model).argmax(1) == predictions["label"], predictions.index)
