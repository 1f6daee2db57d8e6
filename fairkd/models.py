"""Encoders and classifiers: by hub name, by folder, or one of the two embedded with the demo."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertModel,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    DistilBertModel,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from fairkd import runs
from fairkd.experiment import ParameterError

if TYPE_CHECKING:
    from fairkd.experiment import Experiment


def locate(name: str) -> str:
    """What `from_pretrained` takes: the folder of an embedded or local model, else the hub name itself."""
    return str(runs.local_path(name) or name)


def check(experiment: "Experiment", labels: tuple[str, ...]) -> int:
    """Refuse what training would trip over later, from the models' configurations alone; returns the depth.

    Raises:
        ParameterError: a model cannot be had, its classifier has other labels, aux_layer is not in the student.
    """
    teacher = _config(experiment.teacher_model, "teacher_model")
    label_order(teacher, labels, "teacher_model")
    if experiment.teacher_epochs == 0 and not _is_classifier(teacher):
        raise ParameterError(
            f"teacher_epochs = 0: {experiment.teacher_model!r} is an encoder without a trained classifier; "
            "fine-tune it (teacher_epochs of 1 or more) or name a fine-tuned teacher_model"
        )
    if experiment.student_model is None:
        if teacher.model_type != "bert":
            raise ParameterError(
                f"student_model = None: alternate layers are taken of BERT encoders; {experiment.teacher_model!r} is "
                f"{teacher.model_type!r}. Name a student_model"
            )
        depth = len(alternate_layers(teacher.num_hidden_layers))
    else:
        student = _config(experiment.student_model, "student_model")
        label_order(student, labels, "student_model")
        depth = student.num_hidden_layers
    for spec in (f"@{experiment.aux_layer}", *experiment.students):
        layer = int(spec.partition("@")[2] or experiment.aux_layer)
        if layer > depth:
            name = "aux_layer" if spec.startswith("@") else f"students ({spec}): aux_layer"
            raise ParameterError(f"{name} = {layer}: the student has layers 1 to {depth}")
    return depth


def load_tokenizer(name: str, parameter: str) -> PreTrainedTokenizerBase:
    """The tokenizer of `name`; `parameter` is named when it cannot be had."""
    with _loading(name, parameter):
        return AutoTokenizer.from_pretrained(locate(name))


def load_student_tokenizer(experiment: "Experiment") -> PreTrainedTokenizerBase:
    """The tokenizer of the student: its own, or the teacher's where it is made of the teacher's layers."""
    name = "teacher_model" if experiment.student_model is None else "student_model"
    return load_tokenizer(getattr(experiment, name), name)


def load_teacher(experiment: "Experiment", labels: tuple[str, ...]) -> PreTrainedModel:
    """The teacher before its fine-tuning: a classifier over `labels`, in this order."""
    return _load_classifier(experiment.teacher_model, labels, "teacher_model")


def load_student(experiment: "Experiment", labels: tuple[str, ...]) -> PreTrainedModel:
    """The student before distillation: `student_model`, or alternate layers of the teacher's encoder."""
    if experiment.student_model is not None:
        return _load_classifier(experiment.student_model, labels, "student_model")
    with _loading(experiment.teacher_model, "teacher_model"):
        encoder = AutoModel.from_pretrained(locate(experiment.teacher_model), dtype=torch.float32, use_safetensors=True)
    halved = halve(encoder)
    config = halved.config
    config.id2label, config.label2id = _names(labels)
    student = DistilBertForSequenceClassification(config)
    student.distilbert.load_state_dict(halved.state_dict())
    return student


def reopen(folder: Path) -> PreTrainedModel:
    """The classifier of a finished run, in float32, on the accelerator if there is one."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    return model.to(torch.accelerator.current_accelerator() or "cpu")


def label_order(config: PretrainedConfig, labels: tuple[str, ...], parameter: str) -> list[int] | None:
    """For each of `labels` the checkpoint's class index; None for a checkpoint without a trained classifier.

    Raises:
        ParameterError: the checkpoint has another number of labels, or names that are not `labels`.
    """
    if not _is_classifier(config):
        return None
    names = [str(config.id2label[i]).lower() for i in range(config.num_labels)]
    if len(names) != len(labels):
        raise ParameterError(
            f"{parameter} = {config.name_or_path!r}: its classifier has {len(names)} labels, the data set "
            f"{len(labels)} ({', '.join(labels)}); name an encoder or a classifier with these labels"
        )
    if set(names) != set(labels):
        raise ParameterError(
            f"{parameter} = {config.name_or_path!r}: its labels are {', '.join(names)}, which cannot be matched with "
            f"{', '.join(labels)}; correct id2label in its config.json"
        )
    return [names.index(label) for label in labels]


def layer_stack(encoder: PreTrainedModel) -> tuple[nn.Module, str]:
    """The module that holds the encoder's layers, and the attribute under which it does."""
    for module in encoder.modules():
        for attribute, child in module.named_children():
            if isinstance(child, nn.ModuleList) and len(child) == encoder.config.num_hidden_layers:
                return module, attribute
    raise ValueError(f"{type(encoder).__name__}: no stack of {encoder.config.num_hidden_layers} layers found")


def _is_classifier(config: PretrainedConfig) -> bool:
    return any("ForSequenceClassification" in name for name in config.architectures or ())


def _names(labels: tuple[str, ...]) -> tuple[dict[int, str], dict[str, int]]:
    return dict(enumerate(labels)), {label: i for i, label in enumerate(labels)}


def _config(name: str, parameter: str) -> PretrainedConfig:
    with _loading(name, parameter):
        return AutoConfig.from_pretrained(locate(name))


def _load_classifier(name: str, labels: tuple[str, ...], parameter: str) -> PreTrainedModel:
    """A classifier whose outputs are `labels` in this order: a new head, or the checkpoint's with rows reordered."""
    order = label_order(_config(name, parameter), labels, parameter)
    with _loading(name, parameter):
        model = AutoModelForSequenceClassification.from_pretrained(
            locate(name), num_labels=len(labels), dtype=torch.float32, use_safetensors=True
        )
    if order is not None:
        head = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == len(labels)][-1]
        head.weight.data, head.bias.data = head.weight.data[order], head.bias.data[order]
    model.config.id2label, model.config.label2id = _names(labels)
    return model


@contextmanager
def _loading(name: str, parameter: str) -> Iterator[None]:
    """Load quietly, and turn the many ways in which a checkpoint cannot be had into one message."""
    try:
        with quiet():
            yield
    except (OSError, ValueError) as error:
        raise ParameterError(
            f"{parameter} = {name!r}: not an embedded encoder ({', '.join(runs.EMBEDDED)}), and neither the folder "
            f"{runs.root() / name} nor the hub has it ({type(error).__name__}). Give a local folder with config.json, "
            "model.safetensors and a tokenizer; or, if it has been downloaded once, work offline with HF_HUB_OFFLINE=1"
        ) from None


@contextmanager
def quiet() -> Iterator[None]:
    """Without the bars of milliseconds and the reports on heads that transformers prints as it loads and saves."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def alternate_layers(depth: int) -> tuple[int, ...]:
    """The layers that DistilBERT takes of BERT's twelve (Sanh et al. 2019); of another depth every second one."""
    return (0, 2, 4, 7, 9, 11) if depth == 12 else tuple(range(0, depth, 2))


def halve(encoder: BertModel, layers: tuple[int, ...] | None = None) -> DistilBertModel:
    """Build a student of alternate layers of a BERT encoder, as DistilBERT was (Sanh et al. 2019, section 3).

    Token types and pooler are left out; the embedding of token type 0 is added to the positions, so that
    a single sentence enters the first layer as it entered the teacher's. The weights are copies.

    Args:
        encoder: the BERT encoder of L layers.
        layers: the layers to keep, counted from 0. By default half of them: 0, 2, 4, 7, 9, 11 of 12
            (DistilBERT's own choice), otherwise 0, 2, 4, ...

    Raises:
        ValueError: a layer is not one of the encoder's.
    """
    bert = encoder.config
    depth = bert.num_hidden_layers
    layers = alternate_layers(depth) if layers is None else layers
    if not layers or not all(0 <= i < depth for i in layers):
        raise ValueError(f"layers {layers} are not all among the encoder's layers 0 to {depth - 1}")
    student = DistilBertModel(
        DistilBertConfig(
            vocab_size=bert.vocab_size,
            max_position_embeddings=bert.max_position_embeddings,
            dim=bert.hidden_size,
            hidden_dim=bert.intermediate_size,
            n_heads=bert.num_attention_heads,
            n_layers=len(layers),
            activation=bert.hidden_act,
            dropout=bert.hidden_dropout_prob,
            attention_dropout=bert.attention_probs_dropout_prob,
            initializer_range=bert.initializer_range,
            pad_token_id=bert.pad_token_id,
        )
    )
    source = encoder.state_dict()
    positions = source["embeddings.position_embeddings.weight"]
    state = {
        "embeddings.word_embeddings.weight": source["embeddings.word_embeddings.weight"],
        "embeddings.position_embeddings.weight": positions + source["embeddings.token_type_embeddings.weight"][0],
    }
    renamed = {"embeddings.LayerNorm": "embeddings.LayerNorm"}
    for new, old in enumerate(layers):
        for theirs, ours in _LAYER_NAMES.items():
            renamed[f"encoder.layer.{old}.{theirs}"] = f"transformer.layer.{new}.{ours}"
    for theirs, ours in renamed.items():
        for part in ("weight", "bias"):
            state[f"{ours}.{part}"] = source[f"{theirs}.{part}"]
    student.load_state_dict(state)
    return student


# A layer's modules in BERT and in DistilBERT.
_LAYER_NAMES = {
    "attention.self.query": "attention.q_lin",
    "attention.self.key": "attention.k_lin",
    "attention.self.value": "attention.v_lin",
    "attention.output.dense": "attention.out_lin",
    "attention.output.LayerNorm": "sa_layer_norm",
    "intermediate.dense": "ffn.lin1",
    "output.dense": "ffn.lin2",
    "output.LayerNorm": "output_layer_norm",
}
