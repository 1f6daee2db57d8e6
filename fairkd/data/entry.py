"""A data set as an entry, one YAML file: where it comes from, its text, its labels, and what makes its groups."""

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, PrivateAttr

from fairkd import runs
from fairkd.data.groups import NO_PUNCTUATION, RESERVED, is_taken
from fairkd.data.registry import GENERATORS, RULES
from fairkd.parameters import ParameterError, Parameters, nearest, parameter, read_mapping

FOLDER = Path(__file__).parents[2] / "params" / "datasets"
_DESCRIPTIVE = {"description", "licence", "citation"}

Value = bool | int | float | str


class Labels(Parameters):
    """The labels: a column, and the classes in the order of their indices."""

    column: str = parameter("label", "the column of the labels")
    names: Annotated[list[str], Field(min_length=2, max_length=20)] = Field(
        description="the classes in the order of their indices, such as [bad, good]"
    )
    map: Annotated[dict[Value, str], Field(min_length=1)] | None = parameter(
        None, "{value of the column: class}, needed where labels are numbers"
    )
    threshold: float | None = parameter(None, "of two classes, the second from this value of a numeric column on")
    unlabelled: list[Value] = parameter(["-", -1, ""], "values of rows without a label, which are dropped")

    def __init__(self, **given: Any):
        """Check the values; raises `ParameterError`."""
        super().__init__(**given)
        if len(set(self.names)) < len(self.names):
            raise ParameterError(f"names = {self.names}: a class is named twice")
        if self.map is not None and self.threshold is not None:
            raise ParameterError("map and threshold: state one of them")
        if self.threshold is not None and len(self.names) != 2:
            raise ParameterError(f"threshold = {self.threshold}: names are two then, below and from it on")
        for name in (self.map or {}).values():
            if name not in self.names:
                raise ParameterError(f"map: {name!r} is no class; {nearest(name, self.names)}")


class Attribute(Parameters):
    """What makes groups, together with the label: a column, words in a text, any of some columns, or a rule."""

    name: str = Field(description="what tables and groups call it")
    column: str | None = parameter(None, "the column that holds its levels: booleans, whole numbers or text")
    words: Annotated[list[str], Field(min_length=1)] | None = parameter(
        None, "whether the text `in` a column holds one of these words"
    )
    in_: str | None = Field(None, alias="in", description="the column in which `words` are looked for")
    any_of: Annotated[list[str], Field(min_length=1)] | None = parameter(
        None, "whether the largest of these numeric or boolean columns is at threshold"
    )
    threshold: float = parameter(0.5, "of any_of")
    rule: str | None = parameter(None, "a function registered by `register_rule`")
    levels: Annotated[dict[Value, str], Field(min_length=1)] | None = parameter(
        None, "{level: its name in tables}, in the order of tables"
    )

    def __init__(self, **given: Any):
        """Check the values; raises `ParameterError`."""
        super().__init__(**given)
        ways = ("column", "words", "any_of", "rule")
        stated = [way for way in ways if getattr(self, way) is not None]
        if len(stated) != 1:
            raise ParameterError(f"state exactly one of {', '.join(ways)}; stated: {', '.join(stated) or 'none'}")
        if "threshold" in given and self.any_of is None:
            raise ParameterError(f"threshold = {self.threshold}: any_of alone reads it")
        if (self.words is None) != (self.in_ is None):
            raise ParameterError("words and in: state both, the words and the column in which they are looked for")
        for word in self.words or ():
            if word != word.translate(NO_PUNCTUATION).lower() or not word or " " in word:
                raise ParameterError(f"words: {word!r} would never be found: text is lower-cased, without punctuation")
        if is_taken(self.name):
            raise ParameterError(f"name = {self.name!r}: this name is taken; call it otherwise, whatever its column")

    @property
    def columns(self) -> list[str]:
        """The columns that it reads; a rule may read any."""
        return [column for column in (self.column, self.in_, *(self.any_of or ())) if column]


class SplitNames(Parameters):
    """The splits by their names, or by the names of files; one without `train` is for evaluation only."""

    train: str | None = parameter(None, "the training split")
    evaluation: str | Annotated[list[str], Field(min_length=1)] | Annotated[float, Field(gt=0, lt=1)] = Field(
        description="the evaluation split, or several that are one, or the share of the training split held out as one"
    )
    validation: str | None = parameter(None, "its own validation split; null holds one out of the training split")

    def __init__(self, **given: Any):
        """Check the values; raises `ParameterError`."""
        if isinstance(given.get("evaluation"), float):
            given.setdefault("train", "train")
        super().__init__(**given)
        held_out = self.evaluation if isinstance(self.evaluation, list) else [self.evaluation]
        names = [name for name in (self.train, *held_out, self.validation) if isinstance(name, str)]
        for name in names:
            if not name or Path(name).is_absolute() or ".." in Path(name).parts:
                raise ParameterError(f"{name!r} is no split: name a file inside the data set's folder")
            if names.count(name) > 1:
                raise ParameterError(f"{name!r} is named twice; name another, or let evaluation be a share such as 0.2")


class Entry(Parameters):
    """A data set with spurious groups, as its file states it; a group is a label together with an attribute."""

    source: str | None = parameter(None, "hub name, or a folder or file, from the project's folder or from this file's")
    config: str | None = parameter(None, "the hub data set's configuration")
    revision: str | None = parameter(None, "the hub data set's commit or branch")
    files: str | None = parameter(None, "the split's files in the hub data set, {split} for its name")
    generator: str | None = parameter(None, "instead of a source: a class registered by `register_generator`")
    splits: SplitNames = Field(description="the splits, such as {train: train, evaluation: test}")
    text: Annotated[list[str], Field(min_length=1, max_length=2)] = Field(
        description="the column of the text, or two of a pair, such as [premise, hypothesis]"
    )
    label: Labels = Field(description="the labels, such as {column: label, names: [bad, good]}")
    attribute: Attribute = Field(description="what makes groups, such as {name: genre, column: genre}")
    id: str | None = parameter(None, "the column of names of rows; null counts them")
    hold_out_by: str | None = parameter(None, "rows that share this column's value are held out together")
    balanced: bool = parameter(False, "held-out splits are drawn by group: averages weigh rows to the training shares")
    classes: Annotated[dict[str, str], Field(min_length=1)] | None = parameter(
        None, "evaluation only: {class of the student: class of this set}"
    )
    description: str | None = parameter(None, "what the data are")
    licence: str | None = parameter(None, "their terms")
    citation: str | None = parameter(None, "the publication to cite")

    _file: Path | None = PrivateAttr(None)

    def __init__(self, **given: Any):
        """Check the values; raises `ParameterError`."""
        given = dict(given)
        for name, part in {"splits": SplitNames, "label": Labels, "attribute": Attribute}.items():
            if isinstance(given.get(name), dict):
                given[name] = _part(part, given[name], name)
        if isinstance(given.get("text"), str):
            given["text"] = [given["text"]]
        super().__init__(**given)
        if (self.source is None) == (self.generator is None):
            raise ParameterError("source, generator: state one of them")
        if self.classes and (wrong := sorted(set(self.classes.values()) - set(self.labels))):
            raise ParameterError(f"classes: {wrong[0]!r} is no class of this set; {nearest(wrong[0], self.labels)}")
        taken = RESERVED | {self.attribute.name}
        if wrong := sorted(taken & set(self.text)):
            raise ParameterError(f"text = {self.text}: the name {wrong[0]!r} is taken; rename the column")
        if len(set(self.text)) < len(self.text):
            raise ParameterError(f"text = {self.text}: one column twice")

    @classmethod
    def read(cls, path: Path) -> Self:
        """The entry in a YAML file.

        Raises:
            ParameterError: the file is no entry; the message names the file and the field.
        """
        content = read_mapping(path)
        try:
            entry = cls(**content)
        except ParameterError as error:
            raise ParameterError("\n".join(f"{path.name}: {line}" for line in str(error).splitlines())) from None
        entry._file = path
        return entry

    @property
    def name(self) -> str:
        """The name of the file."""
        return self._file.stem if self._file else "entry"

    @property
    def labels(self) -> list[str]:
        """The class names, in the order of the class indices."""
        return self.label.names

    def columns_read(self, what: str) -> list[str]:
        """The text columns that "pair", all of them, or the name of one stands for.

        Raises:
            ParameterError: it is no text column.
        """
        if what == "pair":
            return self.text
        if what not in self.text:
            allowed = ["pair", *self.text]
            raise ParameterError(f"{what!r} is no text of {self.name}; {nearest(what, allowed)} ({', '.join(allowed)})")
        return [what]

    @property
    def required(self) -> list[str]:
        """The columns without which no row can be read."""
        return list(dict.fromkeys([*self.text, self.label.column, *self.attribute.columns]))

    @property
    def columns(self) -> list[str] | None:
        """The columns that are read where they are there; None is all of them, for a rule may read any."""
        return None if self.attribute.rule else [*self.required, *filter(None, (self.id, self.hold_out_by))]

    @property
    def code(self) -> list[Any]:
        """What of it is written in Python: its generator's class, its rule's function.

        Raises:
            ParameterError: one of them is not registered.
        """
        named = {"generator": (self.generator, GENERATORS), "attribute: rule": (self.attribute.rule, RULES)}
        return [_registered(what, name, among) for what, (name, among) in named.items() if name]

    def local_path(self) -> Path | None:
        """The folder or file of its source; None of a hub name."""
        beside = self._file.parent / Path(self.source).expanduser() if self._file else None
        if beside and beside.exists():
            return beside
        return runs.local_path(self.source)

    def decisive(self) -> dict[str, Any]:
        """Its content but for what only describes it and for its source, of JSON's types."""
        content = self.model_dump(exclude=_DESCRIPTIVE | {"source"}, exclude_none=True)
        return _plain(content)


def _part(kind: type[Parameters], given: dict[str, Any], field: str) -> Parameters:
    try:
        return kind(**{str(name): value for name, value in given.items()})
    except ParameterError as error:
        raise ParameterError("\n".join(f"{field}: {line}" for line in str(error).splitlines())) from None


def _plain(value: Any) -> Any:
    """The value with text as the keys of its dicts, in order, as JSON has them."""
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    return value


def _registered(what: str, name: str, among: dict[str, Any]) -> Any:
    if name not in among:
        raise ParameterError(f"{what} = {name!r}: is not registered; import its module first; {nearest(name, among)}")
    return among[name]


def entry_named(dataset: str) -> Entry:
    """The entry of a data set: a name in params/datasets/, or the path of a .yaml file.

    A relative path is taken from the project's folder, or else from the caller's.

    Raises:
        ParameterError: there is none, or the file is wrong.
    """
    if dataset.endswith((".yaml", ".yml")):
        path = Path(dataset).expanduser()
        bases = [*dict.fromkeys((runs.root(), Path.cwd()))]
        found = next((base / path for base in bases if (base / path).is_file()), None)
        if found is None:
            raise ParameterError(f"there is no such file in {' or '.join(map(str, bases))}")
    else:
        known = {file.stem: file for file in FOLDER.glob("*.yaml")}
        if dataset not in known:
            names = f"known: {', '.join(sorted(known))}, or the path of a .yaml file"
            raise ParameterError(f"is not known; {nearest(dataset, known)} ({names})")
        found = known[dataset]
    state = found.stat()
    return _read(found, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=64)
def _read(path: Path, changed: int, size: int) -> Entry:
    """The entry, read again when its file has changed."""
    return Entry.read(path)


DATASETS: dict[str, Entry] = {file.stem: entry_named(file.stem) for file in sorted(FOLDER.glob("*.yaml"))}
