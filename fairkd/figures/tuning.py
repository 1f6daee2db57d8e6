"""Figure of a tuning: what was sought over the trials, and which parameter mattered."""

import pandas as pd
from matplotlib.ticker import MaxNLocator

from fairkd.figures.drawing import Figure, Words, canvas, legend, require, styles


def tuning(trials: pd.DataFrame, importances: pd.DataFrame, objective: str) -> Figure:
    """The objective of every trial with the best so far, and the share of each parameter in its variance.

    Args:
        trials: columns student, trial, state (complete or pruned), value, best.
        importances: columns student, parameter, importance.
        objective: what the values are.
    """
    require(trials, "the trials", ["student", "trial", "state", "value", "best"])
    require(importances, "the importances", ["student", "parameter", "importance"])
    students, parameters = list(trials["student"].unique()), list(importances["parameter"].unique())
    looks = styles(students)
    drawing, axes = canvas(2, 1, height=5.0 + 0.3 * len(parameters))
    above, below = axes.flat
    said, alt = [], []
    for student, part in trials.groupby("student", sort=False):
        look, pruned = looks[student], part[part["state"] == "pruned"]
        above.plot(
            part["trial"], part["best"], color=look["color"], linestyle=look["linestyle"], drawstyle="steps-post"
        )
        complete = part[part["state"] == "complete"]
        above.plot(complete["trial"], complete["value"], label=student, **look | {"linestyle": "none"})
        above.plot(pruned["trial"], pruned["value"], marker="x", color=look["color"], linestyle="none")
        at = complete.loc[complete["value"].idxmax()]
        before, after = part["value"].iloc[0], f"{at['value']:.3f} at trial {at['trial']}"
        if pd.isna(before):
            better = f"{after}; the first was pruned"
        elif round(at["value"], 3) > round(before, 3):
            better = f"from {before:.3f} to {after}"
        else:
            better = f"{before:.3f}, no trial does better than the first"
        said.append(f"{student} {better}")
        alt.append(f"{student}: " + ", ".join(f"{v:.3f}" for v in part["value"]) + f"; {len(pruned)} pruned")
    height = 0.8 / len(students)
    for i, (student, part) in enumerate(importances.groupby("student", sort=False)):
        shares = part.set_index("parameter")["importance"]
        places = [parameters.index(name) + (i - (len(students) - 1) / 2) * height for name in shares.index]
        below.barh(places, shares.fillna(0), height=height, color=looks[student]["color"])
        if shares.notna().any():
            said.append(f"of {student} {shares.idxmax()} mattered most ({shares.max():.2f} of the variance)")
        alt.append(f"{student}: " + ", ".join(f"{name} {share:.2f}" for name, share in shares.dropna().items()))
    above.set(xlabel="trial", ylabel=objective)
    above.xaxis.set_major_locator(MaxNLocator(integer=True))
    below.set(xlabel="share of the variance over the space", xlim=(0, 1), yticks=range(len(parameters)))
    below.set_yticklabels(parameters)
    below.invert_yaxis()
    legend(drawing, above, columns=1)
    drawn = pd.concat([trials, importances], ignore_index=True)
    caption = Words(f"{objective[0].upper()}{objective[1:]}: {'; '.join(said)}.")
    return Figure(drawing, "What the search found", caption, f"{'; '.join(alt)}.", drawn)
