"""The figures say what the frames say, also to a reader who sees no picture or no colour."""

import ast
import base64
import html
import io
import itertools
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Annotation, Text

from fairkd import figures
from fairkd.evaluation import tables
from fairkd.figures import drawing, early, margins, run, study

LABELS = ["entailment", "neutral", "contradiction"]
GROUPS = [f"{label}, {negation}" for label in LABELS for negation in ("no negation", "negation")]
LAYERS = 6
LOST = "entailment, negation"


@pytest.fixture(scope="module")
def predictions():
    """300 examples; every model is hardly ever right about negated entailments, now and then about negated neutrals."""
    rng = np.random.default_rng(0)
    label, negation = np.tile([0, 1, 2], 100), np.repeat([False, True], 150)
    frame = pd.DataFrame({"id": np.arange(300).astype(str), "label": label, "negation": negation})
    frame["group"] = [f"{LABELS[y]}, {'' if n else 'no '}negation" for y, n in zip(label, negation, strict=True)]
    frame["importance"] = np.where(negation, 0.2, 1.8) * rng.uniform(0.9, 1.1, 300)
    names = ["teacher", "student", *(f"exit{la}{tail}" for la in range(1, 7) for tail in ("", "_laplace"))]
    for name in names:
        logits = rng.normal(size=(300, 3))
        logits[np.arange(300), label] += frame["group"].map({LOST: -2, "neutral, negation": -0.1}).fillna(1.5)
        probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        frame[[f"{name}_prob_{c}" for c in range(3)]] = probs
        frame[f"{name}_margin"] = np.diff(np.sort(probs)[:, 1:])[:, 0]
    return frame


@pytest.fixture(scope="module")
def history():
    rows = itertools.product(("teacher", "student"), (1.0, 2.0, 3.0), ["loss", "average", *GROUPS])
    frame = pd.DataFrame(rows, columns=["role", "epoch", "metric"])
    return frame.assign(value=np.linspace(0.2, 0.9, len(frame)))


@pytest.fixture(scope="module")
def weights(predictions):
    epochs = [predictions[["id", "label", "negation", "group"]].assign(epoch=epoch) for epoch in (1, 2, 3)]
    frame = pd.concat(epochs, ignore_index=True)
    right = frame["group"] != "entailment, negation"
    return frame.assign(weight=np.where(right, 1.0, 4.0 + frame["epoch"] + 0.01 * frame["label"]))


@pytest.fixture(scope="module")
def accuracies():
    rows = itertools.product(("kd", "dedier@3", "laplace@3"), ["average", *GROUPS])
    frame = pd.DataFrame(rows, columns=["student", "row"])
    return frame.assign(value=np.linspace(0.3, 0.9, 21)).eval("low = value - 0.05\nhigh = value + 0.04")


@pytest.fixture(scope="module")
def drawn(predictions, history, weights, accuracies):
    """Every figure, by the name of its function."""
    return {
        "median_margins": figures.median_margins(predictions, LOST),
        "target_margins": figures.target_margins({"kd": predictions, "laplace@3": predictions[::2]}, LOST, [3]),
        "wrong_margins": figures.wrong_margins(predictions),
        "accuracy_by_layer": figures.accuracy_by_layer({"kd": predictions, "laplace@3": predictions[::2]}, LOST),
        "training_curves": figures.training_curves(history, GROUPS, LOST),
        "weights_over_epochs": figures.weights_over_epochs(weights, GROUPS, LOST),
        "reliability": figures.reliability(predictions),
        "group_accuracies": figures.group_accuracies(accuracies),
    }


def legend_labels(figure):
    legends = [*figure.drawing.legends, *(ax.get_legend() for ax in figure.drawing.axes if ax.get_legend())]
    return [text.get_text() for legend in legends for text in legend.get_texts()]


def right(predictions, model):
    return predictions[[f"{model}_prob_{c}" for c in range(3)]].to_numpy().argmax(1) == predictions["label"]


def named(figure):
    """{series: (where its name stands, its end)} of the names at the ends of lines, in the lines of the last axes."""
    found = [text for text in figure.drawing.axes[-1].texts if isinstance(text, Annotation)]
    return {text.get_text().replace(",\n", ", "): (text.xyann[1], text.xy[1]) for text in found}


def test_every_public_function_is_offered_and_drawn(drawn):
    of_margins, of_run, of_study, of_early = (
        {name for name, f in vars(module).items() if getattr(f, "__module__", "") == module.__name__ and name[0] != "_"}
        for module in (margins, run, study, early)
    )
    assert sorted(drawn) == sorted(of_margins | of_run)
    assert set(figures.__all__) == of_margins | of_run | of_study | of_early | {"Figure", "Words", "frontier", "tuning"}


def test_shown_in_a_notebook_a_figure_is_an_image_with_an_alt_text_and_a_caption(drawn):
    for figure in drawn.values():
        data, metadata = figure._repr_mimebundle_()
        assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
        assert data["text/plain"] == f"Figure: {figure.title}"
        assert metadata["image/png"]["alt"].startswith(figure.title)
        assert "nan" not in figure.alt + figure.caption and len(figure.alt) > 60
        assert metadata["image/png"]["caption"] == figure.caption == figure.caption._repr_markdown_()
        assert re.search(r"\d", figure.caption) and figure.caption.endswith(".")


def test_a_figure_carries_its_vector_drawing_and_its_table(drawn, predictions):
    for name, figure in drawn.items():
        metadata = figure._repr_mimebundle_()[1]["image/png"]
        assert "<svg" in metadata["svg"] and "</text>" in metadata["svg"], name
        table = pd.read_csv(io.StringIO(metadata["csv"]))
        assert len(table) and not table.columns.str.contains("level|Unnamed|index").any(), name
        assert len(table) == len(figure.table) and list(table) == list(figure.table), name
    counts = drawn["target_margins"].table.query("student == 'kd' and layer == 3 and posterior == 'MAP'")
    assert dict(counts.groupby("group")["rows"].sum()) == {"all": 300, LOST: (predictions["group"] == LOST).sum()}
    medians = drawn["median_margins"].table.query("posterior == 'Laplace' and layer == 2").set_index("group")
    expected = predictions.groupby("group")["exit2_laplace_margin"].median()
    assert medians["median_margin"].to_dict() == pytest.approx(expected.to_dict())
    last = drawn["weights_over_epochs"].table.query("epoch == 3").set_index("group")
    assert last["mean_weight"][LOST] == pytest.approx(7.0) and last["share"].sum() == pytest.approx(1)


def test_names_of_the_data_are_neither_tags_nor_formulas_nor_images_in_words():
    words = drawing.Words("- **<b>, $x$** in `kd` ![a](https://example.org/a.png) [0.1, 0.2]")
    shown = words._repr_markdown_()
    assert not re.search(r"<|\$|\]\(", shown) and "**" in shown and "`kd`" in shown
    assert html.unescape(shown) == words


def test_letters_are_read_on_a_phone(drawn):
    """The smallest are 10 points on a drawing of 6 inches: 8 pixels of the 350 that a phone has."""
    for figure in drawn.values():
        assert figure.drawing.get_figwidth() == 6
        texts = [text for text in figure.drawing.findobj(Text) if text.get_text().strip() and text.get_visible()]
        assert min(text.get_fontsize() for text in texts) >= 10


def test_the_same_data_give_the_same_bytes(predictions):
    first, second = (figures.wrong_margins(predictions).png() for _ in range(2))
    assert first == second and b"Matplotlib" not in first
    first, second = (figures.wrong_margins(predictions).svg() for _ in range(2))
    assert first == second


def test_median_margins_have_a_line_for_each_group_filled_where_most_of_it_is_wrong(drawn, predictions):
    group = predictions["group"]
    for ax, model in zip(drawn["median_margins"].drawing.axes, ("exit{}", "exit{}_laplace"), strict=True):
        lines, filled = ax.lines[::2], ax.lines[1::2]
        assert len(lines) == len(GROUPS)
        for name, line, dots in zip([LOST, *sorted(set(GROUPS) - {LOST})], lines, filled, strict=True):
            rows = predictions[group == name]
            medians = [rows[f"{model.format(layer)}_margin"].median() for layer in range(1, LAYERS + 1)]
            assert list(line.get_ydata()) == pytest.approx(medians)
            assert line.get_markerfacecolor() == "white" and dots.get_markerfacecolor() != "white"
            wrong = [la for la in range(1, LAYERS + 1) if right(rows, model.format(la)).mean() < 0.5]
            assert list(dots.get_xdata()) == wrong
    assert len(drawn["median_margins"].drawing.axes[0].lines[1].get_xdata()) == LAYERS  # the lost group, always
    caption = drawn["median_margins"].caption
    layer = int(re.search(r"The exit at layer (\d)", caption)[1])
    rows = predictions[group == LOST]
    assert f"is wrong about {(~right(rows, f'exit{layer}')).sum()} of the 50 of {LOST}" in caption
    assert f"a median margin of {rows[f'exit{layer}_margin'].median():.2f}" in caption
    moved = [(rows[f"exit{n}_laplace_margin"].median() - rows[f"exit{n}_margin"].median()) for n in range(1, 7)]
    assert f"moves that group most at layer {1 + int(np.argmax(np.abs(moved)))}," in caption


def test_a_group_that_no_exit_gets_wrong_is_said_so(predictions):
    caption = figures.median_margins(predictions, "contradiction, negation").caption
    assert "No exit is wrong about most of contradiction, negation." in caption


def test_names_stand_apart_in_the_order_of_their_lines(drawn):
    names = named(drawn["median_margins"])
    assert list(names) == sorted(names, key=lambda name: names[name][1]) and set(names) == set(GROUPS)
    places = [place for place, _ in names.values()]
    line = 0.19 / (drawn["median_margins"].drawing.get_figheight() - 1) * 1.06
    assert min(np.diff(places)) > 1.99 * line  # each name has two lines
    assert set(named(drawn["accuracy_by_layer"])) == {"kd", "laplace@3"}


def test_histograms_count_the_rows_of_one_group_in_panels_of_one_scale(drawn, predictions):
    axes = drawn["target_margins"].drawing.axes
    assert [ax.get_title() for ax in axes] == ["kd, exit 3", "laplace@3, exit 3", "kd, exit 6", "laplace@3, exit 6"]
    shared = [axes[0].get_shared_x_axes(), axes[0].get_shared_y_axes()]
    assert all(group.joined(axes[0], ax) for group in shared for ax in axes)
    assert legend_labels(drawn["target_margins"]) == ["all, MAP", f"{LOST}, MAP", "the same, Laplace"]
    everything, group, laplace = axes[2].patches
    bins = np.linspace(0, 1, 21)
    of_group = predictions[predictions["group"] == LOST]
    expected = [predictions["exit6_margin"], of_group["exit6_margin"], of_group["exit6_laplace_margin"]]
    for patch, values in zip((everything, group, laplace), expected, strict=True):
        heights = patch.get_xy()[1::2, 1] if patch is laplace else patch.get_xy()[1:40:2, 1]
        assert list(heights[:20]) == list(np.histogram(values, bins)[0])
    wrong = (~right(of_group, "exit6")).sum()
    assert f"exit 6 of kd wrong about {wrong} of 50, median margin {expected[1].median():.2f}" in (
        drawn["target_margins"].caption
    )


def test_fewer_than_30_rows_are_drawn_as_points(drawn, predictions):
    """Every second row of kd's are 25 of the group."""
    ax = drawn["target_margins"].drawing.axes[1]
    assert len(ax.patches) == 1
    rows = predictions[::2]
    points, laplace = ax.lines
    assert sorted(points.get_xdata()) == sorted(rows.loc[rows["group"] == LOST, "exit3_margin"])
    assert len(laplace.get_xdata()) == 25


def test_wrong_margins_counts_the_wrong_ones(drawn, predictions):
    wrong = predictions[~right(predictions, "teacher")]
    panel = drawn["wrong_margins"].drawing.axes[1]
    assert panel.get_title() == f"Where the teacher is wrong\n({len(wrong)} rows)"
    assert legend_labels(drawn["wrong_margins"]) == ["student", "teacher"]
    assert f"The teacher is wrong about {len(wrong)} of 300 rows: student's median" in drawn["wrong_margins"].caption
    assert f"teacher's median margin {wrong['teacher_margin'].median():.2f}." in drawn["wrong_margins"].caption


def test_a_model_that_is_never_wrong_leaves_its_panel_empty(predictions):
    perfect = predictions.copy()
    perfect[[f"teacher_prob_{c}" for c in range(3)]] = np.eye(3)[perfect["label"]]
    figure = figures.wrong_margins(perfect)
    assert "(0 rows)" in figure.drawing.axes[1].get_title()
    assert "The teacher is wrong about 0 of 300 rows." in figure.caption
    assert figure.png()


def test_accuracy_by_layer_sets_exits_against_the_head(drawn, predictions):
    target, worst = drawn["accuracy_by_layer"].drawing.axes
    models = [*(f"exit{layer}" for layer in range(1, LAYERS + 1)), "student"]
    by_group = [right(predictions, model).groupby(predictions["group"]).mean() for model in models]
    assert list(target.lines[0].get_ydata()) == pytest.approx([accuracy[LOST] for accuracy in by_group])
    assert list(worst.lines[0].get_ydata()) == pytest.approx([accuracy.min() for accuracy in by_group])
    assert [text.get_text() for text in target.get_xticklabels()] == ["1", "2", "3", "4", "5", "6", "head"]
    best = max(accuracy[LOST] for accuracy in by_group[:-1])
    assert f"of kd {best:.2f}, its own head {by_group[-1][LOST]:.2f}" in drawn["accuracy_by_layer"].caption


def test_training_curves_follow_the_history(drawn, history):
    axes = drawn["training_curves"].drawing.axes
    assert [ax.get_title() for ax in axes] == ["teacher", "student"]
    for ax in axes:
        rows = history[history["role"] == ax.get_title()]
        for line in ax.lines:
            assert list(line.get_ydata()) == list(rows[rows["metric"] == line.get_label()]["value"])
    assert set(named(drawn["training_curves"])) == set(GROUPS)
    last = history[history["role"] == "student"].set_index("metric")["value"][GROUPS].groupby("metric").last()
    assert f"student: lowest in {last.idxmin()}, {last.min():.2f}" in drawn["training_curves"].caption
    looks = [(line.get_marker(), line.get_linestyle(), line.get_color()) for line in axes[0].lines[:-1]]
    assert len({m for m, _, _ in looks}) == len({c for _, _, c in looks}) == len(GROUPS)
    assert axes[0].lines[GROUPS.index(LOST)].get_linewidth() == 3


def test_weights_are_means_and_shares_of_the_total(drawn, weights):
    means, shares = drawn["weights_over_epochs"].drawing.axes
    line = {line.get_label(): list(line.get_ydata()) for line in means.lines}
    assert line[LOST] == [pytest.approx(4 + epoch) for epoch in (1, 2, 3)]
    assert [1, 1] in line.values()  # what an instance weighs that is not lifted
    last = weights[weights["epoch"] == 3].groupby("group")["weight"].sum()
    ends = {line.get_label(): line.get_ydata()[-1] for line in shares.lines}
    assert ends == pytest.approx((last / last.sum()).to_dict())
    said = drawn["weights_over_epochs"].caption
    assert said == (
        f"After epoch 3 an instance of {LOST} weighs most, 7.00 on average; 58% of all weight sits in {LOST}."
    )
    assert f"{ends[LOST]:.0%} of all weight sits in {LOST}" in drawn["weights_over_epochs"].caption


def test_reliability_has_a_panel_for_each_layer_and_points_from_the_data(drawn, predictions):
    axes = drawn["reliability"].drawing.axes
    assert [ax.get_title() for ax in axes] == [f"exit {layer}" for layer in range(1, 7)]
    probs = predictions[[f"exit1_prob_{c}" for c in range(3)]].to_numpy()
    top = probs.max(axis=1) >= 0.9
    right = (probs.argmax(1) == predictions["label"])[top]
    points = axes[0].collections[0].get_offsets()[-1]
    sizes = axes[0].collections[0].get_sizes()
    assert sizes[-1] == pytest.approx(top.sum() / 300 * 150 + 6)
    weight = predictions["importance"][top]
    assert list(points) == pytest.approx(
        [np.average(probs.max(1)[top], weights=weight), np.average(right, weights=weight)]
    )


def test_group_accuracies_has_a_marker_for_each_value(drawn, accuracies):
    ax = drawn["group_accuracies"].drawing.axes[0]
    assert [text.get_text().replace("\n", " ") for text in ax.get_yticklabels()] == ["average", *GROUPS]
    lowest = accuracies[accuracies["student"] == "laplace@3"].iloc[1]
    assert f"Accuracy in {lowest['row']}: kd 0." in drawn["group_accuracies"].caption
    assert legend_labels(drawn["group_accuracies"]) == ["kd", "dedier@3", "laplace@3"]
    dots = ax.containers[1]
    assert list(dots[0].get_xdata()) == list(accuracies[accuracies["student"] == "dedier@3"]["value"])
    segment = dots[2][0].get_segments()[0]
    assert segment[:, 0] == pytest.approx(accuracies.loc[7, ["low", "high"]].to_list())


def test_a_row_that_is_absent_is_left_out(accuracies):
    absent = accuracies.copy()
    absent.loc[absent["row"] == "neutral, negation", ["value", "low", "high"]] = np.nan
    figure = figures.group_accuracies(absent)
    assert "nan" not in figure.alt and "neutral, negation" not in figure.alt
    assert figure.png()


@pytest.mark.parametrize("name", ["wrong_margins", "reliability", "group_accuracies"])
def test_a_frame_that_lacks_columns_is_named(name, predictions):
    with pytest.raises(ValueError, match="lacks the columns .*; it has: id, label"):
        getattr(figures, name)(predictions[["id", "label"]])


def test_an_exit_that_is_not_there_is_named(predictions):
    with pytest.raises(ValueError, match="exit9"):
        figures.target_margins({"kd": predictions}, LOST, [9])


def test_a_group_that_never_occurs_is_left_out(history, weights):
    for figure in (
        figures.training_curves(history, [*GROUPS, "x"]),
        figures.weights_over_epochs(weights, [*GROUPS, "x"]),
    ):
        assert set(named(figure)) == set(GROUPS)


@pytest.mark.parametrize("module", [margins, run, study, drawing, tables])
def test_figures_see_frames_only(module):
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    plain = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    named = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    allowed = {
        "base64",
        "dataclasses",
        "fairkd.figures.drawing",
        "fairkd.evaluation.tables",
        "io",
        "matplotlib",
        "numpy",
        "pandas",
        "re",
        "scipy",
        "seaborn",
    }
    assert {n if n.startswith("fairkd") else n.partition(".")[0] for n in plain + named} <= allowed
