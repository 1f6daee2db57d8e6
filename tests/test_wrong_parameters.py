"""Every wrong parameter of `tests/wrong_parameters.py` is refused by its notebook's first cell, and said."""

import pytest

from tests import wrong_parameters


@pytest.fixture
def untrained(monkeypatch):
    """No notebook comes as far as training."""
    monkeypatch.setattr("fairkd.runs.make", lambda *_, **__: pytest.fail("something was computed"))


def test_every_wrong_parameter_is_refused_in_the_first_cell(untrained):
    cases = wrong_parameters.cases()
    assert len(cases) >= 200
    assert {notebook for notebook, _, _ in cases} == {p.stem for p in wrong_parameters.NOTEBOOKS.glob("0?_*.ipynb")}
    said = [(n, given, wrong_parameters.refused(n, given), expected) for n, given, expected in cases]
    assert [case for case in said if not wrong_parameters.told(case[1], case[3], case[2])] == []
