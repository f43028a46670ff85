"""Starts for models with discrete latents: k-means on several views of the rows.

What tells states apart differs from data to data: levels, or the spread and trend of a few rows in
a row, as with volatility. So the starts are k-means partitions (k-means++ seeds, Arthur & Vassilvitskii
2007) of the rows themselves and of their moving means and log variances over windows of several widths.
The race between them, not luck, decides.
"""

from collections.abc import Container, Iterator

import numpy as np

from ppl_models.data import Dataset, Kind
from ppl_models.kernels.rows import Rows

WINDOWS = (1, 1, 11, 5, 31, 1, 11, 71)
"""Rows of the moving window of each start in turn; 1 is the row itself."""

RANDOM = (2, 3)
"""Starts, of four, that are labels at random where most columns are labels: levels have no distances."""

CLUSTERED = 2_000
"""Rows that k-means sees; the others go to the nearest centre."""


FENCE = 1.5
"""Interquartile ranges from the quartiles to which cells farther out are moved (Tukey's fences)."""


def encode(data: Dataset, clipped: Container[int] = (), rare: bool = True) -> np.ndarray:
    """Rows as points: standardised, counts by square root, categories one-hot, missing cells at the mean.

    Args:
        data: the rows.
        clipped: positions of columns whose cells are first moved to within the fences.
        rare: whether levels are standardised too, so that two rows differ by much where they differ in a rare
            one; else all count alike.
    """
    parts = []
    for i, (column, x) in enumerate(zip(data.schema.columns, data.values.T, strict=True)):
        if column.name == data.schema.target:
            continue
        if column.kind is Kind.CATEGORICAL:
            codes = np.arange(len(column.levels))
            block = (x[:, None] == codes).astype(float)
            block[np.isnan(x)] = np.nan
        else:
            block = np.sqrt(x)[:, None] if column.kind is Kind.COUNT else x[:, None]
            if i in clipped and not np.isnan(block).all():
                low, high = np.nanquantile(block, (0.25, 0.75))
                if high > low:
                    block = np.clip(block, low - FENCE * (high - low), high + FENCE * (high - low))
        seen = ~np.isnan(block)
        mean = np.where(seen, block, 0).sum(0) / np.maximum(seen.sum(0), 1)
        block = np.where(seen, block - mean, 0.0)
        sd = np.sqrt((block**2).mean(0))
        alike = column.labelled and not rare
        parts.append(block / np.where((sd > 0) & ~np.array(alike), sd, 1.0))
    return np.concatenate(parts, 1)


def moving(points: np.ndarray, rows: Rows, window: int) -> np.ndarray:
    """Mean and log variance over a centred window that stops at the ends of its sequence, (n, 2F).

    Args:
        points: the rows as points, (n, F).
        rows: their sequences.
        window: how many rows, an odd number.

    Returns:
        The means, then the log variances, each standardised over the rows (a constant one is 0).
    """
    offsets = rows.offsets
    owner = np.repeat(np.arange(len(rows.lengths)), rows.lengths)
    t, half = np.arange(rows.steps), window // 2
    lo, hi = np.maximum(t - half, offsets[owner]), np.minimum(t + half + 1, offsets[owner + 1])
    count = (hi - lo)[:, None]

    def average(x: np.ndarray) -> np.ndarray:
        total = np.concatenate([np.zeros((1, x.shape[1])), x.cumsum(0)])
        return (total[hi] - total[lo]) / count

    mean = average(points)
    spread = np.log(np.maximum(average(points**2) - mean**2, 0.0) + 1e-2)
    both = np.concatenate([mean, spread], 1)
    sd = both.std(0)
    return (both - both.mean(0)) / np.where(sd > 0, sd, 1.0)


def starts(
    data: Dataset,
    rows: Rows,
    states: int,
    number: int,
    seed: int,
    *,
    ordered: bool = True,
    heavy: Container[int] = (),
) -> Iterator[np.ndarray]:
    """Labels (n,) of each start.

    Args:
        data: the rows; those with a label of the target start in a state of its class.
        rows: their sequences.
        states: K, class by class where there is a target.
        number: how many starts.
        seed: of k-means and its subsample.
        ordered: whether rows follow one another, so that moving windows say something.
        heavy: positions of columns with heavy tails. K-means gives cells far out a cluster of their own,
            which is no start for a family that expects them: every other start has them clipped.
    """
    if states == 1:
        yield np.zeros(rows.steps, np.int64)
        return
    views: dict[tuple[int, bool, bool], np.ndarray] = {}
    labels = sum(column.labelled and column.name != data.schema.target for column in data.schema.columns)
    for i in range(number):
        window = WINDOWS[i % len(WINDOWS)] if ordered else 1
        clip = bool(heavy) and i % 2 == 0
        rare = not labels or i % 2 == 1
        if (1, clip, rare) not in views:
            views[1, clip, rare] = encode(data, heavy if clip else (), rare)
        if (window, clip, rare) not in views:
            views[window, clip, rare] = moving(views[1, clip, rare], rows, window)
        points, rng = views[window, clip, rare], np.random.default_rng((seed, i))
        if data.schema.target is None and 2 * labels > len(data.names) and i % 4 in RANDOM:
            yield rng.integers(states, size=rows.steps)
        elif data.schema.target is None:
            yield nearest(points, centres(points, states, rng))
        else:
            yield by_class(data, points, states, rng)


def by_class(data: Dataset, points: np.ndarray, states: int, rng: np.random.Generator) -> np.ndarray:
    """K-means within each class; rows without a label go to the nearest centre of any.

    Args:
        data: the rows, whose schema names the target.
        points: the same as points, (n, F).
        states: K over all classes, of which each has K // C.
        rng: of k-means and its subsample.

    Returns:
        Labels (n,): those of class c are c K // C and the following.
    """
    column = data.schema.columns[data.names.index(str(data.schema.target))]
    label = data.column(column.name)
    each = states // len(column.levels)
    found = [
        centres(points[label == c] if (label == c).any() else points, each, rng)
        for c in range(len(column.levels))
    ]
    owner = np.repeat(np.arange(len(found)) * each, [len(c) for c in found])
    owner += np.concatenate([np.arange(len(c)) for c in found])
    start = owner[nearest(points, np.concatenate(found))]
    for c, own in enumerate(found):
        start[label == c] = c * each + nearest(points[label == c], own)
    return start


def centres(points: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    """Centres of a k-means partition found on a subsample, (K, F); fewer where points coincide.

    Args:
        points: (n, F), of which at most `CLUSTERED` are looked at.
        number: K.
        rng: of the subsample and of the seeds.
    """
    n = len(points)
    sample = points if n <= CLUSTERED else points[rng.choice(n, CLUSTERED, replace=False)]
    if all(len(np.unique(column)) <= number for column in sample.T):
        distinct = np.unique(sample, axis=0)
        if len(distinct) <= number:  # fewer points than states: each gets its own, the rest stay empty
            return distinct
    found = seeds(sample, number, rng)
    for _ in range(30):
        label = nearest(sample, found)
        count = np.bincount(label, minlength=number)[:, None]
        total = np.stack([np.bincount(label, column, number) for column in sample.T], 1)
        moved = np.where(count > 0, total / np.maximum(count, 1), found)  # an empty one stays where it is
        if np.array_equal(moved, found):
            break
        found = moved
    return found


def seeds(points: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    """Greedy k-means++: each centre is the best of some points drawn by their squared distance to the others.

    A plain draw misses one of ten clusters more often than not; 2 + log K candidates, of which the one that
    lowers the sum of squares most is taken, rarely do (Arthur & Vassilvitskii 2007, §7).

    Args:
        points: (n, F).
        number: K.
        rng: of the draws.

    Returns:
        The centres, (K, F).
    """
    tries = 2 + int(np.log(number))
    found = np.empty((number, points.shape[1]))
    found[0] = points[rng.integers(len(points))]
    square = ((points - found[0]) ** 2).sum(1)
    norm = (points**2).sum(1)
    for k in range(1, number):
        total = square.cumsum()
        drawn = np.searchsorted(total, rng.random(tries) * total[-1]).clip(0, len(points) - 1)
        candidates = points[drawn]
        each = norm - 2 * candidates @ points.T + norm[drawn, None]
        each = np.minimum(np.maximum(each, 0.0), square)
        best = each.sum(1).argmin()
        found[k], square = candidates[best], each[best]
    return found


def nearest(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """The index of the nearest centre, (n,)."""
    return ((centres**2).sum(1) - 2 * points @ centres.T).argmin(1)
