"""Ours: python ppl_logistic.py FILE TARGET, with the seconds of the fit and the peak memory."""

import json
import resource
import sys
import time

import ppl_models as ppl

began = time.perf_counter()
fit = ppl.fit(ppl.Logistic(), sys.argv[1], target=sys.argv[2], seed=0)
fitted = time.perf_counter() - began
table = fit.summary()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
summary = time.perf_counter() - began - fitted
print(json.dumps({"seconds": fitted, "summary": summary, "peak": peak, "rows": len(table)}))
