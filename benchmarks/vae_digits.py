"""Digits that a VAE has made up: trained on scikit-learn's 1,797, and drawn for each class by M2.

    python benchmarks/vae_digits.py [--out docs/digits_vae.png]

The upper rows are digits of the data, the lower ones samples: a row of z and a column of classes, expected
intensities rather than draws of pixels.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits

import ppl_models as ppl

ROWS, ZOOM = 4, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/digits_vae.png"))
    options = parser.parse_args()
    digits = load_digits()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "digits.npz"
        np.savez(path, X=digits.images, y=digits.target)
        fit = ppl.fit(ppl.VAE(latent=8, hidden="256,256"), path, target="y")
    print(fit)
    net = fit.bound.networks(fit.params)
    with torch.no_grad():
        torch.manual_seed(0)
        z = torch.randn(ROWS, 1, net.latent).expand(ROWS, 10, net.latent).reshape(-1, net.latent)
        label = net.one_hot(torch.arange(10).repeat(ROWS))
        made = net.likelihood.expect(net.decoder(z, label)).numpy()
    order = np.array([digits.data[digits.target == k][:ROWS] for k in range(10)])  # (10, ROWS, 64)
    real = order.transpose(1, 0, 2).reshape(-1, 64)
    gap = np.full((2, 10 * 9 + 1), 16.0)

    def grid(images: np.ndarray) -> np.ndarray:
        canvas = np.full((ROWS * 9 + 1, 10 * 9 + 1), 16.0)
        for i, image in enumerate(images):
            r, c = divmod(i, 10)
            canvas[r * 9 + 1 : r * 9 + 9, c * 9 + 1 : c * 9 + 9] = 16 - image.reshape(8, 8)
        return canvas

    picture = np.concatenate([grid(real), gap, grid(made)])
    grey = Image.fromarray((255 * np.clip(picture / 16, 0, 1)).astype(np.uint8))
    grey.resize((grey.width * ZOOM, grey.height * ZOOM), Image.Resampling.NEAREST).save(options.out)


if __name__ == "__main__":
    main()
