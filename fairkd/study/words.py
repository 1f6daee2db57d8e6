"""What a comparison says, in sentences."""

import itertools

import numpy as np
import pandas as pd

from fairkd.evaluation import Comparison, readable
from fairkd.figures import Words


def findings(compared: Comparison, lost: str, plain: str) -> Words:
    """A comparison in four sentences: the group that plain distillation loses, what others give it, at what price.

    The last says what the Laplace approximation does: a `laplace` student against the `dedier` that is the same but for
    it, where both are there.

    Args:
        compared: with "teacher" in its report, as `comparison` has it.
        lost: the group, see `lost_group`.
        plain: the student that it is lost by, as a rule "kd".
    """
    report, differences = compared.report.set_index(["student", "row"]), compared.differences
    told = readable(report)
    loses, so_teacher = (report["high"][who, lost] < report["low"][who, "average"] for who in (plain, "teacher"))
    said = f"**loses {lost}**" if loses else f"**is not told apart from its average in {lost}**"
    items = [
        f"- `{plain}` {said}: {told[plain, lost]}, on average {told[plain, 'average']}; its teacher "
        f"{'does so too: it ' if loses and so_teacher else ''}has {told['teacher', lost]} and "
        f"{told['teacher', 'average']}."
    ]
    of_plain = differences[differences["baseline"] == plain]
    for row, where in ((lost, "in that group"), ("average", "on average")):
        if said := _apart(of_plain[of_plain["row"] == row]):
            items.append(f"- **Against `{plain}` {where}**: {said}.")
    same = differences["baseline"] == differences["student"].str.replace("laplace", "dedier", n=1)
    pairs = differences[same & differences["student"].str.startswith("laplace")]
    for (student, baseline), pair in pairs.groupby(["student", "baseline"], sort=False):
        rows = pair.set_index("row")
        items.append(
            f"- **What Laplace adds**, `{student}` minus `{baseline}`: in that group {_difference(rows.loc[lost])}, on "
            f"average {_difference(rows.loc['average'])}."
        )
    return Words("\n".join(items))


def in_words(differences: pd.DataFrame, rows: list[str]) -> Words:
    """Which students are told apart from their baselines: an item for each row and baseline.

    Args:
        differences: columns student, baseline, row, value, low, high, as `evaluation.compare` has it.
        rows: of the differences, such as the group that plain distillation loses and "average".
    """
    place = [*differences["student"], *differences["baseline"]].index
    pairs = list(zip(differences["student"], differences["baseline"], strict=True))
    # Of two differences that are one the other's negative, the one to the student that is named first.
    told = differences[np.array([(b, s) not in pairs or place(b) < place(s) for s, b in pairs], dtype=bool)]
    items = []
    for row, baseline in itertools.product(rows, sorted(set(told["baseline"]), key=place)):
        if said := _apart(told[(told["row"] == row) & (told["baseline"] == baseline)]):
            items.append(f"- **{row}**, against `{baseline}`: {said}.")
    return Words("\n".join(items) or "Nothing to compare with.")


def _apart(differences: pd.DataFrame) -> str:
    """Who has more than the baseline, who less, and who is not told apart from it; "" for none."""
    parts = {
        "more": differences[differences["low"] > 0],
        "less": differences[differences["high"] < 0],
        "not told apart": differences[(differences["low"] <= 0) & (differences["high"] >= 0)],
    }
    listed = {
        name: ", ".join(f"{d['student']} {_interval(d)}" for _, d in part.iterrows()) for name, part in parts.items()
    }
    return "; ".join(f"{name}: {those}" for name, those in listed.items() if those)


def _interval(difference: pd.Series) -> str:
    return "{value:+z.3f} [{low:+.3f}, {high:+.3f}]".format(**difference)  # a bound has the side of 0 it is on


def _difference(difference: pd.Series) -> str:
    apart = difference["low"] > 0 or difference["high"] < 0
    return f"{_interval(difference)}{'' if apart else ' (not told apart)'}"
