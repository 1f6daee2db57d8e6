"""Tokens of a frame's texts, made once and from then on mapped into memory from disk."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import datasets
import pandas as pd
import transformers

from fairkd import provenance, runs
from fairkd.data.entry import Entry

log = logging.getLogger("fairkd")

_BATCH = 2_000  # rows that are tokenised at a time


def tokenize(
    frame: pd.DataFrame,
    entry: Entry,
    tokenizer: transformers.PreTrainedTokenizerBase,
    max_length: int,
    columns: list[str] | None = None,
) -> datasets.Dataset:
    """Tokens of every row, truncated to `max_length` and not padded, with `labels`, `length` and row `index`.

    Done once for the same texts, labels and tokenizer, in batches, and from then on mapped into memory from disk.

    Args:
        columns: the text columns that are read; None is all of the entry's.
    """
    columns = columns or entry.text
    texts, cut = frame[[*columns, "label"]].reset_index(drop=True), []

    def of_batch(rows: dict[str, list], index: list[int]) -> dict[str, list]:
        tokens = tokenizer(*(rows[column] for column in columns), truncation=True, max_length=max_length)
        cut.append(sum(bool(row.overflowing) for row in tokens.encodings))
        lengths = [len(ids) for ids in tokens["input_ids"]]
        return dict(tokens) | {"labels": rows["label"], "length": lengths, "index": index}

    def compute(folder: Path) -> None:
        with _no_bars():
            rows = datasets.Dataset.from_pandas(texts, preserve_index=False)
            rows.map(
                of_batch,
                with_indices=True,
                batched=True,
                batch_size=_BATCH,
                writer_batch_size=_BATCH,
                remove_columns=rows.column_names,
                cache_file_name=str(folder / "tokens.arrow"),
                new_fingerprint=name,  # known already; else the tokenizer would be pickled for one
            )
        _forget(tokenizer)
        if any(cut):
            log.warning(
                "%d of %d rows are longer than max_length = %d tokens, and cut", sum(cut), len(texts), max_length
            )

    _forget(tokenizer)
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    called = [tokenizer.model_input_names, tokenizer.truncation_side, tokenizer.split_special_tokens]
    made_by = [provenance.code_digests(__name__), provenance.versions()]
    head = json.dumps([columns, max_length, backend, *called, *made_by])
    starts = range(0, len(texts), _BATCH)
    batches = [runs.digest(json.dumps(texts[i : i + _BATCH].to_dict("list"))) for i in starts]
    name = runs.digest(head, *batches)
    return datasets.Dataset.from_file(str(runs.cached(f"tokens-{name}", compute) / "tokens.arrow"))


def _forget(tokenizer: transformers.PreTrainedTokenizerBase) -> None:
    """Found tokens and made ones leave the tokenizer alike: its backend, and its file, keep how it was last called."""
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()


@contextmanager
def _no_bars() -> Iterator[None]:
    """Without the progress bars that datasets draws as it writes."""
    shown = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not shown:
            datasets.enable_progress_bars()
