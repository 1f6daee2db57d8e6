import json

import pandas as pd
import pytest

from fairkd import DATASETS, DataError, Entry, Experiment, has_negation, load


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Nobody came.", True),
        ("He said: no, thanks", True),
        ("It is nothing!", True),
        ("She NEVER left", True),
        ("No-one came", False),  # punctuation goes first, which leaves "Noone"
        ("I know nobody's name", False),
        ("He did not go", False),
        ("Nevertheless, another notion", False),
        ("", False),
    ],
)
def test_negation_is_the_rule_of_the_literature(text, expected):
    assert has_negation(text) is expected


def write_pairs(folder, split, rows, name=None):
    folder.mkdir(exist_ok=True)
    (folder / (name or f"{split}.jsonl")).write_text("".join(json.dumps(row) + "\n" for row in rows))


def pair(label, hypothesis="they left", **more):
    return {"premise": "they went home", "hypothesis": hypothesis, "label": label, **more}


def mnli(folder, **changes):
    sizes = {"train_examples": None, "evaluation_examples": None, "validation_examples": 0}
    return Experiment(**({"dataset": "mnli", "data": str(folder)} | sizes | changes))


THREE = [pair("entailment"), pair("neutral"), pair("contradiction", "nobody left")]


def test_local_pairs_get_labels_groups_and_a_count_of_dropped_rows(project):
    write_pairs(project / "pairs", "train", [*THREE, pair("-"), pair("-")])
    write_pairs(project / "pairs", "validation_matched", [pair("contradiction", "nobody left", pairID="7c")])
    splits = load(mnli("pairs"))  # a relative folder is taken from the root
    assert splits.train["label"].tolist() == [0, 1, 2]
    assert splits.train["negation"].tolist() == [False, False, True]
    assert splits.dropped == {"train": 2, "validation_matched": 0}
    assert splits.evaluation["group"].tolist() == ["contradiction, negation"]
    assert len(splits.groups) == 6  # those without a row in the evaluation split are known all the same
    assert splits.evaluation["id"].tolist() == ["7c"]
    assert (splits.evaluation["importance"] == 1).all()


def test_label_indices_are_the_entrys_order_and_minus_one_is_dropped(project):
    write_pairs(project / "pairs", "train", [pair(0), pair(1), pair(2), pair(-1)])
    write_pairs(project / "pairs", "validation_matched", [pair(2)])
    splits = load(mnli("pairs"))
    assert splits.train["label"].tolist() == [0, 1, 2]
    assert splits.dropped["train"] == 1


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ([pair("entailment"), pair("maybe")], r"unknown label 'maybe'; allowed: entailment, neutral, contradiction"),
        ([pair(0), pair(3)], r"unknown label '3'"),
        ([pair("neutral"), pair("neutral")], r"all training rows are 'neutral'"),
        ([{"premise": "a", "label": 0}], r"no column 'hypothesis'; it has premise, label"),
        ([pair("-")], r"split 'train' is empty"),
    ],
)
def test_wrong_rows_are_refused(project, train, message):
    write_pairs(project / "pairs", "train", train)
    write_pairs(project / "pairs", "validation_matched", THREE)
    with pytest.raises(DataError, match=message):
        load(mnli("pairs"))


def test_a_missing_folder_or_file_is_named(project):
    with pytest.raises(DataError, match="data = './nowhere'"):
        load(mnli("./nowhere"))
    write_pairs(project / "pairs", "train", THREE)
    with pytest.raises(DataError, match="no validation_matched.jsonl"):
        load(mnli("pairs"))


def test_a_subset_is_seeded_and_never_larger_than_the_data(project):
    write_pairs(project / "pairs", "train", THREE * 10)
    write_pairs(project / "pairs", "validation_matched", THREE)
    drawn = [load(mnli("pairs", train_examples=9, data_seed=s)).train["id"].tolist() for s in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(drawn[0]) == 9
    with pytest.raises(DataError, match="train_examples = 31, .*: split 'train' has 30"):
        load(mnli("pairs", train_examples=31))
    with pytest.raises(DataError, match="evaluation_examples = 4"):
        load(mnli("pairs", evaluation_examples=4))


def test_the_hub_out_of_reach_is_one_message_that_says_what_to_do(project, monkeypatch):
    def refuse(*args, **kwargs):
        raise ConnectionError("Couldn't reach the hub\nlong story")

    monkeypatch.setattr("datasets.load_dataset", refuse)
    with pytest.raises(DataError, match=r"(?s)nyu-mll/multi_nli.*-p data FOLDER.*HF_HUB_OFFLINE=1"):
        load(mnli(None, data=None))


def test_validation_rows_are_held_out_of_training_and_the_training_rows_stay(project):
    write_pairs(project / "pairs", "train", THREE * 10)
    write_pairs(project / "pairs", "validation_matched", THREE)
    alone, with_validation = (load(mnli("pairs", train_examples=9, validation_examples=n)) for n in (0, 12))
    assert alone.validation.empty
    assert with_validation.train["id"].tolist() == alone.train["id"].tolist()
    assert len(with_validation.validation) == 12
    assert not set(with_validation.validation["id"]) & set(with_validation.train["id"])
    assert len(load(mnli("pairs", validation_examples=12)).train) == 18  # null: what is left
    with pytest.raises(DataError, match="train_examples = 20, validation_examples = 12"):
        load(mnli("pairs", train_examples=20, validation_examples=12))


def test_demo_validation_is_balanced_by_group_and_not_the_evaluation_split():
    splits = load(Experiment(train_examples=600, evaluation_examples=60, validation_examples=12))
    assert splits.validation["group"].value_counts().tolist() == [2] * 6
    assert not set(splits.validation["premise"]) & set(splits.evaluation["premise"])
    assert load(Experiment(train_examples=600, evaluation_examples=60, validation_examples=0)).validation.empty


def test_demo_averages_are_those_of_the_training_distribution():
    splits = load(Experiment(train_examples=3000, evaluation_examples=60))
    evaluation = splits.evaluation
    weighed = evaluation.groupby("group", observed=False)["importance"].sum() / len(evaluation)
    natural = splits.train["group"].value_counts(normalize=True)
    pd.testing.assert_series_equal(weighed, natural.reindex(weighed.index), check_names=False)
    with pytest.raises(DataError, match="evaluation_examples = 61, .* multiples of 6"):
        load(Experiment(evaluation_examples=61))


REVIEWS = Entry(
    source="someone/reviews",
    text_columns=("review",),
    labels=("bad", "good"),
    attribute="genre",
    attribute_of=lambda frame: frame["genre"],
    label_column="verdict",
)


def test_a_third_data_set_is_one_entry(small, monkeypatch):
    """One sentence, a group column, two classes: from files to a student's report, with no other change."""
    import fairkd

    monkeypatch.setitem(DATASETS, "reviews", REVIEWS)
    folder = fairkd.runs.root() / "reviews"
    folder.mkdir()
    words = {"good": "the brave nurse helped the pilot", "bad": "the nurse forgot the pilot"}
    rows = [
        {"review": words[verdict], "verdict": verdict, "genre": genre}
        for verdict in ("good", "bad")
        for genre in ("drama", "western")
    ]
    pd.DataFrame(rows * 16).to_csv(folder / "train.csv")
    pd.DataFrame(rows[:3] * 4).to_parquet(folder / "validation.parquet")
    experiment = small.vary(
        dataset="reviews", data="reviews", train_examples=None, evaluation_examples=None, method="laplace"
    )
    student = fairkd.distil(experiment)
    report = fairkd.group_report(student.table("predictions"), attribute="genre")
    groups = ["bad, drama", "bad, western", "good, drama", "good, western"]
    assert list(report.index) == ["average", *groups, "drama", "western", "worst_group", "gap", "ece", "nll"]
    assert report["n"][groups].tolist() == [4, 0, 4, 4]  # REVIEWS' third row alone is left out above
    assert set(student.table("weights").columns) == {"epoch", "id", "weight", "label", "genre", "group"}


def test_tokens_are_made_once_for_the_same_texts_and_tokenizer(small, encoder, monkeypatch):
    from fairkd.data import tokenize
    from fairkd.models import load_tokenizer

    splits, tokenizer = load(small), load_tokenizer(str(encoder), "teacher_model")
    first = tokenize(splits.train, splits.entry, tokenizer, 64)
    assert first["length"][:] == [len(ids) for ids in first["input_ids"]]
    assert first["labels"][:] == splits.train["label"].tolist() and first["index"][:] == list(range(240))
    with monkeypatch.context() as patch:
        patch.setattr(type(tokenizer), "__call__", lambda *a, **k: pytest.fail("tokenised again"))
        again = tokenize(splits.train, splits.entry, tokenizer, 64)
        assert again.to_dict() == first.to_dict()
        assert again.cache_files  # mapped from disk
    assert max(tokenize(splits.train, splits.entry, tokenizer, 8)["length"][:]) == 8
    other = splits.train.assign(label=2)
    assert set(tokenize(other, splits.entry, tokenizer, 64)["labels"][:]) == {2}
