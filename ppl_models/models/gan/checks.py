"""Checks on a generative adversarial network: what its samples are like, beside rows that it never saw.

- Two-sample test: the AUC of a classifier that tells held-out rows from samples (`two_sample`).
- Coverage: the share of held-out rows within whose k nearest neighbours' radius some sample lies (Naeem, Oh,
  Uh, Choi & Yoo 2020, Reliable fidelity and diversity metrics for generative models, ICML,
  https://arxiv.org/abs/2002.09797).
- Copies: whether samples lie closer to training rows than held-out rows do.
- Modes: groups of training rows by k-means, which samples hardly ever fall into.
- Columns: those that hardly vary in samples, or whose frequent levels are never drawn.
"""

from typing import Any

import numpy as np

from ppl_models.checks import Check, Level
from ppl_models.data import Schema
from ppl_models.models.gan.objective import GANTarget
from ppl_models.models.gan.two_sample import Components

ROWS = 2_000
"""Rows and samples that are looked at."""

LEAST = 30
"""Rows from which a test can tell anything."""

SUSPECT, TOLD = 0.65, 0.95
"""AUC beyond which samples are told from the data easily, and nearly always."""

NEIGHBOURS, COVERED, LOST = 5, 0.8, 0.5
"""k of the coverage, and the shares below which rows are not covered well, and hardly."""

COPIED = 0.6
"""Probability of being the closer to a training row, beyond which samples are copies: ½ of fresh rows."""

GROUPS, SHRUNK = 20, 0.25
"""Groups of rows at most, and the share of its size below which a group has collapsed."""

NARROW, FREQUENT = 0.5, 0.02
"""Share of its sd below which a column has collapsed, and of rows beyond which a level is frequent."""


def checks(target: GANTarget, seed: int) -> list[Check]:
    """Everything that is looked at beside convergence.

    Args:
        target: the objective of the fit, with the networks that were learned.
        seed: of the rows and samples that are looked at.
    """
    held = target.held if len(target.held) else target.train
    fresh = bool(len(target.held))
    train, held = target.train[_some(len(target.train), seed)], held[_some(len(held), seed + 1)]
    found = [_two_sample(target, fresh)]
    if len(held) < LEAST:
        return found
    real, seen = target.cells(held), target.cells(train)
    drawn, more = target.generated(held, seed + 41), target.generated(train, seed + 43)
    found += _columns(target, np.concatenate([real, seen]), np.concatenate([drawn, more]))
    space = _space(target, seen)
    real, seen, drawn, more = map(space, (real, seen, drawn, more))
    found.append(_coverage(real, drawn))
    if fresh:
        found.append(_copies(real, seen, drawn))
    return [*found, _modes(seen, more, seed)]


def _some(n: int, seed: int) -> Any:
    import torch

    return torch.from_numpy(np.sort(np.random.default_rng(seed).permutation(n)[:ROWS]))


def _two_sample(target: GANTarget, fresh: bool) -> Check:
    found = target.test(seed=1, rounds=100)
    least = found.auc - 2 * found.error
    what = "held-out rows" if fresh else "rows of the fit"
    said = f"a classifier tells {what} from samples with an AUC of {found.auc:.2f} (.50 is guessing)"
    name = "two-sample test"
    if not np.isfinite(found.error) or (not fresh and len(target.train) < LEAST):
        return Check(name, None, "warn", "there are too few rows to tell samples from the data", "both")
    if least > TOLD:
        return Check(name, found.auc, "fail", f"{said}: samples are not like the data; train longer", "both")
    if least > SUSPECT:
        return Check(name, found.auc, "warn", f"{said}: it tells them easily; train longer", "both")
    return Check(name, found.auc, "ok", said, "both")


class _Space:
    """Rows as points: numbers by their sd, labels one-hot by 1/√2; principal components of images."""

    def __init__(self, target: GANTarget, seen: np.ndarray) -> None:
        self.pixels = None
        if target.schema.shape is not None:
            self.pixels = Components(np.nan_to_num(seen))
            return
        own = [target.schema.columns[j] for j in target.coding.order]
        self.sizes = [len(c.levels) if c.labelled else 0 for c in own]
        if seen.shape[1] > len(own):
            self.sizes.append(target.module.classes)
        self.mean = np.array([0.0 if k else np.nanmean(v) if np.isfinite(v).any() else 0.0
                              for k, v in zip(self.sizes, seen.T, strict=True)])  # fmt: skip
        self.sd = np.array([1.0 if k else np.nanstd(v) or 1.0 if np.isfinite(v).any() else 1.0
                            for k, v in zip(self.sizes, seen.T, strict=True)])  # fmt: skip

    def __call__(self, cells: np.ndarray) -> np.ndarray:
        if self.pixels is not None:
            return self.pixels(np.nan_to_num(cells))
        found = []
        for k, m, s, v in zip(self.sizes, self.mean, self.sd, cells.T, strict=True):
            if k:
                codes = np.where(np.isnan(v), k, v).astype(int)
                found.append(np.eye(k + 1)[codes][:, :k] / 2**0.5)
            else:
                found.append(np.nan_to_num((v - m) / s)[:, None])
        return np.concatenate(found, 1)


def _space(target: GANTarget, seen: np.ndarray) -> _Space:
    return _Space(target, seen)


def _nearest(a: np.ndarray, b: np.ndarray, k: int) -> np.ndarray:
    """Distances (n, k) from each row of a to its k nearest of b."""
    from sklearn.neighbors import NearestNeighbors

    found, _ = NearestNeighbors(n_neighbors=min(k, len(b)), algorithm="brute").fit(b).kneighbors(a)
    return found


def _coverage(real: np.ndarray, drawn: np.ndarray) -> Check:
    radius = _nearest(real, real, NEIGHBOURS + 1)[:, -1]  # the first is the row itself
    share = float((_nearest(real, drawn, 1)[:, 0] <= radius).mean())
    expected = 1 - 0.5**NEIGHBOURS
    said = f"{100 * share:.0f} % of {len(real)} rows have a sample nearby, {100 * expected:.0f} % if alike"
    level: Level = "fail" if share < LOST else "warn" if share < COVERED else "ok"
    if level != "ok":
        said += ": samples do not cover the data"
    return Check("coverage", share, level, said, "both")


def _copies(real: np.ndarray, seen: np.ndarray, drawn: np.ndarray) -> Check:
    """Whether samples are closer to training rows than held-out rows are: P(closer) + ½ P(as close)."""
    own, theirs = _nearest(real, seen, 1)[:, 0], _nearest(drawn, seen, 1)[:, 0]
    own, theirs = own.round(9), theirs.round(9)
    order = np.sort(own)
    above = len(own) - np.searchsorted(order, theirs, "right")
    level_with = np.searchsorted(order, theirs, "right") - np.searchsorted(order, theirs, "left")
    closer = float((above + 0.5 * level_with).mean() / len(own))
    error = float((1 / (6 * len(own))) ** 0.5)
    exact = float((theirs == 0).mean()), float((own == 0).mean())
    said = (
        f"a sample is closer to its nearest training row than a held-out row with probability {closer:.2f}; "
        f"{100 * exact[0]:.1f} % of samples are training rows, {100 * exact[1]:.1f} % of held-out rows"
    )
    if closer - 2 * error > COPIED:
        return Check("copies", closer, "warn", f"{said}: it repeats rows of the fit", "both")
    return Check("copies", closer, "ok", said, "both")


def _modes(seen: np.ndarray, drawn: np.ndarray, seed: int) -> Check:
    from sklearn.cluster import KMeans

    number = int(np.clip(len(seen) // 50, 2, GROUPS))
    means: Any = KMeans(number, n_init=3, random_state=seed)  # type: ignore[arg-type]
    means.fit(seen)
    own = np.bincount(means.labels_, minlength=number) / len(seen)
    theirs = np.bincount(means.predict(drawn), minlength=number) / len(drawn)
    error = np.sqrt(own * (1 - own) / len(drawn))
    gone = theirs + 3 * error < own
    gone &= theirs < SHRUNK * own
    said = f"{number - int(gone.sum())} of {number} groups of rows (k-means) are drawn about as often as seen"
    if gone.any():
        share = 100 * own[gone].sum()
        reason = f"{said}; those with {share:.0f} % of the rows are drawn less than a quarter as often"
        return Check("modes", int(gone.sum()), "fail" if share > 10 else "warn", reason, "both")
    return Check("modes", 0, "ok", said, "both")


def _columns(target: GANTarget, real: np.ndarray, drawn: np.ndarray) -> list[Check]:
    """Columns of a table that have collapsed; of images nothing is said pixel by pixel."""
    if target.schema.shape is not None:
        return []
    own = [target.schema.columns[j] for j in target.coding.order]
    bad = []
    for column, x, y in zip(own, real.T, drawn.T, strict=False):
        x, y = x[~np.isnan(x)], y[~np.isnan(y)]
        if not len(x) or not len(y):
            continue
        if column.labelled:
            k = len(column.levels)
            p, q = (np.bincount(v.astype(int), minlength=k) / len(v) for v in (x, y))
            lost = np.flatnonzero((p > FREQUENT) & (q < 0.1 * p))
            bad += [f"{column.name} never {column.levels[i]}" for i in lost]
        elif x.std() > 0 and y.std() < NARROW * x.std():
            bad.append(f"{column.name} has {y.std() / x.std():.2f} of its sd")
    if bad:
        return [Check("columns", bad, "warn", f"collapsed: {'; '.join(bad[:5])}", "both")]
    return [Check("columns", [], "ok", f"none of {len(own)} columns has collapsed", "both")]


def by_column(schema: Schema, real: np.ndarray, drawn: np.ndarray) -> dict[str, dict[str, Any]]:
    """How far samples are from the data, column by column.

    Args:
        schema: the columns.
        real: (n, C) rows of the data; none of a run without its rows.
        drawn: (m, C) samples.

    Returns:
        By column `distance`, the largest difference between the two distribution functions (Kolmogorov &
        Smirnov), of labels half the sum of the differences of the shares (total variation); and of numbers
        the mean and sd of both.
    """
    found: dict[str, dict[str, Any]] = {}
    for column, x, y in zip(schema.columns, real.T, drawn.T, strict=True):
        x, y, cells = x[~np.isnan(x)], y[~np.isnan(y)], {}
        if column.labelled:
            k = len(column.levels)
            p, q = (np.bincount(v.astype(int), minlength=k) / max(len(v), 1) for v in (x, y))
            distance = 0.5 * float(np.abs(p - q).sum()) if len(x) else np.nan
        else:
            at = np.concatenate([x, y])
            F, G = (np.searchsorted(np.sort(v), at, "right") / max(len(v), 1) for v in (x, y))
            distance = float(np.abs(F - G).max()) if len(x) else np.nan
            cells = {"mean": column.mean, "sample_mean": y.mean(), "sd": column.sd, "sample_sd": y.std()}
        found[column.name] = {"distance": distance, **cells}
    return found
