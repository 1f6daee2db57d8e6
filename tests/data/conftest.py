"""A data set of three files in the project's folder, which a test fills as it likes."""

import json

import pytest
import yaml

import fairkd.demo  # noqa: F401  registers the demo's generator
from fairkd.data import DataOptions

REVIEWS = {
    "source": ".",
    "splits": {"train": "train", "evaluation": "test"},
    "text": "review",
    "label": {"column": "verdict", "names": ["bad", "good"]},
    "attribute": {"name": "genre", "column": "genre"},
}


def write_rows(folder, split, rows):
    folder.mkdir(exist_ok=True)
    (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def reviews(project):
    """Writes reviews.yaml and its splits; the options that name it."""

    def make(train=None, test=None, options=None, **entry):
        content = {name: value for name, value in (REVIEWS | entry).items() if value is not None}
        (project / "reviews.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        rows = [
            {"review": f"{verdict} {genre} {i}", "verdict": verdict, "genre": genre}
            for i in range(4)
            for verdict in ("bad", "good")
            for genre in ("drama", "western")
        ]
        for split, given in {"train": train, "test": test}.items():
            if given is None or isinstance(given, list):
                write_rows(project, split, rows if given is None else given)
        sizes = {"train_examples": None, "validation_examples": 0}
        return DataOptions(**({"dataset": "reviews.yaml"} | sizes | (options or {})))

    return make
