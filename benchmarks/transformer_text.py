"""The transformer on a text: nats a byte of its last tenth, beside n-grams.

    python benchmarks/transformer_text.py tinyshakespeare.txt.gz [width=128,context=128,...] ...

The first 90 % of the bytes are what a model may see, early stopping included; the last 10 % are scored once.
Each further argument is a fit, with fields of `Transformer` and settings of the training. The n-gram is of
five bytes, interpolated by the method of Witten & Bell (1991, IEEE Trans. Inform. Theory 37):

    p_n(v | c) = (count(c v) + d(c) p_{n−1}(v | c')) / (count(c) + d(c)),   d(c) different bytes after c

and p_0 = 1/256. Each figure has the seconds and CPU seconds of the fit, and a sample's first lines.
"""

import gzip
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

import ppl_models as ppl
from ppl_models.annotations import hints

ORDER = 5


def value(text: str) -> int | float | str:
    """A number where it is one."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def n_gram(train: bytes, test: bytes, order: int = ORDER) -> float:
    """Nats a byte of an interpolated n-gram."""
    counts = [defaultdict(Counter) for _ in range(order)]
    for n in range(order):
        for i in range(n, len(train)):
            counts[n][train[i - n : i]][train[i]] += 1
    total = [{c: (sum(own.values()), len(own)) for c, own in each.items()} for each in counts]
    before, nats = train[-order:] + test, 0.0
    for i in range(order, len(before)):
        p, v = 1 / 256, before[i]
        for n in range(order):
            c = before[i - n : i]
            if c not in total[n]:
                break
            seen, different = total[n][c]
            p = (counts[n][c][v] + different * p) / (seen + different)
        nats -= np.log(p)
    return nats / len(test)


def main(path: str, *specs: str) -> None:
    """A row for each."""
    raw = gzip.open(path).read() if path.endswith(".gz") else Path(path).read_bytes()
    cut = int(0.9 * len(raw))
    train, test = raw[:cut], raw[cut:]
    print(
        "| model | nats a byte | bits a byte | s | CPU s | steps, status |\n|---|---|---|---|---|---|",
        flush=True,
    )
    began, clock = time.perf_counter(), time.process_time()
    found = n_gram(train, test)
    s, cpu = time.perf_counter() - began, time.process_time() - clock
    print(f"| {ORDER}-gram | {found:.3f} | {found / np.log(2):.3f} | {s:.0f} | {cpu:.0f} | |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        parts = [Path(folder) / name for name in ("train.txt", "test.txt")]
        for part, content in zip(parts, (train, test), strict=True):
            part.write_bytes(content)
        for spec in specs:
            given = {k: value(v) for k, _, v in (each.partition("=") for each in spec.split(","))}
            fields = {k: v for k, v in given.items() if k in hints(ppl.Transformer)}
            began, clock = time.perf_counter(), time.process_time()
            fit = ppl.fit(
                ppl.Transformer(**fields),
                str(parts[0]),
                **{k: v for k, v in given.items() if k not in fields},
            )
            s, cpu = time.perf_counter() - began, time.process_time() - clock
            nats = -float(fit.score(str(parts[1]))["log_density"].mean())
            said = (
                f"transformer {spec} ({fit.bound.parameters:,} weights) | {nats:.3f} | {nats / np.log(2):.3f}"
            )
            print(f"| {said} | {s:.0f} | {cpu:.0f} | {fit.trained.steps}, {fit.status} |", flush=True)
            print("\n" + fit.sample(prompt="ROMEO:", steps=200, temperature=0.8, seed=1)["text"][0] + "\n")
            print(fit.check().text(110), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
