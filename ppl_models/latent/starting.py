"""Where the restarts begin: labels of rows for the states of a model, as its structure and classes allow."""

from collections.abc import Iterator

import numpy as np

from ppl_models.data import Dataset
from ppl_models.inference.starts import by_class, centres, encode, nearest, starts
from ppl_models.kernels.rows import Rows
from ppl_models.latent.joint import Joint
from ppl_models.latent.topology import placed, segments

JITTER = 0.8
"""How far the cuts of all starts but the first are off, in parts of a sequence."""


def labels(joint: Joint, data: Dataset, rows: Rows, number: int, seed: int) -> np.ndarray:
    """(number, n) states of the rows in each start.

    States of which nothing is known are clusters (`ppl_models.inference.starts`). Where a chain only goes
    forward, sequences are cut into parts of equal length, about, which is how such chains are trained
    (Rabiner 1989, §VI); where other transitions are forbidden, clusters take the places that fit them best.

    Args:
        joint: the model.
        data: the rows.
        rows: their sequences.
        number: of starts.
        seed: of all that is random.
    """
    return np.stack(list(_labels(joint, data, rows, number, seed)))


def _labels(joint: Joint, data: Dataset, rows: Rows, number: int, seed: int) -> Iterator[np.ndarray]:
    allowed, C = joint.structure.topology, joint.classes
    if allowed is not None and allowed.forward:
        owner = _classes(joint, data, seed) if C > 1 else np.zeros(len(rows.lengths), np.int64)
        for i in range(number):
            rng = np.random.default_rng((seed, i))
            yield segments(joint.states // C, rows.lengths, owner, rng, JITTER if i else 0.0)
        return
    heavy = [i for e in joint.emissions if e.heavy_tails for i in e.columns]
    named = data.schema.target is not None and C == 1 and not joint.exchangeable
    if named:
        yield from _named(joint, data, number, seed)
        return
    found = starts(data, rows, joint.states, number, seed, ordered=not joint.exchangeable, heavy=heavy)
    for i, each in enumerate(found):
        if allowed is None or not allowed.told or C > 1:
            yield each
        else:
            yield placed(allowed, each, rows.offsets, np.random.default_rng((seed, i, 1)))


def _named(joint: Joint, data: Dataset, number: int, seed: int) -> Iterator[np.ndarray]:
    """Rows with a label in its state, the others in the nearest: of a label, or of a cluster without one."""
    points, label = encode(data), data.column(str(data.schema.target))
    levels = len(data.schema.columns[data.names.index(str(data.schema.target))].levels)
    free = np.isnan(label)
    for i in range(number):
        rng = np.random.default_rng((seed, i))
        found = by_class(data, points, levels, rng)
        if joint.states > levels and free.any() and not free.all():
            states = [k for k in range(levels) if (label == k).any()]
            own = np.stack([points[label == k].mean(0) for k in states])
            more = _far(centres(points[free], joint.states, rng), own, joint.states - levels)
            states += range(levels, levels + len(more))
            found[free] = np.array(states)[nearest(points[free], np.concatenate([own, more]))]
        yield found


def _far(clusters: np.ndarray, own: np.ndarray, number: int) -> np.ndarray:
    """The centres that are farthest from those of the labels."""
    distance = ((clusters[:, None] - own) ** 2).sum(-1).min(1)
    return clusters[np.argsort(-distance)[:number]]


def _classes(joint: Joint, data: Dataset, seed: int) -> np.ndarray:
    """The class of each sequence, at random where it is not known."""
    label = data.column(str(data.schema.target))
    known = np.fmax.reduceat(label, data.offsets[:-1])
    drawn = np.random.default_rng((seed, 2)).integers(joint.classes, size=len(known))
    return np.where(np.isnan(known), drawn, known).astype(np.int64)
