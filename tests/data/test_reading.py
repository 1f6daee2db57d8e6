"""Dirty files: read right, or refused with the file, the line or row, and what is wrong."""

import datasets
import pandas as pd
import pytest

from fairkd.data import DataError, load, reading, training_identity
from tests.data.dirty import BOTH, CSV, GOOD, LINES, REFUSED, RIGHT, content_of, gz, parquet


def read(project, reviews, name, content):
    """The training texts of a data set whose training split is this file."""
    options = reviews(train="no", test=GOOD)
    (project / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return load(options)


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_refused_by_file_and_line(project, reviews, case):
    name, content, message = REFUSED[case]
    with pytest.raises(DataError, match=message):
        read(project, reviews, name, content_of(case, content))


@pytest.mark.parametrize("case", RIGHT)
def test_what_can_be_read_is_read_as_it_stands_and_what_is_dropped_is_counted(project, reviews, case):
    name, content, texts, dropped = RIGHT[case]
    splits = read(project, reviews, name, content_of(case, content))
    assert splits.train["review"].tolist() == texts and splits.dropped == {"train": dropped, "test": {}}


def test_the_end_of_a_name_alone_says_what_a_file_is(tmp_path):
    (tmp_path / "reviews.csv.jsonl").write_text(LINES)  # lines made of a CSV file
    (tmp_path / "reviews.jsonl").write_text(LINES)
    made, plain = (reading.read_file(tmp_path / f"reviews{end}", None) for end in (".csv.jsonl", ".jsonl"))
    pd.testing.assert_frame_equal(made.frame, plain.frame)


@pytest.mark.parametrize("case", [case for case, told in RIGHT.items() if told[2:] == (BOTH, {})])
def test_every_format_reads_the_same(project, reviews, case):
    splits = load(reviews(train=GOOD, test=GOOD))
    (project / "train.jsonl").unlink()
    pd.testing.assert_frame_equal(
        read(project, reviews, RIGHT[case][0], content_of(case, RIGHT[case][1])).train, splits.train
    )


def test_dropped_rows_are_counted_by_reason(project, reviews):
    rows = [
        {"review": "x", "verdict": "-", "genre": "a"},
        {"review": "x", "verdict": -1, "genre": "a"},
        {"review": "x", "verdict": None, "genre": "a"},
        {"review": "x", "genre": "a"},
        {"verdict": "good", "genre": "a"},
        {"review": None, "verdict": "good", "genre": "a"},
        {"review": " \t\u00a0", "verdict": "good", "genre": "a"},
        {"review": "", "verdict": "good", "genre": "a"},
        {"review": "x", "verdict": "good"},
        {"review": 5, "verdict": "good", "genre": "a"},
    ]
    splits = load(reviews(train=GOOD + rows, test=GOOD))
    assert splits.dropped["train"] == {"no label": 4, "no review": 2, "empty review": 2, "no genre": 1}
    assert splits.train["review"].tolist() == ["fine", "poor", "5"]
    assert splits.train["id"].tolist() == ["train-0", "train-1", "train-11"]


def test_an_ambiguous_split_is_refused_and_another_split_is_not_it(project, reviews):
    options = reviews(train=GOOD, test=GOOD)
    (project / "train.old.jsonl").write_text(LINES * 3)
    (project / "train-2.jsonl").write_text(LINES * 3)
    assert len(load(options).train) == 2
    for name, content in {"train.csv": CSV.encode(), "train.jsonl.gz": gz(LINES)}.items():
        (project / name).write_bytes(content)
        with pytest.raises(DataError, match=rf"train.jsonl and {name}|{name} and train.jsonl"):
            load(options)
        (project / name).unlink()
    (project / "train.jsonl").unlink()
    with pytest.raises(DataError, match="no train.jsonl, .* it has test.jsonl, train-2.jsonl, train.old.jsonl"):
        load(options)


@pytest.mark.parametrize("ids", [["a", None], ["a", "a"], ["", "b"]])
def test_ids_that_do_not_name_every_row_are_counted_instead(reviews, ids):
    rows = [row | {"key": key} for row, key in zip(GOOD, ids, strict=True)]
    assert load(reviews(train=rows, test=GOOD, id="key")).train["id"].tolist() == ["train-0", "train-1"]


def test_ids_keep_their_text(reviews):
    rows = [row | {"key": key} for row, key in zip(GOOD, ["007", 7.0], strict=True)]
    splits = load(reviews(train=rows, test=GOOD, id="key"))
    assert splits.train["id"].tolist() == ["train-0", "train-1"]  # 007 and 7 are one number: not to be told apart
    rows = [row | {"key": key} for row, key in zip(GOOD, ["007", 8], strict=True)]
    assert load(reviews(train=rows, test=GOOD, id="key")).train["id"].tolist() == ["007", "8"]


def test_further_columns_are_harmless_whatever_their_names(reviews):
    more = dict.fromkeys(["group", "id", "importance", "split", "label", "held", "index", "length", "negation"], "odd")
    splits = load(reviews(train=[row | more for row in GOOD], test=GOOD))
    assert list(splits.train) == ["review", "id", "label", "genre", "group", "importance"]
    assert splits.train["id"].tolist() == ["train-0", "train-1"]


def test_classes_that_the_hubs_library_wrote_to_parquet_go_by_their_names(project, reviews):
    features = datasets.Features(
        dict.fromkeys(["review", "genre"], datasets.Value("string"))
        | {"verdict": datasets.ClassLabel(names=["good", "bad"])}
    )
    rows = {"review": ["fine", "poor", "?"], "verdict": [0, 1, -1], "genre": ["a", "a", "a"]}
    options = reviews(train="no", test=GOOD)
    datasets.Dataset.from_dict(rows, features=features).to_parquet(project / "train.parquet")
    splits = load(options)
    assert splits.train["label"].tolist() == [1, 0] and splits.dropped["train"] == {"no label": 1}


def test_whole_numbers_beside_nulls_stay_whole(project, reviews):
    values = [(1, 1, 3), (2, 0, 1), (3, None, 2), (4, 1, None), (None, 1, 1)]
    content = parquet([{"review": r, "verdict": v, "genre": g} for r, v, g in values])
    options = reviews(train="no", test=[{"review": "y", "verdict": 0, "genre": 1}],
                      label={"column": "verdict", "names": ["bad", "good"], "map": {0: "bad", 1: "good"}})  # fmt: skip
    (project / "train.parquet").write_bytes(content)
    splits = load(options)
    assert splits.train["label"].tolist() == [1, 0] and splits.train["genre"].tolist() == [3, 1]
    assert splits.train["review"].tolist() == ["1", "2"]
    assert splits.groups == ["bad, genre 1", "bad, genre 3", "good, genre 1", "good, genre 3"]


def test_a_file_as_source_needs_a_share_to_evaluate_on(project, reviews):
    (project / "all.csv").write_text(pd.DataFrame(GOOD * 50).to_csv(index=False))
    options = reviews(source="all.csv", splits={"evaluation": 0.2})
    splits = load(options)
    assert (len(splits.train), len(splits.evaluation)) == (80, 20)
    assert not set(splits.train["id"]) & set(splits.evaluation["id"])
    assert load(options.vary(data_seed=3)).evaluation.equals(splits.evaluation)
    with pytest.raises(DataError, match="all.csv is one file; state evaluation: 0.2"):
        load(reviews(source="all.csv"))


def test_a_missing_folder_is_named(project, reviews):
    options = reviews(options={"data": "./nowhere"})
    with pytest.raises(DataError, match=r"data = './nowhere': there is no folder"):
        load(options)


@pytest.mark.parametrize("name", ["d101/trian.csv", "./trian.jsonl.gz", "trian.parquet"])
def test_a_missing_file_is_no_name_on_the_hub(project, reviews, monkeypatch, name):
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: pytest.fail("looked for on the hub"))
    where = f"there is no such file, neither beside reviews.yaml nor in {project}$"
    with pytest.raises(DataError, match=f"^source = '{name}': {where}"):
        load(reviews(source=name, splits={"evaluation": 0.2}))
    with pytest.raises(DataError, match=f"^data = '{name}': there is no such file, not in {project}$"):
        training_identity(reviews(options={"data": name}))
    with pytest.raises(DataError, match="^source = '/nowhere/trian.csv': there is no such file$"):
        load(reviews(source="/nowhere/trian.csv", splits={"evaluation": 0.2}))


@pytest.mark.parametrize("kind", ["dict", "one", "arrow", "tsv"])
def test_a_folder_of_files_that_are_not_read_says_how_to_convert_them(project, reviews, kind):
    rows = datasets.Dataset.from_list(GOOD)
    if kind == "dict":
        datasets.DatasetDict(train=rows).save_to_disk(project / "folder")
    else:
        rows.save_to_disk(project / "folder")
    if kind == "arrow":
        for file in (project / "folder").glob("*.json"):
            file.unlink()
    if kind == "tsv":
        for file in (project / "folder").iterdir():
            file.unlink()
        (project / "folder" / "all.tsv").write_text(CSV.replace(",", "\t"))
    options = reviews(train="no", source="folder", splits={"train": "train", "evaluation": "test"})
    with pytest.raises(DataError, match=r"^source = 'folder': no train.jsonl, .*; it has .*; convert ") as caught:
        load(options)
    code = str(caught.value)
    assert ("dataset_dict.json" in code) == (kind == "dict")
    exec(code[code.index("datasets.") :], {"datasets": datasets})
    (project / "folder" / "test.parquet").write_bytes((project / "folder" / "train.parquet").read_bytes())
    assert load(options).train["review"].tolist() == ["fine", "poor"]


def test_a_broken_link_is_no_split(project, reviews):
    options = reviews()
    (project / "train.jsonl").unlink()
    (project / "train.jsonl").symlink_to(project / "gone.jsonl")
    with pytest.raises(DataError, match="no train.jsonl"):
        load(options)


def test_where_a_row_stands_is_counted_from_one():
    table = reading.from_rows([{"a": 1}, {"a": 2}], "made up")
    assert table.at(0) == "made up, row 1"
