"""Digits that a GAN makes up: a picture, and their Fréchet distance beside those of a VAE.

    python benchmarks/gan_digits.py picture [--out docs/digits_gan.png]
    python benchmarks/gan_digits.py distance DIR [--seed 0] [--steps N]

`picture` fits a GAN to scikit-learn's 1,797 digits with their labels, and draws a column of samples for each.

`distance` fits a GAN and a VAE to the 10,000 images of DIR/mnist_t10k_images.idx3.gz without their labels. A
convolutional network (`CNN`) is fitted to images and labels (DIR/mnist_t10k_labels.idx1.gz); its standardised
features of the images, and of 10,000 samples of each system, have the distance

    ‖μ − μ'‖² + tr(Σ + Σ' − 2 (Σ Σ')^½)

(Heusel et al. 2017, GANs trained by a two time-scale update rule, NeurIPS,
https://arxiv.org/abs/1706.08500). Samples of a VAE are taken as they are drawn, pixel by pixel, and as the
expected pixels of each z as well, which look better. Half of the images against the other half says what is
left where nothing is wrong. It prints a Markdown table.
"""

import argparse
import gzip
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from scipy.linalg import sqrtm
from sklearn.datasets import load_digits

import ppl_models as ppl

SIDE = 28
ROWS, SMALL, ZOOM = 8, 8, 5


def images(folder: Path, labels: bool) -> "ppl.data.Dataset":
    """The images, with their digits as a target where they are asked for."""
    if not labels:
        return ppl.read(folder / "mnist_t10k_images.idx3.gz")
    raw = [
        gzip.decompress((folder / f"mnist_t10k_{n}.gz").read_bytes()) for n in ("images.idx3", "labels.idx1")
    ]
    x = np.frombuffer(raw[0], np.uint8, offset=16).reshape(-1, SIDE * SIDE).astype(float)
    pixels = [f"p{i}" for i in range(SIDE * SIDE)]
    y = np.frombuffer(raw[1], np.uint8, offset=8).astype(str)
    found = ppl.read(
        pd.DataFrame(x, columns=pixels).assign(y=y), target="y", types=dict.fromkeys(pixels, "continuous")
    )
    return replace(found, schema=replace(found.schema, shape=(SIDE, SIDE)))


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Fréchet distance of the normal distributions with the moments of two sets of features."""
    means, covariances = [v.mean(0) for v in (a, b)], [np.cov(v.T) for v in (a, b)]
    root = np.real(sqrtm(covariances[0] @ covariances[1]))
    return float(((means[0] - means[1]) ** 2).sum() + np.trace(sum(covariances) - 2 * root))


def features(network: ppl.Fit, pixels: np.ndarray) -> np.ndarray:
    """Standardised features of images (n, 784)."""
    own = network.data
    values = np.column_stack([pixels, np.zeros(len(pixels))])
    rows = network.bound.rows(replace(own, values=values, lengths=np.array([len(pixels)])))
    return rows.Z[:, 1:].numpy()


def expected(fit: ppl.Fit, number: int, seed: int) -> np.ndarray:
    """Expected pixels of draws of z, of a VAE."""
    net = fit.bound.networks(fit.params)
    z = torch.randn(number, net.latent, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return net.likelihood.expect(net.decoder(z, None)).numpy()


def small() -> ppl.Fit:
    """A GAN of scikit-learn's digits, given their labels."""
    digits = load_digits()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "digits.npz"
        np.savez(path, X=digits.images, y=digits.target)
        return ppl.fit(ppl.GAN(latent=32, hidden=128), path, target="y", steps=2_000)


def picture(fit: ppl.Fit, out: Path) -> None:
    """Samples, a column for each digit."""
    canvas = np.full((ROWS * (SMALL + 1) + 1, 10 * (SMALL + 1) + 1), 16.0)
    for c in range(10):
        drawn = fit.sample(ROWS, given={"y": c}, seed=c).drop(columns="y").to_numpy(float)
        for r, image in enumerate(drawn.reshape(ROWS, SMALL, SMALL)):
            y, x = r * (SMALL + 1) + 1, c * (SMALL + 1) + 1
            canvas[y : y + SMALL, x : x + SMALL] = 16 - image
    grey = Image.fromarray((255 * np.clip(canvas / 16, 0, 1)).astype(np.uint8))
    grey.resize((grey.width * ZOOM, grey.height * ZOOM), Image.Resampling.NEAREST).save(out, optimize=True)


def compare(folder: Path, seed: int, steps: int | None) -> None:
    """The table of distances."""
    plain, labelled = (images(folder, labels) for labels in (False, True))
    network = ppl.fit(ppl.CNN(), labelled, patience=3, seed=seed)
    real = np.array(plain.values)
    number, wanted = len(real), features(network, real)
    print("| system | Fréchet distance | steps | CPU s | |\n|---|---|---|---|---|")
    print(
        f"| half of the images against the others | {distance(wanted[::2], wanted[1::2]):.2f} | | | |",
        flush=True,
    )

    def row(name: str, pixels: np.ndarray, fit: ppl.Fit, seconds: float) -> None:
        off = distance(wanted, features(network, pixels))
        print(f"| {name} | {off:.2f} | {fit.trained.steps} | {seconds:.0f} | {fit.status} |", flush=True)

    for name, model in (("gan", ppl.GAN()), ("vae", ppl.VAE())):
        began = time.process_time()
        fit = ppl.fit(model, plain, seed=seed, steps=steps)
        spent = time.process_time() - began
        row(name, fit.sample(number, seed=1).to_numpy(float), fit, spent)
    row("vae, expected pixels", expected(fit, number, 1), fit, spent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(required=True)
    drawing = commands.add_parser("picture")
    drawing.add_argument("--out", type=Path, default=Path("docs/digits_gan.png"))
    drawing.set_defaults(run=lambda options: picture(small(), options.out))
    comparing = commands.add_parser("distance")
    comparing.add_argument("folder", type=Path)
    comparing.add_argument("--seed", type=int, default=0)
    comparing.add_argument("--steps", type=int, help="of either system at most")
    comparing.set_defaults(run=lambda options: compare(options.folder, options.seed, options.steps))
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
