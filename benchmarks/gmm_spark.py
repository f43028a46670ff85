"""A Gaussian mixture beside the one of Spark's MLlib: 500,000 rows of 16 columns, ten overlapping components.

    python benchmarks/gmm_spark.py ppl      # in an environment with this project
    python benchmarks/gmm_spark.py spark    # in one with pyspark and pyarrow, and Java

`pyspark.ml.clustering.GaussianMixture` under `local[2]`, its rows in memory (`cache`) before the clock
starts, first with few iterations, which also warm its virtual machine up, then with its defaults. Processor
seconds are those of the process: of Spark, of the virtual machine. Ours is one fit with its defaults after a
small one that compiles. Figures after the semicolon are log densities a row in nats: of rows of the fit, and
of new ones.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

N, D, K = 500_000, 16, 10
NAMES = [f"x{i}" for i in range(D)]


def rows(n: int, seed: int) -> np.ndarray:
    """(n, D) of one mixture, drawn by a seed."""
    rng = np.random.default_rng(0)
    A = rng.normal(size=(K, D, D)) / np.sqrt(D)
    covariance = rng.uniform(0.3, 1.5, (K, 1, 1)) * (A @ A.transpose(0, 2, 1) + 0.3 * np.eye(D))
    weight, mean = rng.dirichlet(np.full(K, 5.0)), 0.7 * rng.normal(size=(K, D))
    rng = np.random.default_rng(seed)
    z = rng.choice(K, size=n, p=weight)
    return mean[z] + np.einsum("nde,ne->nd", np.linalg.cholesky(covariance)[z], rng.normal(size=(n, D)))


def ours(X: np.ndarray) -> None:
    import ppl_models as ppl

    model = ppl.GMM(components=K)
    ppl.fit(model, X[:5_000])
    wall, cpu = time.perf_counter(), time.process_time()
    fit = ppl.fit(model, X)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    seen, new = (float(fit.score(each)["log_density"].mean()) for each in (X[:50_000], rows(50_000, 2)))
    print(
        f"ppl: {wall:.1f} s, {cpu:.1f} CPU s, {fit.trained.steps} steps, {fit.status}; {seen:.4f}, {new:.4f}"
    )


def spark(X: np.ndarray) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from pyspark.ml.clustering import GaussianMixture
    from pyspark.ml.feature import VectorAssembler
    from pyspark.sql import SparkSession

    session = (
        SparkSession.builder.master("local[2]")
        .config("spark.driver.memory", "3g")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    found = subprocess.run(["pgrep", "-P", str(os.getpid()), "java"], capture_output=True, text=True)
    machine = Path("/proc") / found.stdout.split()[0] / "stat"

    def used() -> float:
        fields = machine.read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "rows.parquet")
        pq.write_table(pa.table(dict(zip(NAMES, X.T, strict=True))), path)
        vectors = VectorAssembler(inputCols=NAMES, outputCol="features").transform(session.read.parquet(path))
        data = vectors.select("features").repartition(2).cache()
        data.count()
        for most in (2, 12, 100):
            wall, cpu = time.perf_counter(), used()
            found = GaussianMixture(k=K, seed=0, maxIter=most).fit(data).summary
            wall, cpu = time.perf_counter() - wall, used() - cpu
            print(
                f"spark, {most} iterations at most: {wall:.1f} s, {cpu:.1f} CPU s, {found.numIter}; "
                f"{found.logLikelihood / N:.4f}"
            )


if __name__ == "__main__":
    {"ppl": ours, "spark": spark}[sys.argv[1]](rows(N, 1))
