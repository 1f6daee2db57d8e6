"""The command line: `python -m fairkd parameters [--method dedier]`, the table of all parameters."""

import argparse
import json
import sys
from typing import Any

from fairkd.data import GENERATORS
from fairkd.exits import POSTERIORS
from fairkd.experiment import Experiment, readers
from fairkd.parameters import ParameterError, Parameters, nearest
from fairkd.weighting import METHODS

_COLUMNS = ("parameter", "type", "default", "range", "read by", "meaning", "source")
_LIMITS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


def parameter_table(method: str | None = None) -> list[tuple[str, ...]]:
    """A row for every parameter, or for those that one method reads; the columns are `_COLUMNS`.

    Raises:
        ParameterError: there is no such method.
    """
    if method is not None and method not in METHODS:
        raise ParameterError(f"--method {method}: is not known; {nearest(method, METHODS)}")
    parts = [METHODS[method]] if method else [Experiment, *METHODS.values(), *POSTERIORS.values(), *GENERATORS.values()]
    return list({row[0]: row for part in parts for row in _rows(part)}.values())


def _rows(part: type[Parameters]) -> list[tuple[str, ...]]:
    rows = []
    for name, schema in part.model_json_schema().get("properties", {}).items():
        who = "all" if name in Experiment.model_fields else ", ".join(sorted(readers(name)))
        default = json.dumps(schema.get("default"))
        meaning, source = schema.get("description", ""), schema.get("source", "")
        rows.append((name, _type(schema), default.strip('"'), _range(schema), who, meaning, source))
    return rows


def _type(schema: dict[str, Any]) -> str:
    """What JSON schema says of a parameter, in words: the values of a choice, the parts of a union."""
    if choices := schema.get("anyOf"):
        return " | ".join(map(_type, choices))
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    return " | ".join(map(str, values)) or schema.get("type", "any")


def _range(schema: dict[str, Any]) -> str:
    parts = [schema, *schema.get("anyOf", [])]
    return ", ".join(f"{sign} {part[limit]:g}" for part in parts for limit, sign in _LIMITS.items() if limit in part)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; a wrong input ends it with one line."""
    parser = argparse.ArgumentParser(prog="python -m fairkd", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    parameters = commands.add_parser("parameters", help="every parameter: type, default, range, who reads it, source")
    parameters.add_argument("--method", help="only those that this method reads beside what all share")
    given = parser.parse_args(arguments)
    try:
        rows = [_COLUMNS, *parameter_table(given.method)]
    except ParameterError as error:
        sys.exit(str(error))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, [*widths, 0, 0], strict=True)).rstrip())


if __name__ == "__main__":
    main()
