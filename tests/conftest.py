"""What many tests need: a project root of their own, a very small encoder, an experiment of seconds."""

import shutil

import numpy as np
import pytest
import torch

from fairkd import Experiment, distil, fine_tune
from tests.predictions import table
from tests.tiny import small_parameters, write_encoder


@pytest.fixture(scope="module")
def one_thread():
    """For tiny problems, where threads would only wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A root in which runs are made and found; relative paths start here."""
    monkeypatch.setenv("FAIRKD_ROOT", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="session")
def encoder(tmp_path_factory):
    """The folder of a BERT encoder with random weights: four layers, width 16, the demo corpus's words."""
    return write_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="session")
def taught(tmp_path_factory, encoder):
    """A root with the teacher of `small`: trained once, since what a test is about is seldom the teacher."""
    return made(tmp_path_factory.mktemp("taught"), fine_tune, encoder)


@pytest.fixture(scope="session")
def distilled(tmp_path_factory, encoder, taught):
    """A root with the finished student of `small`, too."""
    root = shutil.copytree(taught, tmp_path_factory.mktemp("distilled"), dirs_exist_ok=True)
    return made(root, distil, encoder)


def made(root, make, encoder):
    """A root in which something has been made of the small experiment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAIRKD_ROOT", str(root))
        make(of_seconds(encoder))
    return root


def of_seconds(encoder):
    """An experiment that trains in a second or two; its student has two layers."""
    return Experiment(**small_parameters(encoder), aux_layer=1)


@pytest.fixture
def bare(project, encoder):
    """The experiment of seconds, of which nothing is there."""
    return of_seconds(encoder)


@pytest.fixture
def small(bare, project, taught):
    """The same, its teacher there."""
    shutil.copytree(taught, project, dirs_exist_ok=True)
    return bare


@pytest.fixture
def student(bare, project, distilled):
    """The finished student of `small`, in a root of its own."""
    shutil.copytree(distilled, project, dirs_exist_ok=True)
    return distil(bare)


@pytest.fixture(scope="session")
def tables():
    """{student: {seed: predictions table}}: four seeds of two students, the second better in one group."""
    rng = np.random.default_rng(0)
    return {
        "kd": {s: table(rng, [0.9, 0.5, 0.9, 0.8]) for s in range(4)},
        "laplace@3": {s: table(rng, [0.9, 0.9, 0.9, 0.8]) for s in range(4)},
    }
