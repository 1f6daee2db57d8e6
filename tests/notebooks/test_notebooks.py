import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import nbclient
import nbformat
import pytest
import yaml
from papermill.inspection import inspect_notebook

from fairkd import METHODS, Experiment, distil
from fairkd.benchmark import Benchmark
from fairkd.study import EarlyStudy, Study
from fairkd.study.tuning import Tuning
from tests.wrong_parameters import PAPERMILL

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("0?_*.ipynb"))
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
PARAMETERS = {"05_study": Study, "06_benchmark": Benchmark, "07_early_exit": EarlyStudy, "09_tuning": Tuning}
# Parameters that a notebook's cell states, and what any of its own may be.
OF_METHODS = {name: field for method in METHODS.values() for name, field in method.model_fields.items()}


def cells(path, kind="code"):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


def tags(cell):
    return cell.metadata.get("tags", [])


def test_there_are_these_notebooks_in_order():
    assert [path.name for path in NOTEBOOKS] == [
        "01_teacher.ipynb",
        "02_student.ipynb",
        "03_analysis.ipynb",
        "04_figures.ipynb",
        "05_study.ipynb",
        "06_benchmark.ipynb",
        "07_early_exit.ipynb",
        "08_examples.ipynb",
        "09_tuning.ipynb",
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_parameters_cell_is_short_and_its_own_manual(path):
    stated = inspect_notebook(str(path))
    [cell] = [cell for cell in cells(path) if "parameters" in tags(cell)]
    assert 0 < len(stated) <= 12 and len(stated) == len(ast.parse(cell.source).body)  # papermill parses all of them
    model = PARAMETERS.get(path.stem)
    known = model.model_fields if model else {**Experiment.model_fields, **OF_METHODS, "profile": 0, "changes": 0}
    assert set(stated) <= set(known)
    for name, parameter in stated.items():
        assert parameter["inferred_type_name"] != "None" and len(parameter["help"]) > 10, name
    if model:
        assert list(stated) == list(model.model_fields)
        assert all(stated[name]["help"] == field.description for name, field in model.model_fields.items())


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.parametrize("history", [True, False], ids=["history", "none, as nbval has it"])
def test_the_cell_as_it_stands_is_the_demo(path, history):
    [cell] = [cell for cell in cells(path) if "parameters" in tags(cell)]
    namespace = {"In": ["", cell.source] if history else [""]}
    exec(cell.source, namespace)
    model = PARAMETERS.get(path.stem)
    found = model.from_notebook(namespace).experiment if model else Experiment.from_notebook(namespace)
    expected = Experiment.from_file(ROOT / "params" / "demo.yaml")
    assert found.resolved() == (expected if "method" in namespace else expected.student("kd")).resolved()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_leads_to_others_and_to_the_papers_that_it_cites(path):
    story, _, references = "\n".join(cell.source for cell in cells(path, "markdown")).partition("## References")
    links = re.findall(r"\]\((\S+?)\)", story)
    assert any(link.endswith(".ipynb") for link in links)
    papers = {link for link in links if not link.endswith(".ipynb")}
    assert all((path.parent / link).is_file() for link in set(links) - papers)
    assert papers == set(re.findall(r"\]\((\S+?)\)", references))
    assert papers <= {reference.get("url") for reference in CITATION["references"]}
    assert not re.search(
        r"(?<!\[)\b[A-Z]\w+ (?:et al\. |and [A-Z]\w+ )?(?:19|20)\d\d\b", story
    )  # a citation, not linked


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_has_the_common_skeleton_short_cells_and_outputs(path):
    text = "\n".join(cell.source for cell in cells(path, "markdown"))
    places = [text.index(part) for part in ("**Aim.**", "## Theory", "## Practical", "## Discussion")]
    assert places == sorted(places)
    for cell in cells(path):
        assert cell.execution_count is not None
        assert not any(output.output_type == "error" for output in cell.outputs)
        assert len(cell.source.splitlines()) <= 12, cell.source
    compared = [cell for cell in cells(path) if cell.outputs and "nbval-ignore-output" not in tags(cell)]
    assert compared, "nothing that nbval compares"


# A demo of seconds, for every notebook of a report.
SMALL = """
train_examples: 240  # few
evaluation_per_group: 10  # few
validation_examples: 12  # few
teacher_model: {encoder}  # tiny
student_model: null  # its alternate layers
teacher_epochs: 1  # one
student_epochs: 2  # the second uses weights
report_to: none  # nobody looks
students: [kd, laplace@2, afr]  # weights of training and of validation examples
"""
CHANGED = {
    "02_student": "aux_layer = 2; changes = {'place': 'refit'}",
    "05_study": "methods = ['kd', 'dedier@1', 'laplace@2']; refits = ['dedier@2']",
    "07_early_exit": "students = ['kd', 'laplace@2']; depths = [0.5, 0.75, 1.0]",
    "09_tuning": "students = ['dedier@1']; trials = 2",
}
CHANGED["06_benchmark"] = (
    "pairs = 64; loop_pairs = 64; map_rows = 300; laplace_rows = 300; widths = [8]; most_rows = 800"
)


# Its clocks start a process each, which tests/benchmark tries and which takes most of the time here.
IN_ONE_PROCESS = """from fairkd.benchmark import clocks
clocks.alone = lambda function, *sizes: clocks._measured(function, sizes)"""

# What the benchmark's table and cells tell, in small too.
TIMED = (
    "DEDIER's shape",
    "GLUE's shape",
    "re-weighting at layer 2 of 2",
    "padded to multiples of 8",
    "wrong by one of them alone",
    "MAP, s",
    "quadrature, s",
    "import, s",
)


@pytest.fixture(scope="module")
def root(tmp_path_factory, encoder):
    """A project in which the notebooks find a small profile, and one another's runs."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "small.yaml").write_text(SMALL.format(encoder=encoder))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAIRKD_ROOT", str(folder))
        experiment = Experiment.from_file(folder / "small.yaml")
        for spec in experiment.students:
            distil(experiment.student(spec))
    return folder


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_twice_in_one_kernel_and_its_second_cell_after_all_others(path, root, monkeypatch):
    """Run All, Run All again, and once more the cell that reads the parameters: names that cells define are none."""
    monkeypatch.setenv("FAIRKD_ROOT", str(root))
    monkeypatch.setenv("CXX", "none")  # torch.compile takes a minute
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    first = next(cell for cell in code if "parameters" in tags(cell))
    changed = CHANGED.get(path.stem, "").replace("; ", "\n")
    injected = nbformat.v4.new_code_cell(f"# Parameters\nprofile = {str(root / 'small.yaml')!r}\n{changed}\n")
    here = [nbformat.v4.new_code_cell(IN_ONE_PROCESS)] if path.stem == "06_benchmark" else []
    once = [first, injected, *here, *(cell for cell in code if cell is not first)]
    twice = [] if path.stem == "06_benchmark" else once  # once is long
    reads = next(cell for cell in code if "from_notebook" in cell.source)
    notebook.cells = [nbformat.from_dict(cell) for cell in (*once, *twice, reads)]
    done = nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    if path.stem == "06_benchmark":
        text = nbformat.writes(done)
        assert all(line in text for line in TIMED)


def test_a_student_that_make_names_reaches_the_notebook(root, monkeypatch):
    monkeypatch.setenv("FAIRKD_ROOT", str(root))
    command = [sys.executable, "-m", "papermill", ROOT / "notebooks" / "02_student.ipynb", root / "kd.ipynb"]
    done = run(command, ["-p", "profile", root / "small.yaml", "-r", "student", "kd"])
    assert done.returncode == 0, done.stderr[-2000:]
    assert "kd - plain distillation" in (root / "kd.ipynb").read_text()


def run(command, more):
    return subprocess.run(
        [*map(str, command), "--no-progress-bar", "-k", "python3", *map(str, more)],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"JUPYTER_PREFER_ENV_PATH": "1"},
    )


@pytest.mark.parametrize(("notebook", "given", "message"), PAPERMILL[:2])
def test_a_wrong_parameter_stops_papermill_before_any_training(project, notebook, given, message):
    """The others are tried by `make test-faults`; what their first cells say, by tests/test_wrong_parameters.py."""
    command = [sys.executable, "-m", "papermill", NOTEBOOKS[0].with_stem(notebook), project / "out.ipynb"]
    done = run(command, given)
    assert done.returncode == 1
    assert re.search(message, done.stderr.strip().splitlines()[-1])
    assert not (project / "reports" / "runs").exists()
