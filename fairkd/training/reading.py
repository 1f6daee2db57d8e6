"""What the exit of a method is fed: pooled states of the student on the text it reads, or a bag of its words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import transformers
from torch import Tensor

from fairkd.data import Splits, bag_of_words, tokenize
from fairkd.experiment import Experiment
from fairkd.training.features import pooled_states

Read = Callable[["transformers.PreTrainedModel"], dict[int, Tensor]]


def reading(
    experiment: Experiment,
    splits: Splits,
    frame: pd.DataFrame,
    tokenizer: transformers.PreTrainedTokenizerBase,
    pooling: str | None = None,
    folder: Path | None = None,
) -> Read:
    """What the exit of the experiment's method is fed on the rows of `frame`: a function of the student as it is.

    Args:
        frame: N rows of the splits.
        tokenizer: the student's.
        pooling: "cls" or "mean"; None is the experiment's, in training.
        folder: where the states lie on disk as long as they are used; None holds them in memory.

    Returns:
        model -> {layer: (N, D)}; a bag of words, which no model changes, is layer 0, and sparse.
    """
    method = experiment.weighting
    columns = splits.entry.columns_read(method.exit_reads)
    if method.reader == "words":
        words = bag_of_words(splits.train, frame, columns, method.n_words).tocoo()
        bag = torch.sparse_coo_tensor(np.stack(words.coords), words.data, words.shape, check_invariants=True).coalesce()
        return lambda model: {0: bag}
    tokens = tokenize(frame, splits.entry, tokenizer, experiment.max_length, columns)
    how = pooling or experiment.pooling
    given = {"bf16": experiment.bf16, "folder": folder}
    return lambda model: pooled_states(model, tokens, tokenizer, method.layers, how, **given)
