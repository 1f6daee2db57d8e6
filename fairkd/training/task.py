"""The data of one model: the tokens of all splits, and how a batch is put together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
import transformers
from datasets import Dataset
from torch import Tensor

from fairkd.data import Splits, tokenize


@dataclass(frozen=True)
class Task:
    """The data of one model: its tokenizer and the tokens of all splits.

    `held_out` has all evaluation and validation rows, ordered by length, so that the trainer's batches hold little
    padding; its column `split` tells them apart. The evaluation rows alone are in the same order.
    """

    splits: Splits
    tokenizer: transformers.PreTrainedTokenizerBase
    train: Dataset
    held_out: pd.DataFrame
    held_out_tokens: Dataset

    @classmethod
    def prepare(cls, splits: Splits, max_length: int, tokenizer: transformers.PreTrainedTokenizerBase) -> Task:
        """Tokenise all splits; from then on the tokenizer, which is saved beside the model, cuts where training did."""
        tokenizer.model_max_length = max_length
        frames = {"evaluation": splits.whole_evaluation, "validation": splits.validation}
        held_out = pd.concat([frame.assign(split=name) for name, frame in frames.items()], ignore_index=True)
        train, tokens = (tokenize(frame, splits.entry, tokenizer, max_length) for frame in (splits.train, held_out))
        order = torch.argsort(torch.tensor(tokens["length"][:]), stable=True).tolist()
        held_out = held_out.iloc[order].reset_index(drop=True)
        return cls(splits, tokenizer, train, held_out, tokens.select(order))

    @property
    def evaluation(self) -> pd.DataFrame:
        """All evaluation rows, ordered by length."""
        return self.held_out[self.held_out["split"] == "evaluation"].drop(columns="split").reset_index(drop=True)

    @property
    def evaluation_tokens(self) -> Dataset:
        """The tokens of `evaluation`."""
        return self.held_out_tokens.select(np.flatnonzero(self.held_out["split"] == "evaluation"))

    @property
    def labels(self) -> Tensor:
        """(N,) class indices of the training rows."""
        return torch.tensor(self.splits.train["label"].to_numpy())

    @property
    def groups(self) -> Tensor:
        """(N,) group of every training row, counted in the order of `splits.groups`."""
        return torch.tensor(self.splits.train["group"].cat.codes.to_numpy(dtype="int64"))

    def collate(self, rows: list[dict[str, Any]], **padding: Any) -> dict[str, Tensor]:
        """Pad to the batch, or as the tokenizer is told to; `labels` and the row's `index` come along."""
        names = [name for name in self.tokenizer.model_input_names if name in rows[0]]
        inputs = [{name: row[name] for name in names} for row in rows]
        batch = self.tokenizer.pad(inputs, return_tensors="pt", **padding)
        return dict(batch) | {name: torch.tensor([row[name] for row in rows]) for name in ("labels", "index")}
