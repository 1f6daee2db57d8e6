import threading
from pathlib import Path

import pytest

from fairkd import runs


def test_a_run_is_visible_only_when_complete_and_computed_once(project):
    calls = []

    def compute(folder: Path):
        calls.append(folder.name)
        assert runs.find("x") is None
        (folder / "metrics.json").write_text("{}")

    assert runs.make("x", compute).metrics == {}
    assert runs.make("x", compute).folder == project / "reports" / "runs" / "x"
    assert calls == ["x.partial"]


def test_a_failure_keeps_what_was_computed_and_is_taken_up_again(project):
    def fail(folder: Path):
        (folder / "checkpoint-1").mkdir()
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        runs.make("x", fail)
    assert runs.find("x") is None

    def finish(folder: Path):
        assert (folder / "checkpoint-1").is_dir()

    assert not list(runs.make("x", finish).folder.iterdir())


def test_two_that_ask_at_once_compute_once(project):
    calls, both = [], threading.Barrier(2)

    def ask():
        both.wait()
        runs.make("x", lambda folder: calls.append(1))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == [1]


def test_the_key_is_of_content_not_of_order():
    key = runs.run_key({"a": 1, "b": 2.0})
    assert key == runs.run_key({"b": 2.0, "a": 1})
    assert len({key, runs.run_key({"a": 1, "b": 2.5}), runs.run_key({"a": 1})}) == 3


def test_a_folder_stands_for_its_content(project):
    (project / "model").mkdir()
    (project / "model" / "config.json").write_text("{}")
    before = runs.fingerprint("./model")
    runs.fingerprint.cache_clear()
    assert runs.fingerprint("./model") == before
    runs.fingerprint.cache_clear()
    (project / "model" / "config.json").write_text("{ }")
    assert runs.fingerprint("./model") != before
    assert runs.fingerprint("owner/name") == "owner/name"


def test_names_are_told_from_folders(project):
    (project / "pairs").mkdir()
    assert runs.local_path("pairs") == project / "pairs"
    assert runs.local_path("owner/name") is None
    assert runs.local_path("./missing") == project / "missing"
    assert runs.local_path("/missing") == Path("/missing")
    assert runs.local_path("demo-bert").is_dir()
