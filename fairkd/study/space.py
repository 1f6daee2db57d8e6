"""What is varied of a student in a tuning, by the types and limits of its parameters; and its settings as an entry."""

import json
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial

from fairkd.exits import POSTERIORS
from fairkd.experiment import Experiment
from fairkd.parameters import ParameterError


def tunable(experiment: Experiment) -> list[str]:
    """What decides the student alone: neither data, teacher, seed nor encoder; and not what is `Tuning.selection`."""
    kept = experiment.teacher_parameters().keys() | {"method", "seed", "student_model", "kept_epoch"}
    return sorted(experiment.student_parameters().keys() - kept)


def distributions(experiment: Experiment, space: dict[str, list[Any] | None]) -> dict[str, BaseDistribution]:
    """What is varied of a student, from the types and limits of its parameters.

    Two rising numbers are the ends of a range of a parameter that is a number, by its logarithm where it spans a factor
    of 100; any other list is one of choices.

    Raises:
        ParameterError: null, of a parameter without limits on both sides.
    """
    parts = (type(experiment), type(experiment.weighting), POSTERIORS[experiment.posterior])
    declared = {name: schema for part in parts for name, schema in part.model_json_schema()["properties"].items()}
    return {
        name: _distribution(name, given, declared[name]) for name, given in space.items() if name in tunable(experiment)
    }


def _distribution(name: str, given: list[Any] | None, schema: dict[str, Any]) -> BaseDistribution:
    given = _allowed(name, schema) if given is None else given
    if not given or len({json.dumps(value) for value in given}) < len(given):
        raise ParameterError(f"space: {name} = {given!r}: name a value or more, each once")
    pair = len(given) == 2 and all(type(value) in (int, float) for value in given)
    if pair and given[0] > given[1]:
        raise ParameterError(f"space: {name} = {given!r}: should rise; {given[::-1]!r} is a range")
    types = {part.get("type") for part in (schema, *schema.get("anyOf", []))}
    numbers = pair and given[0] < given[1]
    if numbers and "integer" in types and all(type(value) is int for value in given):
        return IntDistribution(*given)
    if numbers and "number" in types:
        low, high = map(float, given)
        return FloatDistribution(low, high, log=low > 0 and high >= 100 * low)
    return CategoricalDistribution([json.dumps(value) for value in given])


def _allowed(name: str, schema: dict[str, Any]) -> list[Any]:
    if "enum" in schema or schema.get("type") == "boolean":
        return schema.get("enum", [False, True])
    if not {"minimum", "maximum"} <= schema.keys():
        raise ParameterError(f"space: {name} = None: has no limits of its own on both sides; state them")
    return [schema["minimum"], schema["maximum"]]


def ends(distribution: BaseDistribution) -> list[Any]:
    """The least and the largest value, or all choices."""
    if isinstance(distribution, CategoricalDistribution):
        return [json.loads(choice) for choice in distribution.choices]
    return [distribution.low, distribution.high]


def drawn(trial: Trial, name: str, distribution: BaseDistribution) -> Any:
    """A value; numbers to three digits, so that an entry can be read and typed."""
    if isinstance(distribution, CategoricalDistribution):
        return json.loads(trial.suggest_categorical(name, distribution.choices))
    low, high = distribution.low, distribution.high
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(name, low, high)
    return min(max(low, float(f"{trial.suggest_float(name, low, high, log=distribution.log):.3g}")), high)


def nearest_to(value: Any, distribution: BaseDistribution) -> Any:
    """The value as the search has it, or what of the space is nearest: an end, or the first choice."""
    if isinstance(distribution, CategoricalDistribution):
        return json.dumps(value) if json.dumps(value) in distribution.choices else distribution.choices[0]
    number = value if type(value) in (int, float) else distribution.low
    return min(max(distribution.low, number), distribution.high)
