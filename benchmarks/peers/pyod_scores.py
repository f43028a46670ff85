"""PyOD at its defaults: python pyod_scores.py FILE.npz; X to fit, Y to score, y labels, same for X = Y."""

import json
import sys
import time
from importlib.metadata import version

import numpy as np
from pyod.models.ecod import ECOD
from pyod.models.iforest import IForest
from pyod.models.knn import KNN
from pyod.models.lof import LOF
from sklearn.metrics import roc_auc_score

data = np.load(sys.argv[1])
found = {"version": f"pyod {version('pyod')}"}
for name, kind in {"IForest": IForest, "ECOD": ECOD, "KNN": KNN, "LOF": LOF}.items():
    model = kind(random_state=0) if kind is IForest else kind()
    began = time.process_time()
    model.fit(data["X"])
    score = model.decision_scores_ if data["same"] else model.decision_function(data["Y"])
    found[name] = {"auc": float(roc_auc_score(data["y"], score)), "seconds": time.process_time() - began}
print(json.dumps(found))
