"""The card beside a checkpoint says what the run measured, as the hub reads it, and nothing of the machine."""

import re

import pytest
import yaml
from huggingface_hub import ModelCard

import fairkd
from fairkd import distil, fine_tune
from fairkd.evaluation import group_report, readable, target_groups


def rows(text):
    """The cells of the table of a card, by the first of each line."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {first.strip("*"): rest for first, *rest in lines}


def test_a_student_s_card_has_the_numbers_of_its_predictions(small, student):
    card = ModelCard.load(student.model_folder / "README.md")
    predictions = student.of.table("predictions")
    report = group_report(predictions, n_boot=0)
    told, told_teacher = readable(report), readable(group_report(fine_tune(small).table("predictions"), "teacher"))
    found = rows(card.text)
    splits = fairkd.check(small)
    assert found.keys() == {"group", "---", *splits.groups, "average"}
    sizes = splits.train["group"].value_counts()
    for group in splits.groups:
        expected = [f"{sizes[group]}", f"{report['n'][group]}", told[group], told_teacher[group]]
        assert found[group] == expected
    assert found["average"] == ["240", "60", told["average"], told_teacher["average"]]
    rare = target_groups(splits.train, "negation")
    assert rare and re.findall(r"^\| \*\*(.*?)\*\*", card.text, re.MULTILINE) == rare
    results = {result.metric_name: result.metric_value for result in card.data.eval_results}
    expected = {"accuracy": report["value"]["average"], "worst-group accuracy": report["value"]["worst_group"]}
    assert results == pytest.approx(expected, abs=1e-4)
    assert f"{report['value']['gap']:.3f} below the average" in card.text
    assert "The training read no group." in card.text and "Method `laplace`" in card.text
    assert "Fewer than 100 evaluation rows" in card.text
    stated = yaml.safe_load(card.text.split("```yaml")[1].split("```")[0])
    assert stated | {"teacher": fine_tune(small).folder.name} == student.of.config


def test_a_card_says_whose_groups_were_read_and_what_was_fitted_anew(small):
    told = distil(small.vary(method="dfr")).model_folder.joinpath("README.md").read_text()
    assert "The training read the group of every training row." in told
    assert "Its last layer was fitted anew afterwards." in told and "| teacher |" in told
    told = distil(small.vary(method="kd", kept_epoch="validation worst group")).model_folder.joinpath("README.md")
    assert "no group. Which epoch's model this is was chosen by the groups of the validation" in told.read_text()


def test_a_card_of_no_teacher_has_no_column_for_one(small, student):
    told = distil(small.vary(method="erm")).model_folder.joinpath("README.md").read_text()
    assert "without a teacher" in told and "| teacher |" not in told
    told = fine_tune(small).model_folder.joinpath("README.md").read_text()
    assert "# teacher on demo, seed" in told and "Method" not in told


def test_a_card_names_an_encoder_of_the_hub_and_no_folder(small, student):
    card = ModelCard.load(student.model_folder / "README.md")
    assert card.data.base_model is None and card.data.pipeline_tag == "text-classification"
    assert str(small.student_model) not in card.text and "/tmp" not in str(card)


def test_a_card_of_an_encoder_of_the_hub_names_it(small):
    from fairkd.training.cards import _metadata

    splits, of_hub = fairkd.check(small), small.vary(student_model="prajjwal1/bert-tiny")
    report = group_report(distil(small).table("predictions"), n_boot=0)
    assert _metadata(of_hub, splits, report, "student").base_model == "prajjwal1/bert-tiny"
