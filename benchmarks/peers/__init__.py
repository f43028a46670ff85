"""Runs the programs of this folder: each does what one other package does, in a process of its own.

Peers need packages that would not go together with ours, so they run with the Python that the environment
variable PEERS_PYTHON names (else this one); a package that is missing is said, and is no error.

    python3 -m venv peers && peers/bin/pip install numpyro bambi nutpie pomegranate "matplotlib<3.11"
    PEERS_PYTHON=peers/bin/python python benchmarks/logistic_speed.py
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PYTHON = os.environ.get("PEERS_PYTHON", sys.executable)


def run(program: str, *arguments: object, python: str = PYTHON) -> dict[str, Any]:
    """What a program prints in its last line, as JSON, with `process`: its seconds from start to end.

    Returns:
        The figures; or `missing`, the line of the error that ended it.
    """
    began = time.perf_counter()
    command = [python, str(HERE / f"{program}.py"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        return {"missing": f"{program}: {last}"}
    return {**json.loads(done.stdout.strip().splitlines()[-1]), "process": seconds}


def versions(*packages: str) -> str:
    """`numpyro 0.22.0, bambi missing`, of the peers' Python."""
    found = run("versions", *packages)
    return ", ".join(f"{name} {found.get(name, 'missing')}" for name in packages)
