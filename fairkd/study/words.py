"""What a comparison says, in sentences."""

import itertools

import numpy as np
import pandas as pd

from fairkd.figures import Words


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
        those = told[(told["row"] == row) & (told["baseline"] == baseline)]
        if those.empty:
            continue
        apart = (those["low"] > 0) | (those["high"] < 0)
        text = those["student"] + those.apply(lambda d: " {value:+.3f} [{low:+.3f}, {high:+.3f}]".format(**d), axis=1)
        parts = {"told apart": text[apart], "not told apart": text[~apart]}
        said = "; ".join(f"{name}: {', '.join(which)}" for name, which in parts.items() if len(which))
        items.append(f"- **{row}**, against `{baseline}`. {said[0].upper()}{said[1:]}.")
    return Words("\n".join(items) or "Nothing to compare with.")
