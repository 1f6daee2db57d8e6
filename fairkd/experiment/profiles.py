"""Profiles: files of params/, one 'name: value' a line."""

import importlib
import re
import sys
from pathlib import Path
from typing import Any

from fairkd import runs
from fairkd.parameters import ParameterError, nearest, read_mapping

PARAMS = Path(__file__).parents[2] / "params"


def profile_parameters(profile: str, changes: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a profile, with `changes` on top.

    Args:
        profile: a file of params/ without .yaml, or the path of one, relative ones taken from the project's folder.

    Raises:
        ParameterError: there is no such profile, or the file is none.
    """
    if not isinstance(profile, str) or not isinstance(changes, dict) or not all(isinstance(n, str) for n in changes):
        raise ParameterError(
            f"profile = {profile!r}, changes = {changes!r}: should be a name, and a mapping of names; with "
            "papermill use -y 'changes: {a: 1}'"
        )
    path = PARAMS / f"{profile}.yaml" if re.fullmatch(r"[\w.-]+", profile) else PARAMS / "none"
    if profile.endswith((".yaml", ".yml")):
        path = Path(profile) if Path(profile).is_file() else runs.root() / profile
    if not path.is_file():
        known = sorted(file.stem for file in PARAMS.glob("*.yaml"))
        names = f"known: {', '.join(known)}, or the path of a .yaml file"
        raise ParameterError(f"profile = {profile!r}: there is no such file; {nearest(profile, known)} ({names})")
    return read_profile(path) | changes


def read_profile(path: Path) -> dict[str, Any]:
    """The parameters of a profile's file.

    A `dataset` that is a file beside it, and not in the project's folder, is taken from there. Its `modules`, code of
    the user's own that registers what the profile names, are imported: from beside it, or from where Python finds them.

    Raises:
        ParameterError: there is no such file, it cannot be read, or it holds something else; a module that is not to be
            had.
    """
    if not path.exists():
        where = "" if path.is_absolute() else f" in {Path.cwd()}"
        if path.name == str(path):  # a name alone, as `profile` takes it
            where += f"; in {PARAMS} are {', '.join(sorted(file.name for file in PARAMS.glob('*.yaml')))}"
        raise ParameterError(f"{path}: there is no such file{where}")
    parameters = read_mapping(path)
    _import(parameters.pop("modules", []), path.parent)
    dataset = str(parameters.get("dataset", ""))
    beside = path.parent.resolve() / dataset
    if dataset.endswith((".yaml", ".yml")) and beside.is_file() and not (runs.root() / dataset).is_file():
        parameters["dataset"] = str(beside)
    return parameters


def _import(modules: Any, folder: Path) -> None:
    """Import modules by name."""
    if not isinstance(modules, list) or not all(isinstance(name, str) for name in modules):
        raise ParameterError(f"modules = {modules!r}: should be a list of names, such as [my_methods]")
    if modules and str(folder.resolve()) not in sys.path:
        sys.path.append(str(folder.resolve()))
    for name in modules:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ParameterError(
                f"modules = {modules!r}: {name} cannot be imported ({error}); put {name}.py beside the profile, in "
                f"{folder.resolve()}"
            ) from error
