"""The plan of the house: which room may import which, and which library."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "fairkd"
# From the bottom up; a room imports from floors below its own, or from its own room.
FLOORS = [
    {"_warnings", "files", "parameters", "provenance", "ranks"},
    {"runs"},
    {"data", "exits"},
    {"weighting", "evaluation"},
    {"experiment", "figures", "inventory"},
    {"training"},
    {"study", "benchmark", "demo"},
]
HEAVY = {"transformers", "datasets", "tokenizers", "accelerate"}
NOTEBOOKS = {"papermill", "nbformat", "nbconvert", "nbclient", "IPython", "jupyter", "ipywidgets"}
FORBIDDEN = {
    "exits": HEAVY | {"pandas", "pathlib", "json", "yaml"},
    "weighting": HEAVY | {"pandas", "pathlib", "json", "yaml"},
    "evaluation": HEAVY | {"torch", "pathlib"},
    "figures": HEAVY | {"torch", "pathlib"},
    "data": {"torch", "accelerate"},
}


def room(module):
    """The room of a module's dotted name: fairkd.exits.linear is in exits."""
    return module.split(".")[1]


def modules():
    """{dotted name: syntax tree} of the package, without its face and its command line, which may see everything."""
    files = {path.relative_to(PACKAGE.parent).with_suffix(""): path for path in PACKAGE.rglob("*.py")}
    names = {".".join(path.parts).removesuffix(".__init__"): file for path, file in files.items()}
    return {
        n: ast.parse(f.read_text(encoding="utf-8")) for n, f in names.items() if n not in ("fairkd", "fairkd.__main__")
    }


MODULES = modules()


def imports(tree):
    """All dotted names that a module imports, at its top or in a function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def inside(tree):
    """The modules of fairkd that a module imports."""
    return {name for name in imports(tree) if name in MODULES}


def test_every_room_is_on_a_floor():
    assert {room(name) for name in MODULES} == set().union(*FLOORS)
    assert len(FLOORS) <= 7


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_downwards_only(name):
    floor = {each: number for number, floor in enumerate(FLOORS) for each in floor}
    above = {
        found
        for found in inside(MODULES[name])
        if room(found) != room(name) and floor[room(found)] >= floor[room(name)]
    }
    assert not above


def test_no_module_imports_itself_by_way_of_others():
    below = {name: inside(tree) - {name, name.rpartition(".")[0]} for name, tree in MODULES.items()}
    left = dict(below)
    while left:
        free = [name for name, others in left.items() if not others & left.keys()]
        assert free, f"a circle among {sorted(left)}"
        for name in free:
            del left[name]


@pytest.mark.parametrize("name", MODULES)
def test_a_room_knows_only_its_libraries(name):
    known = {found.partition(".")[0] for found in imports(MODULES[name])}
    assert not known & (FORBIDDEN.get(room(name), set()) | NOTEBOOKS)


@pytest.mark.parametrize("name", MODULES)
def test_no_import_is_for_annotations_alone(name):
    assert "TYPE_CHECKING" not in ast.dump(MODULES[name])


@pytest.mark.parametrize(
    "name", [name for name in MODULES if room(name) in ("exits", "weighting", "evaluation", "figures")]
)
def test_the_lower_rooms_do_not_know_the_experiment(name):
    assert "Experiment" not in {node.id for node in ast.walk(MODULES[name]) if isinstance(node, ast.Name)}


def test_every_room_says_what_lives_there():
    rooms = [path.parent.name for path in PACKAGE.glob("*/__init__.py")]
    assert len(rooms) == 10
    for name in rooms:
        assert len(ast.get_docstring(MODULES[f"fairkd.{name}"]) or "") > 80, name


def test_a_module_is_read_in_one_sitting():
    long = {
        name: n for name, tree in MODULES.items() if (n := max(getattr(t, "end_lineno", 0) for t in tree.body)) > 420
    }
    assert not long
