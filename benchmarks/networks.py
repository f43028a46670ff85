"""Networks with a Bayesian head against published figures and against the same networks in bare PyTorch.

    python benchmarks/networks.py DIR [NAME ...]

DIR holds the data: `tables/adult_train.csv.gz` and `adult_test.csv.gz` (the official split),
`uci_regression/*.npz` (X, y, train_idx, test_idx: 20 splits), `mnist_t10k_images.idx3.gz` and
`mnist_t10k_labels.idx1.gz`, `images1d/mnist1d.parquet`, `speech/fsdd_mfcc_dev.parquet`,
`timeseries/taylor.csv.gz` and `exchange_rate.csv.gz`. NAME is a function below; all of them if none is given.
Each prints one line as it is done, and the lines are added to `benchmarks/results/networks.md` by hand.
Nothing is chosen by a test part. SPLITS=5 takes fewer of the UCI splits, SETS=yacht,energy some of the sets;
each split is told on stderr, should the process be stopped. Seconds are CPU seconds of the process and all of
its threads, so that they can be compared on a machine that is shared.
"""

import copy
import gzip
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import ppl_models as ppl

UCI = ("concrete", "energy", "kin8nm", "wine-quality-red", "yacht")
DROPOUT = {"concrete": 2.937, "energy": 1.212, "kin8nm": -1.136, "wine-quality-red": 0.928, "yacht": 1.250}
"""Negative log likelihood of MC dropout (Gal & Ghahramani 2016), means over the splits."""


def say(name: str, **figures: object) -> None:
    """One line."""
    text = ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in figures.items())
    print(f"{name}: {text}", flush=True)


def adult(data: Path) -> None:
    """Log loss on the official test part."""
    parts = []
    for part in ("train", "test"):
        path = data / "tables" / f"adult_{part}.csv.gz"
        parts.append(pd.read_csv(path, na_values=["NA"], skipinitialspace=True))
    train, test = parts
    y = train.columns[-1]
    test[y] = test[y].str.rstrip(".")
    began = time.process_time()
    fit = ppl.fit(ppl.MLP(), train, target=y, patience=3, tolerance=5e-4)
    seconds = time.process_time() - began
    loss = -float(fit.score(test)["log_probability"].mean())
    right = float((fit.predict(test)["class"] == test[y]).mean())
    say("adult", loss=loss, accuracy=right, seconds=seconds, verdict=fit.check().verdict)


def uci(data: Path) -> None:
    """Log likelihood and RMSE on the standard splits, against MC dropout; the time of one plain network."""
    number = int(os.environ.get("SPLITS", "20"))
    sets = os.environ.get("SETS", ",".join(UCI)).split(",")
    for name in sets:
        held = np.load(data / "uci_regression" / f"{name}.npz")
        X, y = held["X"].astype(float), held["y"].astype(float).ravel()
        columns = [f"x{j}" for j in range(X.shape[1])]
        frame = pd.DataFrame(X, columns=columns).assign(y=y)
        found, clock = [], [0.0, 0.0]
        for train, test in list(zip(held["train_idx"], held["test_idx"], strict=True))[:number]:
            train, test = train[train >= 0], test[test >= 0]
            data_train = ppl.read(
                frame.iloc[train], target="y", types=dict.fromkeys([*columns, "y"], "continuous")
            )
            began = time.process_time()
            fit = ppl.fit(ppl.MLP(), data_train)
            clock[0] += time.process_time() - began
            began = time.process_time()
            ppl.fit(ppl.MLP(members=1, posterior="members"), data_train)
            clock[1] += time.process_time() - began
            new = ppl.read(frame.iloc[test], schema=data_train.schema)
            nll = -float(fit.score(new)["log_probability"].mean())
            rmse = float(np.sqrt(np.mean((fit.predict(new)["mean"] - y[test]) ** 2)))
            found.append((nll, rmse))
            print(name, len(found), f"{nll:.3f} {rmse:.3f}", *(f"{c:.1f}" for c in clock), file=sys.stderr)
        mean, error = np.mean(found, 0), np.std(found, 0) / len(found) ** 0.5
        say(
            f"uci {name}", splits=len(found), nll=float(mean[0]), nll_se=float(error[0]),
            dropout=DROPOUT[name], rmse=float(mean[1]),
            seconds=clock[0] / len(found), plain=clock[1] / len(found),
        )  # fmt: skip


def _mnist(data: Path) -> tuple[np.ndarray, np.ndarray]:
    x = gzip.open(data / "mnist_t10k_images.idx3.gz").read()
    y = gzip.open(data / "mnist_t10k_labels.idx1.gz").read()
    return np.frombuffer(x, np.uint8, offset=16).reshape(-1, 28, 28), np.frombuffer(y, np.uint8, offset=8)


def bare(
    net: torch.nn.Module, inputs, y: torch.Tensor, held: torch.Tensor, train: torch.Tensor, patience: int
):
    """A plain loop: Adam, 128 rows, the best weights on held-out rows, and some passes of patience."""
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)
    best, kept, waited = np.inf, None, 0
    while waited < patience:
        net.train()
        for part in train[torch.randperm(len(train))].split(128):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(net(inputs.at(part))[:, 0], y[part]).backward()
            optimiser.step()
        net.eval()
        with torch.no_grad():
            out = torch.cat([net(inputs.at(p))[:, 0] for p in held.split(512)])
        loss = float(torch.nn.functional.cross_entropy(out, y[held]))
        waited += 1
        if loss < best:
            best, kept, waited = loss, copy.deepcopy(net.state_dict()), 0
    net.load_state_dict(kept)
    return net.eval()


def _images(data: Path) -> Any:
    from dataclasses import replace

    x, y = _mnist(data)
    pixels = [f"p{i}" for i in range(784)]
    frame = pd.DataFrame(x.reshape(len(x), -1), columns=pixels).assign(y=y)
    found = ppl.read(frame, target="y", types=dict.fromkeys(pixels, "continuous"))
    return replace(found, schema=replace(found.schema, shape=(28, 28)))


def mnist(data: Path) -> None:
    """9,000 of the 10,000 images train: against the same network, with one member, in bare PyTorch."""
    found = _images(data)
    order = np.random.default_rng(0).permutation(10_000)
    train, test = found.subset(np.sort(order[:9_000])), found.subset(np.sort(order[9_000:]))
    began = time.process_time()
    fit = ppl.fit(ppl.CNN(), train, patience=3)
    seconds = time.process_time() - began
    truth = test.column("y").astype(int)
    nll = -float(fit.score(test)["log_probability"].mean())
    wrong = float((fit.predict(test)["class"].astype(int).to_numpy() != truth).mean())
    began = time.process_time()
    plain = ppl.CNN(members=1).bind(train.schema).prepare(train)
    torch.manual_seed(0)
    index, y, _ = plain.used(train)
    own, held = plain.split(train, 0)
    net = bare(plain.network(), plain.inputs(train), y, index[held], index[own], 5)
    other = time.process_time() - began
    with torch.no_grad():
        inputs = plain.inputs(test)
        out = torch.cat([net(inputs.at(p))[:, 0] for p in torch.arange(len(truth)).split(512)])
    bare_nll = float(torch.nn.functional.cross_entropy(out, torch.from_numpy(truth)))
    bare_wrong = float((out.argmax(1).numpy() != truth).mean())
    say(
        "mnist",
        nll=nll,
        error=wrong,
        seconds=seconds,
        bare_nll=bare_nll,
        bare_error=bare_wrong,
        bare_seconds=other,
    )


def _mnist1d(data: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    frame = pd.read_parquet(data / "images1d" / "mnist1d.parquet")
    frame["y"] = frame["y"].astype(str)
    train, test = (frame[frame["split"] == part].drop(columns="split") for part in ("train", "test"))
    return train, test


def mnist1d_cnn(data: Path) -> None:
    """Accuracy on the test part."""
    train, test = _mnist1d(data)
    began = time.process_time()
    fit = ppl.fit(ppl.CNN(shift=4), train, target="y", patience=4)
    seconds = time.process_time() - began
    right = float((fit.predict(test)["class"].to_numpy() == test["y"].to_numpy()).mean())
    say("mnist1d cnn", accuracy=right, seconds=seconds)


def _long(frame: pd.DataFrame) -> pd.DataFrame:
    x = frame[[f"x{i}" for i in range(40)]].to_numpy()
    names = np.repeat(np.arange(len(x)), 40).astype(str)
    return pd.DataFrame({"id": names, "x": x.ravel(), "y": np.repeat(frame["y"].to_numpy(), 40)})


def mnist1d_rnn(data: Path) -> None:
    """The same with each signal as a sequence."""
    train, test = _mnist1d(data)
    began = time.process_time()
    fit = ppl.fit(ppl.RNN(layers=2), _long(train), sequence="id", target="y", patience=4)
    seconds = time.process_time() - began
    right = fit.predict(_long(test))["class"].to_numpy()[::40] == test["y"].to_numpy()
    say("mnist1d rnn", accuracy=float(right.mean()), seconds=seconds)


def _speech(data: Path) -> pd.DataFrame:
    frame = pd.read_parquet(data / "speech" / "fsdd_mfcc_dev.parquet").sort_values(["recording", "frame"])
    return frame.assign(digit=frame["digit"].astype(str))


def _digits(train: pd.DataFrame, test: pd.DataFrame) -> tuple[float, float]:
    keep = ["recording", "digit", *(f"m{i}" for i in range(26))]
    began = time.process_time()
    fit = ppl.fit(ppl.RNN(), train[keep], sequence="recording", target="digit", patience=4)
    seconds = time.process_time() - began
    found = fit.predict(test[keep])
    first = ~found["recording"].duplicated().to_numpy()
    return float((found["class"].to_numpy() == test["digit"].to_numpy())[first].mean()), seconds


def speech(data: Path) -> None:
    """Spoken digits: the official split."""
    frame = _speech(data)
    right, seconds = _digits(frame[frame["split"] == "train"], frame[frame["split"] == "test"])
    say("speech", accuracy=right, seconds=seconds)


def speech_voices(data: Path) -> None:
    """Spoken digits: each speaker left out in turn."""
    frame = _speech(data)
    found = {}
    for who in sorted(frame["speaker"].unique()):
        found[who] = _digits(frame[frame["speaker"] != who], frame[frame["speaker"] == who])[0]
        say("speech without", speaker=who, accuracy=found[who])
    say("speech leaving one out", accuracy=float(np.mean(list(found.values()))))


def crps(draws: np.ndarray, y: np.ndarray) -> np.ndarray:
    """E|x − y| − ½ E|x − x'| by draws (S, T)."""
    x = np.sort(draws, 0)
    S = len(x)
    spread = 2 * ((2 * np.arange(1, S + 1) - S - 1)[:, None] * x).sum(0) / S**2
    return np.abs(x - y).mean(0) - 0.5 * spread


def _rolling(name: str, values: np.ndarray, start: int, steps: int, season: int, origins: list[int]) -> None:
    """Forecasts from several origins by a fit to the rows before `start`; naive ones by past errors."""
    began = time.process_time()
    fit = ppl.fit(ppl.RNN(), values[:start], patience=4)
    seconds = time.process_time() - began
    gaps = values[season:start] - values[: start - season]
    ours, naive, inside, rng = [], [], [], np.random.default_rng(0)
    scale = np.nanmean(np.abs(gaps), 0)
    for at in origins:
        truth = values[at : at + steps]
        data = ppl.read(values[:at], schema=fit.data.schema)
        torch.manual_seed(at)
        paths = next(iter(fit.bound.ahead(fit.bound.rows(data), steps, fit.draws))).values
        low, high = np.quantile(paths, [0.05, 0.95], axis=0)
        inside.append((low <= truth) & (truth <= high))
        base = np.stack([values[at - season + h % season] for h in range(steps)])
        if season > 1:
            errors = gaps[rng.integers(0, len(gaps), 400)][:, None]
        else:  # a random walk's errors grow with the horizon
            errors = gaps[rng.integers(0, len(gaps), (400, steps))].cumsum(1)
        for j in range(values.shape[1]):
            ours.append(crps(paths[:, :, j], truth[:, j]).mean() / scale[j])
            naive.append(crps((base + errors)[..., j], truth[:, j]).mean() / scale[j])
    say(
        name, crps=float(np.mean(ours)), naive=float(np.mean(naive)), coverage=float(np.mean(inside)),
        season=fit.bound.lag, seconds=seconds,
    )  # fmt: skip


def electricity(data: Path) -> None:
    """Half-hourly demand, one day ahead from each of the last 21 days; CRPS in units of the naive error."""
    values = pd.read_csv(data / "timeseries" / "taylor.csv.gz").to_numpy(float)
    start = len(values) - 1_008
    _rolling("electricity", values, start, 48, 336, list(range(start, len(values) - 47, 48)))


def exchange(data: Path) -> None:
    """Eight daily exchange rates, 20 days ahead from 50 days of the last fifth."""
    table = pd.read_csv(data / "timeseries" / "exchange_rate.csv.gz")
    values = table.apply(pd.to_numeric, errors="coerce").dropna().to_numpy(float)
    start = int(0.8 * len(values))
    origins = np.linspace(start, len(values) - 20, 50).astype(int).tolist()
    _rolling("exchange rates", values, start, 20, 1, origins)


def steps(data: Path) -> None:
    """Seconds of a training step against those of the same network in a bare loop, by the process's clock."""
    found = _images(data).subset(np.arange(4_000))  # one pass has more steps than are timed
    bound = ppl.CNN(dropout=0.0).bind(found.schema).prepare(found)
    from ppl_models.inference.gradient import GradientRule
    from ppl_models.inference.policies import Patience

    torch.manual_seed(0)
    target = bound.objective(found, 0)
    rule = GradientRule(Patience(), batch_size=128, weight_decay=3e-4)
    state = rule.start(target)
    batches = rule.batches(state, target)
    optimiser = torch.optim.AdamW(target.module.parameters(), lr=1e-3, weight_decay=3e-4, fused=True)
    state.numbers["first"] = -10.0
    state.step = 1

    def ours() -> None:
        rule.step(target, state, next(batches)._replace(last=False))

    def plain() -> None:
        index = target.train[torch.randperm(len(target.train))[:128]]
        optimiser.zero_grad()
        out = target.module(target.inputs.at(index))
        y = target.y[index][:, None].expand(-1, out.shape[1]).reshape(-1)
        torch.nn.functional.cross_entropy(out.flatten(0, 1), y).backward()
        optimiser.step()

    clocks: dict[str, list[float]] = {"ours": [], "plain": []}
    for _ in range(25):
        for name, step in (("ours", ours), ("plain", plain)):
            began = time.process_time()
            step()
            clocks[name].append(time.process_time() - began)
    ours_s, plain_s = (float(np.median(clocks[name])) for name in ("ours", "plain"))
    say("step", ours=ours_s, bare=plain_s, ratio=ours_s / plain_s)


EVERY = (adult, uci, mnist, mnist1d_cnn, mnist1d_rnn, speech, speech_voices, electricity, exchange, steps)

if __name__ == "__main__":
    folder, *names = sys.argv[1:]
    for each in EVERY:
        if not names or each.__name__ in names:
            each(Path(folder))
