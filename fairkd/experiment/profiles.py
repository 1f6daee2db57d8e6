"""Profiles: files of params/, one 'name: value' a line."""

from pathlib import Path
from typing import Any

import yaml

from fairkd import runs
from fairkd.parameters import ParameterError, nearest

PARAMS = Path(__file__).parents[2] / "params"


def profile_parameters(profile: str, changes: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a profile, with `changes` on top.

    Args:
        profile: a file of params/ without .yaml, or the path of one, relative ones taken from the project's folder.

    Raises:
        ParameterError: there is no such profile, or the file is none.
    """
    path = PARAMS / f"{profile}.yaml"
    if profile.endswith((".yaml", ".yml")):
        path = Path(profile) if Path(profile).is_file() else runs.root() / profile
    if not path.is_file():
        known = sorted(file.stem for file in PARAMS.glob("*.yaml"))
        raise ParameterError(f"profile = {profile!r}: there is no such file; {nearest(profile, known)}")
    return read_profile(path) | changes


def read_profile(path: Path) -> dict[str, Any]:
    """The parameters of a profile's file.

    Raises:
        ParameterError: it holds something else.
    """
    parameters = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(parameters, dict):
        raise ParameterError(f"{path}: expected one 'name: value' a line")
    return parameters
