"""Folds keep classes, sequences and time apart, and what is learned stays inside of them."""

import numpy as np
import pandas as pd
import pytest

import ppl_models as ppl
from ppl_models.comparison.folds import described, first_of, folds_of, ordered
from ppl_models.errors import DataError

N = 60
RNG = np.random.default_rng(0)
TABLE = pd.DataFrame(
    {
        "x": RNG.normal(size=N),
        "y": np.where(np.arange(N) % 4 == 0, "a", "b"),
        "id": np.repeat(np.arange(12), 5),
        "t": np.tile(np.arange(5), 12),
    }
)


def test_classes_are_stratified_and_every_row_is_held_out_once():
    data = ppl.read(TABLE[["x", "y"]], target="y")
    folds = folds_of(data, 5, 2, 0)
    assert len(folds) == 10
    for part in (folds[:5], folds[5:]):
        assert sorted(np.concatenate([f.test for f in part])) == list(range(N))
    for f in folds:
        assert not set(f.train) & set(f.test)
        assert (data.column("y")[f.test] == 0).sum() == 3


def test_sequences_stay_whole():
    data = ppl.read(TABLE, sequence="id", time="t", target="y")
    for f in folds_of(data, 4, 1, 0):
        owner = np.repeat(np.arange(12), 5)
        assert not set(owner[f.train]) & set(owner[f.test])


def test_time_goes_forward():
    data = ppl.read(TABLE[["x", "y"]].assign(t=range(N)), time="t", target="y")
    for f in folds_of(data, 4, 1, 0):
        assert f.train.max() < f.test.min()
    with pytest.raises(ppl.UsageError, match="forward in time have no repeats"):
        folds_of(data, 4, 2, 0)


def test_too_few_rows_are_refused():
    with pytest.raises(DataError, match="4 rows are too few for 5 folds"):
        folds_of(ppl.read(TABLE[["x"]][:4]), 5, 1, 0)


def test_numbers_are_described_by_the_part():
    data = ppl.read(TABLE[["x", "y"]], target="y")
    part = described(data.subset(np.arange(10)))
    column = part.schema.columns[0]
    x = TABLE["x"][:10]
    assert (column.mean, column.sd) == (pytest.approx(x.mean()), pytest.approx(x.std(ddof=0)))
    assert column.maximum == x.max()


def test_every_beginning_of_an_order_has_both_classes():
    data = ppl.read(TABLE[["x", "y"]], target="y")
    order = ordered(data, 3)
    assert sorted(order) == list(range(N))
    for size in (8, 20, 40):
        share = (first_of(data, order, size).column("y") == 0).mean()
        assert abs(share - 0.25) <= 1 / size
