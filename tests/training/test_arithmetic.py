import hashlib
import os
import subprocess
import sys

import pytest
import torch

from fairkd.training.arithmetic import arithmetic

# A process of its own, since instructions are chosen at its first computation.
TRAINED = """
import sys
import fairkd

experiment = fairkd.Experiment(
    train_examples=240, evaluation_per_group=10, validation_examples=12, teacher_model=sys.argv[1], student_model=None,
    aux_layer=1, students=["kd"], teacher_epochs=1, student_epochs=2, report_to="none", learning_rate=1e-2,
    threads=1, instruction_set="avx2",
)
run = fairkd.distil(experiment)
print(run.provenance["threads"], run.provenance["instruction_set"])
for name in ("predictions.parquet", "metrics.json", "exits.safetensors", "weights.parquet", "model/model.safetensors"):
    print(run.path(name))
"""


def trained(root, encoder, **offered):
    done = subprocess.run(
        [sys.executable, "-c", TRAINED, str(encoder)],
        capture_output=True,
        text=True,
        env=os.environ | {"FAIRKD_ROOT": str(root)} | offered,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    circumstances, *files = done.stdout.splitlines()
    assert circumstances == "1 AVX2"
    return [hashlib.sha256(open(file, "rb").read()).hexdigest() for file in files]


@pytest.mark.skipif(not torch.backends.cpu.get_cpu_capability().startswith("AVX"), reason="no AVX2 here")
def test_no_offer_of_threads_or_instructions_changes_a_bit(tmp_path, encoder):
    newest = {"ATEN_CPU_CAPABILITY": "avx512", "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}
    plain = {
        "ATEN_CPU_CAPABILITY": "default",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "NPY_DISABLE_CPU_FEATURES": "X86_V4",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    assert trained(tmp_path / "a", encoder, **newest) == trained(tmp_path / "b", encoder, **plain)


def test_a_process_that_has_other_instructions_is_told(small, caplog, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    for name in ("ATEN_CPU_CAPABILITY", "MKL_CBWR", "ONEDNN_MAX_CPU_ISA"):
        monkeypatch.setenv(name, "")  # put back afterwards
    with arithmetic(small.vary(instruction_set="avx2")):
        pass
    assert "computes with avx512: something was computed before" in caplog.text


def test_threads_are_the_experiments_while_it_computes(small):
    before = torch.get_num_threads()
    with arithmetic(small.vary(threads=before + 1)):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
    with arithmetic(small):
        assert torch.get_num_threads() == before
