"""The figure of a frontier: average against worst group as the weights of a refit sharpen."""

import pandas as pd

from fairkd.figures.drawing import Figure, Words, canvas, n_lines, name_ends, require, styles


def frontier(points: pd.DataFrame, marks: pd.DataFrame, row: str = "worst_of_means") -> Figure:
    """A line for each refit through its settings up to its highest worst group, and a star for each student beside.

    Args:
        points: columns student, parameter, setting, row, value, as `study.frontier_points` has it.
        marks: columns student, row, value, as `evaluation.compare` has it: students that are trained with weights, or
            refitted with none that sharpen.
        row: what is drawn upwards; "average" is drawn across.
    """
    require(points, "the points", ["student", "parameter", "setting", "row", "value"])
    require(marks, "the marks", ["student", "row", "value"])
    names, shared = short_names(list(points["student"].unique()))
    beside = list(marks["student"].unique())
    names = {student: f"{name} (refit)" if name in beside else name for student, name in names.items()}
    lines = sum(map(n_lines, [*names.values(), *beside]))
    drawing, axes = canvas(1, 1, height=max(5.0, 1.2 + 0.2 * lines))
    ax, said, best, reached, flat = axes.flat[0], [], {}, {}, set()
    looks, ends = {names[student]: look for student, look in styles(list(names)).items()}, {}
    for student, part in points.groupby(points["student"].map(names), sort=False):
        wide, parameter = part.pivot_table(index="setting", columns="row", values="value"), part["parameter"].iloc[0]
        top = wide[row].idxmax()
        kept = wide.loc[:top]  # sharper weights lose both
        ax.plot(kept["average"], kept[row], markersize=5, linewidth=1.2, label=student, **looks[student])
        best[student], ends[student] = wide.loc[top], (wide["average"][top], wide[row][top])
        reached[student] = f"{parameter} {top:g}"
        flat |= {student} if top == wide.index[0] else set()
        said.append(
            f"{student} from {wide[row].iloc[0]:.3f} at average {wide['average'].iloc[0]:.3f} to {wide[row][top]:.3f} "
            f"at {wide['average'][top]:.3f} ({reached[student]})"
        )
    for student, part in marks.groupby("student", sort=False):
        at = part.set_index("row")["value"]
        ax.plot(at["average"], at[row], marker="*", markersize=13, color="black", linestyle="none")
        looks[student], ends[student] = {"color": "black"}, (at["average"], at[row])
        said.append(f"{student} {at[row]:.3f} at {at['average']:.3f}")
    ax.set(xlabel="average accuracy", ylabel="accuracy of the worst group")
    name_ends(ax, ends, looks)
    highest = max(best, key=lambda student: best[student][row])
    caption = Words(
        f"Of the lines, which are refits, the highest worst group is {best[highest][row]:.3f}, of {highest} at "
        f"{reached[highest]}, at an average of {best[highest]['average']:.3f}"
        + (", where the line begins: what comes after it gives no more. " if highest in flat else ". ")
        + "Stars are the students of the table."
        + (f" All lines: {', '.join(shared)}." if shared else "")
    )
    table = pd.concat([points, marks])
    table = table.loc[table["row"].isin(["average", row]), ["student", "parameter", "setting", "row", "value"]]
    return Figure(drawing, "Frontier of a refit", caption, f"Worst group as weights sharpen: {'; '.join(said)}.", table)


def short_names(students: list[str]) -> tuple[dict[str, str], list[str]]:
    """{student: its name without the settings that all share}, and these settings; one alone keeps its own."""
    stated = {student: student.split(",") for student in students}
    shared = [part for part in stated[students[0]][1:] if all(part in parts[1:] for parts in stated.values())]
    shared = shared if len(students) > 1 else []
    return {s: ",".join(part for part in parts if part not in shared) for s, parts in stated.items()}, shared
