"""The settings of a refit: each point is the refit that a student of that setting is."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from fairkd import Experiment, ParameterError, study
from fairkd.data import bag_of_words, load
from fairkd.evaluation import class_probabilities
from fairkd.evaluation.selection import BY_EXIT, chosen, class_difference, worst_by_exit
from fairkd.study.frontier import SETTINGS
from fairkd.training.refit import refit_student

SPEC = "dedier@1,exit_reads=hypothesis"


@pytest.mark.parametrize(
    ("spec", "parameter", "setting"),
    [
        (SPEC, "beta", 3.0),
        (f"{SPEC},shape=linear,permute_weights=true", "beta", 3.0),
        ("avcs@2", "beta", 2.0),
        ("jtt,jtt_epochs=1", "jtt_factor", 10.0),
        ("afr,refit_on=training,head_prior_precision=1.0", "gamma", 4.0),
        ("dfr", "head_prior_precision", 30.0),
        (f"{SPEC},shape=inverse", "head_prior_precision", 30.0),  # which has no beta
    ],
)
def test_a_point_is_the_refit_of_its_setting(small, spec, parameter, setting):
    small = small.vary(method="kd", student_epochs=1)
    found = study.frontier(small, [spec], [1])[spec][1]
    assert found["setting"].unique().tolist() == list(SETTINGS[parameter]) and set(found["parameter"]) == {parameter}
    experiment = small.student(f"{spec},{parameter}={setting},place=refit").vary(seed=1)
    run = refit_student(experiment, splits=load(experiment))
    ours = found[(found["setting"] == setting) & (found["split"] == "evaluation")].set_index("id").sort_index()
    theirs = run.table("predictions").set_index("id").sort_index()
    np.testing.assert_allclose(class_probabilities(ours, "student"), class_probabilities(theirs, "student"), atol=1e-5)
    others = found[found["split"] == "evaluation"].groupby("setting")["student_prob_0"].mean()
    assert others.nunique() == len(others)  # so that another setting's point would not pass for this one
    points = study.frontier_points(small, {spec: {1: found}})
    assert set(points["setting"]) == set(SETTINGS[parameter]) and set(points["student"]) == {small.title(spec)}


def test_all_refits_have_the_same_number_of_settings():
    assert {len(settings) for settings in SETTINGS.values()} == {8}


def test_what_cannot_be_refitted_and_judged_is_refused(small):
    with pytest.raises(ParameterError, match="refits, 'confreg@1': has no weights that a refit could use"):
        study.frontier(small, ["confreg@1"], [0])
    with pytest.raises(ParameterError, match="refits, 'afr': is refitted on the validation rows that choose"):
        study.frontier(small, ["afr"], [0])


def swept(right):
    """Predictions of two betas on four rows a split; `right` says of each beta which validation rows are right."""
    rows = []
    for beta, of_beta in right.items():
        for split in ("evaluation", "validation"):
            for i, ok in enumerate(of_beta):
                label, negated = i % 2, i > 1
                prob = 0.9 if (label == 1) == ok else 0.1
                row = {"id": f"{i}", "label": label, "negation": negated, "group": f"{label}, {negated}"}
                row |= {"importance": 1.0, "split": split, "parameter": "beta", "setting": beta}
                rows.append(row | {"student_prob_0": 1 - prob, "student_prob_1": prob})
    table = pd.DataFrame(rows)
    return table.assign(group=pd.Categorical(table["group"]))


def test_each_rule_keeps_what_it_says():
    # At 0 all rows but one are right; at 2 the two wrong ones are of both classes.
    table = swept({0.0: [True, True, True, False], 2.0: [True, False, False, True]})
    assert chosen(table, "validation average", "setting") == 0
    assert chosen(table, "smallest class difference", "setting") == 2
    assert class_difference(table[(table["setting"] == 0) & (table["split"] == "validation")]) == 0.5
    choices = study.frontier_choices(Experiment(), {SPEC: {0: table, 1: table}})
    settings = choices.groupby("selection")["settings"].first()
    assert settings["smallest class difference"] == "2 2" and settings["validation average"] == "0 0"
    assert set(choices["parameter"]) == {"beta"}


def test_what_the_exit_errs_on_stands_for_the_groups():
    table = swept({0.0: [True, True, True, False], 2.0: [False, True, True, True]})
    table["exit_right"] = table["id"].ne("3").astype("boolean")  # wrong of the row that the student loses at 0
    drawn = swept({0.0: [True, True, True, False]})[4:].assign(importance=[1.9, 1.9, 0.1, 0.1])
    assert class_difference(drawn) == pytest.approx(0.05)  # of two rows of 1.9 and .1, the smaller is wrong
    assert worst_by_exit(drawn.assign(exit_right=[True, True, False, True])) == pytest.approx(0.95)
    with pytest.raises(ValueError, match="the validation rows are of one class"):
        class_difference(drawn[drawn["label"] == 0])
    assert [worst_by_exit(table[table["setting"] == setting]) for setting in (0, 2)] == [0, 0.5]
    assert chosen(table, BY_EXIT, "setting") == 2
    assert chosen(table, "validation average", "setting") == 0  # of equals the first
    both = {SPEC: {0: table}, "dfr": {0: table.drop(columns="exit_right")}}
    choices = study.frontier_choices(Experiment(), both)
    assert set(choices.loc[choices["selection"] == BY_EXIT, "student"]) == {SPEC}
    assert set(choices["student"]) == {SPEC, "dfr (reads group labels)"}


def test_a_refit_of_students_whose_epoch_groups_choose_reads_groups_in_every_table():
    tables = {0: swept({0.0: [True, True, True, False], 2.0: [True, True, False, False]}).assign(exit_right=None)}
    found = {"dedier@1": tables, "laplace@1": tables}
    by_groups = Experiment(kept_epoch="validation worst group", validation_examples=600)
    points, apart = (of(by_groups, found) for of in (study.frontier_points, study.laplace_differences))
    assert set(points["student"]) == {f"{spec} (reads group labels)" for spec in found}
    assert set(apart["student"]) == {"laplace@1 (reads group labels)"}


def test_an_exit_is_asked_of_validation_rows_that_it_was_not_fitted_on(small):
    small = small.vary(method="kd", student_epochs=1)
    found = study.frontier(small, ["dedier@1,reader=words,exit_reads=hypothesis", "dfr"], [0])
    table = found["dedier@1,reader=words,exit_reads=hypothesis"][0]
    assert "exit_right" not in found["dfr"][0]
    asked = table[table["split"] == "validation"]
    assert table.loc[table["split"] == "evaluation", "exit_right"].isna().all() and asked["exit_right"].notna().all()
    splits = load(small)
    bags = [bag_of_words(splits.train, rows, ["hypothesis"], 3000) for rows in (splits.train, splits.validation)]
    plain = LogisticRegression(C=1.0, max_iter=2000, tol=1e-8).fit(bags[0], splits.train["label"])
    expected = pd.Series(plain.predict(bags[1]) == splits.validation["label"], dtype="boolean")
    of_one = asked[asked["setting"] == 0.0].set_index("id").loc[splits.validation["id"], "exit_right"]
    assert (of_one.to_numpy() == expected.to_numpy()).mean() > 0.9  # the bias has no prior there


def test_laplace_is_compared_with_what_it_is_but_for_laplace_at_the_same_setting():
    without = swept({0.0: [True, True, True, False], 2.0: [True, True, False, False]})
    found = {"dedier@1,alpha=1.0": {0: without}, "dfr": {0: without}}
    assert study.laplace_differences(Experiment(), found).empty
    found["laplace@1,alpha=1.0"] = {0: swept({0.0: [True, True, True, False], 2.0: [True, True, True, False]})}
    apart = study.laplace_differences(Experiment(), found).set_index(["setting", "row"])["value"]
    assert apart[0.0, "average"] == 0 and apart[2.0, "average"] == 0.25
    found["laplace@3"] = {0: without}  # which has no twin
    assert set(study.laplace_differences(Experiment(), found)["student"]) == {"laplace@1,alpha=1.0"}
