"""Quality of a VAE against the same network in bare PyTorch, by importance-weighted test log likelihood.

    python benchmarks/vae_quality.py --data images.idx3.gz [--epochs 150] [--draws 1000] [--out FILE.md]

The network is that of PyTorch's own example, 784-400-20 with Bernoulli pixels. The last 1,000 images are the
test. Bare PyTorch trains on all others with batches of 128, and is given the number of epochs that is best
on the test itself, which nobody can know. `ppl.fit` has its defaults: it holds a tenth of its rows out, stops
by itself, and is fitted once. Both are scored by log 1/K Σ_k p(x, z_k)/q(z_k | x) with the same code, and by
the ELBO.
"""

import argparse
import copy
import time
from pathlib import Path

import torch
from vae_speed import Plain, images_of, plain_loss

import ppl_models as ppl


def pixels(images) -> torch.Tensor:
    return torch.from_numpy(images.reshape(len(images), -1)).float() / 255


@torch.no_grad()
def weighted(encode, decode, x: torch.Tensor, draws: int) -> tuple[float, float]:
    """The mean importance-weighted bound and the mean ELBO of rows, by K draws each."""
    torch.manual_seed(3)
    bounds, elbos = [], []
    for row in x.split(4):
        mean, log_var = encode(row)
        eps = torch.randn(draws, *mean.shape)
        z = mean + (0.5 * log_var).exp() * eps
        logits = decode(z)
        log_p = -torch.nn.functional.binary_cross_entropy_with_logits(
            logits, row.expand_as(logits), reduction="none"
        ).sum(-1)
        log_w = log_p - 0.5 * (z**2).sum(-1) + 0.5 * (eps**2 + log_var).sum(-1)
        bounds.append(log_w.logsumexp(0) - torch.tensor(float(draws)).log())
        elbos.append(log_w.mean(0))
    return float(torch.cat(bounds).mean()), float(torch.cat(elbos).mean())


def bare(train, test, epochs: int) -> tuple[Plain, int, float]:
    """The best of all epochs by the test ELBO, which epoch that was, and the seconds of all."""
    torch.manual_seed(0)
    net, x, y = Plain(), pixels(train), pixels(test)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
    best, at, kept, began = -float("inf"), 0, net, time.perf_counter()
    for epoch in range(epochs):
        for rows in torch.randperm(len(x)).split(128):
            batch = x[rows]
            optimiser.zero_grad()
            recon, mu, logvar = net(batch)
            plain_loss(recon, batch, mu, logvar).backward()
            optimiser.step()
        with torch.no_grad():
            recon, mu, logvar = net(y)
            elbo = -float(plain_loss(recon, y, mu, logvar)) / len(y)
        if elbo > best:
            best, at, kept = elbo, epoch + 1, copy.deepcopy(net)
    return kept, at, time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--draws", type=int, default=1_000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    train, test = images_of(options.data)
    y = pixels(test)
    lines = [
        f"{len(train):,} training and {len(test):,} test images of {Path(options.data).name}, "
        f"K = {options.draws:,}, torch {torch.__version__}.",
        "",
        "| | importance-weighted | ELBO | seconds | epochs |",
        "|---|---|---|---|---|",
    ]
    net, at, seconds = bare(train, test, options.epochs)

    def encode(x: torch.Tensor):
        h = torch.relu(net.fc1(x))
        return net.fc21(h), net.fc22(h)

    bound, elbo = weighted(encode, lambda z: net.fc4(torch.relu(net.fc3(z))), y, options.draws)
    lines.append(
        f"| PyTorch, best of {options.epochs} epochs | {bound:.2f} | {elbo:.2f} | {seconds:.0f} | {at} |"
    )
    began = time.perf_counter()
    fit = ppl.fit(ppl.VAE(latent=20, hidden="400", likelihood="bernoulli"), train)
    seconds = time.perf_counter() - began
    own = fit.bound.networks(fit.params)

    def posterior(x: torch.Tensor):
        return own.posterior(own.likelihood.features(x, None))

    bound, elbo = weighted(posterior, own.decoder, y, options.draws)
    epochs = fit.trained.steps // -(-8_100 // 128)
    lines.append(f"| ppl, stopped by itself | {bound:.2f} | {elbo:.2f} | {seconds:.0f} | {epochs} |")
    report = "\n".join(lines) + "\n"
    print(report)
    if options.out:
        options.out.write_text(report, encoding="utf-8")


if __name__ == "__main__":
    main()
