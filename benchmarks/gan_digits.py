"""Digits that a GAN makes up: a picture, and their Fréchet distance beside those of a VAE.

    python benchmarks/gan_digits.py picture [--out docs/digits_gan.png]
    python benchmarks/gan_digits.py distance [DIR] [--seed 0] [--steps N]

`picture` fits a GAN to scikit-learn's 1,797 digits with their labels, and draws a column of samples for each.

`distance` fits a GAN and a VAE to the 10,000 images of DIR/mnist_t10k_images.idx3.gz without their labels,
or without DIR to scikit-learn's digits with their labels. A convolutional network (`CNN`) is fitted to images
and labels (DIR/mnist_t10k_labels.idx1.gz); its standardised features of the images, and of as many samples of
each system, have the distance

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
    """Standardised features of images (n, D)."""
    values = np.column_stack([pixels, np.zeros(len(pixels))])
    rows = network.bound.rows(replace(network.data, values=values, lengths=np.array([len(pixels)])))
    return rows.Z[:, 1:].numpy()


def expected(fit: ppl.Fit, number: int, seed: int) -> np.ndarray:
    """Expected pixels of draws of z, of a VAE."""
    net, generator = fit.bound.networks(fit.params), torch.Generator().manual_seed(seed)
    z, label = torch.randn(number, net.latent, generator=generator), None
    with torch.no_grad():
        if net.classes:
            y = torch.multinomial(net.log_prior_y().exp(), number, replacement=True, generator=generator)
            label = net.one_hot(y)
        return net.likelihood.expect(net.decoder(z, label)).numpy()


def digits() -> "ppl.data.Dataset":
    """scikit-learn's digits, with their labels as the target."""
    found = load_digits()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "digits.npz"
        np.savez(path, X=found.images, y=found.target)
        return ppl.read(path, target="y")


def small() -> ppl.Fit:
    """A GAN of scikit-learn's digits, given their labels."""
    return ppl.fit(ppl.GAN(latent=32, hidden=128), digits(), steps=2_000)


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


def compare(folder: Path | None, seed: int, steps: int | None, made: ppl.Fit | None = None) -> None:
    """The table of distances.

    Args:
        folder: of the 10,000 images; None for scikit-learn's digits, given their labels.
        seed: of all fits.
        steps: of either system at most.
        made: a fit of the GAN that was made before.
    """
    labelled = digits() if folder is None else images(folder, True)
    data = labelled if folder is None else images(folder, False)
    gan, vae = ppl.GAN(), ppl.VAE()
    if folder is None:
        gan, vae, steps = ppl.GAN(latent=32, hidden=128), ppl.VAE(latent=8, hidden="256,256"), steps or 2_000
    network = ppl.fit(ppl.CNN(), labelled, patience=3, seed=seed)
    pixels = [j for j, c in enumerate(labelled.schema.columns) if c.name != labelled.schema.target]
    real = np.array(labelled.values[:, pixels])
    number, wanted = len(real), features(network, real)
    print("| system | Fréchet distance | steps | CPU s | |\n|---|---|---|---|---|")
    half = distance(wanted[::2], wanted[1::2])
    print(f"| half of the images against the others | {half:.2f} | | | |", flush=True)

    def row(name: str, drawn: np.ndarray, fit: ppl.Fit, seconds: float) -> None:
        off = distance(wanted, features(network, drawn))
        print(f"| {name} | {off:.2f} | {fit.trained.steps} | {seconds:.0f} | {fit.status} |", flush=True)

    def drawn(fit: ppl.Fit) -> np.ndarray:
        own = fit.sample(number, seed=1)
        return own.drop(columns=labelled.schema.target, errors="ignore").to_numpy(float)

    began = time.process_time()
    first = made or ppl.fit(gan, data, seed=seed, steps=steps)
    row("gan", drawn(first), first, time.process_time() - began)
    began = time.process_time()
    second = ppl.fit(vae, data, seed=seed, steps=None if folder is None else steps)
    row("vae, as drawn", drawn(second), second, time.process_time() - began)
    row("vae, expected pixels", expected(second, number, 1), second, time.process_time() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(required=True)
    drawing = commands.add_parser("picture")
    drawing.add_argument("--out", type=Path, default=Path("docs/digits_gan.png"))
    drawing.set_defaults(run=lambda options: picture(small(), options.out))
    comparing = commands.add_parser("distance")
    comparing.add_argument("folder", type=Path, nargs="?")
    comparing.add_argument("--seed", type=int, default=0)
    comparing.add_argument("--steps", type=int, help="of either system at most")
    comparing.set_defaults(run=lambda options: compare(options.folder, options.seed, options.steps))
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
