"""Recipes of docs/scaling.md: the Slurm script runs, with an `srun` of our own; the manifest is YAML."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_distributed import table

import ppl_models as ppl

PAGE = (Path(__file__).parents[1] / "docs" / "scaling.md").read_text(encoding="utf-8")


def recipe(name: str, language: str) -> str:
    """The first block of a language after a name."""
    found = re.search(rf"\*\*{name}\*\*.*?```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


SRUN = """#!/bin/bash
for rank in 0 1; do SLURM_PROCID=$rank SLURM_NTASKS=2 "$@" & done
wait
"""


@pytest.mark.slow
def test_the_slurm_script_fits_with_two_tasks(tmp_path):
    """Two tasks on this machine; what is not tried is Slurm itself, and two machines."""
    for name, text in {"srun": SRUN, "scontrol": "#!/bin/bash\necho 127.0.0.1\necho other\n"}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "python").symlink_to(sys.executable)
    table(2_000)[["a", "b", "c"]].iloc[:1_000].to_parquet(tmp_path / "part-1.parquet")
    table(2_000)[["a", "b", "c"]].iloc[1_000:].to_parquet(tmp_path / "part-2.parquet")
    script = recipe("Slurm", "bash").replace("/data", str(tmp_path)).replace("29500", "29533")
    script = script.replace("--components 10", "--components 3").replace("--threads 16", "--threads 1 --json")
    env = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_NODELIST": "node[1-2]"}
    env["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    one = ppl.fit(ppl.GMM(components=3), str(tmp_path / "part-*.parquet"))
    assert json.loads(done.stdout)["elbo"] == pytest.approx(one.elbo, rel=1e-9)


def test_the_manifest_is_a_job_of_four_pods():
    yaml = pytest.importorskip("yaml")
    found = yaml.safe_load(recipe("Kubernetes", "yaml"))
    pods = found["spec"]["pytorchReplicaSpecs"]
    assert {name: pod["replicas"] for name, pod in pods.items()} == {"Master": 1, "Worker": 3}
    for pod in pods.values():
        (container,) = pod["template"]["spec"]["containers"]
        assert container["name"] == "pytorch"  # the one whose environment the operator sets
        assert container["command"][:3] == ["ppl", "fit", "gmm"]
