import pandas as pd
import pytest

from fairkd.data import DataError, DataOptions, load, load_evaluation, training_identity
from tests.data.conftest import write_rows


def pair(label, hypothesis="they left", **more):
    return {"premise": "they went home", "hypothesis": hypothesis, "label": label, **more}


def mnli(folder, **changes):
    return DataOptions(
        **({"dataset": "mnli", "data": str(folder), "train_examples": None, "validation_examples": 0} | changes)
    )


THREE = [pair("entailment"), pair("neutral"), pair("contradiction", "nobody left")]
MANY = [row | {"premise": f"premise {i}"} for i in range(10) for row in THREE]


@pytest.fixture
def pairs(project):
    """Writes MultiNLI's two splits into the folder "pairs"."""

    def write(train, evaluation):
        write_rows(project / "pairs", "train", train)
        write_rows(project / "pairs", "validation_matched", evaluation)

    return write


def test_local_pairs_get_labels_groups_and_a_count_of_dropped_rows(pairs):
    pairs([*THREE, pair("-"), pair("-")], [pair("contradiction", "nobody left", pairID="7c")])
    splits = load(mnli("pairs"))  # a relative folder is taken from the root
    assert splits.train["label"].tolist() == [0, 1, 2]
    assert splits.train["negation"].tolist() == [False, False, True]
    assert splits.dropped == {"train": {"no label": 2}, "validation_matched": {}}
    assert splits.evaluation["group"].tolist() == ["contradiction, negation"]
    assert len(splits.groups) == 6  # those without a row in the evaluation split are known all the same
    assert splits.evaluation["id"].tolist() == ["7c"]
    assert (splits.evaluation["importance"] == 1).all()


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ([pair("entailment"), pair("maybe")], "unknown label 'maybe'; allowed: entailment, neutral, contradiction"),
        ([pair(0), pair(2)], r"unknown label 0; .*numbers have no order of their own: state label: map"),
        ([pair("neutral"), pair("neutral")], "all training rows are 'neutral'"),
        ([{"premise": "a", "label": "neutral"}], "no column 'hypothesis'; it has premise, label"),
        ([pair("-")], "none of its 1 rows is left"),
    ],
)
def test_wrong_rows_are_refused(pairs, train, message):
    pairs(train, THREE)
    with pytest.raises(DataError, match=message):
        load(mnli("pairs"))


def test_a_subset_is_seeded_and_never_larger_than_the_data(pairs):
    pairs(THREE * 10, THREE)
    drawn = [load(mnli("pairs", train_examples=9, data_seed=s)).train["id"].tolist() for s in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(drawn[0]) == 9
    assert len(load(mnli("pairs", train_examples=31)).train) == 30  # more than there are: all
    with pytest.raises(DataError, match="evaluation_examples = 4: the split has 3"):
        load(mnli("pairs", evaluation_examples=4))


def test_a_subset_of_the_evaluation_split_alters_nothing_else(pairs):
    pairs(MANY, MANY)
    whole, some = (
        load(mnli("pairs", validation_examples=6)),
        load(mnli("pairs", validation_examples=6, evaluation_examples=4)),
    )
    assert len(some.evaluation) == 4 and set(some.evaluation["id"]) < set(whole.evaluation["id"])
    for name in ("train", "validation", "whole_evaluation"):
        pd.testing.assert_frame_equal(getattr(some, name), getattr(whole, name))
    pd.testing.assert_frame_equal(whole.evaluation, whole.whole_evaluation)


def test_validation_is_held_out_by_premise_and_the_training_rows_stay(pairs):
    pairs(MANY, THREE)
    alone, held = (load(mnli("pairs", train_examples=9, validation_examples=n)) for n in (0, 3))
    assert alone.validation.empty
    assert held.train["id"].tolist() == alone.train["id"].tolist()
    for splits in (held, load(mnli("pairs", validation_examples=12))):
        assert not set(splits.validation["premise"]) & set(splits.train["premise"])
        assert splits.validation["premise"].value_counts().tolist() == [3] * (len(splits.validation) // 3)
    assert (len(splits.train), len(splits.validation)) == (18, 12)  # null: what is left
    assert len(load(mnli("pairs", validation_examples=11)).validation) == 9  # no premise is divided
    more = load(mnli("pairs", train_examples=20, validation_examples=12))  # more than are left: those
    assert more.train["id"].tolist() == splits.train["id"].tolist()
    with pytest.raises(DataError, match="validation_examples = 30: split 'train' has 30"):
        load(mnli("pairs", validation_examples=30))
    with pytest.raises(DataError, match="train_examples = 26, validation_examples = 4: .*share no premise"):
        load(mnli("pairs", train_examples=26, validation_examples=4))


def test_without_a_column_to_hold_out_by_rows_are_drawn(reviews):
    splits = load(reviews(options={"train_examples": 9, "validation_examples": 7}))
    assert (len(splits.train), len(splits.validation)) == (9, 7)
    assert not set(splits.train["id"]) & set(splits.validation["id"])
    left = load(reviews(options={"validation_examples": 7}))
    assert (len(left.train), len(left.validation)) == (9, 7)


def test_rows_without_a_value_to_hold_out_by_stand_for_themselves(reviews):
    rows = [{"review": f"r{i}", "verdict": ("bad", "good")[i % 2], "genre": "a", "film": None} for i in range(10)]
    splits = load(reviews(train=rows, hold_out_by="film", options={"validation_examples": 3}))
    assert (len(splits.train), len(splits.validation)) == (7, 3)


def test_what_training_shares_with_the_evaluation_split_is_counted_and_said(pairs, caplog):
    caplog.set_level("INFO", "fairkd")
    pairs(MANY, [MANY[0], MANY[3] | {"hypothesis": "another"}])
    splits = load(mnli("pairs"))
    assert splits.shared == {
        "training rows that are in the evaluation split": 2,  # two hypotheses of THREE read alike
        "training rows whose premise is in the evaluation split": 6,
    }
    assert "mnli: 6 training rows whose premise is in the evaluation split" in caplog.text


def test_a_validation_split_of_its_own_is_read_and_drawn_from(reviews, project):
    splits = {"train": "train", "evaluation": "test", "validation": "dev"}
    rows = [{"review": f"d{i}", "verdict": "good", "genre": "drama"} for i in range(5)]
    write_rows(project, "dev", rows)
    found = load(reviews(splits=splits, options={"validation_examples": 3, "train_examples": 6}))
    assert (len(found.train), len(found.validation)) == (6, 3)
    assert found.validation["review"].str.startswith("d").all()
    assert load(reviews(splits=splits)).validation.empty


def test_a_share_is_held_out_by_the_column_too(reviews):
    rows = [{"review": f"r{i}", "verdict": ("bad", "good")[i % 2], "genre": "a", "film": i // 4} for i in range(100)]
    splits = load(reviews(train=rows, hold_out_by="film", splits={"train": "train", "evaluation": 0.2}))
    assert (len(splits.train), len(splits.evaluation)) == (80, 20)
    films = [{int(text[1:]) // 4 for text in frame["review"]} for frame in (splits.train, splits.evaluation)]
    assert not films[0] & films[1]


def test_splits_may_be_names_of_files(reviews, project):
    (project / "first.csv").write_text("review,verdict,genre\nx,good,a\ny,bad,b\n")
    splits = load(reviews(splits={"train": "first.csv", "evaluation": "test.jsonl"}))
    assert splits.train["id"].tolist() == ["first.csv-0", "first.csv-1"]


def test_demo_validation_is_balanced_by_group_and_not_the_evaluation_split():
    small = DataOptions(train_examples=600, validation_examples=12, generator_options={"evaluation_per_group": 10})
    splits = load(small)
    assert splits.validation["group"].value_counts().tolist() == [2] * 6
    assert splits.evaluation["group"].value_counts().tolist() == [10] * 6
    assert not set(splits.validation["premise"]) & set(splits.evaluation["premise"])
    assert load(small.vary(validation_examples=0)).validation.empty
    assert training_identity(small) != training_identity(small.vary(generator_options={"evaluation_per_group": 9}))


def test_demo_averages_are_those_of_the_training_distribution():
    options = DataOptions(train_examples=3000, evaluation_examples=50, generator_options={"evaluation_per_group": 10})
    splits = load(options)
    natural = splits.train["group"].value_counts(normalize=True)
    for frame in (splits.evaluation, splits.whole_evaluation, splits.validation):
        weighed = frame.groupby("group", observed=False)["importance"].sum() / len(frame)
        pd.testing.assert_series_equal(weighed, natural.reindex(weighed.index), check_names=False)
    with pytest.raises(DataError, match="validation_examples = 61: .* multiple of 6"):
        load(DataOptions(validation_examples=61))
    with pytest.raises(DataError, match="train_examples = None"):
        load(DataOptions(train_examples=None))


def test_a_further_set_is_read_beside_the_data_it_is_of(pairs, project):
    pairs(THREE, THREE)
    write_rows(project / "pairs", "validation_mismatched", [*THREE, pair("-")])
    options = mnli("pairs", evaluate_on=["mnli-mismatched"])
    further = load_evaluation("mnli-mismatched", options, options.entry.labels)
    assert further.frame["id"].tolist() == [f"validation_mismatched-{i}" for i in range(3)]
    assert further.dropped == {"validation_mismatched": {"no label": 1}} and further.attribute == "negation"
    assert further.merge.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    write_rows(project / "pairs", "validation_mismatched", THREE)
    assert load_evaluation("mnli-mismatched", options, options.entry.labels).identity != further.identity


def test_a_further_set_merges_classes_by_name(pairs, project, reviews):
    pairs(THREE, THREE)
    classes = {"entailment": "good", "neutral": "bad", "contradiction": "bad"}
    verdict = {"column": "verdict", "names": ["bad", "good"]}
    rows = [
        {"review": f"r{i}", "of": "a film", "verdict": verdict["names"][i % 2], "genre": ("drama", "western")[i // 2]}
        for i in range(4)
    ]
    reviews(classes=classes, test=rows, text=["review", "of"], label=verdict)
    options = mnli("pairs", evaluate_on=["reviews.yaml"])
    further = load_evaluation("reviews.yaml", options, ["contradiction", "entailment", "neutral"])
    assert further.merge.tolist() == [[1, 0], [0, 1], [1, 0]]
    assert further.frame["group"].cat.categories.tolist() == [
        "bad, drama",
        "bad, western",
        "good, drama",
        "good, western",
    ]
