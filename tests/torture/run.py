"""Run trials, and write docs/reliability.md: `python tests/torture/run.py [--only NAME …] [--share S]`.

Results are kept in tests/torture/results.json, each with its date and versions, so that trials can be run on
different days; those that never ran are on the page as not run.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from torture import page  # noqa: E402
from torture.forks import prepare  # noqa: E402
from torture.registry import TRIALS  # noqa: E402
from torture.trials import Trial, Tries  # noqa: E402

RESULTS = Path(__file__).parent / "results.json"


def ran(trial: Trial, share: float = 1.0) -> dict:
    """Run a trial; what came of it."""
    number = max(1, round(trial.number * share))
    before, began = os.times(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"{trial.name}-") as place:
        tries = Tries(number, Path(place))
        home = Path.cwd()
        try:
            trial.body(tries)
        except Exception as error:
            tries.faults.append(f"the trial itself: {type(error).__name__}: {error}")
        finally:
            os.chdir(home)
    after = os.times()
    return {
        "times": tries.done,
        "share": share,
        "faults": len(tries.faults),
        "first": tries.faults[:20],
        "seen": dict(tries.seen.most_common(8)),
        "cpu": round(sum(after[:4]) - sum(before[:4])),
        "seconds": round(time.monotonic() - began),
        "date": date.today().isoformat(),
        "versions": page.versions(),
    }


def main() -> None:
    """Parse the command line, run, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=None, metavar="NAME", help="trials whose name begins so")
    parser.add_argument("--share", type=float, default=1.0, help="of the times that each is to be tried")
    parser.add_argument("--replace", action="store_true", help="results of more tries too")
    parser.add_argument("--list", action="store_true", help="name the trials, and run none")
    given = parser.parse_args()
    chosen = [
        each
        for name, each in TRIALS.items()
        if given.only is None or any(name.startswith(o) for o in given.only)
    ]
    if given.list:
        for each in chosen:
            print(f"{each.name:24} {each.number:6,} {each.unit}: {each.how}")
        return
    prepare()
    failed = 0
    for each in chosen:
        found = ran(each, given.share)
        failed += bool(found["faults"])
        print(
            f"{each.name}: {found['times']:,} {each.unit}, {found['faults']} faults, {found['seen']}, "
            f"{found['cpu']} s CPU",
            flush=True,
        )
        for line in found["first"]:
            print(f"    {line}", flush=True)
        results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        if found["share"] >= results.get(each.name, {"share": 0})["share"] or given.replace:
            results[each.name] = found
            RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
            page.write(results)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
