"""The figure of a frontier: average against worst group as the weights of a refit sharpen."""

import pandas as pd

from fairkd.figures.drawing import Figure, canvas, require, styles


def frontier(points: pd.DataFrame, marks: pd.DataFrame, row: str = "worst_of_means") -> Figure:
    """A line for each student through its betas, and a mark for each student that has none.

    Args:
        points: columns student, beta, row, value, as `study.frontier_points` has it.
        marks: columns student, row, value, as `evaluation.compare` has it; drawn as points with their names.
        row: what is drawn upwards; "average" is drawn across.
    """
    require(points, "the points", ["student", "beta", "row", "value"])
    require(marks, "the marks", ["student", "row", "value"])
    drawing, axes = canvas(1, 1, height=5.2)
    ax, said = axes.flat[0], []
    for (student, part), style in zip(
        points.groupby("student", sort=False), styles(list(points["student"].unique())).values(), strict=True
    ):
        wide = part.pivot_table(index="beta", columns="row", values="value")
        ax.plot(wide["average"], wide[row], markersize=5, linewidth=1.2, label=student, **style)
        top = wide[row].idxmax()
        said.append(
            f"{student} from {wide[row].iloc[0]:.3f} at average {wide['average'].iloc[0]:.3f} to {wide[row][top]:.3f} "
            f"at {wide['average'][top]:.3f} (beta {top:g})"
        )
    for student, part in marks.groupby("student", sort=False):
        at = part.set_index("row")["value"]
        ax.plot(at["average"], at[row], marker="*", markersize=13, color="black", linestyle="none")
        ax.annotate(student, (at["average"], at[row]), xytext=(6, 6), textcoords="offset points")
        said.append(f"{student} {at[row]:.3f} at {at['average']:.3f}")
    ax.set(xlabel="average accuracy", ylabel="accuracy of the worst group")
    drawing.legend(*ax.get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=2)
    return Figure(drawing, "Frontier of a refit", f"Worst group as beta grows: {'; '.join(said)}.")
