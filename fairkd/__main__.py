"""The command line: `python -m fairkd parameters`, all parameters; `train`, a student; `runs`, `cache`, what is kept.

`python -m fairkd train --profile demo -p student=laplace@3 -p seed=1` makes a student, with what it needs.
"""

import argparse
import json
import logging
import sys
from typing import Any

import yaml

from fairkd import inventory, ranks
from fairkd.data import GENERATORS, DataError, DataOptions
from fairkd.exits import POSTERIORS
from fairkd.experiment import Experiment, Profiled
from fairkd.experiment.profiles import profile_parameters
from fairkd.files import StorageError
from fairkd.parameters import ParameterError, Parameters, nearest
from fairkd.runs import Run
from fairkd.study.plan import PARTS, make
from fairkd.weighting import METHODS

_COLUMNS = ("parameter", "type", "default", "range", "read by", "meaning", "source")
_LIMITS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


def parameter_table(method: str | None = None) -> list[tuple[str, ...]]:
    """A row for every parameter, or for those that one method reads; the columns are `_COLUMNS`.

    A parameter that is not the same of all that read it has a row for each kind.

    Raises:
        ParameterError: there is no such method.
    """
    if method is not None and method not in METHODS:
        raise ParameterError(f"--method {method}: is not known; {nearest(method, METHODS)}")
    found: dict[tuple[str, ...], set[str]] = {row: {"all"} for row in _rows(Experiment)}
    for who, part in (METHODS | POSTERIORS | GENERATORS).items():
        for row in _rows(part):
            found.setdefault(row, set()).add(who)
    names = [*dict.fromkeys(row[0] for row in found)]
    read = sorted((row for row in found if method is None or method in found[row]), key=lambda row: names.index(row[0]))
    return [(*row[:4], ", ".join(sorted(found[row])), *row[4:]) for row in read]


def _rows(part: type[Parameters]) -> list[tuple[str, ...]]:
    """Of each of its parameters name, type, default, range, meaning and source."""
    rows = []
    for name, schema in part.model_json_schema().get("properties", {}).items():
        default = json.dumps(schema.get("default"))
        meaning, source = schema.get("description", ""), schema.get("source", "")
        rows.append((name, _type(schema), default.strip('"'), _range(schema), meaning, source))
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
    training = commands.add_parser("train", help="one student and its exits, and the teacher it needs")
    training.add_argument("--profile", default="demo", help="file of params/ without .yaml, or the path of one")
    training.add_argument("-p", dest="given", metavar="NAME=VALUE", type=_value, action="append", default=[])
    training.add_argument("--part", choices=PARTS, default="student", help="only this run of those it is made of")
    training.add_argument("--without-exits", action="store_true", help="fit no exits of the finished student")
    kept = commands.add_parser("runs", help="finished, interrupted and damaged runs: list, show, verify, remove")
    kept.add_argument("action", choices=["list", "show", "verify", "remove"], nargs="?", default="list")
    kept.add_argument("names", nargs="*", metavar="RUN", help="runs by name; verify takes all if none is named")
    kept.add_argument("--safe", action="store_true", help="remove: all that list calls safe to delete")
    cache = commands.add_parser("cache", help="what is only kept to save time: size, clean")
    cache.add_argument("action", choices=["size", "clean"], nargs="?", default="size")
    given = parser.parse_args(arguments)
    try:
        match given.command:
            case "parameters":
                _print([_COLUMNS, *parameter_table(given.method)])
            case "train":
                logging.basicConfig(format="%(message)s")
                logging.getLogger("fairkd").setLevel("INFO")
                made = train(given.profile, given.part, dict(given.given), exits=not given.without_exits)
                if ranks.first():
                    print(made.folder)
                ranks.leave()
            case "runs":
                _runs(given.action, given.names, given.safe)
            case "cache":
                _cache(given.action)
    except ranks.Ended:
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from what is there", file=sys.stderr)
        sys.exit(130)
    except (ParameterError, DataError, StorageError, inventory.InventoryError) as error:
        sys.exit(f"{'' if ranks.first() else 'another process: '}{error}")


def _value(text: str) -> tuple[str, Any]:
    """The name and value of `name=value`, a value as JSON has it (5e-5), or else YAML."""
    name, equals, value = text.partition("=")
    if not (name.isidentifier() and equals):
        raise argparse.ArgumentTypeError(f"{text!r}: expected name=value, such as method=laplace")
    try:
        return name, json.loads(value)
    except ValueError:
        pass
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError:
        raise argparse.ArgumentTypeError(f"{text!r}: {value!r} is no value; quote it, as in {name}='\"...\"'") from None


def train(profile: str, part: str, given: dict[str, Any], *, exits: bool = True) -> Run:
    """The run of `part` (see `fairkd.study.plan`) of the profile's student that `given` names, made if there is none.

    Raises:
        ParameterError, DataError, StorageError: see `fairkd.distil`.
    """
    given = dict(given)
    asked = Profiled(profile=profile, changes=given.pop("changes", {}))
    # In place of the profile's, which need not be there.
    of_data = {name: given[name] for name in given.keys() & DataOptions.model_fields.keys()}
    profiled = Experiment.of_students(profile_parameters(asked.profile, asked.changes | of_data))
    return make(profiled.vary(**given), part, exits=exits)


def _runs(action: str, names: list[str], safe: bool) -> None:
    """List, show, verify or remove runs."""
    if names and action == "list":
        raise inventory.InventoryError("runs list: takes no name; show and verify do")
    if safe and action != "remove":
        raise inventory.InventoryError(f"runs {action}: --safe goes with remove")
    if safe:
        names = [*names, *(each.folder.name for each in inventory.kept_runs() if each.why)]
    names = [*dict.fromkeys(names)]
    if not names and action in ("show", "remove") and not safe:
        raise inventory.InventoryError(f"runs {action}: name a run; see python -m fairkd runs list")
    match action:
        case "list":
            _print([inventory.COLUMNS, *(each.row() for each in inventory.kept_runs())])
        case "show":
            print("\n\n".join(map(inventory.describe, names)))
        case "verify":
            found = inventory.verify(names)
            _print([(name, wrong or "whole") for name, wrong in found.items()])
            if any(found.values()):
                sys.exit(1)
        case "remove":
            freed = inventory.remove(names)
            print(f"removed {', '.join(names) or 'nothing'}: {freed / 1e6:.1f} MB")


def _cache(action: str) -> None:
    """Tell the size of caches, or delete them."""
    if action == "clean":
        print(f"removed: {inventory.clean_caches() / 1e6:.1f} MB")
    else:
        found = inventory.caches()
        _print([("cache", "number", "MB"), *((kind, str(n), f"{size / 1e6:.1f}") for kind, (n, size) in found.items())])


def _print(rows: list[tuple[str, ...]]) -> None:
    """A table, its columns aligned but for long last ones."""
    widths = [max(len(row[column]) for row in rows) for column in range(min(5, len(rows[0])))] if rows else []
    widths += [0] * (len(rows[0]) - len(widths)) if rows else []
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    main()
