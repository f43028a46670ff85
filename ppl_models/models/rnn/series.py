"""Sequences as a forecast takes them: their cells, their scale, their season and their calendar."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ppl_models.data import Dataset

LONGEST, SHORTEST, DEEP, NEAR = 1_000, 4, 0.6, 1.2
"""A season is at most and at least so long, its error at most this share of the largest at a shorter lag, and
within this factor of the least."""

CALENDAR = 6
"""Calendar features: sine and cosine of the time of day, of the week and of the year."""


@dataclass(frozen=True, eq=False)
class Series:
    """One sequence as the network takes it.

    Attributes:
        x: (T, C) float64 cells in the user's units, NaN where missing.
        filled: the same with the last cell before, or the mean, where one is missing.
        scale: (C,) of the differences to the base; of a count its mean.
        centre: (C,) the mean.
        calendar: (T, F).
    """

    x: np.ndarray
    filled: np.ndarray
    scale: np.ndarray
    centre: np.ndarray
    calendar: np.ndarray


def season_of(data: Dataset) -> int:
    """The lag whose differences are smallest, where it stands out; else 1.

    Args:
        data: the rows.
    """
    error = np.zeros(0)
    for x in data.sequences():
        most = min(LONGEST, len(x) // 3)
        sd = np.array([column.sd for column in data.schema.columns])
        if most < SHORTEST:
            continue
        seen, z = ~np.isnan(x), np.nan_to_num(x) / sd
        own = np.zeros(most)
        for k in range(1, most + 1):
            both = seen[k:] & seen[:-k]
            own[k - 1] = (np.abs(z[k:] - z[:-k]) * both).sum() / max(both.sum(), 1)
        if not own.any():
            continue
        error = own if not len(error) else error[: len(own)] + own[: len(error)]
    if len(error) < SHORTEST:
        return 1
    near = error[SHORTEST - 1 :] <= NEAR * error[SHORTEST - 1 :].min()
    best = int(np.argmax(near)) + SHORTEST  # multiples of a season do about as well
    return best if error[best - 1] < DEEP * error[:best].max() else 1


def calendar(times: Any, number: int) -> np.ndarray:
    """Sine and cosine of the time of day, week and year of ISO dates, (number, 6); zeros without any."""
    try:
        when = np.array([str(t).removesuffix("Z") for t in times], dtype="datetime64[s]")
    except (TypeError, ValueError):
        return np.zeros((number, CALENDAR))
    if isinstance(times, np.ndarray):
        return np.zeros((number, CALENDAR))
    seconds = when.astype(np.int64).astype(float)
    angle = 2 * np.pi * seconds[:, None] / np.array([86_400.0, 604_800.0, 31_556_952.0])
    return np.concatenate([np.sin(angle), np.cos(angle)], 1)


def after(days: np.ndarray, steps: int) -> np.ndarray:
    """Calendar features of the steps after the last, by going on at the speed of the last step."""
    half = CALENDAR // 2
    angle = np.arctan2(days[:, :half], days[:, half:])
    speed = (angle[-1] - angle[-2]) % (2 * np.pi) if len(days) > 1 else np.zeros(half)
    on = (np.abs(days) > 0).any()
    ahead = angle[-1] + speed * np.arange(1, steps + 1)[:, None]
    return np.concatenate([np.sin(ahead), np.cos(ahead)], 1) * on
