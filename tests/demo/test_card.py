"""The card of the demo's data has the profile's own numbers and examples."""

from pathlib import Path

import pytest
from huggingface_hub import DatasetCard

from fairkd import Experiment
from fairkd.data import load
from fairkd.demo import corpus

CARD = DatasetCard.load(Path(corpus.__file__).with_name("README.md"))


@pytest.fixture(scope="module")
def splits():
    return load(Experiment.from_file("params/demo.yaml"))


def tables():
    """The rows of the card's tables, the heads left out: examples of four cells, then groups of four."""
    lines = [line.strip("| ").split(" | ") for line in CARD.text.splitlines() if line.startswith("| ")]
    return [cells for cells in lines if cells[0] not in ("premise", "group")]


def test_sizes_are_the_profile_s(splits):
    told = {group: tuple(int(n.replace(",", "")) for n in counts) for group, *counts in tables()[4:]}
    counts = [splits.frames[name]["group"].value_counts() for name in ("train", "validation", "evaluation")]
    assert told == {group: tuple(count[group] for count in counts) for group in splits.groups}
    total = sum(len(frame) for frame in splits.frames.values())
    assert CARD.data.size_categories == ["10K<n<100K"] and 10_000 < total < 100_000
    assert CARD.data.license == splits.entry.licence.lower()


def test_examples_are_of_the_data_with_their_label_and_group(splits):
    found = splits.train.set_index(["premise", "hypothesis"])
    assert len(tables()) == 10
    for premise, hypothesis, label, group in tables()[:4]:
        row = found.loc[(premise, hypothesis)]
        assert (splits.labels[int(row["label"])], row["group"]) == (label, group)
