import numpy as np
import pandas as pd
import pytest

from fairkd import Experiment, ParameterError, check

ENTRY = """
source: many
splits: {train: train, evaluation: 0.2}
text: [text]
label: {names: [a, b, c, d, e]}
attribute: {name: level, column: level}
"""


@pytest.fixture
def five_classes(project, encoder):
    """An experiment on five classes and an attribute of three integer levels."""
    rng = np.random.default_rng(0)
    (project / "many").mkdir()
    label = rng.choice(list("abcde"), 100)
    frame = pd.DataFrame(
        {"text": [f"the {x} nurse" for x in label], "label": label, "level": rng.integers(3, size=100)}
    )
    frame.to_csv(project / "many" / "train.csv", index=False)
    (project / "many.yaml").write_text(ENTRY)
    models = {"teacher_model": str(encoder), "student_model": None, "students": ["kd"], "aux_layer": 1}
    return Experiment(dataset="many.yaml", train_examples=None, validation_examples=0, **models)


def test_the_demos_encoder_is_warned_of_where_the_data_are_others(five_classes, caplog):
    check(five_classes)
    assert "knows the words of the demo" not in caplog.text
    check(five_classes.vary(teacher_model=Experiment.model_fields["teacher_model"].default))
    assert "knows the words of the demo's sentences, not those of many.yaml" in caplog.text


def test_one_validation_row_chooses_no_epoch(five_classes):
    chosen = five_classes.vary(validation_examples=1, kept_epoch="smallest class difference")
    with pytest.raises(ParameterError, match="kept_epoch = 'smallest class difference': all validation rows"):
        check(chosen)
    assert check(chosen.vary(validation_examples=20))


def test_many_classes_are_sampled_and_it_is_said(five_classes, caplog):
    caplog.set_level("INFO", "fairkd")
    assert len(check(five_classes).groups) == 15
    assert "5 classes: an exit's predictive is integrated by Monte Carlo, 200 samples an instance" in caplog.text


@pytest.mark.parametrize("given", [{"predictive": "quadrature"}, {"finished_exits": {"predictive": "quadrature"}}])
def test_quadrature_over_many_classes_is_refused(five_classes, given):
    with pytest.raises(ParameterError, match="predictive = 'quadrature': at most 4 classes, and the data have 5"):
        check(five_classes.vary(**given))
