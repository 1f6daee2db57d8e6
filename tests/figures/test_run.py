"""The figures say what the frames say, also to a reader who sees no picture or no colour."""

import ast
import base64
import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fairkd import figures
from fairkd.evaluation import tables
from fairkd.figures import drawing, run, study

LABELS = ["entailment", "neutral", "contradiction"]
GROUPS = [f"{label}, {negation}" for label in LABELS for negation in ("no negation", "negation")]
LAYERS = 6


@pytest.fixture(scope="module")
def predictions():
    """300 examples; every model is right in two thirds of them, the negated entailments hardly ever."""
    rng = np.random.default_rng(0)
    label, negation = np.tile([0, 1, 2], 100), np.repeat([False, True], 150)
    frame = pd.DataFrame({"id": np.arange(300).astype(str), "label": label, "negation": negation})
    frame["group"] = [f"{LABELS[y]}, {'' if n else 'no '}negation" for y, n in zip(label, negation, strict=True)]
    frame["importance"] = np.where(negation, 0.2, 1.8) * rng.uniform(0.9, 1.1, 300)
    names = ["teacher", "student", *(f"exit{la}{tail}" for la in range(1, 7) for tail in ("", "_laplace"))]
    for name in names:
        logits = rng.normal(size=(300, 3))
        logits[np.arange(300), label] += np.where(frame["group"] == "entailment, negation", -2, 1.5)
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
        "margins_by_layer": figures.margins_by_layer(predictions),
        "worst_group_margins": figures.worst_group_margins(predictions, 3),
        "wrong_margins": figures.wrong_margins(predictions),
        "training_curves": figures.training_curves(history, GROUPS),
        "weights_over_epochs": figures.weights_over_epochs(weights, GROUPS),
        "reliability": figures.reliability(predictions),
        "group_accuracies": figures.group_accuracies(accuracies),
    }


def legend_labels(figure):
    legends = [*figure.drawing.legends, *(ax.get_legend() for ax in figure.drawing.axes if ax.get_legend())]
    return [text.get_text() for legend in legends for text in legend.get_texts()]


def weighted_median(values, weights):
    order = np.argsort(values)
    reached = np.cumsum(np.asarray(weights)[order]) / np.sum(weights)
    return np.asarray(values)[order][np.searchsorted(reached, 0.5 - 1e-12)]


def test_every_public_function_is_offered_and_drawn(drawn):
    of_run, of_study = (
        {name for name, f in vars(module).items() if getattr(f, "__module__", "") == module.__name__ and name[0] != "_"}
        for module in (run, study)
    )
    assert sorted(drawn) == sorted(of_run)
    assert set(figures.__all__) == of_run | of_study | {"Figure"}


def test_shown_in_a_notebook_a_figure_is_an_image_with_an_alt_text(drawn):
    for figure in drawn.values():
        data, metadata = figure._repr_mimebundle_()
        assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
        assert data["text/plain"] == f"Figure: {figure.title}"
        assert metadata["image/png"]["alt"].startswith(figure.title)
        assert "nan" not in figure.alt and len(figure.alt) > 60


def test_the_same_data_give_the_same_bytes(predictions):
    first, second = (figures.wrong_margins(predictions).png() for _ in range(2))
    assert first == second and b"Matplotlib" not in first


def test_margins_by_layer_draws_the_weighted_medians(drawn, predictions):
    everything, right, wrong = drawn["margins_by_layer"].drawing.axes
    for layer in range(1, LAYERS + 1):
        probs = predictions[[f"exit{layer}_prob_{c}" for c in range(3)]].to_numpy()
        correct = probs.argmax(1) == predictions["label"]
        for ax, rows in [(everything, correct | ~correct), (right, correct), (wrong, ~correct)]:
            chosen = predictions[rows]
            expected = weighted_median(chosen[f"exit{layer}_margin"], chosen["importance"])
            lines = [line.get_ydata() for line in ax.lines if np.allclose(line.get_xdata().mean(), layer - 0.19)]
            assert any(np.allclose(y, expected) for y in lines)
    assert list(everything.get_xticks()) == [1, 2, 3, 4, 5, 6]
    assert legend_labels(drawn["margins_by_layer"]) == ["MAP", "Laplace"]
    assert {patch.get_hatch() for patch in everything.patches} == {"", "////"}


def test_the_worst_group_is_the_students(drawn, predictions):
    figure = drawn["worst_group_margins"]
    assert [ax.get_title() for ax in figure.drawing.axes] == ["MAP", "Laplace"]
    assert legend_labels(figure) == ["all 300 examples", "the 50 of entailment, negation"]
    rows = predictions[predictions["group"] == "entailment, negation"]
    median = weighted_median(rows["exit3_margin"], rows["importance"])
    assert f"MAP, the 50 of entailment, negation {median:.2f}" in figure.alt
    assert "layer 3" in figure.title


def test_wrong_margins_counts_the_wrong_ones(drawn, predictions):
    probs = predictions[[f"teacher_prob_{c}" for c in range(3)]].to_numpy()
    wrong = int((probs.argmax(1) != predictions["label"]).sum())
    panel = drawn["wrong_margins"].drawing.axes[1]
    assert panel.get_title() == f"Where the teacher was wrong ({wrong} examples)"
    assert legend_labels(drawn["wrong_margins"]) == ["student", "teacher"]


def test_a_model_that_is_never_wrong_leaves_its_panel_empty(predictions):
    perfect = predictions.copy()
    perfect[[f"teacher_prob_{c}" for c in range(3)]] = np.eye(3)[perfect["label"]]
    figure = figures.wrong_margins(perfect)
    assert "teacher was wrong (0 examples)" in figure.drawing.axes[1].get_title()
    assert figure.png()


def test_training_curves_follow_the_history(drawn, history):
    axes = drawn["training_curves"].drawing.axes
    assert [ax.get_title() for ax in axes] == ["teacher", "student"]
    for ax in axes:
        rows = history[history["role"] == ax.get_title()]
        for line in ax.lines:
            assert list(line.get_ydata()) == list(rows[rows["metric"] == line.get_label()]["value"])
    assert legend_labels(drawn["training_curves"]) == [*GROUPS, "average"]
    looks = [(line.get_marker(), line.get_linestyle(), line.get_color()) for line in axes[0].lines[:-1]]
    assert len({m for m, _, _ in looks}) == len({c for _, _, c in looks}) == len(GROUPS)


def test_weights_over_epochs_draws_means_and_wrong_shares(drawn, weights):
    means, shares = drawn["weights_over_epochs"].drawing.axes
    line = {text: handle for handle, text in zip(*means.get_legend_handles_labels(), strict=True)}
    assert list(line["entailment, negation"][0].get_ydata()) == [5.0, 6.0, 7.0]
    assert list(line) == GROUPS
    ends = [share.get_ydata()[-1] for share in shares.lines]
    assert ends == [1.0 if name == "entailment, negation" else 0.0 for name in GROUPS]


def test_reliability_has_a_panel_for_each_layer_and_points_from_the_data(drawn, predictions):
    axes = drawn["reliability"].drawing.axes
    assert [ax.get_title() for ax in axes] == [f"exit at layer {layer}" for layer in range(1, 7)]
    probs = predictions[[f"exit1_prob_{c}" for c in range(3)]].to_numpy()
    top = probs.max(axis=1) >= 0.9
    right = (probs.argmax(1) == predictions["label"])[top]
    points = axes[0].lines[1].get_xydata()[-1]
    weight = predictions["importance"][top]
    assert points == pytest.approx([np.average(probs.max(1)[top], weights=weight), np.average(right, weights=weight)])


def test_group_accuracies_has_a_marker_for_each_value(drawn, accuracies):
    ax = drawn["group_accuracies"].drawing.axes[0]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["average", *GROUPS]
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


@pytest.mark.parametrize("name", ["margins_by_layer", "wrong_margins", "reliability", "group_accuracies"])
def test_a_frame_that_lacks_columns_is_named(name, predictions):
    with pytest.raises(ValueError, match="lacks the columns .*; it has: id, label"):
        getattr(figures, name)(predictions[["id", "label"]])


def test_an_exit_that_is_not_there_is_named(predictions):
    with pytest.raises(ValueError, match="exit9"):
        figures.worst_group_margins(predictions, 9)


def test_a_group_that_never_occurs_is_left_out(history, weights):
    for figure in (
        figures.training_curves(history, [*GROUPS, "x"]),
        figures.weights_over_epochs(weights, [*GROUPS, "x"]),
    ):
        labels = [text.get_text() for text in figure.drawing.legends[0].get_texts()]
        assert set(GROUPS) <= set(labels) and "x" not in labels


@pytest.mark.parametrize("module", [run, study, drawing, tables])
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
        "seaborn",
    }
    assert {n if n.startswith("fairkd") else n.partition(".")[0] for n in plain + named} <= allowed
