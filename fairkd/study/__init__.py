"""Many runs as one study: the grid of students and seeds, the choice of an epoch, what a posterior does to a margin.

Here finished runs are read and set side by side; what trains one is below. No figures are drawn here.
"""

from fairkd import provenance
from fairkd.evaluation import SELECTIONS
from fairkd.study.circumstances import circumstances, differing
from fairkd.study.early import EarlyStudy, early_seconds, held_out, margin_ranks
from fairkd.study.frontier import SHARPNESS, frontier
from fairkd.study.grid import Study, comparison, pivot, run_grid
from fairkd.study.posterior import posterior_agreement, posterior_tables, temperature_sweep
from fairkd.study.selection import predictions_at, selection_report
from fairkd.study.settings import frontier_choices, frontier_points, laplace_differences
from fairkd.study.words import findings, in_words

__all__ = [
    "SELECTIONS",
    "SHARPNESS",
    "EarlyStudy",
    "Study",
    "circumstances",
    "comparison",
    "differing",
    "early_seconds",
    "findings",
    "frontier",
    "frontier_choices",
    "frontier_points",
    "held_out",
    "in_words",
    "laplace_differences",
    "margin_ranks",
    "pivot",
    "posterior_agreement",
    "posterior_tables",
    "predictions_at",
    "run_grid",
    "selection_report",
    "temperature_sweep",
]

provenance.remember(__name__)
