"""On a GPU every system gives what it gives on the CPU; the script that times it works without one."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))

import gpu_equal  # noqa: E402


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("case", gpu_equal.CASES)
def test_a_gpu_gives_what_the_cpu_gives(case):
    found = gpu_equal.CASES[case]("cuda")
    assert found.equal, found


@pytest.mark.parametrize("case", [name for name in gpu_equal.CASES if "a pass" in name])
def test_the_backend_of_a_gpu_gives_what_the_compiled_ones_give(case, monkeypatch):
    """What a batch that is not on the CPU gets, there."""
    from ppl_models.kernels import choose

    used = []

    def elsewhere(problem):
        used.append(problem)
        return Generic(problem)

    Generic = choose.Generic
    for name in ("ROWS", "CHAIN"):
        monkeypatch.setattr(choose, name, 10**9)
    monkeypatch.setattr(choose, "Generic", elsewhere)
    one = gpu_equal.CASES[case]("cpu")
    monkeypatch.undo()
    other = gpu_equal.CASES[case]("cpu")
    assert used
    assert one.cpu == pytest.approx(other.cpu, rel=gpu_equal.PASS)


@pytest.mark.slow
def test_the_script_of_the_gpu_runs_without_one(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--device", "cpu", "--tiny", "--minutes", "120"]
    out = tmp_path / "gpu.md"
    done = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not out.exists()  # it was no GPU
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    for name in (
        *gpu_equal.CASES,
        "gmm, 5,000 × 16, K = 30",
        "hmm, 1 × 4,000",
        "vae 784",
        "cnn, 28",
        "float32",
    ):
        assert any(line.startswith(f"| {name}") for line in rows), name
    assert "Error" not in done.stdout
    assert "**no**" not in done.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU")
def test_without_a_gpu_it_says_so():
    done = subprocess.run([sys.executable, str(BENCHMARKS / "gpu.py")], capture_output=True, text=True)
    assert done.returncode == 1
    assert "sees no GPU; nothing was measured" in done.stdout
    assert not done.stderr
