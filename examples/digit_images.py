"""New images of handwritten digits from a variational autoencoder, or with --gan from a GAN.

    python examples/digit_images.py [--steps 800] [--gan]

Scikit-learn's digits, 8 × 8 pixels, with their labels. Good images teach: nearest neighbours learn digits
from made-up images alone, and are judged by real ones that no model has seen. The baseline are images whose
pixels are drawn one by one, each from the images of its digit.
"""

import argparse

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

import ppl_models as ppl

SIDE, FRAME, TRAIN = 8, 10, 1200


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--steps", type=int, default=800)
    options.add_argument("--gan", action="store_true")
    given = options.parse_args()
    order = np.random.default_rng(1).permutation(1797)
    images, digit = load_digits().images[order] / 16, load_digits().target[order].astype(str)
    real, test = np.split(images.reshape(-1, SIDE * SIDE), [TRAIN])

    model = ppl.GAN(latent=16) if given.gan else ppl.VAE(latent=8, hidden=(128, 128))
    fit = ppl.fit(model, (images[:TRAIN], digit[:TRAIN]), steps=given.steps, seed=0)
    made = fit.sample(TRAIN)
    if not given.gan:  # the images that are meant, without the noise of single pixels
        made = made.assign(**fit.reconstruct(made).filter(regex=r"^x\d"))
    pixels, labels = (
        made.filter(regex=r"^x\d").to_numpy(),
        made[fit.data.schema.target].astype(str).to_numpy(),
    )

    rng, shuffled = np.random.default_rng(0), real.copy()
    for each in np.unique(digit):
        at = digit[:TRAIN] == each
        shuffled[at] = rng.permuted(real[at], axis=0)
    sheets = {
        fit.name: (pixels, labels),
        "pixels one by one": (shuffled, digit[:TRAIN]),
        "real": (real, digit[:TRAIN]),
    }
    print(f"{len(test)} real images, recognised after learning from {TRAIN} images ({given.steps} steps)")
    axes = Figure(figsize=(9, 3.6), layout="constrained").subplots(1, 3)
    for ax, (name, (x, y)) in zip(axes, sheets.items(), strict=True):
        right = KNeighborsClassifier(3).fit(x, y).score(test, digit[TRAIN:])
        print(f"{name:>18} {right:.3f}")
        sheet = np.zeros((8 * FRAME, 10 * FRAME))
        for j in range(10):
            for i, row in enumerate(np.flatnonzero(y == str(j))[:8]):
                sheet[i * FRAME :, j * FRAME :][:SIDE, :SIDE] = x[row].reshape(SIDE, SIDE)
        ax.imshow(sheet, cmap="gray_r", vmin=0, vmax=1)
        ax.set(title=f"{name}: {right:.0%} recognised", xticks=[], yticks=[])
    axes[0].figure.savefig("digit_images.png", dpi=120)


if __name__ == "__main__":
    main()
