"""Spoken words: a hidden Markov model for each of them, and a recurrent network.

    python examples/spoken_digits.py

Simulated: each of four words goes through four sounds of its own, for as many frames as the speaker likes;
a frame has three noisy numbers. Words share sounds and differ by their order, so that the mean frame of a
recording says little. The HMM (a left-to-right chain for each word) knows that sounds follow one another;
the network does not.
"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.linear_model import LogisticRegression

import ppl_models as ppl

SOUNDS = np.random.default_rng(11).normal(0, 1.2, (5, 3))
WORDS = {"one": (0, 1, 2, 3), "two": (3, 2, 1, 0), "three": (1, 0, 3, 2), "four": (0, 2, 1, 4)}
COLUMNS = ["a", "b", "c"]


def recordings(number: int, seed: int) -> pd.DataFrame:
    rng, parts = np.random.default_rng(seed), []
    for i in range(number):
        word = list(WORDS)[i % len(WORDS)]
        sound = np.repeat(WORDS[word], rng.integers(2, 7, 4))
        frames = SOUNDS[sound] + rng.normal(0, 0.9, (len(sound), 3))
        parts.append(pd.DataFrame(frames, columns=COLUMNS).assign(recording=i, word=word))
    return pd.concat(parts, ignore_index=True)


def main() -> None:
    train, test = recordings(40, 1), recordings(100, 2)
    truth = test.groupby("recording")["word"].first()
    classes = sorted(WORDS)
    models = {
        "a chain for each word": (ppl.HMM(states=4, topology="left-right"), {"restarts": 2}),
        "recurrent network": (ppl.RNN(units=24, members=2), {"steps": 600}),
    }
    found = {}
    for name, (model, training) in models.items():
        fit = ppl.fit(model, train, target="word", sequence="recording", seed=0, **training)
        predicted = fit.predict(test).groupby("recording", sort=False)["class"].first()
        found[name] = predicted.to_numpy()
    means = [table.groupby("recording")[COLUMNS].mean() for table in (train, test)]
    known = train.groupby("recording")["word"].first()
    found["mean frame, logistic"] = LogisticRegression().fit(means[0], known).predict(means[1])

    print(f"{known.size} recordings to learn from, {truth.size} others; share recognised (chance 0.25)")
    axes = Figure(figsize=(9, 3.2), layout="constrained").subplots(1, 3)
    for ax, (name, guess) in zip(axes, found.items(), strict=True):
        right = np.mean(guess == truth.to_numpy())
        print(f"{name:>22} {right:.3f}")
        ax.imshow(pd.crosstab(truth.to_numpy(), guess).reindex(index=classes, columns=classes, fill_value=0))
        ax.set(title=f"{name}: {right:.0%}", xlabel="taken for", xticks=range(4), yticks=range(4),
               xticklabels=classes, yticklabels=classes)  # fmt: skip
    axes[0].figure.savefig("spoken_digits.png", dpi=120)


if __name__ == "__main__":
    main()
