"""What a data set's file can name that is written in Python: generators of rows, and rules for groups."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import pandas as pd

from fairkd import provenance
from fairkd.parameters import Parameters

Rule = Callable[[pd.DataFrame], pd.Series]


class Generator(Parameters):
    """Made-up rows. A subclass declares its own parameters as fields and is registered by `register_generator`.

    Attributes:
        name: by which a data set's file says `generator: name`.
    """

    name: ClassVar[str]

    @abstractmethod
    def splits(self, options: Parameters) -> dict[str, list[dict[str, Any]]]:
        """The rows of every split that the data set's file names.

        Args:
            options: `DataOptions`; `train_examples`, `validation_examples` and `data_seed` say how many and which.

        Raises:
            DataError: it cannot make as many.
        """


GENERATORS: dict[str, type[Generator]] = {}
RULES: dict[str, Rule] = {}

_Rule = TypeVar("_Rule", bound=Rule)


def register_generator(generator: type[Generator]) -> type[Generator]:
    """Register a `Generator`, so that a data set's file can say `generator: name`; a decorator.

    Raises:
        ValueError: see `provenance.entered`.
    """
    return provenance.entered(GENERATORS, generator, Generator)


def register_rule(name: str) -> Callable[[_Rule], _Rule]:
    """Register a function from a frame of rows to their levels, for `attribute: {name: ..., rule: name}`.

    The frame has all columns of the data as they were read; the series returned has the frame's index and holds
    booleans, whole numbers or text. A row without a level is dropped.

    Raises:
        ValueError: the name is no text, or that of a rule of fairkd itself.
    """
    if not isinstance(name, str):
        raise ValueError(f"{name!r}: a rule is registered by a name; write @register_rule('name') above it")

    def register(rule: _Rule) -> _Rule:
        provenance.keep_own(RULES, name, rule)
        provenance.remember(rule)
        RULES[name] = rule
        return rule

    return register
