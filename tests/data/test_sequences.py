"""Sequences, times, and the parts of a data set."""

import datetime

import numpy as np
import pandas as pd
import polars as pl
import pytest

from ppl_models.data import read
from ppl_models.errors import DataError


def test_runs_of_a_column():
    data = read({"s": ["b", "b", "a", "c", "c"], "x": [1.5, 2, 3, 4, 5]}, sequence="s")
    assert data.lengths.tolist() == [2, 1, 2]
    assert data.sequence_ids == ("b", "a", "c")
    assert data.names == ("x",)
    assert data.steps == 2
    assert data.schema.sequence == "s"
    assert [s[:, 0].tolist() for s in data.sequences()] == [[1.5, 2], [3], [4, 5]]
    assert np.shares_memory(data.sequence(2), data.values)
    assert data.sequence(-1)[:, 0].tolist() == [4, 5]
    with pytest.raises(IndexError):
        data.sequence(3)


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([1, 1, 2], ("1", "2")),
        ([1.5, 1.5, 2.0], ("1.5", "2")),
        ([True, True, False], ("true", "false")),
        (
            np.array(["2024-01-01", "2024-01-01", "2024-01-02"], "datetime64[ns]"),
            ("2024-01-01", "2024-01-02"),
        ),
    ],
)
def test_names_of_sequences(ids, expected):
    data = read(pd.DataFrame({"s": ids, "x": [1.5, 2, 3]}), sequence="s")
    assert data.sequence_ids == expected
    assert data.lengths.tolist() == [2, 1]


def test_names_of_sequences_are_text_in_a_file(tmp_path):
    (tmp_path / "a.csv").write_text("s,x\n01,1.5\n1,2.5\n")
    assert read(tmp_path / "a.csv", sequence="s").sequence_ids == ("01", "1")


def test_lengths_and_lists():
    array = np.arange(12.0).reshape(6, 2) / 3
    parts = [array[:1], array[1:3], array[3:]]
    data = read(array, lengths=[1, 2, 3])
    assert data.lengths.tolist() == [1, 2, 3]
    assert data.sha256 == read(parts).sha256
    assert data.sha256 != read(array).sha256
    assert data.sha256 != read(array + 1, lengths=[1, 2, 3]).sha256
    assert read(parts).sequence_ids == ("0", "1", "2")
    assert read([array[:, 0], array[:4, 1]]).lengths.tolist() == [6, 4]
    assert read(pd.DataFrame(array), lengths=np.array([6])).lengths.tolist() == [6]


def test_times_may_start_again_in_each_sequence():
    frame = {"s": [1, 1, 2, 2], "t": [5, 6, 1, 2], "x": [1.5, 2, 3, 4]}
    data = read(frame, sequence="s", time="t")
    assert list(data.times) == [5, 6, 1, 2]
    assert data.names == ("x",)
    with pytest.raises(DataError, match="row 3.*'1' comes after '6'"):
        read(frame, time="t")


@pytest.mark.parametrize(
    "times",
    [
        ["2024-01-01", "2024-01-02", "2024-02-01"],
        ["2024-01-01T00:00", "2024-01-01T00:01", "2024-01-01T00:02"],
        ["2024-01-01 00:00:00.5", "2024-01-01 00:00:01", "2024-01-02"],
        ["2024-01-01T00:00:00Z", "2024-01-01T01:30:00+01:00", "2024-01-01T01:00:00Z"],
        ["1850-01-01", "1850-01-02", "2200-01-02"],
    ],
)
def test_iso_dates(times, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("t,x\n" + "".join(f"{t},{i}.5\n" for i, t in enumerate(times)))
    assert read(path, time="t").times == tuple(times)
    path.write_text("t,x\n" + "".join(f"{t},{i}.5\n" for i, t in enumerate(times[::-1])))
    with pytest.raises(DataError, match="line 3.*comes after"):
        read(path, time="t")


def test_dates_of_frames():
    days = [datetime.date(2024, 1, d) for d in (1, 2, 3)]
    x = [1.5, 2.5, 3.5]
    for frame in (
        pd.DataFrame({"t": pd.to_datetime(days), "x": x}),
        pl.DataFrame({"t": days, "x": x}),
        {"t": days, "x": x},
    ):
        assert read(frame, time="t").times == ("2024-01-01", "2024-01-02", "2024-01-03")
    zoned = pd.DataFrame({"t": pd.to_datetime(days).tz_localize("UTC"), "x": x})
    assert len(read(zoned, time="t").times) == 3


def test_subset():
    data = read({"s": list("aabbc"), "t": [1, 2, 1, 2, 1], "x": [1.5, 2, 3, 4, 5]}, sequence="s", time="t")
    part = data.subset(data.values[:, 0] > 2.5)
    assert part.lengths.tolist() == [2, 1]
    assert part.sequence_ids == ("b", "c")
    assert list(part.times) == [1, 2, 1]
    assert part.column("x").tolist() == [3, 4, 5]
    assert data.subset(np.arange(5)).sha256 == data.sha256
    assert data.subset(np.array([], dtype=int)).rows == 0


def test_frame_is_the_table_again():
    frame = pd.DataFrame(
        {
            "s": ["a", "a", "b"],
            "t": ["2024-01-01", "2024-01-02", "2024-01-01"],
            "x": [1.5, np.nan, 3],
            "k": ["u", None, "v"],
        }
    )
    data = read(frame, sequence="s", time="t")
    pd.testing.assert_frame_equal(data.frame(), frame, check_dtype=False)
    filled = data.frame(np.array([[1.0, 0.2], [2.0, 0.9], [3.0, 7.0]]))
    assert filled["k"].tolist() == ["u", "v", "v"]
    again = read(data.frame(), schema=data.schema)
    assert again.sha256 == data.sha256
    assert again.times == data.times
    assert again.sequence_ids == data.sequence_ids
