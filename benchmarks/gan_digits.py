"""Digits that a GAN makes up, beside those of a VAE: Fréchet distance in the features of a network of ours.

    python benchmarks/gan_digits.py DIR [--out docs/digits_gan.png] [--run RUN] [--seed 0]

DIR holds `mnist_t10k_images.idx3.gz` and `mnist_t10k_labels.idx1.gz`. Both systems are fitted to the 10,000
images without their labels, as they are if nothing is said. A convolutional network (`CNN`) is fitted to
images and labels; its standardised features of the images, and of 10,000 samples of each system, have

    ‖μ − μ'‖² + tr(Σ + Σ' − 2 (Σ Σ')^½)

(Heusel et al. 2017, GANs trained by a two time-scale update rule, NeurIPS,
https://arxiv.org/abs/1706.08500). Samples of a VAE are taken as they are drawn, pixel by pixel, and as the
expected pixels of each z as well, which look better. Half of the images against the other half says what is
left where nothing is wrong. It prints a Markdown table, and draws 100 samples.

RUN is a run of `ppl fit gan` on the images, to go on from rather than to fit anew.
"""

import argparse
import gzip
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from scipy.linalg import sqrtm

import ppl_models as ppl

SIDE, ROWS, COLUMNS = 28, 10, 10


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


def picture(pixels: np.ndarray, path: Path) -> None:
    """Images on white, in rows."""
    canvas = np.full((ROWS * (SIDE + 2), COLUMNS * (SIDE + 2)), 255.0)
    for i, image in enumerate(pixels[: ROWS * COLUMNS]):
        r, c = divmod(i, COLUMNS)
        canvas[r * 30 + 1 : r * 30 + 29, c * 30 + 1 : c * 30 + 29] = 255 - image.reshape(SIDE, SIDE)
    Image.fromarray(canvas.astype(np.uint8)).save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/digits_gan.png"))
    parser.add_argument("--run", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--vae-steps", type=int, help="of the VAE at most")
    options = parser.parse_args()
    plain, labelled = (images(options.folder, labels) for labels in (False, True))
    network = ppl.fit(ppl.CNN(), labelled, patience=3, seed=options.seed)
    real = np.array(plain.values)
    wanted = features(network, real)
    print("| system | Fréchet distance | steps | CPU s | |\n|---|---|---|---|---|", flush=True)

    def row(name: str, pixels: np.ndarray, steps: object, seconds: object, said: object) -> None:
        off = distance(wanted, features(network, pixels))
        print(f"| {name} | {off:.2f} | {steps} | {seconds} | {said} |", flush=True)

    print(f"| half of the images against the others | {distance(wanted[::2], wanted[1::2]):.2f} | | | |")
    number = len(real)
    began = time.process_time()
    gan = ppl.load(options.run) if options.run else ppl.fit(ppl.GAN(), plain, seed=options.seed)
    drawn = gan.sample(number, seed=1).to_numpy(float)
    spent = round(time.process_time() - began) if options.run is None else ""
    row("gan", drawn, gan.trained.steps, spent, f"{gan.status}, {gan.check().verdict}")
    picture(drawn, options.out)
    began = time.process_time()
    vae = ppl.fit(ppl.VAE(), plain, seed=options.seed, steps=options.vae_steps)
    drawn = vae.sample(number, seed=1).to_numpy(float)
    spent = round(time.process_time() - began)
    row("vae, as drawn", drawn, vae.trained.steps, spent, vae.status)
    row("vae, expected pixels", expected(vae, number, 1), vae.trained.steps, "", vae.status)


if __name__ == "__main__":
    main()
