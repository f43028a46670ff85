"""What a pass costs beside its arithmetic, where the workers of a Dask cluster share a fit.

A pass over so few rows that there is hardly anything to add up: what is left are the messages to and from
each worker. Rows come in 64 partitions; two workers of one thread, on one machine.

    python benchmarks/dask_cluster.py [PARTITIONS] [REPEATS]
"""

import os
import sys
import time
from dataclasses import replace
from statistics import median

os.environ |= {"PPL_THREADS": "1", "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}

import numpy as np
import pandas as pd
import torch

import ppl_models as ppl
from ppl_models import engine
from ppl_models.cluster import gathered

K, D = 10, 16


def main() -> None:
    import dask.dataframe as dd
    from distributed import Client, LocalCluster

    partitions = int(sys.argv[1]) if len(sys.argv) > 1 else 64
    repeats = int(sys.argv[2]) if len(sys.argv) > 2 else 100
    rows = 10 * partitions
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(rows, D)), columns=[f"x{i}" for i in range(D)])
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        model = ppl.GMM(components=K)
        began = time.perf_counter()
        data = ppl.read(dd.from_pandas(frame, npartitions=partitions))
        read = time.perf_counter() - began
        data = replace(data, schema=model.refer(data), cluster=None)
        bound = model.bind(data.schema).prepare(data)
        labels = torch.from_numpy(np.random.default_rng(0).integers(K, size=(1, rows)))
        alone = bound.dataset_batch(data)
        S = bound.from_labels(alone, labels)
        began = time.perf_counter()
        with gathered(client, 3) as team:
            assert team is not None
            formed = time.perf_counter() - began
            shared, _ = engine.divided(
                team, model, bound, data, engine.settings_for(model, {}), engine.FROM_START
            )
            batch = bound.dataset_batch(shared)
            passes = {}
            for name, each in (("one process", alone), ("three ranks", batch)):
                bound.elbo(each, S)
                times = []
                for _ in range(repeats):
                    began = time.perf_counter()
                    bound.elbo(each, S)
                    times.append(time.perf_counter() - began)
                passes[name] = min(times), median(times), max(times)
    print(f"{rows:,} rows of {D} columns in {partitions} partitions; load {os.getloadavg()[0]:.1f}")
    print(f"read {read:.2f} s; processes formed in {formed:.1f} s")
    print("| a pass | least, ms | median, ms | most, ms |")
    print("|---|---|---|---|")
    for name, times in passes.items():
        print(f"| {name} | " + " | ".join(f"{1e3 * t:.2f}" for t in times) + " |")


if __name__ == "__main__":
    main()
