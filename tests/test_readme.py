"""What README's "Your own data" and "Extend it" show, run word for word from outside the package."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

import fairkd
from fairkd.data import RULES
from fairkd.exits import POSTERIORS
from fairkd.weighting import METHODS

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
SMALL = {"train_examples": 240, "evaluation_per_group": 10, "validation_examples": 0, "student_epochs": 2}


def blocks(section, language):
    """The code of one section of the README, a block each."""
    text = README.partition(f"## {section}\n")[2].partition("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.fixture
def registries():
    """What a test registers is gone after it."""
    kept = [(registry, dict(registry)) for registry in (METHODS, POSTERIORS, RULES)]
    yield
    for registry, content in kept:
        registry.clear()
        registry.update(content)


@pytest.fixture
def demo_of_seconds(project, encoder, monkeypatch):
    """`Experiment.from_file` gives the profile in small."""
    original = fairkd.Experiment.from_file
    models = {"teacher_model": str(encoder), "student_model": None, "teacher_epochs": 1, "report_to": "none"}

    def small(path, **given):
        if "student" in given:
            given["student"] = given["student"].replace("@3", "@2")
        if "aux_layer" in given:
            given["aux_layer"] = 2
        return original(Path(__file__).parents[1] / path, **SMALL, **models, students=["kd"], **given)

    monkeypatch.setattr(fairkd.Experiment, "from_file", small)


def test_it_is_used_from_python_as_shown(demo_of_seconds, monkeypatch):
    monkeypatch.setitem(SMALL, "validation_examples", 30)
    student, early, alone = blocks("Use it from Python", "python")
    namespace = {}
    exec(student, namespace)
    assert len(namespace["predictions"]) == 60
    exec(early, namespace)
    [told] = eval(early.splitlines()[1].partition("  #")[0], namespace)
    assert set(told) == {"label", "score", "layer"}
    generator = torch.Generator().manual_seed(0)
    namespace |= {"features": torch.randn(60, 3, generator=generator), "labels": torch.arange(60) % 3}
    exec(alone, namespace)
    assert namespace["probs"].shape == (60, 3) and namespace["weights"].shape == (60,)


def test_every_student_of_the_tables_is_one():
    section = README.partition("## Methods and controls\n")[2].partition("\n## ")[0]
    students = re.findall(r"`([^`]+)`", "\n".join(re.findall(r"^\|([^|]+)\|", section, re.MULTILINE)))
    shown = [spec for spec in students if not spec.startswith("place=")]
    assert len(shown) > 20
    for spec in shown:
        if "=" in spec and "," not in spec.partition("=")[0]:
            spec = f"laplace@3,{spec}"  # one more parameter of the row's student
        fairkd.Experiment(validation_examples=600).student(spec)


def test_a_method_with_a_hyper_parameter_of_its_own_is_one_class(demo_of_seconds, registries):
    method, _ = blocks("Extend it", "python")
    namespace = {}
    exec(method, namespace)
    student = namespace["student"]
    weights = student.table("weights")
    assert weights["weight"].between(0.05, 1.05).all() and weights["weight"].nunique() > 10
    assert student.of.config["focus"] == 1.0
    with pytest.raises(fairkd.ParameterError, match="focus = 11"):
        fairkd.Experiment(student="focal@3,focus=11.0")
    with pytest.raises(fairkd.ParameterError, match="focus = 1.0: kd .*read by focal"):
        fairkd.Experiment(student="kd,focus=1.0")


def test_a_posterior_is_one_class(demo_of_seconds, registries):
    _, posterior = blocks("Extend it", "python")
    exec(posterior, {"fairkd": fairkd})
    features = np.random.default_rng(0).normal(size=(60, 3))
    x, y = torch.from_numpy(features), torch.arange(60) % 3
    exits = fairkd.Experiment(student="laplace@2,posterior=scaled,share=0.5").exits(3)
    head = exits.head(x, y)
    expected = fairkd.KroneckerLaplace.fit(head.exit, x, y, likelihood_temperature=30.0).predict(x)
    torch.testing.assert_close(exits.uncertain(head, x, y).probabilities(x), expected)


def reviews(folder, n=120, seed=0):
    """Made-up reviews: seven classes, an attribute of three levels, as CSV files beside the README's YAML file."""
    rng = np.random.default_rng(seed)
    [text] = blocks("Your own data", "yaml")
    (folder / "mydata.yaml").write_text(text)
    entry = yaml.safe_load(text)
    names, column = entry["label"]["names"], entry["label"].get("column", "label")
    source = folder / entry["source"]
    source.mkdir()
    for split, rows in ((entry["splits"]["train"], n), (entry["splits"]["evaluation"], n // 2)):
        label, level = rng.integers(len(names), size=rows), rng.integers(3, size=rows)
        words = [f"word{a} word{b} thing{rng.integers(9)}" for a, b in zip(label, level, strict=True)]
        frame = {entry["text"][0]: words, column: [names[i] for i in label]}
        frame[entry["attribute"]["column"]] = np.array(["phone", "tablet", "web"])[level]
        pd.DataFrame(frame).to_csv(source / f"{split}.csv", index=False)
    return entry


def test_a_data_set_is_one_file(project, encoder):
    """Seven classes, three levels of the attribute: through training, exits (by Monte Carlo) and the report."""
    entry = reviews(project)
    assert len(entry["label"]["names"]) == 7
    experiment = fairkd.Experiment(
        dataset="mydata.yaml", train_examples=None, validation_examples=0, teacher_model=str(encoder),
        student_model=None, teacher_epochs=1, student_epochs=2, student="laplace@2", students=["kd"], report_to="none",
    )  # fmt: skip
    student = fairkd.distil(experiment)
    predictions = student.table("predictions")
    assert len(fairkd.load(experiment).groups) == 21
    assert predictions.filter(like="student_prob_").shape == (60, 7)
    report = fairkd.group_report(predictions, attribute=entry["attribute"]["name"])
    assert {"phone", "tablet", "web", "worst_group"} <= set(report.index)
    np.testing.assert_allclose(predictions.filter(regex="exit2_laplace_prob_").sum(axis=1), 1, atol=1e-6)


def test_a_profile_is_a_dozen_lines(project, monkeypatch):
    reviews(project)
    [text] = blocks("Extend it", "yaml")
    (project / "reviews.yaml").write_text(text)
    experiment = fairkd.Experiment.from_file(project / "reviews.yaml")
    assert (experiment.dataset, experiment.student_epochs) == ("mydata.yaml", 3)


def test_every_promise_is_held_by_a_test_that_there_is():
    promises = README.partition("## What it promises\n")[2].partition("\n## ")[0]
    held = re.findall(r"\[`([^`]+)`\]\((tests/[^)]+)\)", promises)
    assert len(held) >= 10
    for name, file in held:
        text = (Path(__file__).parents[1] / file).read_text(encoding="utf-8")
        assert name == file or f"def {name}(" in text, name


def test_the_table_of_multinli_is_that_of_the_record():
    record = Path(__file__).parents[1] / "reports" / "record" / "mnli-mini"
    report, choices = (pd.read_csv(record / f"{name}.csv") for name in ("report", "choices"))
    words = "dedier@3,reader=words,exit_reads=hypothesis,alpha=1.0"
    chosen = choices[(choices["student"] == words) & (choices["selection"] == "validation worst by exit")]
    students = ["kd", "dedier@3", "laplace@3", "dedier@3,alpha=1.0,beta=6.0", f"{words},beta=6.0"]
    expected = [report[report["student"] == student] for student in students]
    by_groups = [f"{method} (reads group labels)" for method in ("group_dro,weight_decay=0.1", "dfr")]
    expected += [chosen, *(report[report["student"] == student] for student in by_groups)]
    table = README.partition("| MultiNLI, three seeds |")[2].partition("\n\n")[0].splitlines()[2:]
    assert len(table) == len(expected)
    for line, of_student in zip(table, expected, strict=True):
        rows = of_student.set_index("row").loc[["average", "neutral, negation"]]
        told = fairkd.readable(rows).str.replace("0.", ".").tolist()
        assert line.split(" | ")[1:] == [told[0], f"{told[1]} |"], line


def test_the_trial_made_again_is_that_of_its_file():
    record = Path(__file__).parents[1] / "reports" / "record" / "mnli-mini"
    report = pd.read_csv(record / "trial.csv").pivot_table(index="student", columns="row", values="value", sort=False)
    told = [f"{row['average']:.3f} / {row['worst_of_means']:.3f}".replace("0.", ".") for _, row in report.iterrows()]
    with_prior = report.index.str.contains("head_prior_precision=1000.0")
    found = [pd.Series(told, report.index)[kind] for kind in (~with_prior, with_prior)]
    starts = ["erm", "refit", "dedier@3,place", "jtt", "dedier@1", "dedier@3,reader=words", "dedier@6", "dfr"]
    table = (record / "README.md").read_text().partition("| weights of the refit |")[2].partition("\n\n")[0]
    lines = table.splitlines()[2:]
    assert len(lines) == len(starts)
    for line, start in zip(lines, starts, strict=True):
        expected = ["".join(of[of.index.str.startswith(start)]) for of in found]
        assert [cell.strip() for cell in line.split("|")[-3:-1]] == expected, line
