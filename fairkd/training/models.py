"""Encoders and classifiers: by hub name, or by folder.

Any encoder serves whose layers each have weights of their own and whose first token is a special one. What does not is
refused by `check`, from configurations and file names alone, before anything is trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import transformers
from torch import nn
from transformers.utils import logging

from fairkd import runs
from fairkd.experiment import Experiment, read_student
from fairkd.parameters import ParameterError
from fairkd.runs import Run
from fairkd.training.halving import alternate_layers, halve


def locate(name: str) -> str:
    """What `from_pretrained` takes: the folder of a local model, else the hub name itself."""
    return str(runs.local_path(name) or name)


def check(experiment: Experiment, labels: list[str]) -> int:
    """Refuse what training would trip over later, from configurations, tokenizers and file names; returns the depth.

    Raises:
        ParameterError: a model cannot be had or cannot serve, its classifier has other labels, its tokenizer is not its
            own, max_length is more than its positions, aux_layer is not in the student.
    """
    teacher = _served(experiment, "teacher_model", labels)
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
        depth = _served(experiment, "student_model", labels).num_hidden_layers
    asked = {"": experiment.aux_layer}
    asked |= {f"students ({spec}): ": read_student(spec).get("aux_layer") for spec in experiment.stands_for}
    for where, layer in asked.items():
        if layer and layer > depth:
            raise ParameterError(f"{where}aux_layer = {layer}: the student has layers 1 to {depth}")
    return depth


def load_tokenizer(name: str, parameter: str) -> transformers.PreTrainedTokenizerBase:
    """The tokenizer of `name`; `parameter` is named when it cannot be had."""
    with _loading(name, parameter):
        return transformers.AutoTokenizer.from_pretrained(locate(name))


def load_student_tokenizer(experiment: Experiment) -> transformers.PreTrainedTokenizerBase:
    """The tokenizer of the student: its own, or the teacher's where it is made of the teacher's layers."""
    name = "teacher_model" if experiment.student_model is None else "student_model"
    return load_tokenizer(getattr(experiment, name), name)


def load_teacher(experiment: Experiment, labels: list[str]) -> transformers.PreTrainedModel:
    """The teacher before its fine-tuning: a classifier over `labels`, in this order."""
    return _load_classifier(experiment.teacher_model, labels, "teacher_model")


def load_student(experiment: Experiment, labels: list[str]) -> transformers.PreTrainedModel:
    """The student before distillation: `student_model`, or alternate layers of the teacher's encoder."""
    if experiment.student_model is not None:
        return _load_classifier(experiment.student_model, labels, "student_model")
    with _loading(experiment.teacher_model, "teacher_model"):
        encoder = transformers.AutoModel.from_pretrained(
            locate(experiment.teacher_model), dtype=torch.float32, use_safetensors=True
        )
    halved = halve(encoder)
    config = halved.config
    _declare(config, labels)
    student = transformers.DistilBertForSequenceClassification(config)
    student.distilbert.load_state_dict(halved.state_dict())
    return student


def reopen(folder: Path) -> transformers.PreTrainedModel:
    """The classifier of a finished run, in float32, on the accelerator if there is one."""
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    return model.to(torch.accelerator.current_accelerator() or "cpu")


def reopened(run: Run) -> tuple[transformers.PreTrainedModel, transformers.PreTrainedTokenizerBase]:
    """The classifier of a finished run, see `reopen`, and its tokenizer."""
    return reopen(run.model_folder), transformers.AutoTokenizer.from_pretrained(run.model_folder)


def label_order(config: transformers.PretrainedConfig, labels: list[str], parameter: str) -> list[int] | None:
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
    wanted = [label.lower() for label in labels]
    if set(names) != set(wanted):
        raise ParameterError(
            f"{parameter} = {config.name_or_path!r}: its labels are {', '.join(names)}, which cannot be matched with "
            f"{', '.join(labels)}; correct id2label in its config.json"
        )
    return [names.index(label) for label in wanted]


def layer_stack(encoder: transformers.PreTrainedModel) -> nn.ModuleList:
    """The encoder's layers.

    Raises:
        ValueError: it has no list of as many modules as layers, as where layers share their weights.
    """
    depth = getattr(encoder.config, "num_hidden_layers", None)
    for module in encoder.modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return module
    raise ValueError(f"{type(encoder).__name__}: no stack of {depth} layers found")


def output_layer(model: transformers.PreTrainedModel) -> nn.Linear:
    """The linear layer of a classifier that gives its logits."""
    return [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == model.config.num_labels][-1]


_TOKENIZERS = ("tokenizer.json", "vocab.*", "*.model", "*.tiktoken")
_PICKLED = ("pytorch_model*.bin", "*.pt", "*.pth")
_ENCODERS = "an encoder, such as BERT, DistilBERT, RoBERTa, DeBERTa-v2, ELECTRA, ModernBERT or MiniLM"


def _served(experiment: Experiment, parameter: str, labels: list[str]) -> transformers.PretrainedConfig:
    """The configuration of a model that can teach and be taught; any other is refused."""
    name = getattr(experiment, parameter)
    said = f"{parameter} = {name!r}"
    _check_files(name, said)
    config = _config(name, parameter)
    label_order(config, labels, parameter)
    encoder = _outline(config, name, parameter)
    positions = _positions(encoder)
    if positions and experiment.max_length > positions:
        raise ParameterError(
            f"max_length = {experiment.max_length}: {said} has positions for {positions} tokens; set max_length to "
            f"{positions} or less, or name a model that reads more"
        )
    _check_tokenizer(load_tokenizer(name, parameter), config, said)
    return config


def _check_files(name: str, said: str) -> None:
    """Refuse a local folder that lacks what a model is loaded from; transformers makes up a tokenizer in silence."""
    folder = Path(locate(name))
    if not folder.is_dir():
        return

    def has(*patterns: str) -> bool:
        return any(any(folder.glob(pattern)) for pattern in patterns)

    if not has("config.json"):
        raise ParameterError(f"{said}: there is no config.json in {folder}; name the folder that a model was saved to")
    if not has("*.safetensors") and has(*_PICKLED):
        raise ParameterError(
            f"{said}: {folder} has pickled weights only, which run code as they are opened; allowed are safetensors. "
            "Convert them once, in an environment that you trust with them: load the model with from_pretrained and "
            "write it with save_pretrained"
        )
    if not has("*.safetensors"):
        raise ParameterError(
            f"{said}: {folder} has no weights (model.safetensors); write them there with the model's save_pretrained"
        )
    if not has(*_TOKENIZERS):
        raise ParameterError(
            f"{said}: {folder} has no tokenizer, that is none of {', '.join(_TOKENIZERS)}; write the one that the "
            "model was trained with there, with its save_pretrained"
        )


def _outline(config: transformers.PretrainedConfig, name: str, parameter: str) -> transformers.PreTrainedModel:
    """The encoder of a configuration without its weights; refused where it has no layers that exits can be put on."""
    kind, said = config.model_type, f"{parameter} = {name!r}"
    auto = transformers.models.auto.modeling_auto
    by_task = (auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES, auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES)
    trained = all(kind in names for names in by_task)
    if config.is_encoder_decoder or getattr(config, "is_decoder", False) or not trained:
        what = "an encoder-decoder" if config.is_encoder_decoder else "a decoder, or no encoder trained by masking"
        raise ParameterError(f"{said}: {kind!r} is {what}; name {_ENCODERS}")
    with _loading(name, parameter), torch.device("meta"):
        encoder = transformers.AutoModel.from_config(config)
    try:
        layer_stack(encoder)
    except ValueError:
        raise ParameterError(
            f"{said}: the layers of {kind!r} do not each have weights of their own (ALBERT runs through one of them "
            f"again and again), so there is none to stop at; name {_ENCODERS}"
        ) from None
    return encoder


def _positions(encoder: transformers.PreTrainedModel) -> int | None:
    """How many tokens an encoder reads; RoBERTa and its kin count theirs from padding_idx + 1 on."""
    positions = getattr(encoder.config, "max_position_embeddings", None)
    for name, module in encoder.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding) and module.padding_idx is not None:
            return positions - module.padding_idx - 1
    return positions


def _check_tokenizer(
    tokenizer: transformers.PreTrainedTokenizerBase, config: transformers.PretrainedConfig, said: str
) -> None:
    """Refuse a tokenizer that cannot be the model's own."""
    if not tokenizer.is_fast:
        raise ParameterError(f"{said}: its tokenizer is written in Python; save a fast one (tokenizer.json) beside it")
    numbers = set(tokenizer.get_vocab().values())
    if numbers <= set(tokenizer.all_special_ids):
        raise ParameterError(
            f"{said}: its tokenizer knows no word, every text would be [UNK]; name a model that has its tokenizer"
        )
    if max(numbers) >= config.vocab_size:
        raise ParameterError(
            f"{said}: its tokenizer numbers tokens up to {max(numbers)}, the model knows 0 to {config.vocab_size - 1}; "
            "save the tokenizer that the model was trained with beside it, or give the model the new tokens "
            "(resize_token_embeddings)"
        )
    if tokenizer.pad_token is None:
        raise ParameterError(f"{said}: its tokenizer has no padding token; set pad_token and save it again")
    first = tokenizer("a")["input_ids"][:1]
    if not set(first) & set(tokenizer.all_special_ids):
        raise ParameterError(
            f"{said}: its tokenizer puts no special token ([CLS], <s>) first, whose state classifies the text; save it "
            "with a post-processor that does"
        )


def _is_classifier(config: transformers.PretrainedConfig) -> bool:
    return any("ForSequenceClassification" in name for name in config.architectures or ())


def _declare(config: transformers.PretrainedConfig, labels: list[str]) -> None:
    config.id2label, config.label2id = dict(enumerate(labels)), {label: i for i, label in enumerate(labels)}
    # The model would note it at its first batch with labels, which a training resumed at its end does not see.
    config.problem_type = "single_label_classification"


def _config(name: str, parameter: str) -> transformers.PretrainedConfig:
    with _loading(name, parameter):
        return transformers.AutoConfig.from_pretrained(locate(name))


def _load_classifier(name: str, labels: list[str], parameter: str) -> transformers.PreTrainedModel:
    """A classifier whose outputs are `labels` in this order: a new head, or the checkpoint's with rows reordered."""
    order = label_order(_config(name, parameter), labels, parameter)
    with _loading(name, parameter):
        model = transformers.AutoModelForSequenceClassification.from_pretrained(
            locate(name), num_labels=len(labels), dtype=torch.float32, use_safetensors=True
        )
    if order is not None:
        for parameter in output_layer(model).parameters():  # of some there is no bias
            parameter.data = parameter.data[order]
    _declare(model.config, labels)
    return model


@contextmanager
def _loading(name: str, parameter: str) -> Iterator[None]:
    """Load quietly, and turn the many ways in which a checkpoint cannot be had into one message."""
    try:
        with quiet():
            yield
    except Exception as error:  # what is missing or spoilt has no common base, from KeyError to those of Rust
        reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"[:200]
        if Path(locate(name)).is_dir():
            raise ParameterError(
                f"{parameter} = {name!r}: what {locate(name)} holds does not load ({reason}); save the model and its "
                "tokenizer there again, with their save_pretrained"
            ) from error
        raise ParameterError(
            f"{parameter} = {name!r}: neither the folder {runs.root() / name} nor the hub has it ({reason}). Give a "
            "local folder with config.json, model.safetensors and a tokenizer; or, if it has been downloaded once, "
            "work offline with HF_HUB_OFFLINE=1"
        ) from error


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
