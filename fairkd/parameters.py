"""What every parameter is: declared once beside what reads it, checked, and named in its own error.

A group of parameters is a `Parameters` model. `parameter` declares one, with its meaning and its source.
"""

import ast
import difflib
from collections.abc import Iterable
from typing import Annotated, Any, Self

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


def nearest(name: str, allowed: Iterable[str]) -> str:
    """A sentence that names the allowed spelling closest to `name`, or all of them."""
    close = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"allowed: {', '.join(sorted(allowed))}"


class Parameters(BaseModel):
    """Checked values: frozen and strict, an unknown name or a wrong type is a `ParameterError`."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    def __init__(self, **parameters: Any):
        """Check `parameters`; raises `ParameterError` with one line for each that is wrong."""
        try:
            super().__init__(**parameters)
        except ValidationError as error:
            lines = [_explain(e, type(self).model_fields) for e in error.errors()]
            raise ParameterError("\n".join(dict.fromkeys(lines))) from None

    def vary(self, **changes: Any) -> Self:
        """The same with some parameters changed, checked again."""
        return type(self)(**(self.model_dump() | changes))


_HINTS = {
    "float_type": "should be a number; YAML reads 5e-5 as text, write 5.0e-5",
    "int_type": "should be a whole number",
    "bool_type": "should be true or false",
    "string_type": "should be text",
    "list_type": "should be a list; with papermill use -y 'name: [a, b]'",
    "dict_type": "should be a mapping; with papermill use -y 'name: {a: 1}'",
    "model_type": "should be a mapping",
    "string_pattern_mismatch": "should be a name or a path, in one line",
}


def _explain(error: dict[str, Any], known: dict[str, FieldInfo]) -> str:
    """One line of a `ParameterError`: the parameter, its value, what is allowed."""
    name = str(error["loc"][0]) if error["loc"] else "parameters"
    if error["type"] == "extra_forbidden":
        return f"{name}: there is no such parameter; {nearest(name, known)}"
    means = f"; {known[name].description}" if name in known and known[name].description else ""
    if error["type"] == "missing":  # its value is all that was given
        return f"{name}: is missing{means}"
    text = error["msg"].removeprefix("Value error, ")
    hint = _HINTS.get(error["type"], text[0].lower() + text[1:])
    return f"{name} = {error['input']!r}: {hint}{means if error['type'] == 'model_type' else ''}"


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
