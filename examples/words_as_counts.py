"""Spam by its words: a naive Bayes model of counts against a logistic regression, as messages are added.

    python examples/words_as_counts.py

Simulated messages of a few dozen words, of which twenty are counted. Given its kind, how often each word
comes is Poisson, and long messages have more of all. A mixture with one component for each class is naive
Bayes, with a posterior of its rates; the regression makes no assumption about words, and pays for it where
messages are few.
"""

import numpy as np
import pandas as pd

import ppl_models as ppl

WORDS = """free win cash offer click now prize money credit urgent
           meeting lunch report thanks project tomorrow call budget team notes""".split()
SIZES = (20, 40, 100, 300, 1000)


def messages(rows: int, seed: int) -> pd.DataFrame:
    """Counts of the words; `lengths` makes those of one message hang together, which naive Bayes denies."""
    rng = np.random.default_rng(seed)
    spam = rng.random(rows) < 0.4
    leaning = np.where(np.arange(20) < 10, 1.0, -1.0) * np.linspace(0.9, 0.1, 10).repeat(2)
    lengths = rng.gamma(6.0, 1 / 6, rows)[:, None]
    counts = rng.poisson(0.6 * lengths * np.exp(0.5 * np.where(spam, 1, -1)[:, None] * leaning))
    return pd.DataFrame(counts, columns=WORDS).assign(kind=np.where(spam, "spam", "ham"))


def main() -> None:
    from matplotlib.figure import Figure

    train, test = messages(max(SIZES), 1), messages(2000, 2)
    models = {"naive Bayes": ppl.GMM(components=1), "logistic": ppl.Logistic()}
    types = dict.fromkeys(WORDS, "count")
    rows = []
    for size in SIZES:
        for name, model in models.items():
            fit = ppl.fit(model, train[:size], target="kind", seed=0, types=types)
            loss = -fit.score(test).iloc[:, -1].mean()
            right = (fit.predict(test)["class"].to_numpy() == test["kind"].to_numpy()).mean()
            rows.append({"messages": size, "model": name, "log loss": loss, "accuracy": right})
    found = pd.DataFrame(rows).pivot(index="messages", columns="model")
    share = (test["kind"] == "spam").mean()
    none = -share * np.log(share) - (1 - share) * np.log(1 - share)
    print(found.round(3).to_string(), f"\n\nthe shares alone: log loss {none:.3f}, accuracy {1 - share:.3f}")
    ahead = found["log loss"].idxmin(axis=1)
    print("ahead by log loss:", ", ".join(f"{name} at {size}" for size, name in ahead.items()))

    axes = Figure(figsize=(6, 4), layout="constrained").subplots()
    found["log loss"].plot(ax=axes, logx=True, marker="o", ylabel="log loss of new messages")
    axes.axhline(none, color="k", linestyle=":", label="the shares alone")
    axes.legend()
    axes.figure.savefig("words_as_counts.png", dpi=120)


if __name__ == "__main__":
    main()
