import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from papermill.inspection import inspect_notebook

from fairkd import Experiment
from fairkd.benchmark import Benchmark
from fairkd.study import Study

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("0?_*.ipynb"))
PARAMETERS = {"05_study": Study, "06_benchmark": Benchmark}


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
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_parameters_cell_is_the_model_with_its_manual(path):
    model = PARAMETERS.get(path.stem, Experiment)
    stated = inspect_notebook(str(path))
    assert list(stated) == list(model.model_fields)
    for name, field in model.model_fields.items():
        assert stated[name]["help"] == field.description, name
        assert stated[name]["inferred_type_name"] != "None", name
    namespace = {}
    [cell] = [cell for cell in cells(path) if "parameters" in tags(cell)]
    exec(cell.source, namespace)
    namespace.pop("__annotations__", None)
    assert model.from_notebook(namespace) == model()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_has_the_common_skeleton_short_cells_and_outputs(path):
    text = "\n".join(cell.source for cell in cells(path, "markdown"))
    places = [text.index(part) for part in ("**Aim.**", "## Theory", "## Practical", "## Discussion")]
    assert places == sorted(places)
    for cell in cells(path):
        assert cell.execution_count is not None
        assert not any(output.output_type == "error" for output in cell.outputs)
        if "parameters" not in tags(cell):
            assert len(cell.source.splitlines()) <= 12, cell.source
    compared = [cell for cell in cells(path) if cell.outputs and "nbval-ignore-output" not in tags(cell)]
    assert compared, "nothing that nbval compares"


WRONG = {
    "aux_layer": ["-p", "aux_layer", "7"],
    "method": ["-p", "method", "laplas"],
    "learning_rate": ["-y", "learning_rate: 5e-5"],
    "seed": ["-p", "seed", "zero"],
    "aux_layr": ["-p", "aux_layr", "6"],
    "data": ["-p", "dataset", "mnli", "-p", "data", "./nowhere"],
}


@pytest.mark.parametrize("parameter", WRONG)
def test_a_wrong_parameter_stops_papermill_before_any_training(parameter, project):
    command = [sys.executable, "-m", "papermill", ROOT / "notebooks" / "02_student.ipynb", project / "out.ipynb"]
    done = subprocess.run(
        [*map(str, command), "--no-progress-bar", "-k", "python3", *WRONG[parameter]],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"JUPYTER_PREFER_ENV_PATH": "1"},
    )
    assert done.returncode == 1
    assert f"{parameter}" in done.stderr.strip().splitlines()[-1]
    assert not (project / "reports").exists()
