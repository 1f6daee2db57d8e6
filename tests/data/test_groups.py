from pathlib import Path

import pandas as pd
import pytest

import fairkd
from fairkd.data import DataError, attribute_name, group_name, has_negation, load, register_generator, register_rule
from fairkd.data.registry import GENERATORS, RULES, Generator
from fairkd.parameters import ParameterError


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


def test_names_of_groups():
    assert group_name("neutral", "negation", False) == "neutral, no negation"
    assert attribute_name("quality", "average") == "quality average"  # "average" is a row of every report
    assert [attribute_name("stars", level) for level in (True, 3, 0, "western")] == [
        "stars",
        "stars 3",
        "stars 0",
        "western",
    ]


def rows(levels):
    return [{"review": f"r{i}", "verdict": ("bad", "good")[i % 2], "genre": level} for i, level in enumerate(levels)]


@pytest.mark.parametrize(
    ("levels", "expected", "names"),
    [
        ([True, False], [True, False], ["no genre", "genre"]),
        (["true", "False"], [True, False], ["no genre", "genre"]),
        ([True, True], [True, True], ["no genre", "genre"]),  # both are there, seen or not
        ([10, 9, 0], [10, 9, 0], ["genre 0", "genre 9", "genre 10"]),
        (["10", "9"], [10, 9], ["genre 9", "genre 10"]),
        ([2.0, 1], [2, 1], ["genre 1", "genre 2"]),
        (["a", "b", "c"], ["a", "b", "c"], ["a", "b", "c"]),
        (["None", "nan", None, "x"], ["None", "nan", "x"], ["None", "nan", "x"]),
        (["01", "02"], ["01", "02"], ["01", "02"]),
        (["1.0", "2"], ["1.0", "2"], ["1.0", "2"]),
    ],
)
def test_levels_are_booleans_whole_numbers_or_text(reviews, levels, expected, names):
    splits = load(reviews(train=rows(levels), test=rows(levels)))
    assert splits.train["genre"].tolist() == expected
    assert splits.groups == [f"{label}, {name}" for label in ("bad", "good") for name in names]


def test_levels_get_the_names_and_the_order_that_the_entry_states(reviews):
    attribute = {"name": "area", "column": "genre", "levels": {1: "urban", 0: "rural", 2: "sea"}}
    splits = load(reviews(train=rows([0, 1, 0]), test=rows(["1"]), attribute=attribute))
    assert splits.train["area"].tolist() == ["rural", "urban", "rural"] and splits.attribute == "area"
    assert splits.groups[:3] == ["bad, urban", "bad, rural", "bad, sea"]
    with pytest.raises(DataError, match="train.jsonl, line 2, area: unknown level 3; allowed by levels: 1, 0, 2"):
        load(reviews(train=rows([0, 3]), test=rows([1]), attribute=attribute))


def test_a_column_of_names_is_no_attribute(reviews):
    with pytest.raises(DataError, match="genre has 51 levels; groups are made of at most 50"):
        load(reviews(train=rows([f"name {i}" for i in range(51)])))


def test_levels_of_another_kind_in_another_split_are_refused(reviews):
    with pytest.raises(DataError, match="genre: its levels are of one kind in one split and of another"):
        load(reviews(train=rows([1, 2]), test=rows(["a", "b"])))


def test_words_in_a_column(reviews):
    attribute = {"name": "praise", "words": ["great", "superb"], "in": "review"}
    train = [{"review": text, "verdict": "good"} for text in ("GREAT!", "greater", "so, superb")]
    splits = load(reviews(train=[*train, {"review": "no", "verdict": "bad"}], attribute=attribute))
    assert splits.train["praise"].tolist() == [True, False, True, False]


def test_any_of_some_columns(reviews):
    attribute = {"name": "identity", "any_of": ["a", "b"], "threshold": 0.5}
    values = [(0.5, 0), ("0.49", None), (True, 0), ("False", "true"), (None, None)]
    train = [{"review": f"r{i}", "verdict": ("bad", "good")[i % 2], "a": a, "b": b} for i, (a, b) in enumerate(values)]
    splits = load(reviews(train=train, test=train, attribute=attribute))
    assert splits.train["identity"].tolist() == [True, False, True, True]
    assert splits.dropped["train"] == {"no identity": 1}
    with pytest.raises(DataError, match="train.jsonl, line 1, column 'a': 'many' is no number"):
        load(reviews(train=[train[0] | {"a": "many"}], attribute=attribute))


def test_a_rule_in_python_sees_all_columns(reviews, monkeypatch):
    def long_title(frame: pd.DataFrame) -> pd.Series:
        return frame["title"].str.len().map({3: "short", 4: "long"})

    monkeypatch.setitem(RULES, "length of the title", None)  # forgotten after the test
    assert register_rule("length of the title")(long_title) is long_title
    attribute = {"name": "title", "rule": "length of the title"}
    train = [row | {"title": title} for row, title in zip(rows([1, 1, 1]), ("abc", "abcd", "?"), strict=True)]
    options = reviews(train=train, test=train, attribute=attribute)
    splits = load(options)
    assert splits.train["title"].tolist() == ["short", "long"] and splits.dropped["test"] == {"no title": 1}
    assert options.data_code == [long_title]
    monkeypatch.setitem(RULES, "length of the title", lambda frame: [1, 2])
    with pytest.raises(DataError, match="rule 'length of the title': returns no series"):
        load(options)
    monkeypatch.delitem(RULES, "length of the title")
    with pytest.raises(
        ParameterError, match="attribute: rule = 'length of the title': is not registered; import its module"
    ):
        reviews(attribute=attribute)


@pytest.mark.parametrize(("labels", "levels"), [(["a", "a, b"], ["c", "b, c"]), (["a", "x"], ["b", "a, b"])])
def test_names_that_would_be_those_of_two_groups_are_refused(reviews, labels, levels):
    train = [{"review": f"r{i}", "verdict": labels[i % 2], "genre": levels[i // 2 % 2]} for i in range(8)]
    with pytest.raises(DataError, match="reviews: 'a, b.*' would be the name of two groups, or of a group and a level"):
        load(reviews(train=train, test=train, label={"column": "verdict", "names": labels}))


def test_groups_of_which_no_row_is_are_said(reviews, caplog):
    caplog.set_level("WARNING", "fairkd")
    load(reviews())
    assert not caplog.messages
    load(reviews(attribute={"name": "praise", "words": ["xyzzy"], "in": "review"}))
    assert caplog.messages == ["reviews: no row is of bad, praise; good, praise"]


@pytest.mark.parametrize(("column", "why"), [("nope", "there is no such column"), ("genre", "not every row has")])
def test_ids_that_are_none_are_said(reviews, caplog, column, why):
    assert load(reviews(id=column)).train["id"].tolist() == [f"train-{i}" for i in range(16)]
    assert f"split train, id: {column}: {why}" in caplog.text


def test_a_rule_that_fails_or_has_no_name_says_so(reviews, monkeypatch):
    with pytest.raises(ValueError, match=r"write @register_rule\('name'\) above it"):
        register_rule(lambda frame: frame["title"])
    monkeypatch.setitem(RULES, "by title", lambda frame: frame["title"])
    with pytest.raises(DataError, match="rule 'by title': KeyError: 'title'"):
        load(reviews(attribute={"name": "title", "rule": "by title"}))


def test_a_rule_of_fairkd_is_not_replaced(monkeypatch):
    monkeypatch.setitem(RULES, "shipped", has_negation)
    with pytest.raises(ValueError, match="name = 'shipped': is that of fairkd.data"):
        register_rule("shipped")(lambda frame: frame["title"])


def test_a_generator_is_one_class_with_its_own_name_and_parameters(monkeypatch, tmp_path):
    class Pairs(Generator):
        name = "pairs"
        seed: int = 0

        def splits(self, options):
            return {}

    monkeypatch.setitem(GENERATORS, "pairs", None)  # forgotten after the test
    assert register_generator(Pairs) is Pairs is GENERATORS["pairs"]
    shipped = (Path(__file__).parents[2] / "params/datasets/demo.yaml").read_text()
    (tmp_path / "pairs.yaml").write_text(shipped.replace("generator: demo", "generator: pairs"))
    with pytest.raises(ParameterError, match="seed: is a parameter of every experiment and of pairs"):
        fairkd.Experiment(method="kd", dataset=str(tmp_path / "pairs.yaml"))
    with pytest.raises(ValueError, match="Pairs: should be a subclass of Generator"):
        register_generator(type("Pairs", (), {"name": "other"}))
    with pytest.raises(ValueError, match="name = 'demo': is that of fairkd.demo.Demo"):
        register_generator(type("Pairs", (Pairs,), {"name": "demo", "__module__": "mine"}))
    with pytest.raises(ValueError, match="Half: lacks splits"):
        register_generator(type("Half", (Generator,), {"name": "half"}))


def test_seven_classes_and_three_levels(reviews):
    names = [f"class {i}" for i in range(7)]
    train = [{"review": f"r{i}", "verdict": i % 7, "genre": i % 3} for i in range(42)]
    label = {"column": "verdict", "names": names, "map": dict(enumerate(names))}
    splits = load(reviews(train=train, test=train[:5], label=label))
    assert len(splits.groups) == 21 and splits.train["group"].value_counts().tolist() == [2] * 21
    for row, group in zip(train, splits.train["group"], strict=True):
        assert group == f"class {row['verdict']}, genre {row['genre']}"
