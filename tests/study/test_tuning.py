"""Tuning: what is varied, the search that several processes share, trials that are ordinary runs, the profile."""

import time

import optuna
import pandas as pd
import pytest
import yaml
from filelock import FileLock
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from fairkd import Experiment, ParameterError, distil, runs
from fairkd.evaluation import SELECTIONS, group_report
from fairkd.experiment import entry
from fairkd.inventory import kept_runs
from fairkd.study import search, tuned, tuning
from fairkd.study.space import distributions
from fairkd.training import check, train_student

SPACE = {"beta": [0.5, 6.0], "aux_layer": [1, 2]}


@pytest.fixture
def asked(small, project):
    """A tuning of refits that take a moment."""
    parameters = small.model_dump(exclude_defaults=True) | {"place": "refit", "students": ["kd", "dedier@1"]}
    (project / "small.yaml").write_text(yaml.safe_dump(parameters))
    return tuning.Tuning(profile="small.yaml", students=["dedier@1"], space=SPACE, trials=3)


def test_a_range_or_choices_are_read_from_the_types_of_the_parameters():
    experiment = Experiment(student="dedier@3")
    space = {"beta": [0.5, 6], "aux_layer": [1, 6], "prior_precision": [1e-2, 1e2], "weight_cap": [None, 5.0, 9.0]}
    space |= {"shape": ["linear", "inverse"], "kd_weight": None, "normalize_weights": None}
    found = distributions(experiment, space)
    assert found["beta"] == FloatDistribution(0.5, 6.0)
    assert found["aux_layer"] == IntDistribution(1, 6)
    assert found["prior_precision"] == FloatDistribution(1e-2, 1e2, log=True)
    assert found["weight_cap"] == CategoricalDistribution(["null", "5.0", "9.0"])
    assert found["shape"] == CategoricalDistribution(['"linear"', '"inverse"'])
    assert found["kd_weight"] == FloatDistribution(0, 1)
    assert found["normalize_weights"] == CategoricalDistribution(["false", "true"])


def test_two_falling_numbers_are_no_choice_of_two():
    with pytest.raises(ParameterError, match=r"space: beta = \[6.0, 0.5\]: should rise; \[0.5, 6.0\] is a range"):
        distributions(Experiment(student="dedier@3"), {"beta": [6.0, 0.5]})


@pytest.mark.parametrize(
    ("spec", "settings", "expected"),
    [
        ("dedier@3", {"aux_layer": 5, "beta": 2.5}, "dedier@5,beta=2.5"),
        ("kd", {"learning_rate": 1e-05}, "kd,learning_rate=1.0e-05"),
        ("dedier@3,beta=1.0,place=refit", {"beta": 2.0}, "dedier@3,beta=2.0,place=refit"),
        ("laplace@3", {"weight_cap": None, "exit_hidden": [8, 4]}, "laplace@3,weight_cap=null,exit_hidden=[8, 4]"),
    ],
)
def test_settings_are_an_entry_of_a_students_list(spec, settings, expected):
    assert entry(spec, settings) == expected
    resolved = Experiment(student=expected).resolved()
    assert {name: resolved[name] for name in settings} == settings


def begun(folder, name="tuning-x", storage=None, seed=0):
    lies = search.opened(storage, folder, name)
    sampler = search.Numbered(seed, {"x": 0.5})
    study = optuna.create_study(
        storage=lies, study_name=name, direction="maximize", sampler=sampler, load_if_exists=True
    )
    return study, lies


def parabola(trial):
    return -((trial.suggest_float("x", -1, 1) - 0.25) ** 2)


def settings(trials):
    return [trial.params["x"] for trial in trials]


def broken_off(study, lies):
    """A trial whose process is gone before it has a value."""
    trial = study.ask()
    trial.set_user_attr("worker", ".gone.lock")
    parabola(trial)
    if isinstance(lies, optuna.storages.RDBStorage):  # its last sign of life, and more silence than it may have
        lies.record_heartbeat(trial._trial_id)
        time.sleep(2.1)


@pytest.mark.parametrize("storage", [None, "sqlite:///{}/tuning.db"])
def test_a_search_that_is_killed_and_begun_again_tries_the_same(tmp_path, storage, monkeypatch):
    monkeypatch.setattr(search, "_SILENT", 1)
    whole = search.search(*begun(tmp_path, "whole"), parabola, 8, tmp_path)
    assert settings(whole)[0] == 0.5 and len(set(settings(whole))) == 8
    storage = storage and storage.format(tmp_path)
    first = search.search(*begun(tmp_path, storage=storage), parabola, 3, tmp_path)
    assert settings(first) == settings(whole)[:3]
    broken_off(*begun(tmp_path, storage=storage))
    again = search.search(*begun(tmp_path, storage=storage), parabola, 8, tmp_path)
    assert settings(again) == settings(whole)
    assert [trial.number for trial in again] == [0, 1, 2, *range(4, 9)] and again[3].user_attrs["tries"] == 2
    assert settings(search.search(*begun(tmp_path, "other", seed=1), parabola, 3, tmp_path)) != settings(whole)[:3]


def test_two_at_once_try_as_many_as_asked_for_and_no_setting_twice(tmp_path):
    one, other = begun(tmp_path), begun(tmp_path)

    def tried(trial):
        if trial.number == 0:  # while this one runs, another process does the rest, and would wait for it
            with pytest.raises(TimeoutError), pytest.MonkeyPatch.context() as patch:
                patch.setattr("fairkd.study.search.time.sleep", waiting)
                search.search(*other, parabola, 4, tmp_path)
        return parabola(trial)

    def waiting(seconds):
        raise TimeoutError

    done = search.search(*one, tried, 4, tmp_path)
    assert [trial.number for trial in done] == [0, 1, 2, 3] and len(set(settings(done))) == 4
    assert len(one[0].trials) == 4


def test_who_comes_too_late_for_the_last_trial_gives_it_up(tmp_path, monkeypatch):
    (study, lies), (other, _) = begun(tmp_path), begun(tmp_path)
    optimize, theirs = study.optimize, []

    def late(objective, **options):  # the other process has asked just before this one does
        theirs.append(other.ask())
        theirs[0].set_user_attr("worker", ".alive.lock")
        optimize(objective, **options)

    monkeypatch.setattr(study, "optimize", late)
    monkeypatch.setattr("fairkd.study.search.time.sleep", lambda _: other.tell(theirs[0], parabola(theirs[0])))
    with FileLock(tmp_path / ".alive.lock"):
        done = search.search(study, lies, parabola, 1, tmp_path)
    assert [trial.number for trial in done] == [0] and len(theirs) == 1
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE, TrialState.FAIL]


def test_what_a_killed_process_was_at_is_tried_again_and_what_a_living_one_is_at_is_not(tmp_path):
    study, lies = begun(tmp_path)
    left = study.ask()
    left.set_user_attr("worker", ".gone.lock")
    left.suggest_float("x", -1, 1)
    alive = study.ask()
    alive.set_user_attr("worker", ".alive.lock")
    with FileLock(tmp_path / ".alive.lock"):
        search._take_up(study, lies, tmp_path)
        assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.RUNNING, TrialState.WAITING]
    study.tell(alive, 0.0)
    done = search.search(study, lies, parabola, 3, tmp_path)
    assert [trial.number for trial in done] == [1, 2, 3]
    assert done[1].params == left.params and done[1].user_attrs["tries"] == 2


def test_what_was_interrupted_is_tried_again(tmp_path):
    def interrupted(trial):
        value = parabola(trial)
        if trial.number:
            raise KeyboardInterrupt
        return value

    study, _ = begun(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        search.search(*begun(tmp_path), interrupted, 3, tmp_path)
    done = search.search(*begun(tmp_path), parabola, 3, tmp_path)
    assert [trial.number for trial in done] == [0, 2, 3]
    assert done[1].params == study.trials[1].params and done[1].user_attrs["tries"] == 2


def test_settings_that_kill_their_process_are_given_up(tmp_path):
    study, lies = begun(tmp_path)
    for _ in range(3):
        trial = study.ask()
        trial.set_user_attr("worker", ".gone.lock")
        trial.suggest_float("x", -1, 1)
        search._take_up(study, lies, tmp_path)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL] * 3


def test_a_tuning_is_ordinary_runs_and_its_best_a_profile(asked, project):
    splits = asked.check()
    table = tuned.trial_table(tuning.tune(asked, splits))
    assert table["trial"].tolist() == [1, 2, 3] and set(table["state"]) == {"complete"}
    assert table["entry"].iloc[0] == "dedier@1,beta=3.0" and len(set(table["entry"])) == 3
    assert (table["best"] == table["value"].cummax()).all()
    for row in table.itertuples():
        epochs = train_or_refit(asked, row.entry).table("epochs")
        validation = epochs[epochs["split"] == "validation"]
        assert row.value == SELECTIONS["validation average"](validation)
    with pytest.MonkeyPatch.context() as patch:  # what is there costs nothing
        patch.setattr("fairkd.runs._once", lambda *_: pytest.fail("made again"))
        pd.testing.assert_frame_equal(tuned.trial_table(tuning.tune(asked, splits)), table)
    best = tuned.best_entries(table)["dedier@1"]
    path = tuned.write_profile(asked, table)
    assert f"# {best}: {table['value'].max():.4f}; dedier@1,beta=3.0: {table['value'].iloc[0]:.4f}" in path.read_text()
    assert tuning.Tuning(objective="smallest class difference").measured == "minus the class difference"
    assert path == project / "reports/tuned/small.yaml" and Experiment.from_file(path).students == [best]
    run = distil(Experiment.of_students(yaml.safe_load(path.read_text())))
    assert run.of.folder.name == table.loc[table["entry"] == best, "run"].iloc[0]
    report, differences = tuned.worth(asked, splits, table)
    assert list(report["student"].unique()) == list(dict.fromkeys(["dedier@1,beta=3.0", best]))
    assert (differences["baseline"] == "dedier@1,beta=3.0").all()


def test_the_epoch_that_counts_is_what_is_reported_and_kept(small, project, monkeypatch):
    rule = "smallest class difference"
    monkeypatch.setitem(SELECTIONS, rule, lambda rows: float(rows["epoch"].iloc[0] == 1))
    (project / "small.yaml").write_text(yaml.safe_dump(small.model_dump(exclude_defaults=True)))
    asked = tuning.Tuning(
        profile="small.yaml", changes={}, students=["dedier@1"], space={"beta": [0.5, 6.0]}, trials=1, selection=rule
    )
    splits = asked.check()
    table = tuned.trial_table(tuning.tune(asked, splits))
    report, _ = tuned.worth(asked, splits, table)
    kept = distil(Experiment.of_students(yaml.safe_load(tuned.write_profile(asked, table).read_text())))
    epochs = kept.table("epochs")
    first = epochs[(epochs["epoch"] == 1) & (epochs["split"] == "evaluation")]
    expected = group_report(first, "student", attribute=splits.attribute)["value"]
    assert report.set_index("row")["value"]["nll"] == pytest.approx(expected["nll"])
    assert kept.metrics["student"]["nll"]["value"] == pytest.approx(expected["nll"], abs=1e-6)
    assert expected["nll"] != pytest.approx(
        group_report(epochs[epochs["epoch"] == 3], "student")["value"]["nll"], abs=1e-5
    )


def test_beside_a_refit_each_trained_student_states_the_epoch_that_it_keeps(small, project):
    (project / "small.yaml").write_text(yaml.safe_dump(small.model_dump(exclude_defaults=True)))
    entries = ["dedier@1,beta=3.0", "dedier@2,place=refit,beta=2.0"]
    asked = tuning.Tuning(profile="small.yaml", changes={}, students=entries, selection="validation average")
    table = pd.DataFrame({"student": entries, "entry": entries, "value": [0.5, 0.6], "state": "complete"})
    written = Experiment.from_file(tuned.write_profile(asked, table))
    assert written.students == ["dedier@1,beta=3.0,kept_epoch=validation average", entries[1]]
    assert written.student(written.students[0]).kept_epoch == "validation average"
    assert written.student(entries[1]).base().kept_epoch == "last epoch"


def train_or_refit(asked, spec):
    return tuning.made(asked.experiment.student(spec), check(asked.experiment))


def test_a_training_below_the_median_is_ended_and_goes_on_when_asked_for(small, project):
    splits, seen = check(small), []

    def ended(epoch, table):
        seen.append((epoch, sorted(set(table["split"]))))
        if epoch == 2:
            raise optuna.TrialPruned

    with pytest.raises(optuna.TrialPruned):
        train_student(small, splits=splits, after_epoch=ended)
    assert seen == [(1, ["evaluation", "validation"]), (2, ["evaluation", "validation"])]
    assert [run.state for run in kept_runs() if run.folder.name.startswith("laplace")] == ["interrupted"]
    run = train_student(small, splits=splits, after_epoch=lambda epoch, _: seen.append(epoch))
    assert seen[2:] == [2, 3] and sorted(run.table("epochs")["epoch"].unique()) == [1, 2, 3]


def test_a_trial_reports_every_epoch_and_is_pruned(asked, monkeypatch):
    """By a stand-in for the training: each trial is worth less than those before, in every epoch."""
    splits, worth, told = asked.check(), iter(range(9, 0, -1)), []
    asked = tuning.Tuning(**asked.model_dump() | {"trials": 6})

    def made(given, splits, after_epoch):
        value = next(worth)
        for epoch in (1, 2, 3):
            told.append((value, epoch))
            after_epoch(epoch, pd.DataFrame({"split": ["validation", "evaluation"], "value": [value, 0]}))
        folder = runs.runs_folder() / f"dedier-{value}"
        folder.mkdir(parents=True)
        pd.DataFrame({"split": "validation", "value": value, "epoch": [1, 2, 3]}).to_parquet(folder / "epochs.parquet")
        return runs.Run(folder)

    monkeypatch.setattr(tuning, "made", made)
    monkeypatch.setitem(SELECTIONS, "validation average", lambda rows: float(*rows["value"].unique()))
    table = tuned.trial_table(tuning.tune(asked, splits))
    assert table["state"].tolist() == ["complete"] * 4 + ["pruned"] * 2
    assert table["value"].tolist() == [9, 8, 7, 6, 5, 4] and set(table["best"]) == {9}
    assert told == [(value, epoch) for value in (9, 8, 7, 6) for epoch in (1, 2, 3)] + [(5, 1), (5, 2), (4, 1), (4, 2)]


def test_a_trial_that_was_ended_early_is_never_the_best():
    name = {"user_attrs": {"student": "kd"}}
    ended = optuna.create_trial(state=TrialState.PRUNED, intermediate_values={1: 0.4, 2: 0.9}, **name)
    table = tuned.trial_table({"kd": [ended, optuna.create_trial(value=0.5, **name), ended]})
    assert table["value"].tolist() == [0.9, 0.5, 0.9]
    assert table["best"].isna().tolist() == [True, False, False] and table["best"].tolist()[1:] == [0.5, 0.5]


def test_a_diverged_training_counts_and_is_never_the_best(asked, monkeypatch):
    splits = asked.check()
    monkeypatch.setattr(tuning, "made", diverged)
    table = tuned.trial_table(tuning.tune(asked, splits))
    assert table["state"].tolist() == ["pruned"] * 3
    with pytest.raises(ValueError, match="no trial came to its end"):
        tuned.best_entries(table)


def diverged(*_):
    raise FloatingPointError("loss is not finite from epoch 1, step 3 on")


def test_importance_is_of_what_moves_the_value(tmp_path):
    def only_x(trial):
        trial.suggest_float("y", 0, 1)
        return trial.suggest_float("x", -1, 1)

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(only_x, n_trials=12)
    shares = tuned.importances({"dedier@3": study.trials}).set_index("parameter")["importance"]
    assert shares["x"] > 0.8 and shares.sum() == pytest.approx(1)
    flat = optuna.create_study(direction="maximize")
    flat.optimize(lambda trial: 0 * trial.suggest_float("x", 0, 1), n_trials=3)
    assert tuned.importances({"dedier@3": flat.trials})["importance"].isna().all()
