"""What a model says of a data set, in eval mode: logits, and the pooled states that exits read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import torch
import transformers
from datasets import Dataset
from torch import Tensor
from tqdm import tqdm

from fairkd.training.models import layer_stack, output_layer

# Rows a batch; no gradients are kept, so it does not depend on the training batch.
_BATCH = 128


def pooled_states(
    model: transformers.PreTrainedModel,
    tokens: Dataset,
    tokenizer: transformers.PreTrainedTokenizerBase,
    layers: list[int],
    pooling: str = "cls",
    *,
    bf16: bool = False,
    folder: Path | None = None,
) -> dict[int, Tensor]:
    """The pooled hidden state phi_d(x) after each of `layers` (counted from 1), dropout off.

    The forward pass stops at the deepest layer asked for. For what the state after a layer is see `outputs`.

    Args:
        tokens: N rows with `input_ids` and `length`, as `fairkd.data.tokenize` makes them.
        pooling: "cls", the state of the first token, or "mean", the average over the row's tokens.
        bf16: bf16 autocast.
        folder: where the states lie on disk, mapped into memory as they are used; None holds them in memory.

    Returns:
        {layer: (N, D) float32}, on the CPU, in the order of the rows.
    """
    states = {layer: _empty((len(tokens), model.config.hidden_size), folder, layer) for layer in layers}
    encoder = model.base_model
    with _evaluating(model, bf16), outputs(encoder, layers) as hidden, _stopping_after(encoder, max(layers)):
        for rows, batch in _batches(tokens, tokenizer, model.device):
            with suppress(_Stop):
                encoder(**batch)
            for layer in layers:
                states[layer][rows] = pool(hidden[layer], batch["attention_mask"], pooling).float().cpu()
    return states


def logits(
    model: transformers.PreTrainedModel,
    tokens: Dataset,
    tokenizer: transformers.PreTrainedTokenizerBase,
    *,
    bf16: bool = False,
) -> Tensor:
    """The model's logits, dropout off: (N, C) float32, on the CPU, in the order of the rows."""
    result = torch.empty(len(tokens), model.config.num_labels)
    with _evaluating(model, bf16):
        for rows, batch in _batches(tokens, tokenizer, model.device):
            result[rows] = model(**batch).logits.float().cpu()
    return result


def head_inputs(
    model: transformers.PreTrainedModel,
    tokens: Dataset,
    tokenizer: transformers.PreTrainedTokenizerBase,
    *,
    bf16: bool = False,
) -> Tensor:
    """What the classifier's last linear layer is given, dropout off: (N, D) float32, on the CPU, in the rows' order."""
    last, seen = output_layer(model), {}
    result = torch.empty(len(tokens), last.in_features)
    noting = last.register_forward_pre_hook(lambda layer, args: seen.update(given=args[0]))
    with noting, _evaluating(model, bf16):
        for rows, batch in _batches(tokens, tokenizer, model.device):
            model(**batch)
            result[rows] = seen["given"].float().cpu()
    return result


def pool(hidden: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """The state of the first token, or the mean over those that the mask keeps: (B, T, D), (B, T) -> (B, D)."""
    if pooling == "cls":
        return hidden[:, 0]
    hidden, weight = hidden.float(), mask.unsqueeze(-1).float()
    return (hidden * weight).sum(dim=1) / weight.sum(dim=1)


def _empty(shape: tuple[int, int], folder: Path | None, layer: int) -> Tensor:
    """A float32 tensor to be filled, in memory or in a file of the folder."""
    if folder is None:
        return torch.empty(shape)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"layer{layer}").unlink(missing_ok=True)  # whoever still reads what was there keeps it
    size = shape[0] * shape[1]
    with (folder / f"layer{layer}").open("wb") as file:  # a full disk is an error here, and the process's end later
        if hasattr(os, "posix_fallocate"):  # not on macOS
            os.posix_fallocate(file.fileno(), 0, 4 * size)
    return torch.from_file(file.name, shared=True, size=size).view(shape)


def _batches(
    tokens: Dataset, tokenizer: transformers.PreTrainedTokenizerBase, device: torch.device
) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """Row numbers and padded tokens, the rows sorted by length so that a batch holds little padding."""
    order = torch.argsort(torch.tensor(tokens["length"][:]), stable=True)
    names = [name for name in tokenizer.model_input_names if name in tokens.column_names]
    inputs = tokens.select_columns(names)
    for rows in tqdm(order.split(_BATCH), desc="forward", leave=False, delay=5):
        batch = tokenizer.pad(inputs[rows.tolist()], return_tensors="pt")
        yield rows, {name: value.to(device) for name, value in batch.items()}


@contextmanager
def _evaluating(model: transformers.PreTrainedModel, bf16: bool) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
            yield
    finally:
        model.train(training)


@contextmanager
def outputs(encoder: transformers.PreTrainedModel, layers: list[int]) -> Iterator[dict[int, Tensor]]:
    """What came out after each of `layers` in the encoder's last forward pass: {layer: (B, T, D)}.

    Equal to the encoder's own `hidden_states[layer]`, which is what the next block is given, not what a block puts out:
    DeBERTa-v2's convolution lies between its first two. After the last layer it is what the encoder puts out, so with
    ModernBERT's final norm, as its classifier reads it.
    """
    stack = layer_stack(encoder)
    hidden: dict[int, Tensor] = {}

    def given(layer: int):
        def hook(block, args):
            hidden[layer] = args[0]

        return hook

    def put_out(encoder, args, output):
        hidden[len(stack)] = output[0]

    with ExitStack() as hooks:
        for layer in layers:
            if layer < len(stack):
                hooks.enter_context(stack[layer].register_forward_pre_hook(given(layer)))
            else:
                hooks.enter_context(encoder.register_forward_hook(put_out))
        yield hidden


class _Stop(Exception):
    """All that was asked of a forward pass has come out."""


@contextmanager
def _stopping_after(encoder: transformers.PreTrainedModel, layer: int) -> Iterator[None]:
    """Forward passes end, with a `_Stop`, as the block after `layer` is entered, if there is one."""

    def hook(block, args):
        raise _Stop

    with ExitStack() as hooks:
        for block in layer_stack(encoder)[layer : layer + 1]:
            hooks.enter_context(block.register_forward_pre_hook(hook))
        yield
