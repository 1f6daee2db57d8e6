"""What happens when things break: processes killed, files damaged, data dirty, parameters wrong; a table of it all.

    python tests/faults.py [--short]

A process is killed as it opens, renames or removes its n-th file, or at an instant; then the same is asked for again.
Everything ends well if every file of every run is, byte for byte, that of a run that nobody disturbed (but for what
tells times: provenance.json and manifest.json). Each try is a fork of this process, which has imported everything and
computed nothing.
"""

import argparse
import hashlib
import json
import logging
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from fairkd import METHODS, Experiment, distil  # noqa: E402
from tests import wrong_parameters  # noqa: E402
from tests.data import dirty  # noqa: E402
from tests.tiny import small_parameters, write_encoder  # noqa: E402

TELLS_TIMES = {"provenance.json", "manifest.json"}
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
HARMS: dict[str, Callable[[bytes], bytes | None]] = {
    "halved": lambda content: content[: len(content) // 2],
    "emptied": lambda content: b"",
    "one byte flipped": lambda content: (
        content[: len(content) // 2] + bytes([content[len(content) // 2] ^ 0x10]) + content[len(content) // 2 + 1 :]
    ),
    "deleted": lambda content: None,
}
WORKERS = 2


class Tally(Counter):
    """How often a fault was tried, ended in the same files, was refused as it should; `bad` says what did not."""

    def __init__(self):
        super().__init__()
        self.bad: list[str] = []

    def note(self, outcome: str, ok: bool, what: str) -> None:
        """Count one try."""
        self["tried"] += 1
        self[outcome] += ok
        if not ok:
            self.bad.append(what)


def forked(root: Path, work: Callable[[], object], signal_at: float | None = None, number: int = 0) -> tuple[int, str]:
    """The exit code (negative: the signal) and the words of a fork that does `work` with `root` as the project.

    Args:
        signal_at: seconds after which it gets the signal `number`.
    """
    said = root.with_suffix(".log")
    pid = os.fork()
    if pid == 0:
        with said.open("w", encoding="utf-8") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            os.environ["FAIRKD_ROOT"] = str(root)
            signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by what a shell starts in the background
            code = 1
            try:
                work()
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
    if signal_at is not None:
        time.sleep(signal_at)
        os.kill(pid, number)
    status = os.waitpid(pid, 0)[1]
    return os.waitstatus_to_exitcode(status), said.read_text(encoding="utf-8", errors="replace")


def made(experiment: dict, **changes) -> None:
    """The run of a student, made; what is said goes to the log."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("fairkd").setLevel("INFO")
    distil(Experiment(experiment, **changes))


def killed_at(experiment: dict, changes: dict, instant: int | str, number: int, root: Path) -> None:
    """Like `made`, ended by a signal as it touches its `instant`-th file below `root`, or the first so named; 0 counts.

    The count goes to `root`.count.
    """
    touched = 0

    def audit(event: str, given: tuple) -> None:
        nonlocal touched
        changing = event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree")
        if event == "open":
            changing = isinstance(given[1], str) and set(given[1]) & set("wxa+")
        if not changing or not str(given[0]).startswith(str(root)):
            return
        touched += 1
        if touched == instant or (isinstance(instant, str) and instant in str(given[0])):
            root.with_suffix(".where").write_text(f"{event} {str(given[0]).removeprefix(str(root))}")
            os.kill(os.getpid(), number)

    sys.addaudithook(audit)
    made(experiment, **changes)
    root.with_suffix(".count").write_text(str(touched))


def results(root: Path) -> dict[str, str]:
    """{file: digest} of all runs, unfinished ones too."""
    folder = root / "reports" / "runs"
    there = [f for f in folder.rglob("*") if f.is_file() and not f.relative_to(folder).parts[0].startswith(".")]
    there = [f for f in there if f.name not in TELLS_TIMES and ".damaged" not in f.relative_to(folder).parts[0]]
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in there}


def differing(root: Path, reference: dict[str, str]) -> str:
    """Which files are not the reference's; "" if all are."""
    found = results(root)
    names = sorted(n for n in found.keys() | reference.keys() if found.get(n) != reference.get(n))
    return ", ".join(names[:3])


def copied(start: Path, root: Path) -> Path:
    """A project to break, as it is at `start`, times of change and all."""
    shutil.copytree(start, root)
    return root


def kills(folder: Path, experiment: dict, start: Path, methods: list[str], each: int) -> dict[str, Tally]:
    """Kill each method's student `each` times, half of them at files, half at instants; {method: tally}."""

    def tries(method: str) -> tuple[Tally, Counter]:
        tally, where = Tally(), Counter()
        changes, draw = {"method": method}, random.Random(method)
        # kd and erm begin with nothing, so that the teacher is killed too; the others find their teacher.
        begin = folder / "empty" if method in ("kd", "erm") else start
        whole = copied(begin, folder / f"{method}-whole")
        began = time.perf_counter()
        code, said = forked(whole, partial(killed_at, experiment, changes, 0, 0, whole))
        seconds = time.perf_counter() - began
        assert code == 0, said[-2000:]
        touched, reference = int(whole.with_suffix(".count").read_text()), results(whole)
        for i in range(each):
            root = copied(begin, folder / f"{method}-{i}")
            number = SIGNALS[i // 2 % len(SIGNALS)]
            if i % 2:
                at = seconds * draw.uniform(0.05, 0.9)
                code, said = forked(root, partial(made, experiment, **changes), at, number)
                what = f"{number.name} after {at:.2f} s"
            else:
                instant = 1 + (touched - 1) * i // max(1, each - 1)
                code, said = forked(root, partial(killed_at, experiment, changes, instant, number, root))
                what = f"{number.name} at {root.with_suffix('.where').read_text()}"
            where["ended early"] += code != 0
            code, said = forked(root, partial(made, experiment, **changes))
            wrong = said.strip().splitlines()[-1:] if code else differing(root, reference)
            tally.note("identical", not wrong, f"{method}, {what}: {wrong}")
            shutil.rmtree(root)
        shutil.rmtree(whole)
        return tally, where

    with ThreadPoolExecutor(WORKERS) as pool:
        found = dict(zip(methods, pool.map(tries, methods), strict=True))
    for method, (tally, where) in found.items():
        tally["ended early"] = where["ended early"]
        print(f"{method}: {dict(tally)}", flush=True)
    return {method: tally for method, (tally, _) in found.items()}


def broken(folder: Path, start: Path, files: list[str], work: Callable[[], object], reference: dict) -> Tally:
    """Damage each file in every way, then do `work`: said by the file's name, and in the end as it was."""
    cases = [(name, how) for name in files for how in HARMS]

    def one(number: int) -> tuple[bool, bool, str]:
        name, how = cases[number]
        root = copied(start, folder / f"broken-{number}")
        file = root / name
        content = HARMS[how](file.read_bytes())
        file.unlink() if content is None else file.write_bytes(content)
        code, said = forked(root, work)
        wrong = said.strip().splitlines()[-1:] if code else differing(root, reference)
        # A manifest whose times alone are wrong still says the truth.
        told = file.name in said or (file.name == "manifest.json" and how == "one byte flipped")
        shutil.rmtree(root)
        return told, not wrong, f"{name} {how}: {wrong or 'not said'}"

    tally = Tally()
    with ThreadPoolExecutor(WORKERS) as pool:
        for told, same, what in pool.map(one, range(len(cases))):
            tally.note("identical", told and same, what)
    return tally


def finished(folder: Path, experiment: dict, start: Path, few: bool) -> Tally:
    """Damage the files of a teacher, a student and its exits."""
    root = copied(start, folder / "finished")
    forked(root, partial(made, experiment, method="laplace"))
    laplace = [p for p in (root / "reports" / "runs").glob("*/*") if not p.parent.name.startswith(("kd-", "exits-"))]
    files = [f for p in laplace for f in (p.rglob("*") if p.is_dir() else [p]) if f.is_file()]
    [own] = {f for f in (root / "reports/runs").glob("exits-*") if not (start / "reports/runs" / f.name).exists()}
    names = sorted(str(f.relative_to(root)) for f in [*files, *own.iterdir()])
    reference = results(root)
    return broken(folder, root, names[::30] if few else names, partial(made, experiment, method="laplace"), reference)


def stored(folder: Path, experiment: dict, start: Path, few: bool) -> Tally:
    """Damage caches, with the runs that read them still to be made: tokens, a first epoch, features of a refit."""
    tally = Tally()
    read_by = {
        "tokens": {"method": "laplace"},
        "epoch": {"method": "laplace"},
        "states": {"method": "dedier", "place": "refit"},
    }
    for kind, changes in read_by.items():
        root = copied(start, folder / f"caches-{kind}")
        work = partial(made, experiment, **changes)
        forked(root, work)
        reference = results(root)
        for run in (root / "reports" / "runs").glob("*"):
            if run.is_dir() and not (start / "reports" / "runs" / run.name).exists():
                shutil.rmtree(run)
        caches = [root / "reports" / "cache" / name for name in _read(folder, root, kind, work)]
        names = sorted(str(f.relative_to(root)) for cache in caches for f in cache.rglob("*") if f.is_file())
        part = broken(folder, root, names[:1] if few else names, work, reference)
        tally.update(part)
        tally.bad += part.bad
    return tally


def _read(folder: Path, start: Path, kind: str, work: Callable[[], object]) -> list[str]:
    """The caches of a kind that `work` reads: those that it makes again where none has a manifest."""
    root = copied(start, folder / f"unread-{kind}")
    for manifest in (root / "reports" / "cache").glob(f"{kind}-*/manifest.json"):
        manifest.unlink()
    return re.findall(rf"({kind}-[\w-]+): its manifest.json", forked(root, work)[1])


def checkpoints(folder: Path, experiment: dict, start: Path, few: bool) -> Tally:
    """Damage the last of two checkpoints of an interrupted training, and what is kept of its epochs."""
    whole = copied(start, folder / "checkpoints-whole")
    forked(whole, partial(made, experiment, method="laplace"))
    root = copied(start, folder / "checkpoints")
    cut = partial(killed_at, experiment, {"method": "laplace"}, "epoch-results/.0003", signal.SIGKILL, root)
    code, said = forked(root, cut)
    [last] = (root / "reports" / "runs").glob("laplace-*.partial/checkpoint-8")
    assert code == -signal.SIGKILL and (last / "manifest.json").exists(), said[-2000:]
    kept = [*last.iterdir(), *last.parent.glob("epoch-*/[!.]*")]
    # Nobody reads the tokenizer of a checkpoint, nor its arguments; they are in its manifest all the same.
    names = sorted(str(f.relative_to(root)) for f in kept if f.is_file())
    work = partial(made, experiment, method="laplace")
    return broken(folder, root, names[::12] if few else names, work, results(whole))


def asked(root: Path, work: Callable[[], dict]) -> dict:
    """What `work` finds, in a fork."""
    root.mkdir()
    out = root / "found.json"
    code, said = forked(root, lambda: out.write_text(json.dumps(work())))
    assert code == 0, said[-2000:]
    return json.loads(out.read_text())


def told(tally: Tally, found: dict[str, bool]) -> Tally:
    """The tally of cases that should be read right or refused well."""
    for what, ok in found.items():
        tally.note("refused or read", ok, what)
    return tally


def papermill(folder: Path, cases: list) -> dict[str, bool]:
    """Wrong parameters on papermill's command line."""

    def one(case: tuple) -> tuple[str, bool]:
        notebook, given, message = case
        out = folder / f"{abs(hash(str(case)))}.ipynb"
        command = [sys.executable, "-m", "papermill", ROOT / "notebooks" / f"{notebook}.ipynb", out, *given]
        more = {"FAIRKD_ROOT": str(folder), "JUPYTER_PREFER_ENV_PATH": "1", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [*map(str, command), "--no-progress-bar", "-k", "python3"],
            capture_output=True, text=True, env=os.environ | more,
        )  # fmt: skip
        last = (done.stderr.strip().splitlines() or [""])[-1]
        return f"{notebook} {given}: {last}", done.returncode == 1 and bool(re.search(message, last))

    with ThreadPoolExecutor(WORKERS) as pool:
        return dict(pool.map(one, cases))


def main(short: bool) -> int:
    """Try everything, or a little of each; print the table. The number of faults that did not end well."""
    torch.set_num_threads(1)
    began = time.perf_counter()
    table: dict[str, Tally] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        encoder = folder / "encoder"
        code, said = forked(folder / "writer", partial(write_encoder, encoder))
        assert code == 0, said
        experiment = small_parameters(encoder) | {"aux_layer": 1}
        (folder / "empty").mkdir()
        start = copied(folder / "empty", folder / "start")
        code, said = forked(start, partial(made, experiment, method="kd"))
        assert code == 0, said
        methods = ["laplace"] if short else sorted(METHODS)
        of_methods = kills(folder, experiment, start, methods, each=3 if short else 7)
        table |= {f"killed: {method}": tally for method, tally in of_methods.items()}
        table["finished run, file damaged"] = finished(folder, experiment, start, short)
        table["cache, file damaged"] = stored(folder, experiment, start, short)
        table["checkpoint, file damaged"] = checkpoints(folder, experiment, start, short)
        if not short:
            table["dirty data file"] = told(Tally(), asked(folder / "dirty", dirty.tried))
            table["wrong parameters"] = told(Tally(), asked(folder / "parameters", wrong_parameters.tried))
            (folder / "papermill").mkdir()
            through = papermill(folder / "papermill", wrong_parameters.PAPERMILL)
            table["wrong parameters, papermill"] = told(Tally(), through)
    lines = ["| fault | tried | recovered, identical | refused, or read right | not well |", "|---|---|---|---|---|"]
    for fault, tally in table.items():
        counts = (tally["tried"], tally["identical"], tally["refused or read"], len(tally.bad))
        lines.append(f"| {fault} | " + " | ".join(str(count or "") for count in counts[:3]) + f" | {counts[3]} |")
    total = [sum(column) for column in zip(*((t["tried"], len(t.bad)) for t in table.values()), strict=True)]
    print("\n".join([*lines, f"| together | {total[0]} | | | {total[1]} |"]))
    print(*(f"- {what}" for tally in table.values() for what in tally.bad), sep="\n")
    early = sum(tally["ended early"] for tally in table.values())
    minutes = (time.perf_counter() - began) / 60
    print(f"\n{early} of the kills came before the end; {minutes:.1f} minutes")
    return total[1]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="a few of each: a minute")
    sys.exit(bool(main(parser.parse_args().short)))
