"""A part of a data set that stands for the whole."""

from dataclasses import replace

import numpy as np

from ppl_models.data.dataset import Dataset


def excerpt(data: Dataset, rows: int, *, ordered: bool, seed: int) -> Dataset:
    """About `rows` rows of a data set; all of one with no more than twice as many.

    Args:
        data: the rows.
        rows: how many.
        ordered: whether to take sequences, or blocks of them, spread evenly; else rows at random.
        seed: of the rows at random.
    """
    if data.rows <= 2 * rows:
        return data
    if not ordered:
        index = np.sort(np.random.default_rng(seed).choice(data.rows, rows, replace=False))
        return _rows(data, index, np.array([rows], np.int64))
    lengths = np.minimum(data.lengths, max(rows // 8, 1))
    offsets = np.concatenate([[0], np.cumsum(data.lengths)])[:-1]
    blocks: list[tuple[int, int]] = []
    if len(lengths) >= 8:
        wanted = np.linspace(0, len(lengths) - 1, max(8, int(rows / lengths.mean()))).round().astype(int)
        blocks = [(int(offsets[i]), int(lengths[i])) for i in np.unique(wanted)]
        while sum(b[1] for b in blocks) > 2 * rows and len(blocks) > 8:
            blocks = blocks[::2]
    else:
        for offset, length in zip(offsets, data.lengths, strict=True):
            share = max(1, round(8 * length / data.rows))
            size = min(rows // 8, length // share)
            for at in np.linspace(0, length - size, share).round().astype(int):
                blocks.append((int(offset + at), int(size)))
    index = np.concatenate([np.arange(lo, lo + size) for lo, size in blocks])
    return _rows(data, index, np.array([size for _, size in blocks], np.int64))


def whole_sequences(data: Dataset, rows: int, seed: int) -> Dataset:
    """Some sequences from beginning to end, about `rows` rows; all of them if no more than twice as many.

    Classes of a target have the shares that they have in all, about.

    Args:
        data: the rows.
        rows: how many.
        seed: of the sequences that are taken.
    """
    if data.rows <= 2 * rows:
        return data
    order = np.random.default_rng(seed).permutation(len(data.lengths))
    if data.schema.target is not None:
        label = np.fmax.reduceat(data.column(data.schema.target), data.offsets[:-1])
        order = order[np.argsort(label[order], kind="stable")]
    wanted = max(8, round(len(order) * rows / data.rows))
    chosen = np.sort(order[np.unique(np.linspace(0, len(order) - 1, wanted).round().astype(int))])
    offsets = data.offsets.tolist()
    index = np.concatenate([np.arange(offsets[i], offsets[i + 1]) for i in chosen.tolist()])
    return _rows(data, index, data.lengths[chosen])


def _rows(data: Dataset, index: np.ndarray, lengths: np.ndarray) -> Dataset:
    return replace(
        data,
        values=np.ascontiguousarray(data.values[index]),
        lengths=lengths,
        sequence_ids=("",) * len(lengths),
        times=None,
        weight=None if data.weight is None else data.weight[index],
        shares=None,
    )
