"""The first four notebooks in JupyterLab: opened they stay as they are, run twice they show their figures, none red."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import nbformat
import pytest

from tests.browser.conftest import ROOT

NAMES = ["01_teacher", "02_student", "03_analysis", "04_figures"]
NOTEBOOK = "(jupyterapp.shell.currentWidget.content.model.toJSON())"
READY = "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
RUN = "async () => { await jupyterapp.commands.execute('notebook:run-all-cells') }"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a JupyterLab on a copy of the notebooks, and that copy."""
    folder = tmp_path_factory.mktemp("lab")
    notebooks = shutil.copytree(ROOT / "notebooks", folder / "notebooks", ignore=shutil.ignore_patterns(".*"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {name: str(folder / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")}
    options = [
        "--no-browser",
        "--allow-root",
        "--expose-app-in-browser",
        f"--port={port}",
        "--ServerApp.port_retries=0",
    ]
    options += ["--IdentityProvider.token=", f"--ServerApp.root_dir={notebooks}"]
    command = [sys.executable, "-m", "jupyterlab", *options]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            command, env=os.environ | own | {"JUPYTER_PREFER_ENV_PATH": "1"}, stderr=log, stdout=log
        )
        address = f"http://127.0.0.1:{port}"
        for _ in range(120):
            try:
                urllib.request.urlopen(f"{address}/api", timeout=1).close()
                break
            except OSError:
                time.sleep(0.5)
        yield address, notebooks
        server.terminate()
        server.wait()


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_opens_unchanged_and_runs_twice_without_red(browser, lab, name):
    address, folder = lab
    path = folder / f"{name}.ipynb"
    before = path.read_bytes()
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(300_000)
    page.goto(f"{address}/lab/workspaces/{name}/tree/{name}.ipynb?reset")
    page.wait_for_function(READY)
    page.wait_for_timeout(2000)
    assert not page.evaluate("jupyterapp.shell.currentWidget.context.model.dirty")
    assert path.read_bytes() == before
    images = count(nbformat.reads(before.decode(), as_version=4))
    for _ in range(2):
        page.evaluate(RUN)
        found = nbformat.from_dict(page.evaluate(NOTEBOOK))
        outputs = [output for cell in found.cells if cell.cell_type == "code" for output in cell.outputs]
        assert [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"] == []
        assert all(cell.execution_count for cell in found.cells if cell.cell_type == "code")
        assert count(found) == images > 0
    assert page.locator(".jp-RenderedImage img").count() > 0
    context.close()


def count(notebook):
    """How many images a notebook shows."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return sum("image/png" in output.get("data", {}) for output in outputs)
