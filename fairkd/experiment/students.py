"""The one place where a student's entry, `method@layer,name=value,...`, is read, and written."""

import re
from typing import Any

import yaml

from fairkd.evaluation.selection import BY_GROUPS
from fairkd.parameters import ParameterError, nearest
from fairkd.weighting import METHODS

# Nothing that could leave a folder or reach a shell: an entry is also the name of a file.
_ENTRY = re.compile(r"([a-z]\w*)(?:@([1-9][0-9]{0,3}))?((?:,[a-z]\w*=[\w.+\-\[\], ]+)*)", re.ASCII)
_BETWEEN_CHANGES = re.compile(r",(?=[a-z]\w*=)", re.ASCII)


def read_student(spec: str) -> dict[str, Any]:
    """The parameters of a students entry, method[@layer][,name=value]...

    Raises:
        ParameterError: it does not read so, or has an unknown method.
    """
    match = _ENTRY.fullmatch(spec) if isinstance(spec, str) else None
    if not match:
        why = f"{spec!r} should read method@layer,name=value, for example laplace@3 or laplace@3,beta=2"
        if isinstance(spec, str) and re.fullmatch(r"[a-z]\w*=.*", spec):  # split at its comma
            why += "; an entry with a comma stands in quotes in YAML: ['kd', 'laplace@3,beta=2']"
        raise ParameterError(why)
    method, layer, changes = match.groups()
    if method not in METHODS:
        raise ParameterError(f"unknown method {method!r} in {spec!r}; {nearest(method, METHODS)}")
    parameters = {"method": method} | ({"aux_layer": int(layer)} if layer else {})
    for change in _BETWEEN_CHANGES.split(changes)[1:]:
        name, _, value = change.partition("=")
        if name in parameters or name in {"method", "students"}:
            raise ParameterError(f"{spec!r}: {name} is said twice, or is no parameter of an entry; state it once")
        try:
            parameters[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ParameterError(f"{spec!r}: {name} = {value!r} is no value") from None
    return parameters


def entry(spec: str, settings: dict[str, Any]) -> str:
    """The entry of a student with some of its parameters set: "dedier@3", {"aux_layer": 5} -> "dedier@5"."""
    stated = read_student(spec) | settings
    method, layer = stated.pop("method"), stated.pop("aux_layer", None)
    told = (
        f",{name}={yaml.safe_dump(value, default_flow_style=True).splitlines()[0]}" for name, value in stated.items()
    )
    return method + ("" if layer is None else f"@{layer}") + "".join(told)


def title(spec: str, kept_epoch: str = "last epoch") -> str:
    """How a student is named in tables: its entry of `students`, marked where it reads group labels.

    Args:
        spec: the entry.
        kept_epoch: the experiment's, which counts where the entry states none.
    """
    stated = read_student(spec)
    reads = METHODS[stated["method"]].reads_groups or stated.get("kept_epoch", kept_epoch) == BY_GROUPS
    return f"{spec} (reads group labels)" if reads else spec
