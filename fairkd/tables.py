"""How a predictions table is read: `{model}_prob_{class index}` columns, one row an example."""

import numpy as np
import pandas as pd


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
