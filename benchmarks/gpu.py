"""This project on a GPU, beside itself on the CPU and beside bare PyTorch on the same GPU: `make gpu`.

    python benchmarks/gpu.py [--device cuda] [--minutes 8] [--tiny] [--out benchmarks/results/gpu.md]

One script for a bare machine with PyTorch: what it needs and does not find is named, and what can be done
without it is done. First every system on the device is compared with the CPU (`gpu_equal.py`), then come the
times (`gpu_times.py`, beside `gpu_bare.py`). It prints Markdown as it goes, and writes it to `--out` where
there is a GPU. What no longer fits into `--minutes` is left out, and said to be. `--device cpu --tiny` runs
all of it without a GPU in a minute or two, to see that it works; its figures mean nothing.

Times are by the clock, medians of some repeats after one that warms up, the device waited for. Passes are of
double precision, as this project has them; bare PyTorch is timed in single precision too.
"""

import argparse
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

NEEDED = (
    "torch numpy pyro numba scipy pandas narwhals pyarrow safetensors xarray arviz threadpoolctl jaxtyping "
    "formulaic sklearn click rich h5netcdf h5py matplotlib jinja2 PIL"
).split()
"""Packages of `pyproject.toml`, as they are imported."""


class Report:
    """Lines of Markdown, printed as they come; and the time that is left.

    Args:
        device: what is measured.
        minutes: in all.
    """

    def __init__(self, device: str, minutes: float) -> None:
        self.device, self.until = device, time.monotonic() + 60 * minutes
        self.lines: list[str] = []

    def say(self, line: str = "") -> None:
        """Another line."""
        print(line, flush=True)
        self.lines.append(line)

    def row(self, name: str, *cells: Callable[[], str]) -> None:
        """A row of a table, each cell worked out now; one that fails says why in a few words."""
        found = []
        for cell in cells:
            if time.monotonic() > self.until:
                found.append("no time left")
                continue
            try:
                found.append(cell())
            except Exception as error:  # the other figures are wanted all the same
                traceback.print_exc()
                found.append(f"{type(error).__name__}: {' '.join(str(error).split())[:80]}")
            if self.device.startswith("cuda"):
                import torch

                torch.cuda.empty_cache()
        self.say(f"| {name} | " + " | ".join(found) + " |")


def equality(report: Report) -> bool:
    """All systems on the device beside the CPU; whether all are equal."""
    import gpu_equal

    report.say("## Equal to the CPU\n")
    report.say(
        f"| system | CPU, ELBO | {report.device} | apart | tolerance | equal |\n|---|---|---|---|---|---|"
    )
    fine = True
    for name, compare in gpu_equal.CASES.items():
        try:
            found = compare(report.device)
            apart, fine = abs(found.cpu - found.device), fine and found.equal
            report.say(
                f"| {name} | {found.cpu:.4f} | {found.device:.4f} | {apart:.2g} | {found.tolerance:.2g} "
                f"| {'yes' if found.equal else '**no**'} |"
            )
        except Exception as error:
            traceback.print_exc()
            fine = False
            report.say(
                f"| {name} | | | | | **{type(error).__name__}: {' '.join(str(error).split())[:120]}** |"
            )
    return fine


def main() -> int:
    """Everything; 1 where a system is not equal, or too much is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "gpu.md")
    options = parser.parse_args()
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        print(f"missing: {', '.join(missing)}; pip install -c constraints.txt -e . brings them")
    if {"torch", "numpy"} & {*missing}:
        return 1
    import torch

    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print(f"torch {torch.__version__} sees no GPU; nothing was measured (--device cpu --tiny tries it)")
        return 1
    card = torch.cuda.get_device_name(options.device) if options.device.startswith("cuda") else "no GPU"
    report = Report(options.device, options.minutes)
    report.say(f"# On a GPU\n\n{card}; {os.cpu_count()} processors ({platform.machine()}); Python")
    report.say(f"{platform.python_version()}, torch {torch.__version__}; {time.strftime('%Y-%m-%d')};")
    report.say(f"`python benchmarks/gpu.py --device {options.device}`.\n")
    fine = True
    for part in ("equality", "passes", "networks", "transformer"):
        try:
            if part == "equality":
                fine = equality(report)
            else:
                getattr(import_module("gpu_times"), part)(report, options.tiny)
        except Exception as error:
            fine = False
            traceback.print_exc()
            report.say(f"\nNot run: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
    if options.device.startswith("cuda") and not options.tiny:
        options.out.write_text("\n".join(report.lines) + "\n", encoding="utf-8")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
