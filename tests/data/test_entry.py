import pandas as pd
import pytest
import yaml

from fairkd import distil
from fairkd.data import DataOptions, Entry, entry_named, evaluation_identity, generator_of, training_identity
from fairkd.data.entry import Attribute
from fairkd.evaluation import group_report
from fairkd.evaluation.early import answers
from fairkd.parameters import ParameterError

RIGHT = {
    "source": "someone/reviews",
    "splits": {"train": "train", "evaluation": "test"},
    "text": "review",
    "label": {"names": ["bad", "good"]},
    "attribute": {"name": "genre", "column": "genre"},
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"txt": "review"}, "mine.yaml: txt: there is no such parameter; did you mean 'text'"),
        ({"text": None}, r"mine.yaml: text: is missing; the column of the text, .* such as \[premise, hypothesis\]$"),
        ({"attribute": None}, "yaml: attribute: is missing; what makes groups, such as {name: genre, column: genre}$"),
        ({"label": None, "lable": {}}, r"(?s)label: is missing; the labels, .*\nmine.yaml: lable: .* 'label'\?$"),
        ({"label": "verdict"}, "label = 'verdict': should be a mapping; the labels, such as {column: label, names:"),
        ({"label": {"name": ["bad", "good"]}}, "label: names: is missing; the classes in .* such as"),
        ({"text": ["a", "b", "c"]}, "text = .*at most 2"),
        ({"text": ["a", "a"]}, "text = .*one column twice"),
        ({"text": "label"}, "text = .*the name 'label' is taken"),
        ({"text": "genre"}, "text = .*the name 'genre' is taken"),
        ({"source": None}, "mine.yaml: source, generator: state one of them"),
        ({"generator": "demo"}, "source, generator: state one of them"),
        ({"label": {"names": ["bad"]}}, "mine.yaml: label: names = .*at least 2"),
        ({"label": {"names": [str(i) for i in range(21)]}}, "label: names = .*at most 20"),
        ({"label": {"names": ["bad", "bad"]}}, "label: names = .*named twice"),
        ({"label": {"names": ["bad", "good"], "map": {}}}, "label: map = {}: .*at least 1"),
        ({"attribute": {"name": "genre", "column": "genre", "levels": {}}}, "attribute: levels = {}: .*at least 1"),
        ({"classes": {}}, "mine.yaml: classes = {}: .*at least 1"),
        ({"label": {"names": [True, False]}}, "label: names = True: should be text; YAML reads no, yes, .*: quote it"),
        ({"label": {"names": [None, "good"]}}, "label: names = None: should be text$"),
        ({"attribute": {"name": "g", "in": "review", "words": ["nobody", False]}}, "words = False: .*: quote it$"),
        (
            {"label": {"names": ["bad", "good"], "unlabelled": [None]}},
            "^[^\n]*unlabelled = None: should be true or false or a whole number or a number or text$",
        ),
        ({"label": {"names": ["bad", "good"], "colum": "x"}}, "mine.yaml: label: colum: .*did you mean 'column'"),
        ({"label": {"names": ["bad", "good"], "map": {0: "bd"}}}, "label: map: 'bd' is no class; did you mean 'bad'"),
        ({"label": {"names": ["a", "b", "c"], "threshold": 0.5}}, "label: threshold = 0.5: names are two"),
        ({"label": {"names": ["a", "b"], "threshold": 0.5, "map": {0: "a"}}}, "label: map and threshold"),
        ({"attribute": {"name": "genre"}}, "attribute: state exactly one of column, words, any_of, rule; stated: none"),
        ({"attribute": {"name": "g", "column": "g", "rule": "r"}}, "stated: column, rule"),
        ({"attribute": {"name": "g", "words": ["no"]}}, "attribute: words and in: state both"),
        ({"attribute": {"name": "g", "words": [], "in": "review"}}, r"attribute: words = \[\]: .*at least 1 item"),
        ({"attribute": {"name": "g", "any_of": []}}, r"attribute: any_of = \[\]: .*at least 1 item"),
        ({"attribute": {"name": "g", "column": "g", "threshold": 0.7}}, "threshold = 0.7: any_of alone reads it"),
        ({"attribute": {"name": "g", "words": ["don't"], "in": "review"}}, 'words: "don\'t" would never be found'),
        ({"attribute": {"name": "group", "column": "group"}}, "attribute: name = 'group': this name is taken"),
        ({"splits": {"train": "train"}}, "splits: evaluation: is missing; the evaluation split, or several"),
        ({"splits": {"train": "train", "evaluation": 1.5}}, "splits: evaluation = 1.5: should be less than 1$"),
        ({"splits": {"evaluation": 20}}, "^[^\n]*splits: evaluation = 20: should be less than 1$"),
        ({"splits": {"evaluation": {"a": 1}}}, "^[^\n]*evaluation = {'a': 1}: should be text or a list or a number$"),
        *[
            ({"splits": {"train": name, "evaluation": "test"}}, f"splits: {name!r} is no split: name a file inside")
            for name in ("../secret", "/etc/passwd", "a/../../b", "")
        ],
        ({"splits": {"train": "train", "evaluation": ["test", "../x"]}}, r"splits: '\.\./x' is no split"),
        ({"splits": {"train": "train", "evaluation": ["test", "test"]}}, "splits: 'test' is named twice"),
        ({"splits": {"train": "train", "evaluation": "train"}}, "splits: 'train' is named twice"),
        ({"classes": {"x": "god"}}, "classes: 'god' is no class of this set; did you mean 'good'"),
        ({"attribute": {"name": "g", "rule": "unheard of"}}, "attribute: rule = 'unheard of': is not registered"),
        ({"source": None, "generator": "dmo"}, "generator = 'dmo': is not registered.*did you mean 'demo'"),
        ({"splits": {"evaluation": "test"}}, "dataset = 'mine.yaml': has no training split; name it in evaluate_on"),
    ],
)
def test_a_wrong_entry_is_refused_by_file_and_field(project, changes, message):
    content = {name: value for name, value in (RIGHT | changes).items() if value is not None}
    (project / "mine.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ParameterError, match=message):
        DataOptions(dataset="mine.yaml")


def test_a_part_without_a_value_is_told_what_it_is():
    with pytest.raises(ParameterError, match="^attribute = None: should be a mapping; what makes groups, such as"):
        Entry(**(RIGHT | {"attribute": None}))


@pytest.mark.parametrize("content", [b"- a\n- b\n", b"", b"a: [", b"\xff\xfe", b"1: 2\n"])
def test_what_is_no_entry_is_refused(project, content):
    (project / "mine.yaml").write_bytes(content)
    with pytest.raises(ParameterError, match="mine.yaml"):
        DataOptions(dataset="mine.yaml")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"dataset": "mnly"},
            "dataset = 'mnly': is not known; did you mean 'mnli'.*known: civilcomments, demo, hans, mnli",
        ),
        ({"dataset": "gone.yaml"}, "dataset = 'gone.yaml': there is no such file"),
        ({"dataset": "../demo"}, "dataset = '../demo': is not known"),
        ({"dataset": "hans"}, "dataset = 'hans': has no training split; name it in evaluate_on"),
        ({"data": "pairs"}, "data = 'pairs': dataset = 'demo' is generated and reads no data"),
        (
            {"dataset": "mnli", "generator_options": {"negation_rates": [0, 0, 0]}},
            "generator_options = .*is not generated",
        ),
        ({"generator_options": {"negation_rate": [0, 0, 0]}}, "negation_rate: .*did you mean 'negation_rates'"),
        ({"generator_options": {"negation_rates": [0.1, 0.1, 1.1]}}, "negation_rates = .*less than or equal to 1"),
        ({"dataset": "mnli", "evaluate_on": ["hnas"]}, "evaluate_on = .*'hnas': is not known; did you mean 'hans'"),
        ({"dataset": "mnli", "evaluate_on": ["hans", "hans"]}, "name hans once"),
        ({"dataset": "mnli", "evaluate_on": ["demo"]}, "'demo' has no evaluation split of its own"),
        ({"dataset": "mnli", "evaluate_on": ["civilcomments"]}, "'civilcomments' has no class for 'entailment'"),
        ({"train_examples": 0}, "train_examples = 0"),
        ({"max_length": 10**12}, "max_length"),
    ],
)
def test_wrong_options_are_refused_at_once(options, message):
    with pytest.raises(ParameterError, match=message):
        DataOptions(**options)


def test_students_of_one_text_are_asked_of_no_pairs(reviews):
    label = {"column": "verdict", "names": ["entailment", "neutral", "contradiction"]}
    with pytest.raises(ParameterError, match=r"'hans' has the texts \['premise', 'hypothesis'\], and 'rev"):
        reviews(label=label, options={"evaluate_on": ["hans"]})


def test_an_entry_is_found_in_the_project_then_where_one_stands(project, tmp_path_factory, monkeypatch):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    (elsewhere / "mine.yaml").write_text(yaml.safe_dump(RIGHT))
    assert entry_named("mine.yaml").id is None
    (project / "mine.yaml").write_text(yaml.safe_dump(RIGHT | {"id": "key"}))
    assert entry_named("mine.yaml").id == "key"
    (project / "mine.yaml").write_text(yaml.safe_dump(RIGHT | {"id": "number"}))  # read again when it has changed
    assert entry_named("mine.yaml").id == "number"
    assert entry_named(str(elsewhere / "mine.yaml")).id is None


def test_generators_are_found_by_the_data_set():
    assert generator_of("demo").__name__ == "Demo"
    assert [generator_of(name) for name in ("mnli", "unheard of", None, 5)] == [None] * 4


def test_an_identity_is_what_decides_the_rows(reviews, project):
    options = reviews()
    identity = training_identity(options)
    assert set(identity["source"]) == {"train", "test"}
    assert training_identity(options.vary(evaluation_examples=3, evaluate_on=["reviews.yaml"])) == identity
    assert evaluation_identity(options.vary(evaluation_examples=3)) != evaluation_identity(options)
    for changes in ({"train_examples": 3}, {"validation_examples": 3}, {"max_length": 32}, {"data_seed": 1}):
        assert training_identity(options.vary(**changes)) != identity
    described = reviews(description="what they are", licence="none", citation="nobody")
    assert training_identity(described) == identity
    (project / "notes.txt").write_text("a folder may hold other files")
    assert training_identity(options) == identity
    assert training_identity(reviews(label={"column": "verdict", "names": ["good", "bad"]})) != identity
    assert training_identity(reviews(test=[])) != identity
    assert training_identity(DataOptions())["generator_options"]["evaluation_per_group"] == 650


def test_an_entry_can_be_made_without_a_file():
    assert Entry(**RIGHT).required == ["review", "label", "genre"]


def test_no_attribute_is_called_as_what_tables_have_beside_it(small):
    students = [distil(small), distil(small.vary(method="confreg"))]  # weighs every row; asks a reader of every row
    folders = [folder for run in students for folder in (run.folder, run.of.folder)]
    tables = [pd.read_parquet(file) for folder in folders for file in folder.glob("*.parquet")]
    predictions = students[0].table("predictions")
    tables.append(answers(predictions, "margin", 0.5))
    beside = {column for table in tables if "negation" in table for column in table} - {"negation"}
    beside |= {"parameter", "setting", "exit_right"}  # of the tables of a frontier
    assert {"id", "label", "group", "importance", "split", "epoch", "weight", "given", "prob_0", "depth"} <= beside
    rows = {"worst_of_means", "mean_of_worsts", *group_report(predictions).index} - {"negation", "no negation"}
    for name in sorted(beside | {row for row in rows if ", " not in row}):
        with pytest.raises(ParameterError, match=f"name = '{name}': this name is taken"):
            Attribute(name=name, column="genre")
    assert Attribute(name="given name", column="genre").name == "given name"
