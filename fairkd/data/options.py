"""What a run says of its data, and what of it decides which results."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationInfo, field_validator

from fairkd import runs
from fairkd.data import reading
from fairkd.data.entry import Entry, entry_named
from fairkd.data.reading import DataError
from fairkd.data.registry import GENERATORS, Generator
from fairkd.parameters import ParameterError, Parameters, Rows, Seed, Source, nearest, parameter


class DataOptions(Parameters):
    """The data of a run: which, how many, from which seed on."""

    dataset: str = parameter(
        "demo", "a name in params/datasets/, or the path of a .yaml file that describes a data set"
    )
    data: Source | None = parameter(None, "hub name or folder, instead of the data set's own source")
    train_examples: Rows | None = parameter(8000, "training rows at most, drawn at random; null takes all")
    evaluation_examples: Rows | None = parameter(
        None, "rows of the evaluation split that a finished student is asked, drawn at random; null takes all"
    )
    validation_examples: Annotated[int, Field(ge=0, le=1_000_000_000)] = parameter(
        600, "rows held out of training, to choose an epoch by"
    )
    max_length: Annotated[int, Field(ge=8, le=100_000)] = parameter(
        64, "tokens of an example, longer ones are cut", "deck"
    )
    data_seed: Seed = parameter(0, "which rows are drawn or generated")
    evaluate_on: list[str] = parameter([], "further evaluation sets, each as `dataset`")
    generator_options: dict[str, Any] = parameter({}, "parameters of a generated data set, such as negation_rates")

    @field_validator("dataset")
    @classmethod
    def _trainable(cls, dataset: str) -> str:
        entry = entry_named(dataset)
        if entry.splits.train is None:
            raise ParameterError("has no training split; name it in evaluate_on")
        _ = entry.code  # registered, or refused
        return dataset

    @field_validator("data")
    @classmethod
    def _replaces_a_source(cls, data: str | None, info: ValidationInfo) -> str | None:
        dataset = info.data.get("dataset")
        if data is not None and dataset and entry_named(dataset).generator:
            raise ParameterError(
                f"dataset = {dataset!r} is generated and reads no data; name another dataset, such as mnli"
            )
        return data

    @field_validator("evaluate_on")
    @classmethod
    def _answerable(cls, names: list[str], info: ValidationInfo) -> list[str]:
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ParameterError(f"name {repeated[0]} once")
        for name in names if "dataset" in info.data else []:
            try:
                further = entry_named(name)
            except ParameterError as error:
                raise ParameterError(f"{name!r}: {error}") from None
            if further.generator or not isinstance(further.splits.evaluation, str):
                raise ParameterError(f"{name!r} has no evaluation split of its own to read")
            own = entry_named(info.data["dataset"])
            merged_classes(further, own.labels)
            if len(further.text) != len(own.text):
                raise ParameterError(
                    f"{name!r} has the texts {further.text}, and {own.name!r}, by which students are trained, "
                    f"{own.text}; name a set with as many"
                )
            _ = further.code
        return names

    @field_validator("generator_options")
    @classmethod
    def _of_the_generator(cls, options: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        dataset = info.data.get("dataset")
        generator = generator_of(dataset)
        if dataset and options and generator is None:
            raise ParameterError(f"dataset = {dataset!r} is not generated and has no such options")
        if generator:
            generator(**options)
        return options

    @property
    def entry(self) -> Entry:
        """The data set's entry."""
        return entry_named(self.dataset)

    @property
    def generator(self) -> Generator | None:
        """What generates the data, with its own parameters; None of data that are read."""
        kind = generator_of(self.dataset)
        return kind(**self.generator_options) if kind else None

    @property
    def data_code(self) -> list[Any]:
        """The class of the data set's generator and the function of its rule, where it has them."""
        return self.entry.code


def generator_of(dataset: Any) -> type[Generator] | None:
    """The class that generates a data set; None where there is none, or no such data set."""
    try:
        return GENERATORS.get(entry_named(dataset).generator)
    except (ParameterError, AttributeError):
        return None


def merged_classes(further: Entry, labels: list[str]) -> dict[str, str]:
    """{class of a student: class of a further evaluation set}.

    Raises:
        ParameterError: the set does not say into which of its classes one of the student's goes.
    """
    classes = further.classes or {label: label for label in further.labels}
    for label in labels:
        if label not in classes:
            raise ParameterError(
                f"{further.name!r} has no class for {label!r}: state it in its classes; {nearest(label, classes)}"
            )
    return classes


def source_of(options: DataOptions, entry: Entry) -> tuple[str, str, Path | None]:
    """Where the rows of an entry come from, `data` taken into account.

    Returns:
        How it is stated, "data = 'pairs'"; its name; its local folder or file, None of a hub name.

    Raises:
        DataError: it is named as a file, and there is none.
    """
    own, field, source, path = options.entry, "source", entry.source, None
    if options.data is not None and entry.source == own.source:
        path = runs.local_path(options.data)
        # Another set of the same source may lie beside this one, or not.
        if entry is own or path is None or reading.has_split(path, entry.splits.evaluation):
            field, source = "data", options.data
    if field == "source":
        path = entry.local_path()
    stated = f"{field} = {source!r}"
    if reading.is_file_name(source) and not (path and path.exists()):
        beside = f"neither beside {entry.name}.yaml nor" if field == "source" else "not"
        where = "" if Path(source).expanduser().is_absolute() else f", {beside} in {runs.root()}"
        raise DataError(f"{stated}: there is no such file{where}")
    return stated, source, path


def training_identity(options: DataOptions) -> dict[str, Any]:
    """What decides the training and validation rows and the whole evaluation split, and how they are cut.

    Raises:
        DataError: a local file is missing.
    """
    entry, generator = options.entry, options.generator
    sizes = {
        name: getattr(options, name) for name in ("train_examples", "validation_examples", "max_length", "data_seed")
    }
    identity = {"dataset": entry.name, "entry": entry.decisive()} | sizes
    if generator:
        return identity | {"generator_options": generator.model_dump()}
    named = [
        entry.splits.train,
        *(held if isinstance(held := entry.splits.evaluation, list) else [held]),
        entry.splits.validation if options.validation_examples else None,
    ]
    return identity | {"source": _content(options, entry, named)}


def evaluation_identity(options: DataOptions) -> dict[str, Any]:
    """What decides the rows that a finished student is asked, its training rows included."""
    return training_identity(options) | {"evaluation_examples": options.evaluation_examples}


def further_identity(options: DataOptions, entry: Entry) -> dict[str, Any]:
    """What decides the rows of a further evaluation set, and how they are cut."""
    source = _content(options, entry, [entry.splits.evaluation])
    return {
        "entry": entry.decisive(),
        "source": source,
        "max_length": options.max_length,
    }


def _content(options: DataOptions, entry: Entry, named: list[Any]) -> Any:
    """The hub name, or {split: what its file holds} of those splits that are named."""
    stated, source, path = source_of(options, entry)
    if path is None:
        return source
    files = {split: reading.split_file(stated, path, split) for split in named if isinstance(split, str)}
    return {split: runs.fingerprint(str(file)) for split, file in files.items()}
