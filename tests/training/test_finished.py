import json

import pandas as pd
import pytest
from transformers import pipeline

import fairkd

OTHERS = """
source: others
splits: {evaluation: test}
text: [premise, hypothesis]
label: {names: ["no", "yes"]}
attribute: {name: place, column: place}
classes: {entailment: "yes", neutral: "no", contradiction: "no"}
"""
PLACES = ("here", "there")


@pytest.fixture
def others(project):
    """A set of two classes whose file merges neutral and contradiction; its pairs are of the words that models know."""
    rows = fairkd.load(fairkd.Experiment(train_examples=240, evaluation_per_group=10)).evaluation
    (project / "others").mkdir()
    (project / "others.yaml").write_text(OTHERS)
    lines = [
        {"premise": p, "hypothesis": h, "label": ["yes", "no"][i % 2], "place": PLACES[i % 3 > 0]}
        for i, (p, h) in enumerate(zip(rows["premise"], rows["hypothesis"], strict=True))
    ]
    (project / "others" / "test.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return lines


@pytest.mark.parametrize("student", ["laplace@2", "dfr"])
def test_a_student_without_exits_answers_as_with_them_and_trains_once(small, student, monkeypatch):
    experiment = small.student(student).vary(evaluation_examples=30)
    alone = fairkd.distil(experiment, exits=False)
    assert sorted(path.name for path in alone.folder.iterdir() if path.suffix in (".parquet", ".safetensors")) == [
        "predictions.parquet"
    ]
    monkeypatch.setattr("fairkd.training.student.Task", None)  # a training would fail
    whole = fairkd.distil(experiment)
    assert whole.of.folder == alone.of.folder and (whole.folder / "exits.safetensors").exists()
    answers = alone.table("predictions")
    assert len(answers) == 30 and {"teacher_prob_0", "student_margin"} <= set(answers)
    pd.testing.assert_frame_equal(answers, whole.table("predictions")[answers.columns])
    assert alone.metrics == {name: whole.metrics[name] for name in ("dropped", "teacher", "student")}
    assert fairkd.distil(experiment, exits=False).folder == alone.folder
    assert fairkd.distil(experiment.vary(finished_exits={"pooling": "mean"}), exits=False).folder == alone.folder
    assert fairkd.distil(experiment.vary(evaluation_examples=12), exits=False).folder != alone.folder


def test_a_further_set_is_answered_by_the_student_in_the_classes_of_the_set(small, others):
    experiment = small.vary(method="kd", evaluate_on=["others.yaml"], student_epochs=2, learning_rate=1e-2)
    run = fairkd.distil(experiment)
    asked = fairkd.evaluate_on(experiment, "others.yaml")
    assert asked.of.folder == run.folder
    predictions = asked.table("predictions")
    assert predictions["group"].unique().tolist() == ["yes, here", "no, there", "yes, there", "no, here"]
    classify = pipeline("text-classification", model=str(run.model_folder), top_k=None)
    for row, line in list(zip(predictions.to_dict("records"), others, strict=True))[:8]:
        [answer] = classify([{"text": line["premise"], "text_pair": line["hypothesis"]}])
        of_class = {one["label"]: one["score"] for one in answer}
        yes, no = of_class["entailment"], max(of_class["neutral"], of_class["contradiction"])
        said = [row["student_prob_0"], row["student_prob_1"]]
        assert said == pytest.approx([no / (yes + no), yes / (yes + no)], abs=1e-5)
        assert row["label"] == (line["label"] == "yes")
    assert asked.metrics["student"]["average"]["value"] == pytest.approx(
        fairkd.group_report(predictions, attribute="place")["value"]["average"], abs=1e-9
    )
    assert asked.metrics["teacher"]["average"]["n"] == 60
    assert fairkd.evaluate_on(experiment, "others.yaml").folder == asked.folder
