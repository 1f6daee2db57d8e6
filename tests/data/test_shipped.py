"""The data sets in params/datasets/: up to the hub's request, and on a small sample of the same columns."""

import datasets
import pytest

from fairkd.data import DataError, DataOptions, load, load_evaluation
from fairkd.data.entry import FOLDER, Entry

NLI = datasets.ClassLabel(names=["entailment", "neutral", "contradiction"])
TEXT = datasets.Value("string")


def sample(columns, rows):
    values = {name: [row[i] for row in rows] for i, name in enumerate(columns)}
    return datasets.Dataset.from_dict(values, features=datasets.Features(columns))


MNLI = sample(
    {
        "promptID": datasets.Value("int32"),
        "pairID": TEXT,
        "premise": TEXT,
        "hypothesis": TEXT,
        "genre": TEXT,
        "label": NLI,
    },
    [
        (1, "1e", "a", "it is", "fiction", 0),
        (1, "1c", "a", "no, it is not", "fiction", 2),
        (2, "2", "b", "it is", "slate", -1),
    ],
)
AMPLIFIED = sample(
    {"premise": TEXT, "hypothesis": TEXT, "label": NLI, "idx": datasets.Value("int32")},
    [("a", "it is", 0, 7), ("a", "nobody is", 2, 8), ("b", "it may be", 1, 9)],
)
HANS = sample(
    {"premise": TEXT, "hypothesis": TEXT, "label": datasets.ClassLabel(names=["entailment", "non-entailment"]),
     "parse_premise": TEXT, "heuristic": TEXT, "subcase": TEXT, "template": TEXT},
    [("a", "b", 0, "(a)", "lexical_overlap", "x", "y"), ("a", "c", 1, "(a)", "subsequence", "x", "y"),
     ("a", "d", 1, "(a)", "constituent", "x", "y")],
)  # fmt: skip
IDENTITIES = ("male", "female", "LGBTQ", "christian", "muslim", "other_religions", "black", "white")
CIVIL = sample(
    {"id": datasets.Value("int64"), "comment_text": TEXT, "toxicity": datasets.Value("float64")}
    | dict.fromkeys(IDENTITIES, datasets.Value("float64")),
    [
        (1, "fine", 0.0, *[0.0] * 8),
        (2, "rude", 0.5, *[0.0] * 8),
        (3, "he", 0.49, 0.5, *[0.0] * 7),
        (4, "she", 0.9, *[0.1] * 7, 1.0),
    ],
)


@pytest.fixture
def hub(monkeypatch):
    """Answers every request with a sample; what was asked."""
    asked = []

    def answer_with(found):
        def load_dataset(*args, **kwargs):
            asked.append((args, kwargs))
            return found

        monkeypatch.setattr("datasets.load_dataset", load_dataset)
        return asked

    return answer_with


def options(dataset, **changes):
    return DataOptions(dataset=dataset, train_examples=None, validation_examples=0, **changes)


def test_mnli(hub):
    asked = hub(MNLI)
    splits = load(options("mnli"))
    assert [(args, kwargs["split"], kwargs["revision"]) for args, kwargs in asked] == [
        (("nyu-mll/multi_nli", None), "train", None),
        (("nyu-mll/multi_nli", None), "validation_matched", None),
    ]
    assert splits.train["label"].tolist() == [0, 2] and splits.train["id"].tolist() == ["1e", "1c"]
    assert splits.train["group"].tolist() == ["entailment, no negation", "contradiction, negation"]
    assert splits.dropped["train"] == {"no label": 1}


def test_mnli_mismatched(hub):
    hub(MNLI)
    asked = hub(MNLI)
    further = load_evaluation("mnli-mismatched", options("mnli"), ["entailment", "neutral", "contradiction"])
    assert asked[-1][0][0] == "nyu-mll/multi_nli" and asked[-1][1]["split"] == "validation_mismatched"
    assert further.frame["negation"].tolist() == [False, True]


def test_mnli_amplified(hub):
    asked = hub(AMPLIFIED)
    splits = load(options("mnli-amplified"))
    patterns = [kwargs.pop("data_files") for _, kwargs in asked]
    assert patterns == [
        {"train.biased": "minority_examples/train.biased/*.parquet"},
        {"validation_matched.anti_biased": "minority_examples/validation_matched.anti_biased/*.parquet"},
    ]
    assert all(args[0] == "bias-amplified-splits/mnli" for args, _ in asked)
    assert {kwargs["revision"] for _, kwargs in asked} == {"refs/convert/parquet"}
    assert splits.train["id"].tolist() == ["7", "8", "9"] and splits.train["negation"].tolist() == [False, True, False]


def test_hans_has_two_classes_and_three_heuristics(hub):
    asked = hub(HANS)
    given = options("mnli", evaluate_on=["hans"])
    further = load_evaluation("hans", given, given.entry.labels)
    assert asked[0][0][0] == "jhu-cogsci/hans"
    assert asked[0][1]["data_files"] == {"validation": "plain_text/validation/*.parquet"}
    assert further.frame["label"].tolist() == [0, 1, 1] and len(further.frame["group"].cat.categories) == 6
    assert further.merge.tolist() == [[1, 0], [0, 1], [0, 1]]


def test_hans_is_not_read_from_another_sets_folder(hub, project):
    (project / "pairs").mkdir()
    (project / "pairs" / "validation.jsonl").write_text('{"premise": "other"}\n')
    asked = hub(HANS)
    load_evaluation("hans", options("mnli", data="pairs"), ["entailment", "neutral", "contradiction"])
    assert len(asked) == 1


@pytest.mark.parametrize("kind", ["float64", "int64", "bool"])
def test_civilcomments(hub, kind):
    """Toxic and mentioned from one half on, whether shares of raters or what came of them."""
    found = CIVIL
    if kind != "float64":
        rows = CIVIL.to_pandas()
        rows[[*IDENTITIES, "toxicity"]] = (rows[[*IDENTITIES, "toxicity"]] >= 0.5).astype(kind)
        found = datasets.Dataset.from_pandas(rows)
    asked = hub(found)
    splits = load(options("civilcomments"))
    assert [kwargs["split"] for _, kwargs in asked] == ["train", "test"]
    assert asked[0][0][0] == "pietrolesci/civilcomments-wilds"
    assert splits.train["label"].tolist() == [0, 1, 0, 1] and splits.train["identity"].tolist() == [
        False,
        False,
        True,
        True,
    ]


def test_the_hub_out_of_reach_is_one_message_that_says_what_to_do(monkeypatch):
    def refuse(*args, **kwargs):
        raise ConnectionError("Couldn't reach the hub\nlong story")

    monkeypatch.setattr("datasets.load_dataset", refuse)
    with pytest.raises(DataError, match=r"(?s)nyu-mll/multi_nli.*-p data FOLDER.*HF_HUB_OFFLINE=1") as caught:
        load(options("mnli"))
    assert "long story" not in str(caught.value)


def test_another_hub_data_set_is_asked_without_the_entrys_revision(hub):
    asked = hub(AMPLIFIED)
    load(options("mnli-amplified", data="someone/else"))
    assert asked[0] == (("someone/else", None), {"split": "train.biased", "revision": None})


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_data_set_says_what_it_is(path):
    entry = Entry.read(path)
    assert entry.description and entry.licence and (entry.citation or entry.generator)
