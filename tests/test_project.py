"""What the repository promises about itself: one source of dependencies, one test command, nothing stray."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {"notebooks", "fairkd", "params", "reports", "tests"}
FILES = {
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "environment.yml",
    "README.md",
    "pyproject.toml",
    "Makefile",
    "Snakefile",
    "LICENSE",
    "CITATION.cff",
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def tracked():
    """The files under version control, or about to be."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        names = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def test_every_dependency_is_pinned_exactly():
    extras = PROJECT["optional-dependencies"].values()
    requirements = [Requirement(text) for group in (PROJECT["dependencies"], *extras) for text in group]
    assert [str(r) for r in requirements if [s.operator for s in r.specifier] != ["=="]] == []


def test_environment_installs_the_project_and_nothing_of_its_own():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    python, pip, installs = environment["dependencies"]
    assert environment["name"] == PROJECT["name"]
    assert pip == "pip" and installs == {"pip": ["-e .[test]"]}
    name, version = python.split("=")
    assert name == "python" and version in SpecifierSet(PROJECT["requires-python"])


def test_ci_runs_the_test_command_of_the_readme():
    assert "make test" in (ROOT / "README.md").read_text(encoding="utf-8")
    script = ROOT / ".ci" / "run"
    assert script.read_text(encoding="utf-8").splitlines()[-1] == "make test"
    assert script.stat().st_mode & 0o111


def test_citation_agrees_with_the_project():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"] and citation["license"] == PROJECT["license"]
    assert all({"type", "title", "authors", "year"} <= reference.keys() for reference in citation["references"])


def test_top_level_holds_what_it_should(tracked):
    tops = {path.relative_to(ROOT).parts[0]: path.parent != ROOT for path in tracked}
    folders = {name for name, folder in tops.items() if folder and not name.startswith(".")}
    files = {name for name, folder in tops.items() if not folder and not name.startswith(".")}
    assert folders <= FOLDERS and files <= FILES


def test_published_reports_are_not_tracked(tracked):
    inside = {path.relative_to(ROOT / "reports").parts[0] for path in tracked if ROOT / "reports" in path.parents}
    assert inside <= {"publish.py", "markup.py", "gather.py", "template", "record"}


def test_notebooks_are_committed_executed():
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = [cell for cell in cells if cell["cell_type"] == "code"]
        assert code and all(cell["execution_count"] for cell in code), path.name


def test_no_file_names_a_place_on_somebodys_machine(tracked):
    place = re.compile(rb"(?<![\w.~-])/(?:home|root|work|Users)/\w")
    found = {}
    for path in tracked:
        content = path.read_bytes()
        if b"\0" not in content and (match := place.search(content)):
            found[str(path.relative_to(ROOT))] = content[match.start() : match.end() + 20]
    assert found == {}


def test_every_import_is_a_pinned_dependency():
    """What the code imports is named in pyproject.toml, not taken from whatever another package brings along."""
    extras = PROJECT["optional-dependencies"].values()
    texts = [text for group in (PROJECT["dependencies"], *extras) for text in group]
    pinned = {Requirement(text).name.replace("-", "_") for text in texts}
    modules = {"bs4": "beautifulsoup4", "sklearn": "scikit_learn", "yaml": "pyyaml"}
    sources = [*ROOT.glob("fairkd/**/*.py"), *ROOT.glob("reports/*.py"), *ROOT.glob("tests/*.py")]
    found = {}
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            found |= {name.partition(".")[0]: path.name for name in names}
    compared_with = {"laplace"}  # the benchmark does without it where it is not installed
    local = set(sys.stdlib_module_names) | {"fairkd", "markup", "publish", "tests"} | compared_with
    assert {m: p for m, p in found.items() if m not in local and modules.get(m, m) not in pinned} == {}


def test_pages_and_notebooks_of_record_know_no_home_and_no_model_brings_code(tracked):
    home = re.compile(r"(?<![\w.])/(home|root|Users|tmp|work)/[\w.-]")
    shown = [
        p
        for p in tracked
        if p.suffix == ".ipynb" or "record" in p.parts and p.suffix in (".html", ".md", ".csv", ".yaml")
    ]
    assert len(shown) > 10
    assert [p.name for p in shown if home.search(p.read_text(encoding="utf-8"))] == []
    code = [p for p in tracked if p.suffix in (".py", ".ipynb") and "tests" not in p.parts]
    assert [p.name for p in code if "trust_remote_code" in p.read_text(encoding="utf-8")] == []
