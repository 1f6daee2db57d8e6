"""What decides a number besides its parameters: the code that computes it and the versions it runs on.

Code is told by the import closure of the modules that compute a result, those of fairkd and the user's own, each parsed
and digested without comments and docstrings: what a result does not import (figures, notebooks, other methods) does not
change its key. What counts is what was loaded: a kernel goes on computing by it, however files are edited meanwhile.
"""

import ast
import dis
import hashlib
import importlib.metadata
import importlib.util
import inspect
import os
import platform
import re
import site
import subprocess
import sys
import sysconfig
import textwrap
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
import torch

_DECISIVE = ("torch", "transformers", "datasets", "tokenizers", "numpy", "scipy", "scikit-learn")
# What takes a name from around a function.
_LOADS = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF")
# By a module's name: the spec it was loaded by, its digest, what it imports.
_READ: dict[str, tuple[ModuleSpec | None, str, tuple[str, ...]]] = {}
# By a code's id: the code, which keeps the id its own, and its text.
_TEXTS: dict[int, tuple[CodeType, str]] = {}


def code_digests(*sources: str | type | FunctionType) -> dict[str, str]:
    """A digest for every module that `sources` import, directly or not, and for the sources themselves.

    Of fairkd, and of the user's own: a package that is installed has its version instead, or is taken as it is.

    Args:
        sources: names of modules, or classes and functions. Of these the code counts as it is now, redefined in a
            kernel or not, and the module that it comes from.
    """
    found: dict[str, str] = {}
    for source in sources:
        if isinstance(source, str):
            _collect(source, found)
        else:
            text = _class_text(source) if isinstance(source, type) else "\n".join(_with_used(source))
            found[source.__qualname__] = _digest(text)
            if source.__module__ != "__main__":
                _collect(source.__module__, found)
    return dict(sorted(found.items()))


def remember(source: str | type | FunctionType) -> None:
    """Read the code of a package's loaded modules, or of a class or function, now: a key may be asked for much later.

    Called as they are imported or registered.
    """
    if isinstance(source, str):
        code_digests(*(name for name in list(sys.modules) if f"{name}.".startswith(f"{source}.")))
    else:
        code_digests(source)


def entered(registry: dict[str, type], new: type, kind: type) -> type:
    """Remember a class of a kind and enter it into a registry by its `name`; the class.

    Raises:
        ValueError: it is of another kind; the name is none that a parameter can state, or that of a class of fairkd
            itself, which runs and comparisons count on; the class lacks a method, or hides a parameter of its own.
    """
    if not issubclass(new, kind):
        raise ValueError(f"{new.__name__}: should be a subclass of {kind.__name__}")
    name = getattr(new, "name", None)
    if not re.fullmatch(r"[a-z]\w*", str(name)):
        raise ValueError(f"name = {name!r}: should be a word of small letters, digits and _, such as my_method")
    keep_own(registry, new.name, new)
    if missing := sorted(getattr(new, "__abstractmethods__", ())):
        raise ValueError(f"{new.__name__}: lacks {', '.join(missing)}")
    for field in new.model_fields:
        if isinstance(inspect.getattr_static(new, field, None), property):
            why = "is a property of it and no parameter; declare the parameter by another name, and return it there"
            raise ValueError(f"{new.__name__}: {field} {why}")
    remember(new)
    registry[new.name] = new
    return new


def keep_own(registry: dict[str, Any], name: str, new: Any) -> None:
    """Refuse a name in a registry that is that of something of fairkd itself.

    Raises:
        ValueError: it is.
    """
    known = registry.get(name)
    if known and known.__module__.startswith("fairkd.") and new.__module__ != known.__module__:
        raise ValueError(f"name = {name!r}: is that of {known.__module__}.{known.__name__}; choose another")


def versions() -> dict[str, str]:
    """The versions of fairkd and of the packages whose arithmetic or data handling decides a result."""
    packages = {name: _version(name) for name in ("fairkd", *_DECISIVE)}
    return {"python": ".".join(platform.python_version_tuple()[:2])} | packages


@cache
def _version(package: str) -> str:
    """A package's version, read once: what is loaded stays what it is, whatever is installed meanwhile."""
    return importlib.metadata.version(package)


def machine() -> dict[str, Any]:
    """Where a result was computed: processor or GPU, threads, system."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    device = torch.cuda.get_device_name() if accelerator and accelerator.type == "cuda" else _processor()
    return {
        "device": device,
        "threads": torch.get_num_threads(),
        "instruction_set": torch.backends.cpu.get_cpu_capability(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def commit(root: Path) -> str | None:
    """The checkout's commit, marked where its tracked files differ from it; None outside of a checkout."""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _collect(module: str, found: dict[str, str]) -> None:
    """Add the digest of a module, and of the modules of fairkd that it imports."""
    if module in found or (path := _file(module)) is None:
        return
    loaded = sys.modules.get(module)
    spec = loaded.__spec__ if loaded else None
    if module not in _READ or _READ[module][0] is not spec:  # not loaded it has none, and loaded again another
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        _READ[module] = spec, *_parsed(path, package)
    _, found[module], imports = _READ[module]
    for name in imports:
        _collect(name, found)


def _file(module: str) -> Path | None:
    """The source of a module; None of a name that is no module, or has no source."""
    loaded = sys.modules.get(module)
    if loaded is not None and getattr(loaded, "__file__", None):
        return Path(loaded.__file__)
    if above := module.rpartition(".")[0]:
        file = _file(above)
        if file is None or file.name != "__init__.py":
            return None  # a name in a module, which find_spec would load to look for it
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


def _is_ours(name: str) -> bool:
    """Whether a name is of a module of fairkd, or of the user's own: what may be edited between two runs."""
    package, dot, _ = name.partition(".")
    return bool(dot) if package == "fairkd" else package != "__main__" and _is_own(package)


@cache
def _is_own(package: str) -> bool:
    """Whether a package's source lies elsewhere than what is installed and Python itself: beside a notebook, say."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return False
    places = [spec.origin, *(spec.submodule_search_locations or [])] if spec else []
    installed = [*sysconfig.get_paths().values(), *site.getsitepackages(), site.getusersitepackages()]
    place = next((Path(place) for place in places if place), Path())
    return place.is_absolute() and not any(place.is_relative_to(folder) for folder in installed)


def _parsed(path: Path, package: str) -> tuple[str, tuple[str, ...]]:
    """The digest of a source file in a package, and the names of fairkd or of the user's own that it imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # "from fairkd import runs" means a module, "from fairkd.runs import Run" a name in one
            base = "." * node.level + (node.module or "")
            base = importlib.util.resolve_name(base, package) if package else base.lstrip(".")
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return _digest(ast.dump(_without_docstrings(tree))), tuple(sorted(filter(_is_ours, set(names))))


def _without_docstrings(tree: ast.AST) -> ast.AST:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            value = body[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                node.body = body[1:]
    return tree


def _class_text(cls: type) -> str:
    """The code of a class's functions and plain values, its own and those inherited from outside of pydantic.

    Of a function defined in a notebook also what of the notebook it uses, see `_used`.
    """
    parts = []
    for base in cls.__mro__:
        if base.__module__.partition(".")[0] in ("builtins", "pydantic", "abc"):
            continue
        for name, value in sorted(vars(base).items()):
            value = getattr(value, "fget", value)
            value = getattr(value, "__func__", value)
            if isinstance(value, FunctionType):
                text, *used = _with_used(value)
                parts += [f"{name} {text}", *used]
            elif _is_plain(value) and not name.startswith(("_", "model_")) and name != "description":
                parts.append(f"{name} {value!r}")
    fields = getattr(cls, "model_fields", {})
    parts += [f"{name} {field.annotation} {field.default!r}" for name, field in fields.items()]
    return "\n".join(parts)


def _with_used(function: FunctionType) -> list[str]:
    """The code of a function, and what of a notebook it uses, see `_used`."""
    return [_function_text(function), *(f"{name} {text}" for name, text in sorted(_used(function).items()))]


def _used(function: FunctionType, found: dict[str, str] | None = None) -> dict[str, str]:
    """Functions, plain values and arrays of a notebook that one of its functions uses, directly or not; no objects.

    What it uses of fairkd or of a module of the user's own has the digests of that module instead.
    """
    found = {} if found is None else found
    if function.__module__ != "__main__":
        return found
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    there = function.__globals__ | {name: cell.cell_contents for name, cell in cells if _filled(cell)}
    for name in _loaded(function.__code__):
        value = there.get(name)
        if isinstance(value, set | frozenset):
            value = sorted(value, key=repr)  # its own order differs from one process to the next
        if isinstance(value, torch.Tensor | np.ndarray):
            value = f"{value.dtype} {[*value.shape]} {_digest(repr(value.tolist()))}"
        if _is_plain(value):
            found[name] = repr(value)
        elif isinstance(value, FunctionType) and value.__module__ == "__main__" and name not in found:
            found[name] = _function_text(value)
            _used(value, found)
        elif _is_ours(module := _module_of(value)):
            found[name] = repr(code_digests(module))
    return found


def _module_of(value: Any) -> str:
    """The name of the module that a value is, or that it or its class is defined in."""
    return value.__name__ if isinstance(value, ModuleType) else str(getattr(value, "__module__", ""))


def _is_plain(value: Any) -> bool:
    """Whether a value is told by how it prints: numbers, texts, and lists, tuples and mappings of them."""
    if isinstance(value, dict):
        return all(map(_is_plain, [*value, *value.values()]))
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return isinstance(value, bool | int | float | str)


def _loaded(code: CodeType) -> set[str]:
    """The names that a code, or one inside it, takes from around it."""
    names = {step.argval for step in dis.get_instructions(code) if step.opname in _LOADS}
    return names.union(*(_loaded(each) for each in code.co_consts if isinstance(each, CodeType)))


def _filled(cell: CellType) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def _function_text(function: FunctionType) -> str:
    """The source of a function, or its code where there is no source."""
    code = inspect.unwrap(function).__code__
    if id(code) not in _TEXTS:  # codes that differ by the defaults of arguments alone are equal
        try:
            text = ast.dump(_without_docstrings(ast.parse(textwrap.dedent(inspect.getsource(code)))))
        except (OSError, TypeError, SyntaxError):
            text = _code_text(code)
        _TEXTS[id(code)] = code, text
    return _TEXTS[id(code)][1]


def _code_text(code: CodeType) -> str:
    constants = [_code_text(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return f"{code.co_code.hex()} {constants} {code.co_names} {code.co_varnames}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@cache
def _processor() -> str:
    """The processor's name, as the system gives it."""
    if os.path.exists("/proc/cpuinfo"):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
