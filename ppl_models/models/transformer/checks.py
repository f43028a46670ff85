"""What is looked at of a transformer: held-out rows, and the calibration of what comes next.

- The log density of the rows that training saw against that of those held out.
- Of the values of held-out rows: how often the most probable value is the one that comes, by how probable it
  is said to be. The expected calibration error over 15 bins (Naeini, Cooper & Hauskrecht 2015, AAAI).
"""

import numpy as np
import torch
from torch import Tensor

from ppl_models.checks import Check, Level
from ppl_models.models.transformer.objective import PLACES, TokenTarget, part_of

ROWS = 2_000
"""Rows that are looked at, at most."""

SOME = 50_000
"""Values of these, at most."""

WORSE = 0.05
"""Nats a value by which held-out rows may be worse than those of the training."""

OFF = 0.03
"""Calibration error up to which probabilities are called calibrated."""

PARTS = 15


def some(index: Tensor, target: TokenTarget) -> Tensor:
    """Some of the rows at these positions, in order, that are the same every time."""
    most = max(1, min(ROWS, SOME // target.module.context))
    order = torch.randperm(len(index), generator=torch.Generator().manual_seed(target.seed))
    return index[order[:most].sort().values]


def checks(target: TokenTarget) -> list[Check]:
    """Everything beside convergence.

    Args:
        target: the objective with the weights that were learned.
    """
    if not len(target.held):
        said = (
            f"none of {len(target.train)} rows or windows were held out: nothing says how it does on others"
        )
        return [Check("held-out rows", None, "warn", said, "both")]
    (seen, n_seen), (unseen, n_unseen) = (
        _a_value(target, some(part, target)) for part in (target.train, target.held)
    )
    gap = seen - unseen
    error = float(np.hypot(n_seen, n_unseen))
    said = f"log density a value {seen:.3f} of training rows, {unseen:.3f} of those held out"
    level: Level = "ok"
    if gap > max(3 * error, WORSE):
        level = "warn"
        said += ": it fits the rows more than what they share; use a smaller --width or more --dropout"
    found = [Check("held-out rows", gap, level, said, "both")]
    sure, right = confidence(target, some(target.held, target))
    off = calibration_error(sure, right)
    said = (
        f"of {len(sure):,} held-out values the most probable one comes in {100 * right.mean():.1f} %, and "
        f"has {100 * sure.mean():.1f} % on average; calibration error {off:.3f}"
    )
    noise = 0.5 * (PARTS / len(sure)) ** 0.5
    if off > OFF + noise:
        said += ": do not take probabilities of what comes next at their word; train it on more rows, or less"
        found.append(Check("calibration", off, "fail" if off > 0.1 + noise else "warn", said, "both"))
    else:
        found.append(Check("calibration", off, "ok", said, "both"))
    return found


def _a_value(target: TokenTarget, index: Tensor) -> tuple[float, float]:
    """Mean log p of a value, and its standard error by rows."""
    found, batch = target.values(index)
    each = found.double().sum(1)
    number = batch.seen.sum(1).double()
    mean = float(each.sum() / number.sum())
    error = float((each - mean * number).std() / number.mean() / len(each) ** 0.5) if len(each) > 1 else 0.0
    return mean, error


@torch.no_grad()
def confidence(target: TokenTarget, index: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Of each value of rows at these positions the largest probability, and whether its value is the one."""
    net = target.module
    vectors, batch = net.vectors(), target.fixed(index)
    sure, right = [], []
    for at in torch.arange(len(index)).split(max(1, PLACES // batch.value.shape[1])):
        own = part_of(batch, at)
        h = net(own.before, own.field, vectors)
        for f in range(len(net.sizes)):
            here = own.seen & (own.field == f)
            p, best = net.logits(h[here], f, vectors).softmax(1).max(1)
            sure.append(p.double().cpu())
            right.append((best + net.starts[f] == own.value[here]).cpu())
    return torch.cat(sure).numpy(), torch.cat(right).numpy()


def calibration_error(sure: np.ndarray, right: np.ndarray) -> float:
    """Σ_b n_b / n |mean probability − share that is right| over bins b of the probability."""
    bins = np.minimum((sure * PARTS).astype(int), PARTS - 1)
    return float(np.abs(np.bincount(bins, sure - right, PARTS)).sum() / max(len(sure), 1))


def nats_by_field(target: TokenTarget, fields: int) -> np.ndarray:
    """Mean −log p of held-out values by field, (F,); of those of the training where none are held out."""
    found, batch = target.values(some(target.held if len(target.held) else target.train, target))
    field, seen = batch.field[batch.seen].cpu(), batch.seen
    number = torch.bincount(field, minlength=fields).clamp_min(1)
    total = torch.bincount(field, weights=-found[seen].double().cpu(), minlength=fields)
    return (total / number).numpy()
