"""A little of `make test-faults`: a killed process and damaged files end in the same bytes."""

import subprocess
import sys
from pathlib import Path


def test_kills_and_damaged_files_end_in_the_same_bytes():
    script = Path(__file__).with_name("faults.py")
    done = subprocess.run([sys.executable, script, "--short"], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if line[:1] == "|"]
    tried = {row[0]: row[1:3] for row in rows[2:-1]}
    assert tried.keys() >= {"killed: laplace", "cache, file damaged", "checkpoint, file damaged"}
    assert all(int(times) > 2 and times == same for times, same in tried.values())
