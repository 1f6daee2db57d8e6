"""Texts as bags of words: the reader that is not the encoder."""

from __future__ import annotations

import numpy as np
import pandas as pd
import scipy


def bag_of_words(train: pd.DataFrame, frame: pd.DataFrame, columns: list[str], n_words: int) -> scipy.sparse.csr_array:
    """Which of the training texts' most frequent words each row has, (N, V) float32 of 0 and 1, V <= n_words.

    Sparse, since a text has some ten of them.

    Args:
        train: the rows whose words count.
        frame: N rows, these or others.
        columns: the text columns that are read; a word in two of them is two words.
        n_words: how many words are taken, of every column.
    """
    # Here, since importing it takes a second that the encoder's states need not.
    from sklearn.feature_extraction.text import CountVectorizer

    bags = []
    for column in columns:
        words = CountVectorizer(binary=True, max_features=n_words, token_pattern=r"\b\w+\b", dtype=np.float32)
        words.fit(train[column])
        bags.append(words.transform(frame[column]))
    return scipy.sparse.hstack(bags, format="csr")
