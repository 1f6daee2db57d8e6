"""Mutation testing: how many small faults in the rooms of the mathematics the tests notice; `make mutants SAMPLE=75`.

cosmic-ray makes the mutants and keeps what became of each, so a call goes on where an earlier one stopped; survivors
are tried again once a test has changed. A random sample of every room stands for all. Each mutant is tried in a fork of
this process, which has loaded torch and transformers: most die within seconds. All of it happens in a copy of the tree,
reports/mutants/tree; the survivors are written to reports/mutants/survivors.md.
"""

import compileall
import hashlib
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import datasets  # noqa: F401  loaded once, for all forks
import hypothesis.extra.numpy  # noqa: F401
import pytest
import scipy.stats  # noqa: F401
import sklearn.linear_model  # noqa: F401
from cosmic_ray.commands import init
from cosmic_ray.mutating import use_mutation
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkerOutcome, WorkItem, WorkResult
from transformers import AutoModel, Trainer  # noqa: F401

SEED = 0
ROOT = Path(__file__).parents[1]
OUT = ROOT / "reports" / "mutants"
TREE = OUT / "tree"
# Processor seconds that the tests of a room may take, several times what they do; and these tests, quick ones first.
GUARDS = {
    "exits": (200, ["tests/exits/test_linear.py", "tests/weighting/test_methods.py", "tests/exits/test_laplace.py"]),
    "weighting": (
        400,
        [
            *(f"tests/weighting/test_{name}.py" for name in ("margins", "methods", "last_layer")),
            "tests/test_experiment.py",
            "tests/training/test_wiring.py",
        ],
    ),
    "evaluation": (150, [f"tests/evaluation/test_{name}.py" for name in ("seeds", "report", "intervals")]),
    "training": (
        900,
        [
            *(f"tests/training/test_{name}.py" for name in ("sampler", "trainer", "models", "checks", "reading")),
            *(f"tests/training/test_{name}.py" for name in ("finished", "refit", "wiring", "arithmetic", "runs")),
            "tests/training/test_encoders.py",
        ],
    ),
}
MEMORY = 12 * 2**30  # bytes; a grid that has lost its limit takes all there is


def fair(operator: str) -> bool:
    """Whether the operator gives faults that run: `|` is mostly in annotations, and no float has bits or shifts."""
    replaced = re.fullmatch(r"core/ReplaceBinaryOperator_(\w+)_(\w+)", operator)
    bits = replaced and [bool(re.search("Bit|Shift", part)) for part in replaced.groups()]
    return not replaced or replaced[1] != "BitOr" and bits[0] == bits[1]


def copy_tree() -> None:
    """What git knows or would add, as it is now; never a file of the checkout is mutated."""
    shutil.rmtree(TREE, ignore_errors=True)
    listed = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, capture_output=True, text=True, check=True).stdout.splitlines():
        (TREE / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, TREE / name)
    compileall.compile_dir(TREE / "fairkd", quiet=1)


def digest(folder: str) -> str:
    """Of all Python files in a folder of the copy."""
    files = sorted((TREE / folder).rglob("*.py"))
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:8]


def drawn(room: str, size: int, session: WorkDB) -> list[WorkItem]:
    """The first `size` mutants of a room in a random order, so that a larger sample holds the smaller one."""
    if not session.num_work_items:
        init(sorted(Path("fairkd", room).glob("*.py")), session, {})
    mutants = [item for item in session.work_items if fair(item.mutations[0].operator_name)]
    mutants.sort(key=lambda item: (m := item.mutations[0]) and (m.module_path, m.operator_name, m.occurrence))
    return random.Random(SEED).sample(mutants, len(mutants))[:size]


def run_tests(tests: list[str], seconds: int) -> None:
    """In a fork: the tests, silently."""
    os.setsid()
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    sys.path.insert(0, str(TREE))
    sys.dont_write_bytecode = True
    for stream in (1, 2):
        os.dup2(os.open(OUT / "last.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    os._exit(pytest.main(["-x", "-p", "no:cacheprovider", *tests]))


def outcome(tests: list[str], seconds: int) -> str:
    """ "survived", "killed" or "timeout" of the copy as it is now."""
    fork = multiprocessing.get_context("fork").Process(target=run_tests, args=[tests, seconds])
    fork.start()
    try:
        fork.join(20 * seconds)  # one that waits, on a lock say, takes no processor time
        late = fork.exitcode in (None, -signal.SIGXCPU, -signal.SIGKILL)
    finally:
        if fork.exitcode is None:
            os.killpg(fork.pid, signal.SIGKILL)
    return "timeout" if late else "killed" if fork.exitcode else "survived"


def compiles(source: str) -> bool:
    """Whether a mutant is one: the stars of signatures and calls are operators to cosmic-ray."""
    try:
        compile(source, "mutant", "exec")
    except SyntaxError:
        return False
    return True


def try_mutant(room: str, item: WorkItem, session: WorkDB) -> None:
    """Run the tests of the room, those of the module's own name first, and keep what became of the mutant."""
    [mutation] = item.mutations
    seconds, guards = GUARDS[room]
    own_first = sorted(guards, key=lambda test: mutation.module_path.stem not in test)
    operator = get_operator(mutation.operator_name)(**mutation.operator_args)
    with use_mutation(mutation.module_path, operator, mutation.occurrence) as (_, mutated):
        found = outcome(own_first, seconds) if compiles(mutated) else "no Python"
    result = TestOutcome.SURVIVED if found == "survived" else TestOutcome.KILLED
    output = digest("tests") if found == "survived" else found
    session.set_result(item.job_id, WorkResult(WorkerOutcome.NORMAL, output, result))
    print(f"{found:9} {described(mutation)}", flush=True)


def described(mutation: MutationSpec) -> str:
    """Where a mutant is, and what was made of the line."""
    operator = get_operator(mutation.operator_name)(**mutation.operator_args)
    path, line = mutation.module_path, mutation.start_pos[0]
    with use_mutation(path, operator, mutation.occurrence) as (before, after):
        old, new = before.splitlines(), after.splitlines()
    changed = next((n for n, pair in enumerate(zip(old, new, strict=False)) if pair[0] != pair[1]), line - 1)
    operator = mutation.operator_name.removeprefix("core/")
    return f"{path}:{line} {operator}: `{old[changed].strip()}` -> `{new[changed].strip()}`"


def main(size: int, rooms: list[str]) -> None:
    """Try `size` mutants of each room, a room after the other; print the table, write the survivors."""
    copy_tree()
    os.chdir(TREE)
    os.environ["PYTHONPATH"] = str(TREE)  # of what tests start as processes
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # nbval alone takes longer than most mutants live
    tests_now, table, survivors = digest("tests"), [], []
    with ExitStack() as stack:
        sessions = {
            room: stack.enter_context(use_db(OUT / f"{room}-{digest(f'fairkd/{room}')}.sqlite")) for room in rooms
        }
        mutants = {room: drawn(room, size, session) for room, session in sessions.items()}
        for turn in zip(*mutants.values(), strict=False):
            for room, item in zip(rooms, turn, strict=True):
                done = dict(sessions[room].results).get(item.job_id)
                if done is None or not done.is_killed and done.output != tests_now:
                    try_mutant(room, item, sessions[room])
        for room, session in sessions.items():
            results = dict(session.results)
            found = [results[item.job_id] for item in mutants[room] if results[item.job_id].output != "no Python"]
            left = [item.mutations[0] for item in mutants[room] if not results[item.job_id].is_killed]
            if not left and outcome(GUARDS[room][1], GUARDS[room][0]) != "survived":
                sys.exit(f"the tests of {room} fail without any mutant: see {OUT / 'last.log'}")
            late = sum(result.output == "timeout" for result in found)
            killed = len(found) - len(left)
            table.append(f"{room:10} {len(found):8} {killed:7} {late:9} {len(left):9} {killed / len(found):6.1%}")
            left.sort(key=lambda mutation: (mutation.module_path, mutation.start_pos))
            survivors += [f"- {described(mutation)}\n" for mutation in left]
    print("\n".join(["room        mutants  killed  timeouts  survived  score", *table]))
    (OUT / "survivors.md").write_text("".join(survivors), encoding="utf-8")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:] or list(GUARDS))
