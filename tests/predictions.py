"""Made-up predictions tables, for tests of what is computed from them."""

import numpy as np
import pandas as pd

GROUPS = ["a, no", "a, yes", "b, no", "b, yes"]


def table(rng, quality, n=400):
    """Predictions of two classes in four groups, right with the group's probability."""
    group = np.arange(n) % 4
    label = group // 2
    right = rng.random(n) < np.array(quality)[group]
    top = rng.uniform(0.5, 1, n)
    one = np.where((label == 1) == right, top, 1 - top)
    return pd.DataFrame(
        {
            "id": [f"e{i}" for i in range(n)],
            "label": label,
            "negation": group % 2 == 1,
            "group": pd.Categorical([GROUPS[g] for g in group], categories=GROUPS),
            "importance": 1.0,
            "student_prob_0": 1 - one,
            "student_prob_1": one,
        }
    )
