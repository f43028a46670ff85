"""What tells joint and conditional models apart: few rows, missing cells, missing labels."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ppl_models.comparison.folds import Fold, described, first_of, ordered
from ppl_models.data import Dataset

SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
"""Of cells of the test part that go missing."""

LABELLED = (1.0, 0.5, 0.2, 0.1, 0.05)
"""Shares of rows of the training part that keep their label."""

POINTS = 7
"""Sizes of a learning curve."""

LEAST = 10
"""Rows of the first."""

Rows = list[dict[str, Any]]
Judge = Callable[[Any, Dataset], Mapping[str, float]]
"""The figures of a fitted entry on a test part."""


def sizes_of(train: Sequence[int], classes: int) -> list[int]:
    """Sizes of a learning curve, even in their logarithms, up to the smallest training part.

    Args:
        train: units in the training parts.
        classes: of the target; 0 of a number.

    Example:
        >>> sizes_of([455, 456], 2)
        [10, 19, 36, 67, 127, 241, 455]
    """
    least, most = max(LEAST, 5 * classes), min(train)
    if least >= most:
        return [most]
    return sorted({round(n) for n in np.geomspace(least, most, POINTS)})


def units(data: Dataset) -> int:
    """What folds are of: sequences where there are several, else rows."""
    return len(data.lengths) if len(data.lengths) > 1 else data.rows


def curve(
    entry: Any, data: Dataset, folds: Sequence[Fold], sizes: Sequence[int], seed: int, judge: Judge
) -> Rows:
    """Figures by the size of the training part, of which each is a part of the next.

    The joint model is expected to be ahead early and the conditional one late, as the first reaches its own,
    higher, asymptotic error with rows of the order of log of the columns, the second with rows of the order
    of the columns (Ng & Jordan 2002, On discriminative vs. generative classifiers, NIPS 14).

    Args:
        entry: which is fitted.
        data: all rows, as the entry sees them.
        folds: of them.
        sizes: units to fit to.
        seed: of the parts and fits.
        judge: gives figures.
    """
    found = []
    for j, fold in enumerate(folds):
        train, test = data.subset(fold.train), data.subset(fold.test)
        order = ordered(train, seed + j)
        for size in sizes:
            fitted = entry.fit(first_of(train, order, min(size, len(order))), seed)
            found.append({"size": size, "fold": j, **judge(fitted, test)})
    return found


def missing_cells(
    fitted: Sequence[Any], data: Dataset, folds: Sequence[Fold], seed: int, judge: Judge
) -> Rows:
    """Figures of fits to complete training parts as cells of the test parts go missing at random.

    A cell that is missing at one share is missing at all larger ones, and the same cells are for every entry.
    A joint model integrates them out, p(y | x_seen) = ∫ p(y, x) dx_missing / …; a model of p(y | x) has no
    such answer, and gets them filled in by what its training has to offer.

    Args:
        fitted: the entry as fitted to each fold.
        data: all rows, as the entry sees them.
        folds: of them.
        seed: of the cells.
        judge: gives figures.
    """
    found = []
    for j, (fit, fold) in enumerate(zip(fitted, folds, strict=True)):
        test = data.subset(fold.test)
        u = np.random.default_rng([seed, j, 7]).uniform(size=test.values.shape)
        if test.schema.target is not None:
            u[:, test.names.index(test.schema.target)] = 1.0
        for share in SHARES:
            values = np.where(u < share, np.nan, test.values)
            found.append({"missing": share, "fold": j, **judge(fit, replace(test, values=values))})
    return found


def missing_labels(entry: Any, data: Dataset, folds: Sequence[Fold], seed: int, judge: Judge) -> Rows:
    """Figures as labels of the training parts go missing: by the labelled rows alone, and by all rows.

    Only a joint model learns from rows without a label, by p(x) = Σ_y p(x, y) (semi-supervised learning;
    Nigam, McCallum, Thrun & Mitchell 2000, Text classification from labeled and unlabeled documents using EM,
    Machine Learning 39). For others both are the same, and are fitted once.

    Args:
        entry: which is fitted.
        data: all rows, as the entry sees them.
        folds: of them.
        seed: of the labels and fits.
        judge: gives figures.
    """
    found = []
    at = data.names.index(str(data.schema.target))
    for j, fold in enumerate(folds):
        train, test = described(data.subset(fold.train)), data.subset(fold.test)
        order, n = ordered(train, seed + j), units(train)
        for share in LABELLED:
            size = max(2, round(share * n))
            some = first_of(train, order, size)
            alone = entry.fit(some, seed)
            figures = judge(alone, test)
            found.append({"labelled": share, "fold": j, "by": "labelled rows", **figures})
            if share < 1 and getattr(alone, "joint", False) and train.rows == n:
                values = np.array(train.values)
                values[order[size:], at] = np.nan
                figures = judge(entry.fit(replace(train, values=values), seed), test)
            found.append({"labelled": share, "fold": j, "by": "all rows", **figures})
    return found
