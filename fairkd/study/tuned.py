"""What a tuning has found: its trials as a table, which parameter mattered, the best settings as a profile."""

from pathlib import Path

import optuna
import pandas as pd
import yaml
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from fairkd import files, runs
from fairkd.data import Splits
from fairkd.evaluation import compare
from fairkd.experiment import read_student, title
from fairkd.experiment.profiles import profile_parameters
from fairkd.study.selection import predictions_at
from fairkd.study.tuning import Tuning, made

Trials = dict[str, list[FrozenTrial]]


def trial_table(found: Trials) -> pd.DataFrame:
    """The trials in their order, a row each.

    Returns:
        Columns student, trial (from 1), state (complete or pruned), value (of a pruned one its last epoch's), best
        (complete ones so far), entry (of a students list), run, and one for each name of the space.
    """
    parts = []
    for spec, trials in found.items():
        rows = [
            {
                "student": title(spec),
                "trial": number,
                "state": trial.state.name.lower(),
                "value": trial.value if trial.state == TrialState.COMPLETE else _last(trial),
                "entry": trial.user_attrs["student"],
                "run": trial.user_attrs.get("run", ""),
            }
            | {name: read_student(trial.user_attrs["student"]).get(name) for name in trial.params}
            for number, trial in enumerate(trials, 1)
        ]
        part = pd.DataFrame(rows)
        part.insert(4, "best", part["value"].where(part["state"] == "complete").cummax().ffill())
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def _last(trial: FrozenTrial) -> float:
    steps = trial.intermediate_values
    return steps[max(steps)] if steps else float("nan")


def best_entries(table: pd.DataFrame) -> dict[str, str]:
    """{student: the entry with the best value} of a table of trials; of equals the first; pruned ones are none.

    Raises:
        ValueError: a student has no complete trial.
    """
    complete = table[table["state"] == "complete"]
    if lost := sorted({*table["student"]} - {*complete["student"]}):
        raise ValueError(f"{lost[0]}: no trial came to its end; all diverged. Lower the learning rate, or the space")
    best = complete.loc[complete.groupby("student", sort=False)["value"].idxmax()]
    return dict(zip(best["student"], best["entry"], strict=True))


def importances(found: Trials) -> pd.DataFrame:
    """How much of the value's variance over the space each parameter explains, by a forest (Hutter et al. 2014).

    Returns:
        Columns student, parameter, importance (sums to 1); NaN where complete trials do not differ in value.
    """
    rows = []
    for spec, trials in found.items():
        complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        names = sorted(complete[0].params) if complete else []
        share = dict.fromkeys(names, float("nan"))
        if len({trial.value for trial in complete}) > 1:
            apart = optuna.create_study(direction="maximize")
            apart.add_trials(complete)
            share = get_param_importances(apart, evaluator=FanovaImportanceEvaluator(seed=0))
        rows += [{"student": title(spec), "parameter": name, "importance": share[name]} for name in names]
    return pd.DataFrame(rows, columns=["student", "parameter", "importance"])


def worth(asked: Tuning, splits: Splits, table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What every student is worth on the evaluation rows, which no trial was chosen by: as it stood, and at its best.

    Each at the epoch that counts, as in its trial.

    Returns:
        Report and differences, as `evaluation.compare` has them: the best minus the first, of one training seed.
    """
    seed, best = asked.experiment.seed, best_entries(table)
    reports, differences = [], []
    for student, part in table.groupby("student", sort=False):
        first = part["entry"].iloc[0]
        runs_of = {name: made(asked.experiment.student(name), splits) for name in dict.fromkeys((first, best[student]))}
        tables = {name: {seed: predictions_at(run, asked.selection)} for name, run in runs_of.items()}
        compared = compare(tables, [first])
        reports.append(compared.report)
        differences.append(compared.differences)
    return pd.concat(reports, ignore_index=True), pd.concat(differences, ignore_index=True)


def write_profile(asked: Tuning, table: pd.DataFrame) -> Path:
    """Write the profile, with the best settings of every student as its students; the file.

    The epoch that counted is the one that its students keep; of refits there is one alone, and beside them each of the
    others states it, since the student that a refit is made of was trained to its last.
    """
    best = best_entries(table)
    parameters = profile_parameters(asked.profile, asked.changes)
    refits = {entry: asked.experiment.student(entry).weighting.refits_head for entry in best.values()}
    if not any(refits.values()):
        parameters["kept_epoch"] = asked.selection
    elif asked.selection != "last epoch":
        refits = {entry if refit else f"{entry},kept_epoch={asked.selection}": refit for entry, refit in refits.items()}
    parameters["students"] = [*refits]
    said = [f"{asked.profile}, tuned: of {asked.trials} settings of a student the best by {asked.measured}"]
    for student, found in best.items():
        of = table[table["student"] == student]
        value, first = of.loc[of["entry"] == found, "value"].iloc[0], of["value"].iloc[0]
        said.append(f"{found}: {value:.4f}; {of['entry'].iloc[0]}: {first:.4f}")
    path = runs.root() / asked.profile_of_best
    path.parent.mkdir(parents=True, exist_ok=True)
    head = "".join(f"# {line}\n" for line in said)
    files.write_text(path, head + yaml.safe_dump(parameters, sort_keys=False))
    return path
