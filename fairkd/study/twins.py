"""What the Laplace approximation changes in a refit, at every setting of its weights."""

from collections.abc import Mapping

import pandas as pd

from fairkd.evaluation import compare
from fairkd.study.selection import evaluated_at


def laplace_differences(found: Mapping[str, Mapping[int, pd.DataFrame]], attribute: str) -> pd.DataFrame:
    """Each `laplace` student minus the `dedier` that is the same but for Laplace, at the same setting, paired.

    Args:
        found: as `frontier` gives it.
        attribute: the column whose levels make the groups.

    Returns:
        Columns student, setting, row, value, low, high: as of `evaluation.compare`; empty without such a pair.
    """
    parts = []
    for spec, of_seed in found.items():
        twin = found.get(spec.replace("laplace", "dedier", 1)) if spec.startswith("laplace") else None
        for setting in next(iter(of_seed.values()))["setting"].unique() if twin else ():
            tables = {
                name: {seed: evaluated_at(table, "setting", setting) for seed, table in each.items()}
                for name, each in {"dedier": twin, spec: of_seed}.items()
            }
            apart = compare(tables, ["dedier"], attribute=attribute, n_boot=0).differences
            parts.append(apart.assign(setting=setting))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({"student": [], "setting": [], "row": []})
