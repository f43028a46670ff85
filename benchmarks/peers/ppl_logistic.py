"""Ours: python ppl_logistic.py FILE TARGET, with the seconds of the fit and the peak memory."""

import json
import resource
import sys
import time
from pathlib import Path

import ppl_models as ppl


def high_water() -> int:
    """Bytes of memory at most; where /proc has it, without what the process that started this one held."""
    status = Path("/proc/self/status")
    if status.exists():
        found = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return 1024 * int(found.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


began = time.perf_counter()
fit = ppl.fit(ppl.Logistic(), sys.argv[1], target=sys.argv[2], seed=0)
fitted = time.perf_counter() - began
table = fit.summary()
peak = high_water()
summary = time.perf_counter() - began - fitted
print(json.dumps({"seconds": fitted, "summary": summary, "peak": peak, "rows": len(table)}))
