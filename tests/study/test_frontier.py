"""The frontier of a refit: each point is the refit that a student of that beta is."""

import numpy as np
import pandas as pd
import pytest

from fairkd import ParameterError, study
from fairkd.data import load
from fairkd.evaluation import class_probabilities
from fairkd.study.frontier import BETAS
from fairkd.study.selection import class_difference
from fairkd.training.refit import refit_student

SPEC = "dedier@1,exit_reads=hypothesis"


@pytest.mark.parametrize("shape", ["exponential", "linear"])
def test_a_point_is_the_refit_of_its_beta(small, shape):
    spec = f"{SPEC},shape={shape}"
    found = study.frontier(small, [spec], [1])[spec][1]
    assert found["beta"].unique().tolist() == list(BETAS)
    experiment = small.student(f"{spec},beta=3.0,place=refit").vary(seed=1)
    run = refit_student(experiment, splits=load(experiment))
    ours = found[(found["beta"] == 3) & (found["split"] == "evaluation")].set_index("id").sort_index()
    theirs = run.table("predictions").set_index("id").sort_index()
    np.testing.assert_allclose(class_probabilities(ours, "student"), class_probabilities(theirs, "student"), atol=1e-5)
    points = study.frontier_points({spec: {1: found}}, "negation")
    assert set(points["beta"]) == set(BETAS) and set(points["student"]) == {spec}


def test_what_has_no_frontier_is_refused(small):
    with pytest.raises(ParameterError, match="refits, 'jtt': a frontier needs a method that has a beta"):
        study.frontier(small, ["jtt"], [0])
    with pytest.raises(ParameterError, match="shape = 'inverse' has no beta"):
        study.frontier(small, ["dedier@1,shape=inverse"], [0])


def swept(right):
    """Predictions of two betas on four rows a split; `right` says of each beta which validation rows are right."""
    rows = []
    for beta, of_beta in right.items():
        for split in ("evaluation", "validation"):
            for i, ok in enumerate(of_beta):
                label, negated = i % 2, i > 1
                prob = 0.9 if (label == 1) == ok else 0.1
                row = {"id": f"{i}", "label": label, "negation": negated, "group": f"{label}, {negated}"}
                row |= {"importance": 1.0, "split": split, "beta": beta}
                rows.append(row | {"student_prob_0": 1 - prob, "student_prob_1": prob})
    table = pd.DataFrame(rows)
    return table.assign(group=pd.Categorical(table["group"]))


def test_each_rule_keeps_what_it_says():
    # At 0 all rows but one are right; at 2 the two wrong ones are of both classes.
    table = swept({0.0: [True, True, True, False], 2.0: [True, False, False, True]})
    assert study.chosen(table, "validation average", "negation", "beta") == 0
    assert study.chosen(table, "smallest class difference", "negation", "beta") == 2
    assert class_difference(table[(table["beta"] == 0) & (table["split"] == "validation")]) == 0.5
    choices = study.frontier_choices({SPEC: {0: table, 1: table}}, "negation")
    betas = choices.groupby("selection")["betas"].first()
    assert betas["smallest class difference"] == "2 2" and betas["validation average"] == "0 0"
