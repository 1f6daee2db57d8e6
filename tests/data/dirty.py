"""Dirty files of a training split, in every format, and what becomes of each: read right, or refused."""

import gzip
import json
import os
import re
import warnings
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from fairkd.data import DataError, DataOptions, load

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
    "a number as label": ("train.jsonl", row(verdict=1), r"unknown label 1; .*state label: map: \{1: NAME\} in its"),
    "numbers as labels": ("train.csv", CSV + "x,3,a\ny,1,a\nz,2,a\nz,1.0,a\n",
                          r"unknown label '3'; .*state label: map: \{1: NAME, 2: NAME, 3: NAME\} in its file$"),
    "many numbers as labels": ("train.jsonl", "".join(row(verdict=i) + "\n" for i in range(30)),
                               r"map: \{0: NAME, 1: NAME, .*, 9: NAME, \.\.\.\} in its file$"),
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
    "two objects on a line": ("train.jsonl", LINES + row() + row(), "train.jsonl, line 3: is no JSON .Extra data"),
    "single quotes": ("train.jsonl", LINES + "{'review': 'x'}\n", "train.jsonl, line 3: is no JSON"),
    "a comment": ("train.jsonl", "# rows\n" + LINES, "train.jsonl, line 1: is no JSON"),
    "a string": ("train.json", '"rows"', 'is no object such as .* but "rows"'),
    "columns instead of rows": ("train.json", json.dumps({k: [r[k] for r in GOOD] for k in GOOD[0]}),
                                "train.json, line 1, column 'verdict'|is no text|unknown label"),
    "an open object": ("train.json", '[{"review": "x"', "train.json: is no JSON"),
    "a boolean as text": ("train.jsonl", LINES + row(True), "train.jsonl, line 3, column 'review': 'True' is no text"),
    "an object as text": ("train.jsonl", LINES + row({"a": 1}), "train.jsonl, line 3, column 'review': .* is no text"),
    "an object as label": ("train.jsonl", LINES + row(verdict={"a": 1}), "line 3, column 'verdict': unknown label"),
    "a boolean as label": ("train.jsonl", LINES + row(verdict=True), "line 3, .*unknown label True; allowed: bad,"),
    "an infinite label": ("train.jsonl", LINES + row(verdict=0).replace("0,", "1e999,"), "line 3, .*unknown label inf"),
    "a label in capitals": ("train.jsonl", LINES + row(verdict="Good"), "unknown label 'Good'; allowed: bad, good"),
    "a label with a space": ("train.csv", CSV + "x, good,a\n", "train.csv, line 4, .*unknown label ' good'"),
    "a list as level": ("train.jsonl", LINES + row(genre=["a"]), r"line 3, genre: \['a'\] is no level"),
    "a level a row": ("train.jsonl", "".join(row(genre=f"g{i}") + "\n" for i in range(60)), "has 60 levels; .*most"),
    "one class": ("train.jsonl", (row() + "\n") * 3, "verdict: all training rows are 'good'"),
    "no attribute": ("train.jsonl", '{"review": "x", "verdict": "good"}\n', "train.jsonl has no column 'genre'"),
    "no label": ("train.csv", "review,label,genre\nx,good,a\n", "train.csv has no column 'verdict'"),
    "tabs": ("train.csv", CSV.replace(",", "\t"), "train.csv has no column 'review'"),
    "a NUL in csv": ("train.csv", CSV + "a\0b,good,a\n", "train.csv, line 4: holds a NUL"),
    "a NUL in jsonl": ("train.jsonl", LINES + row().replace("x", "\0"), "train.jsonl, line 3: holds a NUL"),
    "utf-16 csv with its mark": ("train.csv", CSV.encode("utf-16"), "train.csv is UTF-16 text"),
    "latin-1 gz": ("train.csv.gz", gzip.compress((CSV + "café,good,a\n").encode("latin-1"), mtime=0),
                   "train.csv.gz, line 4: is no UTF-8"),
    "truncated csv.gz": ("train.csv.gz", gz(CSV * 99)[:-30], "train.csv.gz is cut off"),
    "plain csv.gz": ("train.csv.gz", CSV, "train.csv.gz is damaged, or no gzip file"),
    "an empty gz": ("train.jsonl.gz", gz(""), "train.jsonl.gz is empty"),
    "no bytes in gz": ("train.jsonl.gz", "", "train.jsonl.gz is empty"),
    "a broken line in gz": ("train.jsonl.gz", gz(LINES + "{"), "train.jsonl.gz, line 3: is no JSON"),
    "parquet without its head": ("train.parquet", parquet(GOOD)[20:], "train.parquet is damaged"),
    "lists in parquet": ("train.parquet", parquet([each | {"review": ["x"]} for each in GOOD]), "row 1, .*is no text"),
    "a label of no class in parquet": ("train.parquet", parquet([*GOOD, GOOD[0] | {"verdict": "ok"}]),
                                       "train.parquet, row 3, column 'verdict': unknown label 'ok'"),
    "1.9 as label in parquet": ("train.parquet", parquet([each | {"verdict": 1.9} for each in GOOD]),
                                "train.parquet, row 1, .*unknown label 1.9"),
    "another format": ("train.tsv", CSV.replace(",", "\t"), "no train.jsonl, .jsonl.gz, .csv or .parquet"),
    "a name in capitals": ("TRAIN.JSONL", LINES, "no train.jsonl, .jsonl.gz, .csv or .parquet"),
}  # fmt: skip

WORDS = ["NA", "null", "None", "nan", "007", "1.50", 'so "so", he\nsaid', "=1+1", "a\u2028b\x0cc", " x ", "<b>", "$x$"]
SPOKEN = pd.DataFrame({"review": WORDS, "verdict": ["bad", "good"] * 6, "genre": "drama"})
ODD = dict.fromkeys(["group", "id", "importance", "split", "label", "held", "index", "length", "negation"], "odd")
BOTH = ["fine", "poor"]
# {case: (file, content, the texts that are read, what is dropped)}
RIGHT = {
    "jsonl": ("train.jsonl", LINES, BOTH, {}),
    "a byte order mark and blank lines": ("train.jsonl", "\ufeff" + LINES.replace("\n", "\r\n\n"), BOTH, {}),
    "lines called json": ("train.json", LINES, BOTH, {}),
    "a list": ("train.json", json.dumps(GOOD, indent=2), BOTH, {}),
    "jsonl.gz": ("train.jsonl.gz", gz(LINES), BOTH, {}),
    "csv": ("train.csv", CSV, BOTH, {}),
    "a byte order mark in csv": ("train.csv", "\ufeff" + CSV.replace("\n", "\r\n"), BOTH, {}),
    "an index column": ("train.csv", pd.DataFrame(GOOD).to_csv(), BOTH, {}),
    "csv.gz": ("train.csv.gz", gz(CSV), BOTH, {}),
    "parquet": ("train.parquet", parquet(GOOD), BOTH, {}),
    "no end of the last line": ("train.jsonl", LINES.rstrip(), BOTH, {}),
    "blank lines in csv": ("train.csv", CSV.replace("\n", "\n\n"), BOTH, {}),
    "words for missing in csv": ("train.csv", SPOKEN.to_csv(index=False), WORDS, {}),
    "words for missing in jsonl": ("train.jsonl", SPOKEN.to_json(orient="records", lines=True), WORDS, {}),
    "words for missing in parquet": ("train.parquet", parquet(SPOKEN.to_dict("records")), WORDS, {}),
    "numbers as text in csv": ("train.csv", CSV + "5,good,drama\n", [*BOTH, "5"], {}),
    "numbers as text in jsonl": ("train.jsonl", LINES + row(5), [*BOTH, "5"], {}),
    "no text in a row": ("train.jsonl", LINES + row(None), BOTH, {"no review": 1}),
    "not a number as text": ("train.jsonl", LINES + row(0).replace("0,", "NaN,", 1), BOTH, {"no review": 1}),
    "an empty text": ("train.csv", CSV + ",good,a\n", BOTH, {"empty review": 1}),
    "blanks as text": ("train.jsonl", LINES + row(" \t\u00a0"), BOTH, {"empty review": 1}),
    "a column in some rows": ("train.jsonl", LINES + '{"review": "x", "verdict": "good"}\n', BOTH, {"no genre": 1}),
    "rows without a label": ("train.jsonl", LINES + row(verdict="-") + "\n" + row(verdict=-1), BOTH, {"no label": 2}),
    "an empty label in csv": ("train.csv", CSV + "x,,a\n", BOTH, {"no label": 1}),
    "a null label in parquet": ("train.parquet", parquet([*GOOD, GOOD[0] | {"verdict": None}]), BOTH, {"no label": 1}),
    "columns of odd names": ("train.jsonl", "".join(json.dumps(each | ODD) + "\n" for each in GOOD), BOTH, {}),
    "odd names in csv": ("train.csv", pd.DataFrame([each | ODD for each in GOOD]).to_csv(), BOTH, {}),
    "another order": ("train.jsonl", LINES + '{"genre": "a", "verdict": "bad", "review": "x"}', [*BOTH, "x"], {}),
    "a text twice": ("train.jsonl", LINES * 2, BOTH * 2, {}),
    "letters of all kinds": ("train.csv", CSV + "naïve 日本語 🙂,good,a\n", [*BOTH, "naïve 日本語 🙂"], {}),
}  # fmt: skip
ENTRY = {
    "source": ".",
    "splits": {"train": "train", "evaluation": "test"},
    "text": "review",
    "label": {"column": "verdict", "names": ["bad", "good"]},
    "attribute": {"name": "genre", "column": "genre"},
}


def content_of(case: str, content: str | bytes) -> bytes:
    """The bytes of a case's file."""
    if isinstance(content, bytes):
        return content
    return content.encode("latin-1" if case.startswith("latin-1") else "utf-8")


def tried() -> dict[str, bool]:
    """{case: whether it was read right, or refused as it should be}, each in a folder of the project's own."""
    base, found = Path(os.environ["FAIRKD_ROOT"]), {}
    warnings.simplefilter("ignore")
    for number, case in enumerate([*REFUSED, *RIGHT]):
        name, content, *expected = (REFUSED | RIGHT)[case]
        folder = base / f"case-{number}"
        folder.mkdir()
        os.environ["FAIRKD_ROOT"] = str(folder)
        (folder / "reviews.yaml").write_text(yaml.safe_dump(ENTRY))
        (folder / "test.jsonl").write_text(LINES)
        (folder / name).write_bytes(content_of(case, content))
        try:
            splits = load(DataOptions(dataset="reviews.yaml", train_examples=None, validation_examples=0))
            ok = case in RIGHT and [splits.train["review"].tolist(), splits.dropped["train"]] == expected
        except DataError as error:
            ok = case in REFUSED and bool(re.search(expected[0], str(error)))
        except Exception:  # a raw traceback
            ok = False
        found[f"{case} ({name})"] = ok
    return found
