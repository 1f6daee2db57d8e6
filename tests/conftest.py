"""What many tests need: a project root of their own, a very small encoder, an experiment of seconds."""

import numpy as np
import pytest
import torch

from fairkd import Experiment
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


@pytest.fixture
def small(project, encoder):
    """An experiment that trains in a second or two; its student has two layers."""
    return Experiment(**small_parameters(encoder), aux_layer=1)


@pytest.fixture(scope="session")
def tables():
    """{student: {seed: predictions table}}: four seeds of two students, the second better in one group."""
    rng = np.random.default_rng(0)
    return {
        "kd": {s: table(rng, [0.9, 0.5, 0.9, 0.8]) for s in range(4)},
        "laplace@3": {s: table(rng, [0.9, 0.9, 0.9, 0.8]) for s in range(4)},
    }
