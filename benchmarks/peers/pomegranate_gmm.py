"""pomegranate's mixture: python pomegranate_gmm.py FILE.npz K SEED; X to fit, Y held out, full covariance."""

import json
import sys
import time
from importlib.metadata import version

import numpy as np
import torch
from pomegranate.distributions import Normal
from pomegranate.gmm import GeneralMixtureModel

data, K, seed = np.load(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
X, Y = (torch.tensor(data[name], dtype=torch.float32) for name in "XY")
model = GeneralMixtureModel([Normal() for _ in range(K)], random_state=seed)
began = time.perf_counter()
model.fit(X)
print(
    json.dumps(
        {
            "seconds": time.perf_counter() - began,
            "held_out": float(np.mean(model.log_probability(Y).double().numpy())),
            "version": f"pomegranate {version('pomegranate')}",
        }
    )
)
