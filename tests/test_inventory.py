"""What lies in reports/ is listed, looked at, verified and removed from the command line."""

import os
import re

import pytest

from fairkd import files, inventory, runs
from fairkd.__main__ import main


@pytest.fixture
def kept(project):
    """Four runs: of this code, of other code, interrupted, damaged."""

    def compute(folder):
        files.write_text(folder / "metrics.json", "{}")

    def interrupt(folder):
        (folder / "checkpoint-4").mkdir()
        raise KeyboardInterrupt

    own = runs.identity({"method": "kd", "seed": 3}, "fairkd.files")
    names = {"own": runs.make("kd", own, compute).folder.name}
    names["other"] = runs.make("kd", own | {"code": {"fairkd.files": "x"}}, compute).folder.name
    with pytest.raises(KeyboardInterrupt):
        runs.make("kd", own | {"parameters": {"seed": 4}}, interrupt)
    names["interrupted"] = runs.run_name("kd", own | {"parameters": {"seed": 4}}) + ".partial"
    damaged = runs.make("kd", own | {"parameters": {"seed": 5}}, compute).folder
    (damaged / "metrics.json").unlink()
    names["damaged"] = damaged.name
    return names


def test_runs_are_listed_with_their_state_and_what_is_safe_to_delete(kept, capsys):
    main(["runs"])
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    for which, said in {
        "own": "finished .* no +method=kd, seed=3",
        "other": r"finished .* yes: made by other code \(fairkd.files\)",
        "interrupted": "interrupted .* yes: it is begun anew",
        "damaged": "damaged .* yes: it is damaged",
    }.items():
        assert re.search(said, lines[kept[which]]), which


@pytest.mark.parametrize("file", ["config.yaml", "provenance.json"])
@pytest.mark.parametrize("text", ["", "metho", "[1, 2]", "{"])
def test_a_run_whose_own_words_are_damaged_is_listed(kept, capsys, file, text):
    (runs.runs_folder() / kept["own"] / file).write_text(text)
    main(["runs"])
    assert re.search(f"{kept['own']} .*damaged .* yes: it is damaged", capsys.readouterr().out)


def test_a_training_that_would_go_on_is_not_safe_to_delete(kept):
    checkpoint = runs.runs_folder() / kept["interrupted"] / "checkpoint-4"
    (checkpoint / "model.safetensors").write_bytes(b"x")
    files.write_manifest(checkpoint, checkpoint.iterdir())
    main(["runs", "remove", "--safe"])
    assert checkpoint.is_dir()


def test_runs_are_told_apart_by_what_their_method_changes(project, capsys):
    for beta in (3.0, 2.0):
        stated = {"method": "dedier", "seed": 0, "beta": beta, "place": "refit", "alpha": 0.2}
        runs.make("dedier", runs.identity(stated, "fairkd.files"), lambda folder: None)
    main(["runs"])
    listed = sorted(line.split("no  ")[-1].strip() for line in capsys.readouterr().out.splitlines()[1:])
    assert listed == ["method=dedier, seed=0, place=refit", "method=dedier, seed=0, place=refit, beta=2.0"]


def test_a_run_that_is_renamed_while_it_is_looked_at_is_passed_over(kept, monkeypatch):
    own, looked = inventory._kept, []

    def gone(folder):
        looked.append(folder)
        if len(looked) == 1:
            raise FileNotFoundError(folder)
        return own(folder)

    monkeypatch.setattr(inventory, "_kept", gone)
    assert len(inventory.kept_runs()) == len(kept) - 1


def test_a_run_is_shown_with_parameters_code_and_files(kept, capsys):
    main(["runs", "show", kept["own"]])
    shown = capsys.readouterr().out
    assert "seed: 3" in shown and '"fairkd.files"' in shown and "2  metrics.json" in shown.replace("  2", "2")


def test_verify_reads_every_file_and_ends_with_1_where_one_is_not_what_was_written(kept, project, capsys):
    file = runs.runs_folder() / kept["own"] / "metrics.json"
    main(["runs", "verify", kept["own"], kept["other"]])
    assert capsys.readouterr().out.split() == [kept["own"], "whole", kept["other"], "whole"]
    state = file.stat()
    file.write_text("[]")
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    with pytest.raises(SystemExit) as ended:
        main(["runs", "verify", kept["own"]])
    assert ended.value.code == 1 and "metrics.json is not what was written" in capsys.readouterr().out


def test_runs_are_removed_by_name_or_all_that_are_safe_to_delete(kept, capsys):
    left = lambda: sorted(path.name for path in runs.runs_folder().glob("kd-*"))  # noqa: E731
    main(["runs", "remove", kept["other"]])
    assert kept["other"] not in left()
    main(["runs", "remove", "--safe"])
    assert left() == [kept["own"]]
    main(["runs", "remove", "--safe"])
    assert "removed nothing" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["kd-none", "..", "../runs", ""])
def test_a_name_that_is_no_run_is_refused_and_nothing_is_removed(kept, name):
    with pytest.raises(SystemExit, match="there is no such run"):
        main(["runs", "remove", kept["own"], name])
    assert (runs.runs_folder() / kept["own"]).is_dir()
    with pytest.raises(SystemExit, match="name a run"):
        main(["runs", "remove"])


def test_a_run_that_is_named_twice_is_removed_once(kept, capsys):
    main(["runs", "remove", kept["other"], kept["own"], kept["own"], "--safe"])
    assert capsys.readouterr().out.count(kept["own"]) == 1
    assert not [*runs.runs_folder().glob("kd-*")]


def test_what_an_action_does_not_read_is_refused(kept):
    with pytest.raises(SystemExit, match="runs list: takes no name"):
        main(["runs", "list", kept["own"]])
    with pytest.raises(SystemExit, match="runs verify: --safe goes with remove"):
        main(["runs", "verify", "--safe"])


def test_what_is_being_made_is_said_and_stays(kept):
    partial = runs.runs_folder() / kept["interrupted"]
    with runs.lock_of(partial.with_suffix("")):
        [state] = [each.state for each in inventory.kept_runs() if each.folder == partial]
        assert state == "being made"
        with pytest.raises(SystemExit, match="a process is making it"):
            main(["runs", "remove", partial.name])
    assert partial.is_dir()


def test_a_run_that_a_process_takes_meanwhile_is_not_removed(kept):
    with runs.lock_of(runs.runs_folder() / kept["own"]), pytest.raises(SystemExit, match="a process has begun"):
        main(["runs", "remove", kept["own"]])
    assert (runs.runs_folder() / kept["own"] / "config.yaml").is_file()


def test_caches_are_measured_and_cleaned_but_for_one_that_is_being_made(project, capsys):
    for name in ("tokens-1", "tokens-2", "states-1"):
        runs.cached(name, lambda folder: (folder / "x").write_bytes(b"0" * 500_000))
    main(["cache"])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [["cache", "number", "MB"], ["states", "1", "0.5"], ["tokens", "2", "1.0"]]
    with runs.lock_of(runs.caches_folder() / "tokens-2"):
        main(["cache", "clean"])
    assert "removed: 1.0 MB" in capsys.readouterr().out
    assert [path.name for path in runs.caches_folder().glob("*") if path.is_dir()] == ["tokens-2"]


def test_nothing_there_is_an_empty_list(project, capsys):
    main(["runs", "list"])
    main(["cache", "size"])
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["run", "cache"]
