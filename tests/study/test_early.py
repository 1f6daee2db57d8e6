"""Early answers of finished runs: read from their tables, clocked by the wrapper."""

import numpy as np
import pandas as pd
import pytest

from fairkd import ParameterError, distil, study
from fairkd.evaluation import margins


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"depths": [0.5, 0.4]}, "depths = .*each once, from the least on"),
        ({"depths": [0.0, 0.4]}, "above 0"),
        ({"depths": [0.5, 1.5]}, "at most 1"),
        ({"depths": []}, "depths"),
        ({"studnts": ["kd"]}, "did you mean 'students'"),
    ],
)
def test_parameters_are_checked(parameters, message):
    with pytest.raises(ParameterError, match=message):
        study.EarlyStudy(**parameters)


def test_the_middle_depth_is_one_of_those_asked_for():
    assert study.EarlyStudy().middle == 0.55
    assert study.EarlyStudy(depths=[0.3]).middle == 0.3


def test_runs_are_read_ranked_and_clocked(small):
    run = distil(small.vary(method="kd"))
    held = study.held_out(small, {"kd": {0: run}})["kd"][0]
    assert len(held.validation) == 12 and len(held.evaluation) == 60
    ranks = study.margin_ranks(run)
    table = run.table("predictions")
    both = [margins(table.filter(regex=rf"^exit2{kind}_prob_").to_numpy()) for kind in ("", "_laplace")]
    of_ranks = [pd.Series(values).rank() for values in both]
    assert list(ranks.index) == ["exit1", "exit2"]
    assert ranks["exit2"] == pytest.approx(np.corrcoef(*of_ranks)[0, 1])
    times = study.early_seconds(small.vary(method="kd"), run, [0.5], texts=20)
    assert times["criterion"].tolist() == ["margin", "margin", "laplace_margin", "laplace_margin"]
    assert times["depth"].tolist() == [0.5, 1.0, 0.5, 1.0] and (times["ms"] > 0).all()
    whole = times.loc[times["target"] == 1, "ms"].min()
    assert times["share"].tolist() == pytest.approx((times["ms"] / whole).tolist())


def test_a_record_is_written_where_it_is_asked_for(project):
    table = pd.DataFrame({"a": [1.0]})
    assert study.EarlyStudy().write({"early_report": table}, {}) == []
    asked = study.EarlyStudy(record="reports/record/x")
    assert asked.write({"early_report": table}, {}) == ["early_report.csv"]
    assert pd.read_csv(project / "reports/record/x/early_report.csv")["a"].tolist() == [1.0]
