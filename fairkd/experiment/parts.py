"""Who reads which parameter: methods, posteriors and generators, each with its own."""

from collections.abc import Iterable
from typing import Any

from fairkd.data import GENERATORS, generator_of
from fairkd.exits import POSTERIORS
from fairkd.parameters import ParameterError, Parameters, nearest
from fairkd.weighting import METHODS


def named(parameter: str, registry: dict[str, type[Parameters]], name: str) -> type:
    """The part that a parameter names.

    Raises:
        ParameterError: there is none of this name.
    """
    if not isinstance(name, str) or name not in registry:
        allowed = ", ".join(sorted(registry))
        raise ParameterError(f"{parameter} = {name!r}: is not known; {nearest(str(name), registry)} ({allowed})")
    return registry[name]


def contradicted(given: dict[str, Any], stated: dict[str, Any], who: str) -> None:
    """Refuse parameters that are given and also stated elsewhere, with another value.

    Raises:
        ParameterError: one is; `who` is where else it is stated.
    """
    if twice := sorted(name for name in given.keys() & stated.keys() if given[name] != stated[name]):
        name = twice[0]
        raise ParameterError(f"{name} = {given[name]!r}: {who} says {name} = {stated[name]!r}; state one of them")


def own_names() -> set[str]:
    """The names of all parameters that a method, a posterior or a generator has of its own."""
    return {name for part in (METHODS | POSTERIORS | GENERATORS).values() for name in part.model_fields}


def readers(name: str) -> dict[str, type[Parameters]]:
    """The methods, posteriors and generators that read a parameter, by their names."""
    everyone = METHODS | POSTERIORS | GENERATORS
    return {who: part for who, part in everyone.items() if name in part.model_fields}


def shared_names(shared: Iterable[str], parts: dict[str, type]) -> list[str]:
    """A line for every parameter that two have: both would read it, and the name of a run would tell one of them.

    Args:
        shared: names that every experiment has.
        parts: the method, the posterior and, of generated data, the generator of this one.
    """
    known, lines = dict.fromkeys(shared, "every experiment"), []
    for part in parts.values():
        twice = [name for name in part.model_fields if name in known]
        lines += [f"{n}: is a parameter of {known[n]} and of {part.name}; give one of them another name" for n in twice]
        known |= dict.fromkeys(part.model_fields, part.name)
    return lines


def unread(
    settings: dict[str, Any], given: dict[str, Any], shared: Iterable[str], parts: dict[str, type], dataset: str
) -> list[str]:
    """A line for every parameter that nobody reads, or that was given to somebody who does not.

    Args:
        settings: all parameters.
        given: those that were given, which must be read; a profile's others may be another method's.
        shared: names that every experiment reads.
        parts: the method and the posterior of this one.
        dataset: its data set.
    """
    read = set(shared).union(*(part.model_fields for part in parts.values()))
    read |= generator_options(settings).get("generator_options", {}).keys()
    lines = []
    for name in sorted(settings.keys() - read):
        who = readers(name)
        if not who:
            lines.append(f"{name}: there is no such parameter; {nearest(name, read | own_names())}")
        elif name in given:
            chosen = dataset if set(who) <= set(GENERATORS) else " and ".join(part.name for part in parts.values())
            lines.append(f"{name} = {settings[name]!r}: {chosen} do not read it; read by {', '.join(sorted(who))}")
        else:
            lines += _refused_by_all(name, settings[name], who)
    return lines


def _refused_by_all(name: str, value: Any, who: dict[str, type[Parameters]]) -> list[str]:
    """Why none of those who read a parameter allows the value; nothing if one does."""
    why = ""
    for part in who.values():
        try:
            part(**{name: value})
            return []
        except ParameterError as error:
            why = str(error)
    return [why]


def generator_options(settings: dict[str, Any]) -> dict[str, Any]:
    """`generator_options` of a generated data set, from the settings that its generator reads."""
    generator = generator_of(settings.get("dataset", "demo"))
    if generator is None:
        return {}
    own = {name: settings[name] for name in settings.keys() & generator.model_fields.keys()}
    more = settings.get("generator_options", {})
    if not isinstance(more, dict):
        raise ParameterError(f"generator_options = {more!r}: should be a mapping of names")
    for name in more.keys() & own.keys():
        raise ParameterError(f"generator_options = {more!r}: {name} is stated beside it too; state it once")
    return {"generator_options": generator(**(more | own)).model_dump()}
