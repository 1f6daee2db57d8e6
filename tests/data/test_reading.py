"""Dirty files: read right, or refused with the file, the line or row, and what is wrong."""

import gzip
import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairkd.data import DataError, load, reading

GOOD = [
    {"review": "fine", "verdict": "good", "genre": "drama"},
    {"review": "poor", "verdict": "bad", "genre": "western"},
]
LINES = "".join(json.dumps(row) + "\n" for row in GOOD)
CSV = "review,verdict,genre\nfine,good,drama\npoor,bad,western\n"


def parquet(rows):
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue().to_pybytes()


def gz(text):
    """Without the time: tests that run in parallel go by its bytes."""
    return gzip.compress(text.encode(), mtime=0)


def read(project, reviews, name, content):
    """The training texts of a data set whose training split is this file."""
    options = reviews(train="no", test=GOOD)
    (project / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return load(options)


def row(review="x", verdict="good", genre="a"):
    return json.dumps({"review": review, "verdict": verdict, "genre": genre})


REFUSED = {
    "a broken line": ("train.jsonl",
                      LINES + '{"review": "x" "verdict"}\n', "train.jsonl, line 3: is no JSON .*character 16"),
    "a truncated line": ("train.jsonl", LINES[:-20], "train.jsonl, line 2: is no JSON"),
    "a number of 5,000 digits": ("train.jsonl", LINES + '{"x": ' + "1" * 5000 + "}", "train.jsonl, line 3: is no JSON"),
    "a deep list": ("train.jsonl", LINES + "[" * 100_000, "train.jsonl, line 3: is no JSON"),
    "a line that is a list": ("train.jsonl", LINES + '["x", "good"]\n', r"line 3: is no object such as .* but \[\"x\""),
    "a line that is null": ("train.jsonl", LINES + "null\n", "line 3: is no object"),
    "a list of lists": ("train.json", '[["x", "good"]]', "train.json, row 1: is no object"),
    "an open list": ("train.json", json.dumps(GOOD)[:-1], "train.json: is no JSON"),
    "an empty file": ("train.jsonl", "", "train.jsonl is empty"),
    "blank lines": ("train.jsonl", "\n\n", "train.jsonl is empty"),
    "an empty csv": ("train.csv", "", "train.csv is empty"),
    "a csv of a header": ("train.csv", "review,verdict,genre\n", "train.csv has a header and no rows"),
    "a csv called jsonl": ("train.jsonl", CSV, "train.jsonl, line 1: is no JSON .*'review,verdict,genre'"),
    "jsonl called csv": ("train.csv", LINES, "train.csv.*has no column 'review'|train.csv, line"),
    "latin-1": ("train.jsonl", LINES + json.dumps(GOOD[0]).replace("fine", "café"), "train.jsonl, line 3: is no UTF-8"),
    "latin-1 csv": ("train.csv", CSV + "café,good,drama\n", "train.csv, line 4: is no UTF-8 .*0xe9 after 'caf'"),
    "utf-16": ("train.jsonl", LINES.encode("utf-16"), "train.jsonl is UTF-16 text; save it as UTF-8"),
    "utf-16 csv": ("train.csv", CSV.encode("utf-16-be"), "train.csv, line 1: holds a NUL"),
    "an open quote": ("train.csv", CSV + '"so so,good,a\nwell,bad,a\n', "train.csv, line 4: unexpected end of data"),
    "a stray quote": ("train.csv", CSV + '"so" so,good,a\n', "train.csv, line 4: .*quotes in quoted text are doubled"),
    "too many fields": ("train.csv", CSV + "well, well,bad,a\n", "train.csv, line 4: has 4 fields, the header has 3"),
    "too few fields": ("train.csv", CSV + "well,bad\n", "train.csv, line 4: has 2 fields"),
    "semicolons": ("train.csv", CSV.replace(",", ";"), "train.csv has no column 'review'; it has review;verdict;genre"),
    "a column twice": ("train.csv", CSV.replace("genre", "review"), "the header names 'review' twice"),
    "truncated gz": ("train.jsonl.gz", gz(LINES * 99)[:-30], "train.jsonl.gz is cut off"),
    "corrupt gz": ("train.csv.gz", gz(CSV)[:20] + b"?" * 40, "train.csv.gz is (damaged|cut off)"),
    "a flipped byte in gz": ("train.jsonl.gz", gz(LINES)[:-8] + b"12345678", "is damaged"),
    "plain gz": ("train.jsonl.gz", LINES, "train.jsonl.gz is damaged, or no gzip file .*drop .gz"),
    "truncated parquet": ("train.parquet", parquet(GOOD)[:-9], "train.parquet is damaged, or no parquet file"),
    "foreign parquet": ("train.parquet", LINES, "train.parquet is damaged, or no parquet file"),
    "an empty parquet file": ("train.parquet", b"", "train.parquet is damaged, or no parquet file"),
    "no rows in parquet": ("train.parquet", parquet([]), "train.parquet is empty"),
    "no such column": ("train.jsonl",
                       '{"reviews": "x", "verdict": "good", "genre": "a"}', "no column 'review'; .*is it 'reviews'"),
    "a label of no class": ("train.jsonl", LINES + row(verdict="ok"),
                            "train.jsonl, line 3, column 'verdict': unknown label 'ok'; allowed: bad, good$"),
    "a number as label": ("train.jsonl", row(verdict=1), "unknown label 1; .*state label: map"),
    "1.9 as label": ("train.csv", CSV + "x,1.9,drama", "train.csv, line 4, .*unknown label '1.9'"),
    "0.5 as label": ("train.jsonl", LINES + row(verdict=0.5), "line 3, .*unknown label 0.5"),
    "a list as label": ("train.jsonl", LINES + row(verdict=[1]), r"unknown label \[1\]"),
    "a list as text": ("train.jsonl", LINES + row(["x"]),
                       r"train.jsonl, line 3, column 'review': \"\['x'\]\" is no text"),
    "bytes as text": ("train.parquet", parquet([each | {"review": b"x"} for each in GOOD]),
                      "train.parquet, row 1, .*is no text"),
    "half a character": ("train.jsonl", LINES + row("x\ud800"), "line 3, .* is no text"),
    "a level with fractions": ("train.jsonl", LINES + row(genre=1.5), "genre: 1.5 is no level"),
    "only unlabelled rows": ("train.jsonl", row(verdict="-"), r"none of its 1 rows is left \(no label: 1\)"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_refused_by_file_and_line(project, reviews, case):
    name, content, message = REFUSED[case]
    if case.startswith("latin-1"):
        content = content.encode("latin-1")
    with pytest.raises(DataError, match=message):
        read(project, reviews, name, content)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train.jsonl", LINES),
        ("train.jsonl", "\ufeff" + LINES.replace("\n", "\r\n\n")),  # a byte order mark, blank lines
        ("train.json", LINES),
        ("train.json", json.dumps(GOOD, indent=2)),
        ("train.jsonl.gz", gz(LINES)),
        ("train.csv", CSV),
        ("train.csv", "\ufeff" + CSV.replace("\n", "\r\n")),
        ("train.csv", pd.DataFrame(GOOD).to_csv()),  # an index column without a name
        ("train.csv.gz", gz(CSV)),
        ("train.parquet", parquet(GOOD)),
    ],
)
def test_every_format_reads_the_same(project, reviews, name, content):
    splits = load(reviews(train=GOOD, test=GOOD))
    (project / "train.jsonl").unlink()
    pd.testing.assert_frame_equal(read(project, reviews, name, content).train, splits.train)


def test_csv_text_is_read_as_it_stands(project, reviews):
    texts = ["NA", "null", "None", "nan", "007", "1.50", 'so "so", he\nsaid', "=1+1", "a\u2028b\x0cc"]
    rows = pd.DataFrame({"review": texts, "verdict": (["bad", "good"] * 5)[:9], "genre": "drama"})
    splits = read(project, reviews, "train.csv", rows.to_csv(index=False))
    assert splits.train["review"].tolist() == texts and splits.dropped == {"train": {}, "test": {}}


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
    import datasets

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


def test_a_broken_link_is_no_split(project, reviews):
    options = reviews()
    (project / "train.jsonl").unlink()
    (project / "train.jsonl").symlink_to(project / "gone.jsonl")
    with pytest.raises(DataError, match="no train.jsonl"):
        load(options)


def test_where_a_row_stands_is_counted_from_one():
    table = reading.from_rows([{"a": 1}, {"a": 2}], "made up")
    assert table.at(0) == "made up, row 1"
