import json
from pathlib import Path

import pytest
import yaml

from fairkd import Experiment, ParameterError

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"aux_layr": 6}, "aux_layr: there is no such parameter; did you mean 'aux_layer'"),
        ({"aux_layer": 0}, "aux_layer = 0: layers count from 1"),
        ({"aux_layer": "6"}, "aux_layer = '6': should be a whole number"),
        (
            {"learning_rate": "5e-5"},
            r"learning_rate = '5e-5': should be a number; YAML reads 5e-5 as text, write 5.0e-5",
        ),
        ({"learning_rate": 0.0}, "learning_rate = 0.0"),
        ({"method": "laplas"}, "method = 'laplas': is not known; did you mean 'laplace'"),
        ({"dataset": "snli"}, "dataset = 'snli': is not known"),
        ({"seed": 1.5}, "seed = 1.5"),
        ({"seed": True}, "seed = True"),
        ({"kd_weight": 1.2}, "kd_weight = 1.2"),
        ({"reweight": "ce"}, "reweight = 'ce'"),
        ({"prior_precision": "laplace"}, "prior_precision = 'laplace'"),
        ({"students": "[kd]"}, "students = .*should be a list; with papermill use -y"),
        ({"students": ["kd", "dedir@3"]}, "unknown method 'dedir'.*did you mean 'dedier'"),
        ({"students": ["laplace@x"]}, "should read method@aux_layer"),
    ],
)
def test_a_wrong_parameter_is_named_with_what_is_allowed(parameters, message):
    with pytest.raises(ParameterError, match=message):
        Experiment(**parameters)


def test_every_wrong_parameter_has_its_line():
    with pytest.raises(ParameterError) as raised:
        Experiment(seed=-1, metod="kd")
    assert len(str(raised.value).splitlines()) == 2


def test_a_notebooks_namespace_is_read_without_what_ipython_puts_there():
    namespace = {"In": [""], "Out": {}, "_": 1, "_oh": {}, "json": json, "exit": print, "aux_layer": 6, "data": None}
    assert Experiment.from_notebook(namespace) == Experiment(aux_layer=6)
    with pytest.raises(ParameterError, match="lerning_rate.*did you mean 'learning_rate'"):
        Experiment.from_notebook(namespace | {"lerning_rate": 1e-4})


def test_the_demo_profile_is_the_default_and_every_profile_is_valid():
    stated = yaml.safe_load((ROOT / "params" / "demo.yaml").read_text())
    assert stated == Experiment().model_dump()
    for profile in (ROOT / "params").glob("*.yaml"):
        Experiment.from_file(profile)


def test_the_deck_profile_is_the_decks():
    deck = Experiment.from_file(ROOT / "params" / "mnli.yaml")
    assert (deck.teacher_model, deck.student_model) == ("bert-base-uncased", "distilbert-base-uncased")
    assert (deck.teacher_epochs, deck.student_epochs, deck.batch_size) == (3, 5, 16)
    assert deck.learning_rate == deck.teacher_learning_rate == 2e-5
    assert (deck.temperature, deck.alpha, deck.beta) == (2.0, 0.2, 3.0)
    assert (deck.train_examples, deck.evaluation_examples) == (None, None)


def test_a_students_spec_sets_method_and_layer():
    base = Experiment(aux_layer=2)
    assert (base.student("laplace@6").method, base.student("laplace@6").aux_layer) == ("laplace", 6)
    assert base.student("kd").aux_layer == 2


def test_what_does_not_decide_a_result_is_not_in_its_key():
    base = Experiment()
    teacher, student = base.teacher_parameters(), base.student_parameters()
    for change in ({"aux_layer": 6}, {"method": "kd"}, {"learning_rate": 1e-3}, {"seed": 1}, {"beta": 1.0}):
        assert base.vary(**change).teacher_parameters() == teacher
        assert base.vary(**change).student_parameters() != student
    for change in ({"students": ["kd"]}, {"report_to": "none"}):
        assert base.vary(**change).student_parameters() == student
    kd = base.vary(method="kd")
    assert kd.vary(aux_layer=6, beta=1.0).student_parameters() == kd.student_parameters()
    erm = base.vary(method="erm")
    assert erm.vary(kd_weight=0.1).student_parameters() == erm.student_parameters()
    for change in ({"teacher_seed": 1}, {"train_examples": 60}, {"negation_rates": [0.1, 0.1, 0.1]}, {"batch_size": 8}):
        assert base.vary(**change).teacher_parameters() != teacher
        assert base.vary(**change).student_parameters() != student
