"""What every parameter is: declared once beside what reads it, checked, and named in its own error.

A group of parameters is a `Parameters` model. `parameter` declares one, with its meaning and its source.
"""

import ast
import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

# What is beyond these bounds overflows, vanishes or never ends.
Precision = Annotated[float, Field(ge=1e-8, le=1e8)]
Tempering = Annotated[float, Field(ge=1e-6, le=1e9)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Rows = Annotated[int, Field(ge=1, le=1_000_000_000)]
Count = Annotated[int, Field(ge=1, le=100_000)]
Width = Annotated[int, Field(ge=1, le=16_384)]
Epochs = Annotated[int, Field(ge=1, le=1000)]
# A hub name, a folder or a file.
Source = Annotated[str, Field(pattern=r"^[^\x00-\x1f]+$", max_length=500)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class ParameterError(ValueError):
    """A parameter of the experiment is wrong; the message names it, its value and what is allowed."""


def parameter(default: Any, description: str, source: str = "", **limits: Any) -> Any:
    """Declare a field of `Parameters`: default, meaning, the paper or habit it comes from, pydantic's limits."""
    return Field(default, description=description, json_schema_extra={"source": source}, **limits)


# What a name of elsewhere is called here, where no spelling leads to it.
_CALLED = {
    "lr": ["learning_rate"],
    "layer": ["aux_layer"],
    "epochs": ["student_epochs", "teacher_epochs"],
    "methods": ["students", "method"],
    "students": ["methods"],
}


def nearest(name: str, allowed: Iterable[str]) -> str:
    """A sentence that names what is allowed closest to `name`, or all of it.

    Closest is what it is called here; a spelling almost the same; up to three that have it as a whole part, as
    batch_size has batch; a spelling half the same.
    """
    allowed = sorted(allowed)
    found = (
        [called for called in _CALLED.get(name, ()) if called in allowed]
        or difflib.get_close_matches(name, allowed, n=1, cutoff=0.85)
        or difflib.get_close_matches(name, [each for each in allowed if name in each.split("_")], cutoff=0)
        or difflib.get_close_matches(name, allowed, n=1, cutoff=0.5)
    )
    if not found:
        return f"allowed: {', '.join(allowed)}"
    *others, last = map(repr, found)
    return f"did you mean {', '.join(others)}{' or ' if others else ''}{last}?"


class Parameters(BaseModel):
    """Checked values: frozen and strict, an unknown name or a wrong type is a `ParameterError`."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    def __init__(self, **parameters: Any):
        """Check `parameters`; raises `ParameterError` with one line for each that is wrong."""
        try:
            super().__init__(**parameters)
        except ValidationError as error:
            raise ParameterError("\n".join(_lines(error.errors(), type(self).model_fields))) from None

    def vary(self, **changes: Any) -> Self:
        """The same with some parameters changed, checked again."""
        return type(self)(**(self.model_dump() | changes))


def _lines(errors: list[dict[str, Any]], known: dict[str, FieldInfo]) -> list[str]:
    """The lines of a `ParameterError`: one for each value that is wrong, whatever number of types it may be of."""
    of_value: dict[tuple[Any, str], list[dict[str, Any]]] = {}
    for error in errors:
        of_value.setdefault((error["loc"][:1], repr(error["input"])), []).append(error)
    return [_explain(refusals, known) for refusals in of_value.values()]


_SHOULD = {
    "float_type": "should be a number",
    "int_type": "should be a whole number",
    "bool_type": "should be true or false",
    "string_type": "should be text",
    "list_type": "should be a list",
    "dict_type": "should be a mapping",
    "model_type": "should be a mapping",
    "string_pattern_mismatch": "should be a name or a path, in one line",
}
# {what refuses a value: (what it is instead, how it is written)}
_WRITTEN = {
    "float_type": (str, "YAML reads 5e-5 as text, write 5.0e-5"),
    "string_type": (int | float, "YAML reads no, yes, on and numbers as such: quote it"),
    "list_type": (str | int | float, "with papermill use -y 'name: [a, b]'"),
    "dict_type": (str | int | float, "with papermill use -y 'name: {a: 1}'"),
}


def _explain(refusals: list[dict[str, Any]], known: dict[str, FieldInfo]) -> str:
    """One line: the parameter, its value, what is allowed.

    Args:
        refusals: of one value; several where it may be of several types.
        known: the parameters that there are.
    """
    [first, *_], kinds = refusals, [refusal["type"] for refusal in refusals]
    name, value = str(first["loc"][0]) if first["loc"] else "parameters", first["input"]
    if "extra_forbidden" in kinds:
        return f"{name}: there is no such parameter; {nearest(name, known)}"
    means = f"; {known[name].description}" if name in known and known[name].description else ""
    if "missing" in kinds:  # the value is all that was given
        return f"{name}: is missing{means}"
    # A value that is of one of the types is told that type's limits alone.
    limits = [refusal for refusal in refusals if not refusal["type"].endswith(("_type", "literal_error"))]
    allowed = " or ".join(dict.fromkeys(map(_allowed, limits or refusals))).replace(" or should be ", " or ")
    hints = [hint for kind, (of, hint) in _WRITTEN.items() if kind in kinds and isinstance(value, of) and not limits]
    hint = f"; {hints[0]}" if hints else means if "model_type" in kinds else ""
    return f"{name} = {value!r}: {allowed}{hint}"


def _allowed(refusal: dict[str, Any]) -> str:
    text = refusal["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return _SHOULD.get(refusal["type"], text[0].lower() + text[1:])


def read_mapping(path: Path) -> dict[str, Any]:
    """What a YAML file states, a 'name: value' a line.

    Raises:
        ParameterError: it cannot be read, or holds something else; the message names the file.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ParameterError(f"{path} cannot be read: {error.strerror or error}") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ParameterError(f"{path.name} is no YAML file: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ParameterError(f"{path.name}: expected one 'name: value' a line")
    return content


def stated(namespace: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parameters of a notebook: those that its parameters cell annotates, and those injected after it.

    Told by the cells that the kernel has run (`In`): the last one that annotates `profile`, and later ones that begin
    with "# Parameters". Every other name that the kernel holds is none.

    Args:
        namespace: `globals()` of the notebook.

    Raises:
        ParameterError: no cell annotates `profile`: run the notebook from its top.
    """
    declared: dict[str, Any] | None = None
    injected: dict[str, Any] = {}
    for cell in map(str, namespace.get("In", [])):
        try:
            body = ast.parse(cell).body
        except SyntaxError:  # a cell with magics
            continue
        annotated = {node.target.id: node.value for node in body if isinstance(node, ast.AnnAssign)}
        if "profile" in annotated:
            declared, injected = {name: _value(name, node, namespace) for name, node in annotated.items()}, {}
        elif cell.startswith("# Parameters"):
            set_here = [
                (target.id, node.value) for node in body if isinstance(node, ast.Assign) for target in node.targets
            ]
            injected |= {name: _value(name, node, namespace) for name, node in set_here}
    if declared is None and "profile" in (annotated := namespace.get("__annotations__", {})):
        declared = {name: namespace[name] for name in annotated}  # run without history, as nbval does
    if declared is None:
        raise ParameterError("profile: the parameters cell was not run; run the notebook from its top")
    return declared, injected


def _value(name: str, node: ast.expr, namespace: dict[str, Any]) -> Any:
    """What a cell says, whatever a later one has put under the same name; the name's value where it is no literal."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        return namespace[name]
