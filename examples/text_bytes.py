"""Text, byte by byte: a small transformer learns how Python's own documentation is written.

    python examples/text_bytes.py [--steps 250]

The text is that of docstrings of the standard library, which every installation of Python has. The figure
of merit is bits a byte of docstrings that were held out, beside those of the frequencies of bytes, of pairs
of bytes, and of what a compressor makes of them, which knows longer repeats. A few hundred steps are enough
to see that it learns, not for sense.
"""

import argparse
import ast
import importlib.util
import lzma
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import ppl_models as ppl

MODULES = "argparse collections decimal difflib doctest logging optparse pathlib random statistics".split()


def docstrings() -> list[str]:
    found = []
    for name in MODULES:
        origin = importlib.util.find_spec(name).origin.replace("decimal.py", "_pydecimal.py")
        for node in ast.walk(ast.parse(Path(origin).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                found.append(ast.get_docstring(node) or "")
    return sorted({text for text in found if len(text) > 80})


def by_pairs(train: bytes, test: bytes) -> tuple[float, float]:
    """Bits a byte of the frequencies of bytes, and of pairs with these as a prior of weight 20."""
    counts = np.zeros((256, 256))
    np.add.at(counts, (list(train[:-1]), list(train[1:])), 1)
    single = (counts.sum(0) + 0.1) / (counts.sum() + 25.6)
    pairs = (counts + 20 * single) / (counts.sum(1, keepdims=True) + 20)
    now, then = list(test[1:]), list(test[:-1])
    return -np.log2(single[now]).mean(), -np.log2(pairs[then, now]).mean()


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--steps", type=int, default=250)
    steps = options.parse_args().steps
    texts = docstrings()
    order = np.random.default_rng(0).permutation(len(texts))
    train, test = (
        pd.DataFrame({"text": [texts[i] for i in part]}) for part in np.split(order, [-len(order) // 10])
    )
    raw, held_out = ("\n".join(each["text"]).encode() for each in (train, test))

    fit = ppl.fit(ppl.Transformer(text="text", width=64, layers=2, context=64), train, steps=steps, seed=0)
    bits = fit.score(test, summary=True).set_index("score")["mean"]["bits_per_byte"]
    packed = 8 * (len(lzma.compress(raw + held_out)) - len(lzma.compress(raw))) / len(held_out)
    single, pairs = by_pairs(raw, held_out)
    found = {"bytes": single, "pairs of bytes": pairs, "lzma": packed, "transformer": float(bits)}
    print(f"{len(raw):,} bytes to learn from, {len(held_out):,} others; {steps} steps; bits a byte")
    for name, each in found.items():
        print(f"{name:>16} {each:.2f}")
    print("\n" + fit.sample(200, prompt="Return the ", temperature=0.7)["text"][0])

    axes = Figure(figsize=(6, 2.5), layout="constrained").subplots()
    axes.barh(list(found), list(found.values()))
    axes.set_xlabel("bits a byte of held-out docstrings")
    axes.invert_yaxis()
    axes.figure.savefig("text_bytes.png", dpi=120)


if __name__ == "__main__":
    main()
