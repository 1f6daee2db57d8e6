"""What the settings of `frontier` are worth: each, those that validation rows choose, and Laplace against MAP."""

from collections.abc import Mapping

import pandas as pd

from fairkd.evaluation import SELECTIONS, chosen, compare, evaluated_at
from fairkd.evaluation.selection import BY_EXIT
from fairkd.experiment import Experiment

Seeds = Mapping[int, pd.DataFrame]
Swept = Mapping[str, Seeds]  # {student: {seed: predictions}}, as `frontier` gives it


def frontier_points(experiment: Experiment, found: Swept) -> pd.DataFrame:
    """Every student at every setting, over the seeds: student, parameter, setting, row, value, low, high."""
    parts = []
    for spec, of_seed in found.items():
        tables = {str(setting): _at(of_seed, setting) for setting in _settings(of_seed)}
        report = compare(tables, [], n_boot=0).report
        report = report.rename(columns={"student": "setting"}).assign(
            student=experiment.title(spec), parameter=_parameter(of_seed)
        )
        parts.append(report.assign(setting=report["setting"].astype(float)))
    return pd.concat(parts, ignore_index=True)


def frontier_choices(experiment: Experiment, found: Swept) -> pd.DataFrame:
    """Every student at the setting that each rule keeps of a seed; `BY_EXIT` only of those that have an exit.

    Returns:
        Columns student, selection, parameter, settings (of the seeds in their order), row, value, low, high.
    """
    parts = []
    for rule in [*(rule for rule in SELECTIONS if rule != "last epoch"), BY_EXIT]:
        tables, settings, parameters = {}, {}, {}
        for spec, of_seed in found.items():
            if rule == BY_EXIT and "exit_right" not in _first(of_seed):
                continue
            student = experiment.title(spec)
            kept = {seed: chosen(table, rule, "setting") for seed, table in of_seed.items()}
            tables[student] = {seed: evaluated_at(of_seed[seed], "setting", at) for seed, at in kept.items()}
            settings[student] = " ".join(f"{at:g}" for at in kept.values())
            parameters[student] = _parameter(of_seed)
        if tables:
            report = compare(tables, [], n_boot=0).report
            told = {"parameter": report["student"].map(parameters), "settings": report["student"].map(settings)}
            parts.append(report.assign(selection=rule, **told))
    return pd.concat(parts, ignore_index=True)


def laplace_differences(experiment: Experiment, found: Swept) -> pd.DataFrame:
    """Each `laplace` student minus the `dedier` that is the same but for Laplace, at the same setting, paired.

    Returns:
        Columns student, setting, row, value, low, high: as of `evaluation.compare`; empty without such a pair.
    """
    parts = []
    for spec in [spec for spec in found if spec.startswith("laplace")]:
        twin = found.get(spec.replace("laplace", "dedier", 1))
        for setting in _settings(found[spec]) if twin else ():
            tables = {"dedier": _at(twin, setting), experiment.title(spec): _at(found[spec], setting)}
            apart = compare(tables, ["dedier"], n_boot=0).differences
            parts.append(apart.assign(setting=setting))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({"student": [], "setting": [], "row": []})


def _at(of_seed: Seeds, setting: float) -> dict[int, pd.DataFrame]:
    """The evaluation rows of every seed at one setting."""
    return {seed: evaluated_at(table, "setting", setting) for seed, table in of_seed.items()}


def _first(of_seed: Seeds) -> pd.DataFrame:
    return next(iter(of_seed.values()))


def _settings(of_seed: Seeds) -> list[float]:
    return _first(of_seed)["setting"].unique().tolist()


def _parameter(of_seed: Seeds) -> str:
    return _first(of_seed)["parameter"].iloc[0]
