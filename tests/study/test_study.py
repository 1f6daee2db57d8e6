import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

import fairkd
from fairkd import Experiment, ParameterError, distil, load, study
from fairkd.evaluation import chosen, compare, group_accuracy
from fairkd.exits.dense import DenseLaplace
from fairkd.exits.laplace import KroneckerLaplace
from fairkd.exits.linear import LinearExit
from tests.tiny import small_parameters


@pytest.fixture(scope="module")
def trained(tmp_path_factory, encoder):
    """Two students with two seeds, their experiment, and the root that they lie under."""
    root = tmp_path_factory.mktemp("grid")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAIRKD_ROOT", str(root))
        experiment = Experiment(**small_parameters(encoder), aux_layer=1).vary(student_epochs=2)
        yield experiment, study.run_grid(experiment, ["kd", "laplace@2"], [0, 1]), root


@pytest.fixture
def grid(trained, monkeypatch):
    experiment, found, root = trained
    monkeypatch.setenv("FAIRKD_ROOT", str(root))
    return experiment, found


def test_a_grid_without_exits_compares_to_the_digit_as_with_them(grid):
    experiment, found = grid
    alone = study.run_grid(experiment, list(found), [0, 1], exits=False)
    for with_exits, without in ((found[spec][seed], alone[spec][seed]) for spec in found for seed in (0, 1)):
        assert with_exits.of.folder == without.of.folder and with_exits.folder != without.folder
    compared, again = study.comparison(experiment, found), study.comparison(experiment, alone)
    pd.testing.assert_frame_equal(compared.report, again.report)
    pd.testing.assert_frame_equal(compared.differences, again.differences)
    given = experiment.student("laplace@2")
    swept = study.posterior_tables(given)
    assert study.posterior_tables(given).folder == swept.folder
    tempered = given.vary(finished_exits={"pooling": "mean"})
    assert study.posterior_tables(tempered).folder != swept.folder


def test_the_grid_is_the_runs_of_its_students_and_seeds(grid):
    experiment, found = grid
    assert {spec: list(of_seed) for spec, of_seed in found.items()} == {"kd": [0, 1], "laplace@2": [0, 1]}
    assert found["laplace@2"][1].folder == distil(experiment.vary(seed=1, method="laplace", aux_layer=2)).folder
    assert found["laplace@2"][1].of.config["seed"] == 1


def test_a_student_with_other_data_is_trained_on_them(bare, caplog):
    caplog.set_level("INFO", "fairkd")
    found = study.run_grid(bare.vary(method="kd", student_epochs=1), ["kd", "kd,train_examples=120"], [0])
    assert len(found["kd,train_examples=120"][0].table("predictions")) == 60
    assert found["kd,train_examples=120"][0].of.config["train_examples"] == 120
    logits = fairkd.teacher_run(bare.vary(train_examples=120)).table("train_logits")
    assert len(logits) == 120
    assert "4 runs to make: about 0.0 GB of disk" in caplog.messages[0]


@pytest.mark.parametrize(
    ("students", "seeds", "message"),
    [
        (["kd", "laplace@9"], [0], "aux_layer = 9"),
        (["laplac@1"], [0], "did you mean 'laplace'"),
        (["laplace@1,temprature=2"], [0], "did you mean 'temperature'"),
        (["kd,beta=9"], [0], "beta = 9: kd"),
        (["laplace@1,beta=-1"], [0], "beta = -1"),
    ],
)
def test_a_wrong_grid_stops_before_any_training(small, monkeypatch, students, seeds, message):
    monkeypatch.setattr(study.grid, "distil", lambda *a, **k: pytest.fail("training began"))
    with pytest.raises(ParameterError, match=message):
        study.run_grid(small, students, seeds)


def test_epochs_are_chosen_on_validation_rows_alone(grid):
    experiment, found = grid
    epochs = found["kd"][0].table("epochs")
    validation, evaluation = (epochs["split"] == split for split in ("validation", "evaluation"))
    good, bad = epochs["label"].astype(int), 1 - epochs["label"].clip(upper=1)
    for c in range(3):  # the first epoch is all right on validation, all wrong on evaluation; the last the reverse
        first = epochs["epoch"] == 1
        answer = np.where(validation == first, good, bad)
        epochs[f"student_prob_{c}"] = (answer == c).astype(float)
    for selection, epoch in (("last epoch", 2), ("validation average", 1), ("validation worst group", 1)):
        assert chosen(epochs, selection) == epoch
    tied = epochs.copy()
    for c in range(3):  # a worst group of 0 in both epochs, but for the second a better average
        wrong = validation & (tied["group"].astype(str) == "neutral, negation")
        tied.loc[wrong, f"student_prob_{c}"] = float(c == 0)
        tied.loc[validation & (tied["epoch"] == 2) & ~wrong, f"student_prob_{c}"] = (tied["label"] == c).astype(float)
        tied.loc[validation & (tied["epoch"] == 1) & ~wrong, f"student_prob_{c}"] = float(c == 2)
    assert chosen(tied, "validation worst group") == 2
    with pytest.raises(ValueError, match="choose one of last epoch"):
        chosen(epochs, "best")
    with pytest.raises(ValueError, match="validation_examples above 0"):
        chosen(epochs[evaluation], "validation average")
    last = study.predictions_at(found["kd"][0], "last epoch")
    assert len(last) == 60
    expected = found["kd"][0].metrics["student"]["average"]["value"]
    assert group_accuracy(last)["average"] == pytest.approx(expected)


def test_the_sweep_starts_at_the_exact_posterior_and_its_bound_holds(grid):
    experiment, found = grid
    given = experiment.student("laplace@2")
    splits = load(given)
    run = study.posterior_tables(given, n_temperatures=4)
    sweep = run.table("sweep")
    assert sweep["likelihood_temperature"].iloc[[0, -1]].tolist() == pytest.approx([1, 240])
    assert sweep["margin_shift"].is_monotonic_increasing
    assert (sweep["logit_variance"] < sweep["bound"]).all() and (sweep["expected"] < sweep["bound"]).all()
    assert (sweep["effective_dimension"] < 2 * 17).all()
    agreement = run.table("agreement")
    assert set(agreement["id"]) == set(splits.evaluation["id"])
    # The exact posterior's own margin is what the run's predictions have.
    stored = found["laplace@2"][0].table("predictions").set_index("id").loc[agreement["id"], "exit2_laplace_margin"]
    np.testing.assert_allclose(agreement["kronecker_margin"], stored, atol=1e-5)
    again = study.posterior_tables(given, n_temperatures=4)
    assert again.folder == run.folder


def test_the_sweep_by_hand():
    generator = torch.Generator().manual_seed(0)
    features, labels = torch.randn(90, 3, generator=generator).double(), torch.randint(3, (90,), generator=generator)
    experiment = Experiment()
    sweep = study.temperature_sweep(features, labels, experiment.exits(3), experiment.weighting, [1.0, 30.0])
    exit = LinearExit.fit(features, labels, 1.0, 3)
    for _, row in sweep.iterrows():
        laplace = KroneckerLaplace.fit(exit, features, labels, likelihood_temperature=row["likelihood_temperature"])
        shift = fairkd.confidence_margin(laplace.predict(features)) - fairkd.confidence_margin(
            exit.logits(features).softmax(-1)
        )
        assert row["margin_shift"] == pytest.approx(shift.abs().mean().item(), rel=1e-6)
        ours, theirs = (
            fairkd.instance_weights(p, labels) for p in (laplace.predict(features), exit.logits(features).softmax(-1))
        )
        assert row["weight_shift"] == pytest.approx((ours / theirs - 1).abs().mean().item(), rel=1e-6)
        assert row["bound"] == pytest.approx(row["likelihood_temperature"] * 2 * 4 / 90)


def test_a_weight_of_0_has_no_relative_shift():
    features, labels = torch.tensor([[9.0], [-9.0]] * 20).double(), torch.tensor([0, 1] * 20)
    experiment = Experiment(method="dedier", shape="complement", prior_precision=1e-4, alpha=10.0)
    sweep = study.temperature_sweep(features, labels, experiment.exits(2), _Zero(), [1.0, 30.0])
    assert np.isfinite(sweep["weight_shift"]).all()


class _Zero:
    """Weights of which half are 0."""

    def lift(self, probs, labels, confidence):
        return torch.where(labels == 0, 0.0, probs[:, 1])


@pytest.mark.parametrize("signal", ["top_probability", "contrast_variance", "mutual_information"])
def test_the_weights_of_a_sweep_are_by_the_methods_own_signal(signal):
    generator = torch.Generator().manual_seed(0)
    features, labels = torch.randn(90, 3, generator=generator).double(), torch.randint(3, (90,), generator=generator)
    experiment = Experiment(method="laplace", signal=signal)
    sweep = study.temperature_sweep(features, labels, experiment.exits(3), experiment.weighting, [30.0])
    exit = LinearExit.fit(features, labels, 1.0, 3)
    laplace, at_map = KroneckerLaplace.fit(exit, features, labels, likelihood_temperature=30.0), exit.logits(features)
    sure, sure_at_map = {
        "top_probability": (laplace.predict(features).amax(1), at_map.softmax(-1).amax(1)),
        "contrast_variance": ((1 + math.pi / 8 * laplace.contrast_variance(features)) ** -0.5, torch.ones(90)),
        "mutual_information": (1 - laplace.mutual_information(features) / math.log(3), torch.ones(90)),
    }[signal]
    ours = fairkd.instance_weights(laplace.predict(features), labels, confidence=sure)
    theirs = fairkd.instance_weights(at_map.softmax(-1), labels, confidence=sure_at_map.double())
    assert sweep["weight_shift"].item() == pytest.approx((ours / theirs - 1).abs().mean().item(), rel=1e-6)


def test_a_sweep_of_the_exact_posterior_fits_it_at_every_temperature():
    generator = torch.Generator().manual_seed(0)
    features, labels = torch.randn(60, 3, generator=generator).double(), torch.arange(60) % 3
    experiment = Experiment(method="laplace", posterior="dense")
    sweep = study.temperature_sweep(features, labels, experiment.exits(3), experiment.weighting, [1.0, 30.0])
    exit = LinearExit.fit(features, labels, 1.0, 3)
    margin = fairkd.confidence_margin(exit.logits(features).softmax(-1))
    for _, row in sweep.iterrows():
        exact = DenseLaplace.fit(exit, features, labels, likelihood_temperature=row["likelihood_temperature"])
        shift = fairkd.confidence_margin(exact.predict(features)) - margin
        assert row["margin_shift"] == pytest.approx(shift.abs().mean().item(), rel=1e-6)
        expected = row["likelihood_temperature"] * exact.effective_dimension / 60
        assert row["expected"] == pytest.approx(expected)
        assert row["logit_variance"] == pytest.approx(expected), "of the exact posterior they are equal"


def test_the_posteriors_that_agree_are_the_kronecker_and_the_exact_one():
    generator = torch.Generator().manual_seed(0)
    features, labels = torch.randn(60, 3, generator=generator).double(), torch.arange(60) % 3
    evaluated, experiment = torch.randn(7, 3, generator=generator).double(), Experiment(likelihood_temperature=20.0)
    found = study.posterior_agreement(features, labels, evaluated, experiment.exits(3))
    exit = LinearExit.fit(features, labels, 1.0, 3)
    logits = exit.logits(evaluated)
    np.testing.assert_allclose(found["map_margin"], fairkd.confidence_margin(logits.softmax(-1)))
    contrast = torch.nn.functional.one_hot(logits.topk(2).indices, 3).double()
    contrast = contrast[:, 0] - contrast[:, 1]
    for name, kind in (("kronecker", KroneckerLaplace), ("dense", DenseLaplace)):
        posterior = kind.fit(exit, features, labels, likelihood_temperature=20.0)
        np.testing.assert_allclose(found[f"{name}_margin"], fairkd.confidence_margin(posterior.predict(evaluated)))
        variance = torch.einsum("nc,ncd,nd->n", contrast, posterior.logit_covariance(evaluated), contrast)
        np.testing.assert_allclose(found[f"{name}_variance"], variance, rtol=1e-9)
    assert not np.allclose(found["kronecker_variance"], found["dense_variance"], rtol=1e-4)
    own = Experiment(likelihood_temperature=20.0, prior="factored")
    factored = KroneckerLaplace.fit(exit, features, labels, likelihood_temperature=20.0, prior="factored")
    its = study.posterior_agreement(features, labels, evaluated, own.exits(3))
    np.testing.assert_allclose(its["kronecker_variance"], factored.contrast_variance(evaluated), rtol=1e-9)
    assert its["dense_variance"].equals(found["dense_variance"])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"seeds": [0, 0]}, "each seed once"),
        ({"seeds": []}, "seeds"),
        ({"seds": [0]}, "did you mean 'seeds'"),
        ({"methods": "kd"}, "should be a list"),
    ],
)
def test_a_studys_parameters_are_checked(parameters, message):
    with pytest.raises(ParameterError, match=message):
        study.Study(**parameters)


def test_a_studys_profile_is_a_file_of_params_with_changes():
    assert study.Study().experiment.resolved() == Experiment.from_file("params/demo.yaml", student="kd").resolved()
    assert study.Study(profile="mnli", changes={"data_seed": 3}).experiment.data_seed == 3
    with pytest.raises(ParameterError, match="did you mean 'mnli'"):
        _ = study.Study(profile="minimal").experiment
    with pytest.raises(ParameterError, match="did you mean 'data_seed'"):
        _ = study.Study(changes={"data_sed": 3}).experiment


def test_a_report_for_reading_and_of_record(tables, project):
    found = compare(tables, ["kd"])
    wide = study.pivot(found.report)
    assert wide.index.tolist() == ["kd", "laplace@3"]
    assert wide.columns.tolist() == found.report["row"].unique().tolist()
    value = found.report.set_index(["student", "row"]).loc[("laplace@3", "a, yes")]
    assert wide.loc["laplace@3", "a, yes"] == "{value:.3f} [{low:.3f}, {high:.3f}]".format(**value)
    changes = {"train_examples": 600, "teacher_model": "here/alone"}
    grid = {"methods": ["kd", "dedier@3,alpha=1.0"], "seeds": [0, 2], "refits": ["dfr"]}
    asked = study.Study(record="reports/record/x", changes=changes, **grid)
    assert study.Study().write({"report": found.report}, {}, Experiment()) == []
    assert asked.write({"report": found.report}, {}, Experiment()) == [
        "parameters.yaml",
        "report.csv",
        "study.yaml",
    ]
    given = yaml.safe_load((project / "reports/record/x/study.yaml").read_text())
    assert study.Study.of(given) == asked.model_copy(update={"record": None, "changes": {"train_examples": 600}})
    again = pd.read_csv(project / "reports/record/x/report.csv")
    np.testing.assert_allclose(again["value"], found.report["value"], rtol=1e-5)


def test_students_are_compared_with_kd_the_first_dedier_and_the_dedier_of_every_laplace(tables):
    """The teacher, of which there is one, heads the report."""

    @dataclass
    class Finished:
        of_seed: pd.DataFrame

        def table(self, name):
            answers = self.of_seed.filter(like="student_prob_")
            return self.of_seed.join(answers.rename(columns=lambda column: column.replace("student", "teacher")))

    specs = ["kd", "dedier@1", "dedier@2", "dedier@6,place=refit", "laplace@6,place=refit", "laplace@5"]
    found = {spec: {seed: Finished(of_seed) for seed, of_seed in tables["kd"].items()} for spec in specs}
    compared = study.comparison(fairkd.Experiment(), found)
    assert list(compared.report["student"].unique()) == ["teacher", *specs]
    pairs = compared.differences[["student", "baseline"]].drop_duplicates()
    assert set(pairs["baseline"]) == {"kd", "dedier@1", "dedier@6,place=refit"}
    assert (pairs["baseline"] == "kd").sum() == len(specs) - 1
    marked = study.comparison(fairkd.Experiment(kept_epoch="validation worst group", validation_examples=600), found)
    assert len(marked.differences) == len(compared.differences)
    assert set(marked.differences["baseline"]) == {f"{name} (reads group labels)" for name in set(pairs["baseline"])}


def test_titles_mark_what_reads_group_labels():
    assert fairkd.Experiment().title("group_dro") == "group_dro (reads group labels)"
    assert fairkd.Experiment().title("laplace@3,alpha=1.0") == "laplace@3,alpha=1.0"
