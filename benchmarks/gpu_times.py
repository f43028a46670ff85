"""The times of `benchmarks/gpu.py`: passes over rows, steps of networks, a transformer."""

import glob
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gpu_bare
import numpy as np
import torch

import ppl_models as ppl
from ppl_models.inference.gradient import GradientRule, Rows
from ppl_models.inference.policies import Patience

if TYPE_CHECKING:
    from gpu import Report

TAKE = 1.0
"""Seconds of repeats of a figure, about."""


def took(work: Callable[[], object], device: str) -> float:
    """Median seconds of some work, which has been done on the device when it ends."""

    def done() -> float:
        began = time.perf_counter()
        work()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        return time.perf_counter() - began

    first = done()
    repeats = int(np.clip(TAKE / max(first, 1e-6), 2, 30))
    return statistics.median(done() for _ in range(repeats))


def ms(seconds: float) -> str:
    """For a table."""
    return f"{1e3 * seconds:.3g} ms"


_read: dict[str, Any] = {}
"""The last data set that was read, by its name: reading ten million rows takes longer than what is timed."""


def one_pass(model: Any, name: str, X: Callable[[], Any], device: str, **reading: Any) -> Callable[[], str]:
    """The time of a pass over all rows: E step and expected statistics."""

    def cell() -> str:
        if name not in _read:
            _read.clear()
            _read[name] = ppl.read(X(), **reading)
        data = _read[name]
        data = replace(data, schema=model.refer(data))
        bound = model.bind(data.schema).prepare(data)
        batch = bound.dataset_batch(data, device)
        labels = torch.from_numpy(np.random.default_rng(0).integers(bound.states, size=(1, data.rows)))
        S = bound.from_labels(batch, labels.to(device))
        return ms(took(lambda: bound.elbo(batch, S), device))

    return cell


def passes(report: "Report", tiny: bool) -> None:
    """Of mixtures and chains."""
    device = report.device

    def rows(n: int, D: int) -> Callable[[], Any]:
        return lambda: np.random.default_rng(0).normal(size=(n, D))

    def mixture(n: int, K: int, dtype: torch.dtype) -> Callable[[], str]:
        def cell() -> str:
            x = torch.from_numpy(rows(n, 16)()).to(device, dtype)
            own = gpu_bare.random_mixture(K, 16, device, dtype)
            return ms(took(lambda: gpu_bare.em_pass(x, own), device))

        return cell

    def chain(S: int, T: int) -> Callable[[], str]:
        def cell() -> str:
            log_b = torch.from_numpy(rows(S * T, 4)().reshape(S, T, 4)).to(device)
            log_A = torch.full((4, 4), 0.25, dtype=torch.float64, device=device).log()
            work = gpu_bare.scan_pass if S == 1 else gpu_bare.chain_pass
            return ms(took(lambda: work(log_b, log_A), device))

        return cell

    report.say("\n## A pass over all rows\n")
    report.say(f"| | ppl, {device} | ppl, CPU | bare PyTorch, {device}, float64 | in float32 |")
    report.say("|---|---|---|---|---|")
    for n in (2_000, 5_000) if tiny else (500_000, 10_000_000):
        for K in (10, 30):
            model, X = ppl.GMM(components=K), rows(n, 16)
            report.row(
                f"gmm, {n:,} × 16, K = {K}",
                one_pass(model, f"{n} × 16", X, device),
                one_pass(model, f"{n} × 16", X, "cpu"),
                mixture(n, K, torch.float64),
                mixture(n, K, torch.float32),
            )
    for S, T in ((20, 100), (1, 4_000)) if tiny else ((200, 1_000), (1, 1_000_000)):
        model, X = ppl.HMM(states=4, covariance="diag"), rows(S * T, 4)
        name, own = f"{S} × {T}", {"lengths": [T] * S}
        cells = one_pass(model, name, X, device, **own), one_pass(model, name, X, "cpu", **own), chain(S, T)
        report.row(f"hmm, {S} × {T:,} of 4, K = 4", *cells, lambda: "")


def steps(target: Any, batch: int, device: str, learning_rate: float = 1e-3) -> Callable[[], object]:
    """A step of this project's gradient rule on random rows."""
    rule = GradientRule(Patience(), learning_rate=learning_rate, warm_up=0)
    state = rule.start(target)
    draw = torch.Generator().manual_seed(0)

    def step() -> None:
        index = torch.randint(target.rows, (batch,), generator=draw)
        rule.step(target, state, Rows(index.to(device), target.rows / batch, False))

    return step


def plain_steps(
    net: Any, loss: Callable[[Any], Any], rows: int, batch: int, device: str
) -> Callable[[], object]:
    """A step of Adam as one would write it."""
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)

    def step() -> None:
        optimiser.zero_grad()
        found = loss(torch.randint(rows, (batch,), device=device))
        found.backward()
        optimiser.step()
        found.item()

    return step


def networks(report: "Report", tiny: bool) -> None:
    """Of a VAE and of networks for a target, a step of a mini-batch."""
    import vae_speed

    device, n = report.device, 300 if tiny else 10_000
    images = vae_speed.simulated(n)
    y = np.random.default_rng(0).integers(10, size=n)

    def vae(where: str, batch: int) -> Callable[[], str]:
        def cell() -> str:
            data = ppl.read(images)
            target = vae_speed.MODEL.bind(data.schema).target(data, device=where)
            return ms(took(steps(target, batch, where), where))

        return cell

    def plain_vae(batch: int) -> Callable[[], str]:
        def cell() -> str:
            net = vae_speed.Plain().to(device)
            x = torch.from_numpy(images.reshape(n, -1)).float().to(device) / 255

            def loss(rows: torch.Tensor) -> torch.Tensor:
                part = x[rows]
                recon, mu, logvar = net(part)
                return vae_speed.plain_loss(recon, part, mu, logvar)

            return ms(took(plain_steps(net, loss, n, batch, device), device))

        return cell

    def conditional(model: Any, data: Callable[[], Any], where: str, **reading: Any) -> Callable[[], str]:
        def cell() -> str:
            own = ppl.read(data(), **reading)
            bound = model.bind(own.schema).prepare(own).to(where)
            return ms(took(steps(bound.objective(own, 0), 128, where), where))

        return cell

    def pictures() -> Any:
        return images.reshape(n, 28, 28), np.array(list("abcdefghij"))[y]

    def columns() -> Any:
        rng = np.random.default_rng(0)
        X = rng.normal(size=(n, 20))
        kind = np.where(X[:, 0] + rng.normal(size=n) > 0, "yes", "no")
        return {**{f"x{j}": X[:, j] for j in range(20)}, "kind": kind}

    def plain_cnn() -> str:
        net = gpu_bare.Convolutional().to(device)
        x = torch.from_numpy(images.reshape(n, 1, 28, 28)).float().to(device) / 255
        t = torch.from_numpy(y).to(device)
        return ms(took(plain_steps(net, lambda rows: net(x[rows], t[rows]), n, 128, device), device))

    report.say("\n## A step of a mini-batch\n")
    report.say(f"| | ppl, {device} | ppl, CPU | bare PyTorch, {device} |\n|---|---|---|---|")
    for batch in (128, 1_024):
        report.row(
            f"vae 784-400-20, batch {batch:,}", vae(device, batch), vae("cpu", batch), plain_vae(batch)
        )
    cells = (conditional(ppl.CNN(), pictures, where) for where in (device, "cpu"))
    report.row("cnn, 28 × 28, batch 128", *cells, plain_cnn)
    cells = (conditional(ppl.MLP(), columns, where, target="kind") for where in (device, "cpu"))
    report.row("mlp, 20 columns, batch 128", *cells, lambda: "")
    own: dict[str, Any] = {"target": "kind", "lengths": [n // 10] * 10 if tiny else [100] * (n // 100)}
    cells = (conditional(ppl.RNN(), columns, where, **own) for where in (device, "cpu"))
    report.row("rnn, 20 columns, 128 sequences", *cells, lambda: "")


def text(size: int) -> bytes:
    """Python's own modules: a text that is on every machine."""
    found = b""
    for path in sorted(glob.glob(os.path.join(os.path.dirname(os.__file__), "*.py"))):
        found += Path(path).read_bytes()
        if len(found) > size:
            break
    return found[:size]


def transformer(report: "Report", tiny: bool) -> None:
    """Bytes a second, and what is learned in a time."""
    device = report.device
    shape = (
        {"width": 32, "layers": 1, "heads": 2, "context": 32}
        if tiny
        else dict(width=256, layers=6, heads=8, context=256)
    )
    batch, seconds = (4, 1.0) if tiny else (64, 45.0)
    content = text(20_000 if tiny else 2_000_000)
    cut = int(0.9 * len(content))
    places = batch * shape["context"]

    def ours(where: str, precision: str, learn: bool) -> Callable[[], str]:
        def cell() -> str:
            with tempfile.TemporaryDirectory() as folder:
                train, test = Path(folder) / "train.txt", Path(folder) / "test.txt"
                train.write_bytes(content[:cut])
                test.write_bytes(content[cut : cut + 50_000])
                at: list[float] = []
                own: dict[str, Any] = {"device": where, "batch_size": batch, "precision": precision}
                own["progress"] = lambda *told: at.append(time.perf_counter())
                ppl.fit(ppl.Transformer(**shape), str(train), steps=12, **own)
                rate = (len(at) - 3) / (at[-1] - at[2])
                said = f"{places * rate:,.0f} bytes/s"
                if learn:
                    fit = ppl.fit(
                        ppl.Transformer(**shape), str(train), steps=max(5, int(seconds * rate)), **own
                    )
                    said += f"; {-float(fit.score(str(test))['log_density'].mean()):.3f} nats a byte"
                return said

        return cell

    def plain(precision: torch.dtype | None) -> Callable[[], str]:
        def cell() -> str:
            torch.manual_seed(0)
            net = gpu_bare.GPT(**shape).to(device)
            codes = torch.tensor(list(content), device=device)
            ahead = torch.arange(shape["context"] + 1, device=device)
            optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True)

            def loss(lo: int, hi: int) -> torch.Tensor:
                rows = codes[torch.randint(lo, hi - len(ahead), (batch, 1), device=device) + ahead]
                with torch.autocast(device.split(":")[0], precision, enabled=precision is not None):
                    return net(rows[:, :-1], rows[:, 1:])

            def step() -> None:
                optimiser.zero_grad()
                loss(0, cut).backward()
                optimiser.step()

            rate, until = 1 / took(step, device), time.perf_counter() + seconds
            while time.perf_counter() < until:
                step()
            with torch.no_grad():
                end = min(cut + 50_000, len(content))
                held = statistics.mean(float(loss(cut, end)) for _ in range(10))
            return f"{places * rate:,.0f} bytes/s; {held:.3f} nats a byte"

        return cell

    report.say("\n## A transformer\n")
    report.say(f"Of {len(content):,} bytes, {shape}, batch {batch}; {seconds:.0f} s of training.\n")
    report.say(f"| | ppl, {device} | ppl, CPU | bare PyTorch, {device} |\n|---|---|---|---|")
    report.row("float32", ours(device, "float32", True), ours("cpu", "float32", False), plain(None))
    if device.startswith("cuda"):
        report.row("bfloat16", ours(device, "bfloat16", True), lambda: "", plain(torch.bfloat16))
