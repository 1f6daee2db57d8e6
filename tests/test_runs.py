import errno
import importlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import pytest
import torch

import fairkd
from fairkd import files, provenance, runs

PARAMETERS = {"parameters": {"a": 1}, "code": {"m": "x"}, "versions": {"torch": "1"}}


def made(folder: Path, text="{}"):
    files.write_text(folder / "metrics.json", text)


def test_a_run_is_visible_only_when_complete_and_computed_once(project):
    calls, name = [], runs.run_name("x", PARAMETERS)

    def compute(folder: Path):
        calls.append(folder.name)
        assert runs.find(name) is None
        made(folder)

    assert runs.make("x", PARAMETERS, compute).metrics == {}
    assert runs.make("x", PARAMETERS, compute).folder == project / "reports" / "runs" / name
    assert calls == [f"{name}.partial"]


def test_a_run_says_what_made_it(project):
    run = runs.make("x", PARAMETERS, made)
    assert run.config == {"a": 1}
    assert run.provenance["code"] == {"m": "x"} and run.provenance["versions"] == {"torch": "1"}
    assert run.provenance["threads"] == torch.get_num_threads()
    assert run.provenance["seconds"] >= 0 and run.provenance["peak_memory_gib"] > 0
    assert "metrics.json" in json.loads((run.folder / "manifest.json").read_text())


def test_the_commit_is_the_one_that_was_checked_out_when_it_began(project, monkeypatch):
    now = ["before"]
    monkeypatch.setattr(provenance, "commit", lambda root: now[0])
    made = runs.make("demo", runs.identity({}, "fairkd.runs"), lambda folder: now.__setitem__(0, "after"))
    assert made.provenance["commit"] == "before"


def test_a_failure_keeps_what_was_computed_and_is_taken_up_again(project):
    def fail(folder: Path):
        (folder / "checkpoint-1").mkdir()
        (folder / "model").mkdir()
        (folder / "model" / ".tmp of a library").touch()
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        runs.make("x", PARAMETERS, fail)
    assert runs.find(runs.run_name("x", PARAMETERS)) is None

    def finish(folder: Path):
        assert (folder / "checkpoint-1").is_dir()
        made(folder)

    left = {path.name for path in runs.make("x", PARAMETERS, finish).folder.iterdir()}
    assert left == {"metrics.json", "config.yaml", "provenance.json", "manifest.json"}


def test_what_a_run_needs_until_it_is_whole_goes_only_then(project, monkeypatch):
    """Killed after the manifest is written, while scratch is removed: the run is finished, not computed again."""

    def compute(folder: Path):
        (folder / "epoch-weights").mkdir()
        made(folder)

    with monkeypatch.context() as patch:
        patch.setattr(runs.shutil, "rmtree", lambda path: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            runs.make("x", PARAMETERS, compute)
    run = runs.make("x", PARAMETERS, lambda folder: pytest.fail("computed again"))
    assert not (run.folder / "epoch-weights").exists()
    assert "epoch-weights" not in (run.folder / "manifest.json").read_text()


def test_two_that_ask_at_once_compute_once(project):
    calls, both = [], threading.Barrier(2)

    def compute(folder):
        calls.append(1)
        time.sleep(0.2)  # so that the other asks meanwhile
        made(folder)

    def ask():
        both.wait()
        runs.make("x", PARAMETERS, compute)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == [1]


@pytest.mark.parametrize("harm", ["flip", "empty", "delete"])
def test_a_run_that_is_no_longer_what_was_written_is_set_aside_and_made_again(project, harm, caplog):
    run = runs.make("x", PARAMETERS, made)
    file = run.folder / "metrics.json"
    if harm == "delete":
        file.unlink()
    else:
        file.write_bytes(b"[}\n" if harm == "flip" else b"")
        os.utime(file, ns=(1, 1))
    assert runs.make("x", PARAMETERS, made).metrics == {}
    assert "metrics.json is" in caplog.text
    assert (project / "reports" / "runs" / f"{run.folder.name}.damaged").is_dir()


@pytest.mark.parametrize("manifest", ["", "[1, 2]", '{"a": 1}', '{"a": [1, 2]}', "null"])
def test_a_manifest_that_says_nothing_is_damage(tmp_path, manifest):
    (tmp_path / "manifest.json").write_text(manifest)
    assert files.damage(tmp_path) == "its manifest.json is missing or damaged"


def test_what_kept_its_size_and_time_is_believed_unless_it_is_read(project):
    file = runs.make("x", PARAMETERS, made).folder / "metrics.json"
    state = file.stat()
    file.write_text("[]")
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert files.damage(file.parent) is None
    assert files.damage(file.parent, thoroughly=True) == "metrics.json is not what was written"


def test_an_analysis_whose_run_is_damaged_says_where_it_lies_and_how_to_make_it(project):
    run = runs.make("x", PARAMETERS, made)
    (run.folder / "metrics.json").unlink()
    with pytest.raises(runs.MissingRunError, match=rf"{run.folder.name}.damaged\): make it with `papermill 01"):
        runs.find_or_explain(run.folder.name, "papermill 01")


def test_a_manifest_that_is_written_again_does_not_name_itself(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    for _ in range(2):
        files.write_manifest(tmp_path, tmp_path.iterdir())
    assert files.manifested(tmp_path) == [tmp_path / "a.txt"] and files.damage(tmp_path, thoroughly=True) is None


@pytest.mark.parametrize("harm", ["flip", "empty", "delete", "no manifest"])
def test_a_cache_that_is_no_longer_what_was_written_is_made_again(project, harm, caplog):
    caplog.set_level("INFO", "fairkd")

    def compute(folder):
        (folder / "tokens").write_bytes(b"1 2 3")

    file = runs.cached("tokens-1", compute) / "tokens"
    if harm in ("delete", "no manifest"):
        (file if harm == "delete" else file.with_name("manifest.json")).unlink()
    else:
        file.write_bytes(b"1 2 4" if harm == "flip" else b"")
        os.utime(file, ns=(1, 1))
    assert (runs.cached("tokens-1", compute) / "tokens").read_bytes() == b"1 2 3"
    assert [record.levelname for record in caplog.records] == ["INFO"] and "; made again" in caplog.text
    runs.cached("tokens-1", lambda folder: pytest.fail("made a third time"))


def test_what_a_killed_process_left_of_a_cache_is_in_nobodys_way(project):
    def compute(folder):
        (folder / "part").mkdir()
        (folder / "part" / "tokens").write_bytes(b"1 2 3")
        if killed:
            raise KeyboardInterrupt

    killed = True
    with pytest.raises(KeyboardInterrupt):
        runs.cached("tokens-1", compute)
    killed = False
    assert [file.name for file in runs.cached("tokens-1", compute).rglob("tokens")] == ["tokens"]


def test_who_waits_says_for_whom(project, caplog):
    caplog.set_level("INFO", "fairkd")
    begun, go_on = threading.Event(), threading.Event()

    def slow(folder):
        begun.set()
        go_on.wait(60)
        made(folder)

    first = threading.Thread(target=runs.make, args=("x", PARAMETERS, slow))
    first.start()
    begun.wait(60)
    twice = []
    second = threading.Thread(target=runs.make, args=("x", PARAMETERS, twice.append))
    second.start()
    while second.is_alive() and "waiting" not in caplog.text:
        second.join(0.01)
    go_on.set()
    for thread in (first, second):
        thread.join()
    assert not twice, "an error in a thread fails no test"
    name = runs.run_name("x", PARAMETERS)
    assert f"{name}: process {os.getpid()} on {socket.gethostname()} (" in caplog.text
    assert not list(runs.runs_folder().glob(".*.holder"))


def test_the_lock_of_a_killed_process_does_not_block(project, caplog):
    kill = (
        "import os, signal; from fairkd import runs\n"
        f"runs.make('x', {PARAMETERS!r}, lambda folder: os.kill(os.getpid(), signal.SIGKILL))"
    )
    assert subprocess.run([sys.executable, "-c", kill]).returncode == -signal.SIGKILL
    assert list(runs.runs_folder().glob(".x-*.lock")) and list(runs.runs_folder().glob(".x-*.holder"))
    assert runs.make("x", PARAMETERS, made).metrics == {} and "waiting" not in caplog.text


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("safetensors: I/O error: No space left on device (os error 28)"),
        OSError(errno.EROFS, "Read-only file system"),
    ],
)
def test_a_disk_that_is_full_is_one_message_and_frees_the_lock(project, error):
    def compute(folder):
        try:
            raise error
        finally:
            raise ValueError("what the library says of it")

    with pytest.raises(files.StorageError, match=r"x-\w+ cannot be written to .*: the disk (is full|can only be read)"):
        runs.make("x", PARAMETERS, compute)
    assert runs.make("x", PARAMETERS, made).metrics == {}


def test_another_error_is_told_as_it_is(project):
    def compute(folder):
        raise FileNotFoundError(errno.ENOENT, "no such file", "a")

    with pytest.raises(FileNotFoundError, match="no such file"):
        runs.make("x", PARAMETERS, compute)


def test_a_run_copied_elsewhere_is_whole(project):
    """Other times of change, the same content."""
    run = runs.make("x", PARAMETERS, made)
    for file in run.folder.iterdir():
        os.utime(file, ns=(1, 1))
    assert runs.find(run.folder.name) is not None


def test_a_new_run_says_what_it_differs_by(project, caplog):
    caplog.set_level("INFO", "fairkd")
    old = runs.make("x", PARAMETERS, made)
    runs.make("x", PARAMETERS | {"versions": {"torch": "2"}}, made)
    assert f"{old.folder.name} differs in versions torch" in caplog.text
    runs.make("x", PARAMETERS | {"code": {"m": "y"}}, made)
    assert f"{old.folder.name} differs in code m" in caplog.text


@pytest.mark.parametrize(("name", "content"), [("config.yaml", ""), ("provenance.json", "{}"), ("config.yaml", "- 1")])
def test_a_damaged_run_that_nobody_asks_for_stops_no_other(project, name, content):
    old = runs.make("x", PARAMETERS, made)
    (old.folder / name).write_text(content)
    assert runs.make("x", PARAMETERS | {"code": {"m": "y"}}, made).folder.is_dir()


def test_the_name_is_of_content_not_of_order():
    name = runs.run_name("x", {"a": 1, "b": 2.0})
    assert name == runs.run_name("x", {"b": 2.0, "a": 1})
    assert len({name, runs.run_name("x", {"a": 1, "b": 2.5}), runs.run_name("x", {"a": 1})}) == 3


def test_a_folder_stands_for_its_content_as_it_is_now(project):
    """Within one process, too: a file edited between two calls is another source."""
    (project / "model").mkdir()
    file = project / "model" / "config.json"
    file.write_text("{}")
    before = runs.fingerprint("./model")
    assert runs.fingerprint("./model") == before
    file.write_text("{ }")
    assert runs.fingerprint("./model") != before
    file.write_text("[]")
    os.utime(file, ns=(1, 1))
    assert runs.fingerprint("./model") != before  # as long as the first, and older
    now = runs.fingerprint("./model")
    (project / "model" / "README.md").write_text("about it")
    (project / "model" / ".cache").mkdir()
    (project / "model" / ".cache" / "lock").write_text("")
    assert runs.fingerprint("./model") == now
    assert runs.fingerprint("./model/README.md") != runs.fingerprint("./model/config.json")
    assert runs.fingerprint("owner/name") == "owner/name"


def test_names_are_told_from_folders(project):
    (project / "pairs").mkdir()
    assert runs.local_path("pairs") == project / "pairs"
    assert runs.local_path("owner/name") is None
    assert runs.local_path("./missing") == project / "missing"
    assert runs.local_path("/missing") == Path("/missing")
    assert runs.local_path("fairkd/demo/encoders/demo-bert").is_dir()  # of the checkout, whatever the root


def test_a_file_is_written_whole_or_not_at_all(project, monkeypatch):
    file = project / "a.json"
    files.write_json(file, {"a": 1})
    monkeypatch.setattr(files.os, "fsync", lambda handle: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        files.write_json(file, {"a": 2})
    assert json.loads(file.read_text()) == {"a": 1}


def test_the_key_follows_code_and_neither_comments_nor_docstrings(project, monkeypatch):
    file = project / "mine.py"
    monkeypatch.syspath_prepend(project)

    def digest(text):
        monkeypatch.setattr(provenance, "_READ", {})  # as in another process
        file.write_text(text)
        os.utime(file, ns=(len(text) * 10**9,) * 2)
        return provenance.code_digests("mine")["mine"]

    first = digest('"""Says."""\n\n\ndef f():\n    """Says."""\n    return 1\n')
    assert digest('"""Other."""\n\n# a comment\ndef f():\n    """Other words."""\n    return 1\n') == first
    assert digest("def f():\n    return 2\n") != first


def test_what_counts_is_what_was_loaded_until_it_is_loaded_again(project, monkeypatch):
    file = project / "weigher.py"
    monkeypatch.syspath_prepend(project)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    text = """
import fairkd

@fairkd.weighting.register
class Weigher(fairkd.weighting.ByExit):
    name = "weigher"

    def weights(self, features, labels, exits, factor=1):
        return factor
"""

    def digests():
        found = provenance.code_digests(fairkd.METHODS["weigher"])
        return found["weigher"], found["Weigher"]

    file.write_text(text)
    module = importlib.import_module("weigher")
    try:
        # edited before any key was asked for
        file.write_text(text.replace("factor=1", "factor=2"))
        first = digests()
        importlib.reload(module)
        second = digests()
        assert second[0] != first[0]
        assert second[1] != first[1]
        file.write_text(text)
        assert digests() == second
        importlib.reload(module)
        assert digests() == first
    finally:
        del fairkd.METHODS["weigher"], sys.modules["weigher"]


def test_once_imported_no_key_reads_a_file_of_code(tmp_path):
    script = """
import sys
from pathlib import Path
from unittest.mock import patch

import fairkd
from fairkd import provenance
from fairkd.data.registry import GENERATORS

assert not {"scipy.stats", "scipy.optimize"} & sys.modules.keys()

own = Path.read_text

def read(path, *args, **kwargs):
    assert path.suffix != ".py", f"{path} is read late"
    return own(path, *args, **kwargs)

def digest(*sources):
    with patch.object(Path, "read_text", read), patch("inspect.getsource", side_effect=AssertionError("read late")):
        print(len(provenance.code_digests(*sources)))

digest(*(f"fairkd.training.{name}" for name in ("teacher", "student", "refit", "finished")))
digest(*fairkd.METHODS.values(), *fairkd.POSTERIORS.values(), *GENERATORS.values())
import fairkd.study
digest("fairkd.study.frontier", "fairkd.study.posterior")

# What takes seconds to load waits for its use; what trains is loaded before any run is named by it.
assert "transformers.modeling_utils" not in sys.modules
fairkd.check(fairkd.Experiment(train_examples=60, evaluation_per_group=2, validation_examples=0))
assert "fairkd.training.trainer" in sys.modules
digest("fairkd.training.student")
"""
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    training, kinds, study, student = map(int, told.stdout.split())
    assert training > 30 and kinds > len(fairkd.METHODS) and study > 30 and student > 30


def test_code_is_followed_through_imports_and_stops_at_what_is_not_imported():
    found = provenance.code_digests("fairkd.weighting.jtt")
    assert {
        "fairkd.weighting.jtt",
        "fairkd.weighting.method",
        "fairkd.exits.newton",
        "fairkd.parameters",
    } <= found.keys()
    assert not {"fairkd.weighting.avcs", "fairkd.figures.run", "fairkd.study.grid"} & found.keys()


def test_modules_of_the_users_own_are_followed_and_what_is_installed_is_not(project, monkeypatch):
    texts = {
        "mine_package/__init__.py": "",
        "mine_package/method.py": "import json\nimport numpy\nfrom .util import scale\nfrom mine_helper import other\n",
        "mine_package/util.py": "def scale(x):\n    return 1 + x\n",
        "mine_helper.py": "def other(x):\n    return x\n",
    }
    (project / "mine_package").mkdir()
    for name, text in texts.items():
        (project / name).write_text(text)
    monkeypatch.syspath_prepend(project)

    def digests(source):
        monkeypatch.setattr(provenance, "_READ", {})  # as in another process
        return provenance.code_digests(source)

    first = digests("mine_package.method")
    assert first.keys() == {"mine_package.method", "mine_package.util", "mine_helper"}
    namespace = {"__name__": "__main__"}
    cell = (
        "import mine_helper\nfrom mine_package.util import scale\ndef f(x):\n    return scale(mine_helper.other(x))\n"
    )
    exec(cell, namespace)
    of_notebook = digests(namespace["f"])
    for name in ("mine_package/util.py", "mine_helper.py"):
        (project / name).write_text(texts[name].replace("return ", "return 100 - "))
        edited = digests("mine_package.method")
        changed = {module for module in first if edited[module] != first[module]}
        assert changed == {name.removesuffix(".py").replace("/", ".")}
        assert digests(namespace["f"]) != of_notebook
        (project / name).write_text(texts[name])
    assert digests("mine_package.method") == first and digests(namespace["f"]) == of_notebook


def test_a_class_redefined_in_a_kernel_has_another_digest():
    def define(answer):
        namespace = {"__name__": "__main__"}
        exec(f"class Mine:\n    def weights(self):\n        return {answer}\n", namespace)
        return provenance.code_digests(namespace["Mine"])

    assert define(1) == define(1) != define(2)


MINE = """
SCALE = 2.0
def twice(x):
    return helped(x) * SCALE
def helped(x):
    return x + 1
def made(inner):
    class Mine:
        towards_old = False
        def weights(self, x):
            return [twice(y) * inner for y in x]
    return Mine
Mine = made(3)
"""


@pytest.mark.parametrize(
    "change",
    [("2.0", "3.0"), ("x + 1", "x + 2"), ("made(3)", "made(4)"), ("old = False", "old = True"), ("SCALE\n", "5\n")],
)
def test_what_a_class_of_a_notebook_uses_of_the_notebook_counts(change):
    def digest(cell):
        namespace = {"__name__": "__main__"}
        exec(cell, namespace)
        return provenance.code_digests(namespace["Mine"])

    assert digest(MINE) == digest(MINE + "\nOTHER = 1") != digest(MINE.replace(*change))


def test_arrays_of_a_notebook_count():
    def digest(values, kind):
        namespace = {"__name__": "__main__"}
        exec(MINE.replace("SCALE = 2.0", f"import numpy, torch\nSCALE = {kind}({values})"), namespace)
        return provenance.code_digests(namespace["twice"])

    for kind in ("torch.tensor", "numpy.array"):
        assert digest([1.0, 2.0], kind) == digest([1.0, 2.0], kind) != digest([1.0, 3.0], kind)


def test_a_rule_of_a_notebook_and_its_sets_of_words_count():
    def digest(change):
        namespace = {"__name__": "__main__"}
        exec(MINE.replace("2.0", change), namespace)
        return provenance.code_digests(namespace["twice"])

    assert digest("2.0") == digest("2.0") != digest("3.0")
    assert digest("{'no', 'never'}") == digest("{'never', 'no'}") != digest("{'no', 'nobody'}")


def test_a_run_is_opened_by_its_name_or_its_folder_with_the_one_it_is_of(project):
    student = runs.make("kd", {"parameters": {"seed": 1}, "code": {}, "versions": {}}, lambda f: (f / "model").mkdir())
    stated = {"parameters": {"student": student.folder.name}, "code": {}, "versions": {}}
    exits = runs.make("exits", stated, lambda folder: (folder / "exits.json").write_text("{}"), of=student)
    for given in (exits.folder.name, exits.folder, str(exits.folder)):
        found = runs.open_run(given)
        assert found.folder == exits.folder and found.model_folder == student.model_folder
    assert runs.open_run(student.folder).of is None
    (exits.folder / "exits.json").write_text("[]")
    with pytest.raises(runs.MissingRunError, match="exits.json is not what was written; .* runs lists"):
        runs.open_run(exits.folder)
    with pytest.raises(runs.MissingRunError, match="no finished run kd-none in "):
        runs.open_run("kd-none")


def test_a_table_that_is_not_there_is_told_by_those_that_are(project):
    def table(name):
        return lambda folder: files.write_table(folder / f"{name}.parquet", pd.DataFrame({"a": [1]}))

    student = runs.make("x", PARAMETERS, table("epochs"))
    exits = runs.make("exits", PARAMETERS, table("predictions"), of=student)
    further = runs.make("evaluation", PARAMETERS, made, of=exits)
    said = re.escape("has no table 'prediction'; did you mean 'predictions'? (epochs, predictions)")
    with pytest.raises(FileNotFoundError, match=f"^{further.folder.name} {said}$"):
        further.table("prediction")
    assert further.table("epochs")["a"].tolist() == [1]
    with pytest.raises(FileNotFoundError, match="has no table 'weights'; it has none$"):
        runs.make("y", PARAMETERS, made).table("weights")
