"""What a model says of a data set, in eval mode: logits, and the pooled states that exits read."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from datasets import Dataset
from torch import Tensor, nn
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fairkd.models import layer_stack

# Rows a batch; no gradients are kept, so it does not depend on the training batch.
_BATCH = 128


def pooled_states(
    model: PreTrainedModel,
    tokens: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    layers: list[int],
    pooling: str = "cls",
    *,
    bf16: bool = False,
) -> dict[int, Tensor]:
    """The pooled hidden state phi_d(x) after each of `layers` (counted from 1), dropout off.

    The forward pass stops at the deepest layer asked for.

    Args:
        tokens: N rows with `input_ids` and `length`, as `fairkd.data.tokenize` makes them.
        pooling: "cls", the state of the first token, or "mean", the average over the row's tokens.
        bf16: bf16 autocast.

    Returns:
        {layer: (N, D) float32}, on the CPU, in the order of the rows.
    """
    states = {layer: torch.empty(len(tokens), model.config.hidden_size) for layer in layers}
    encoder = model.base_model
    with _evaluating(model, bf16), _stopping_at(encoder, max(layers)) as stack, outputs(stack, layers) as hidden:
        for rows, batch in _batches(tokens, tokenizer, model.device):
            encoder(**batch)
            for layer in layers:
                states[layer][rows] = pool(hidden[layer], batch["attention_mask"], pooling).float().cpu()
    return states


def logits(
    model: PreTrainedModel, tokens: Dataset, tokenizer: PreTrainedTokenizerBase, *, bf16: bool = False
) -> Tensor:
    """The model's logits, dropout off: (N, C) float32, on the CPU, in the order of the rows."""
    result = torch.empty(len(tokens), model.config.num_labels)
    with _evaluating(model, bf16):
        for rows, batch in _batches(tokens, tokenizer, model.device):
            result[rows] = model(**batch).logits.float().cpu()
    return result


def pool(hidden: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """The state of the first token, or the mean over those that the mask keeps: (B, T, D), (B, T) -> (B, D)."""
    if pooling == "cls":
        return hidden[:, 0]
    hidden, weight = hidden.float(), mask.unsqueeze(-1).float()
    return (hidden * weight).sum(dim=1) / weight.sum(dim=1)


def _batches(
    tokens: Dataset, tokenizer: PreTrainedTokenizerBase, device: torch.device
) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """Row numbers and padded tokens, the rows sorted by length so that a batch holds little padding."""
    order = torch.argsort(torch.tensor(tokens["length"][:]), stable=True)
    names = [name for name in tokenizer.model_input_names if name in tokens.column_names]
    inputs = tokens.select_columns(names)
    for rows in tqdm(order.split(_BATCH), desc="forward", leave=False, delay=5):
        batch = tokenizer.pad(inputs[rows.tolist()], return_tensors="pt")
        yield rows, {name: value.to(device) for name, value in batch.items()}


@contextmanager
def _evaluating(model: PreTrainedModel, bf16: bool) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
            yield
    finally:
        model.train(training)


@contextmanager
def _stopping_at(encoder: PreTrainedModel, depth: int) -> Iterator[nn.ModuleList]:
    """The encoder cut after `depth` layers, which it is whole again after; yields those layers."""
    holder, attribute = layer_stack(encoder)
    whole = getattr(holder, attribute)
    setattr(holder, attribute, whole[:depth])
    try:
        yield whole[:depth]
    finally:
        setattr(holder, attribute, whole)


@contextmanager
def outputs(stack: nn.ModuleList, layers: list[int]) -> Iterator[dict[int, Tensor]]:
    """What each of `layers` put out last, (B, T, D).

    Hooks of our own: transformers remembers where `output_hidden_states` hooked in, here into a stack cut short.
    """
    hidden: dict[int, Tensor] = {}

    def keep(layer: int):
        def hook(module, inputs, output):
            hidden[layer] = output[0] if isinstance(output, tuple) else output

        return hook

    handles = [stack[layer - 1].register_forward_hook(keep(layer)) for layer in layers]
    try:
        yield hidden
    finally:
        for handle in handles:
            handle.remove()
