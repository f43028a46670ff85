"""Speed of a VAE against bare PyTorch, side by side in one run.

    python benchmarks/vae_speed.py [--data images.idx3.gz] [--epochs 3] [--steps 150] [--out FILE.md]

Both are the 784-400-20 network of PyTorch's own VAE example, with Bernoulli pixels (grey levels as
probabilities) and Adam: the example's loop, `binary_cross_entropy` of a sigmoid plus the KL divergence, and
`ppl.VAE(latent=20, hidden="400", likelihood="bernoulli")`. The images are in memory already, as each side
takes them. A step of ours is one of `ppl.fit`; that looks at held-out rows besides, once a pass. Steps
alternate in blocks of ten, and the ratio is that of the medians of a step. Then each side
trains for some epochs on the same rows, and the ELBO of the same held-out rows (one draw of z each,
averaged over five) is compared; peak memory is that of a process of its own. Without `--data` the images
are simulated: three smooth random patterns, mixed and lit at random.
"""

import argparse
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ppl_models as ppl
from ppl_models import VAE
from ppl_models.inference.gradient import GradientRule, Rows
from ppl_models.inference.policies import Patience
from ppl_models.models.vae.elbo import terms

LEARNING_RATE, TEST_ROWS = 1e-3, 1_000
MODEL = VAE(latent=20, hidden="400", likelihood="bernoulli", warm_up=0.0)


def simulated(n: int = 10_000, side: int = 28) -> np.ndarray:
    """(n, side, side) grey levels from 0 to 255."""
    rng = np.random.default_rng(0)
    grid = np.linspace(-1, 1, side)
    x, y = np.meshgrid(grid, grid)
    centre, width = rng.uniform(-0.6, 0.6, (n, 2, 3)), rng.uniform(0.1, 0.35, (n, 3))
    images = np.zeros((n, side, side))
    for k in range(3):
        square = (x - centre[:, 0, k, None, None]) ** 2 + (y - centre[:, 1, k, None, None]) ** 2
        images = np.maximum(images, np.exp(-square / (2 * width[:, k, None, None] ** 2)))
    return (255 * np.clip(images + 0.02 * rng.normal(size=images.shape), 0, 1)).astype(np.uint8)


class Plain(nn.Module):
    """The network of https://github.com/pytorch/examples/blob/main/vae/main.py."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc21, self.fc22 = nn.Linear(784, 400), nn.Linear(400, 20), nn.Linear(400, 20)
        self.fc3, self.fc4 = nn.Linear(20, 400), nn.Linear(400, 784)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Probabilities, and the mean and log variance of z."""
        h = F.relu(self.fc1(x))
        mu, logvar = self.fc21(h), self.fc22(h)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
        return torch.sigmoid(self.fc4(F.relu(self.fc3(z)))), mu, logvar


def plain_loss(recon: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """The loss of the example: a sum over the batch."""
    bce = F.binary_cross_entropy(recon, x, reduction="sum")
    return bce - 0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())


@dataclass
class Side:
    """One contender: `step(rows)` trains on the rows at these indices, `elbo()` is that of the test rows."""

    step: Callable[[Tensor], None]
    elbo: Callable[[], float]


def plain(images: np.ndarray, test: np.ndarray) -> Side:
    """Bare PyTorch."""
    torch.manual_seed(0)
    net = Plain()
    optimiser = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE)
    x = torch.from_numpy(images.reshape(len(images), -1)).float() / 255
    y = torch.from_numpy(test.reshape(len(test), -1)).float() / 255

    def step(rows: Tensor) -> None:
        batch = x[rows]
        optimiser.zero_grad()
        loss = plain_loss(*_after(net(batch), batch))
        loss.backward()
        optimiser.step()
        loss.item()

    @torch.no_grad()
    def elbo() -> float:
        torch.manual_seed(1)
        return -statistics.mean(float(plain_loss(*_after(net(y), y))) / len(y) for _ in range(5))

    return Side(step, elbo)


def _after(found: tuple[Tensor, Tensor, Tensor], x: Tensor) -> tuple[Tensor, ...]:
    return found[0], x, found[1], found[2]


def ours(images: np.ndarray, test: np.ndarray) -> Side:
    """Ours: the steps of `ppl.fit`, with their checks, clipping and averaging."""
    torch.manual_seed(0)
    data = ppl.read(images)
    bound = MODEL.bind(data.schema)
    target = bound.target(data)
    target.train, target.rows = torch.arange(data.rows), data.rows  # the same rows as the other side
    rule = GradientRule(Patience(), learning_rate=LEARNING_RATE, warm_up=0)  # as the other side
    state = rule.start(target)

    def step(rows: Tensor) -> None:
        rule.step(target, state, Rows(rows, data.rows / len(rows), False))

    @torch.no_grad()
    def elbo() -> float:
        torch.manual_seed(1)
        rows = bound.rows(ppl.read(test, schema=data.schema))
        found = (terms(target.module, rows) for _ in range(5))
        return statistics.mean(float((t.fit - t.divergence).mean()) for t in found)

    return Side(step, elbo)


SIDES = {"PyTorch": plain, "ppl": ours}


def times(sides: dict[str, Side], n: int, batch: int, steps: int) -> dict[str, float]:
    """Median milliseconds of a step, in blocks of ten that alternate."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    generator = torch.Generator().manual_seed(0)
    for block in range(max(2, steps // 10)):
        for name, side in sides.items() if block % 2 else reversed(sides.items()):
            for _ in range(10):
                rows = torch.randint(n, (batch,), generator=generator)
                began = time.perf_counter()
                side.step(rows)
                if block:  # the first warms up
                    found[name].append(1e3 * (time.perf_counter() - began))
    return {name: statistics.median(each) for name, each in found.items()}


def trained(side: Side, n: int, batch: int, epochs: int) -> float:
    """The held-out ELBO after some epochs."""
    generator = torch.Generator().manual_seed(2)
    for _ in range(epochs):
        for rows in torch.randperm(n, generator=generator).split(batch):
            side.step(rows)
    return side.elbo()


def images_of(path: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Training images and held-out images."""
    if path is None:
        images = simulated()
    elif path.endswith(".npy"):
        images = np.load(path)
    else:
        data = ppl.read(path)
        images = data.values.reshape(-1, *data.schema.shape).astype(np.uint8)
    return images[:-TEST_ROWS], images[-TEST_ROWS:]


def peak(name: str, path: str | None, batch: int, threads: int) -> float:
    """Peak memory of a process that trains one side for twenty steps, MB."""
    command = [sys.executable, __file__, "--alone", name, "--batch", str(batch), "--threads", str(threads)]
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images.npy"  # both processes start from the same bytes
        np.save(images, np.concatenate(images_of(path)))
        done = subprocess.run([*command, "--data", str(images)], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", help="images, an IDX file of n × 28 × 28; simulated if not given")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--batch", type=int, nargs="+", default=[128, 1024])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path)
    parser.add_argument("--alone", choices=[*SIDES], help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    train, test = images_of(options.data)
    if options.alone:
        side = SIDES[options.alone](train, test)
        for _ in range(20):
            side.step(torch.randint(len(train), (options.batch[0],)))
        # not ru_maxrss, which a process takes over from the one that it was forked from
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        print(int(status.partition("VmHWM:")[2].split()[0]) / 1024)
        return
    lines = [
        f"{len(train):,} images of 28 × 28 ({options.data or 'simulated'}), {platform.machine()}, "
        f"{options.threads} thread(s), torch {torch.__version__}",
        "",
        "| batch | PyTorch, ms a step | ppl | ratio | PyTorch, test ELBO | ppl | PyTorch, peak MB | ppl |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for batch in options.batch:
        took = times(
            {name: make(train, test) for name, make in SIDES.items()}, len(train), batch, options.steps
        )
        elbo = {
            name: trained(make(train, test), len(train), batch, options.epochs)
            for name, make in SIDES.items()
        }
        memory = {name: peak(name, options.data, batch, options.threads) for name in SIDES}
        a, b = SIDES
        lines.append(
            f"| {batch} | {took[a]:.2f} | {took[b]:.2f} | {took[b] / took[a]:.2f} "
            f"| {elbo[a]:.2f} | {elbo[b]:.2f} | {memory[a]:.0f} | {memory[b]:.0f} |"
        )
    report = "\n".join(lines) + "\n"
    print(report)
    if options.out:
        options.out.write_text(report, encoding="utf-8")


if __name__ == "__main__":
    main()
