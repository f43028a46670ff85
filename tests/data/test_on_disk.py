"""Data larger than memory: the same data set, read block after block, and a file that cleans itself up."""

import datetime
import os
import signal
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ppl_models.data import read, spill, survey
from ppl_models.errors import DataError, OutputError, PplError

N = 103
RNG = np.random.default_rng(0)
DAY = datetime.date(2024, 1, 1)
COLUMNS = {
    "row": pa.array(range(N)),
    "x": pa.array(RNG.normal(size=N), from_pandas=True),
    "gaps": pa.array([None if i % 5 == 0 else i / 7 for i in range(N)]),
    "count": pa.array([i % 9 for i in range(N)], pa.int32()),
    "whole": pa.array([i * 1000 - 7 for i in range(N)]),
    "float32": pa.array(RNG.normal(size=N).astype(np.float32)),
    "zero_one": pa.array([None if i == 40 else i % 2 for i in range(N)]),
    "late": pa.array([0.0] * (N - 1) + [0.5]),
    "truth": pa.array([None if i % 11 == 0 else i % 3 == 0 for i in range(N)]),
    "word": pa.array([None if i % 13 == 0 else f"w{(i * i) % 12}" for i in range(N)]),
    "new_late": pa.array(["a"] * (N - 3) + [" b ", "NA", "c"]),
    "yes": pa.array(["yes", "no"] * (N // 2) + ["yes"]),
    "category": pa.array([f"c{i % 4}" for i in range(N)]).dictionary_encode(),
    "text_number": pa.array([f" {i / 3:.4f}" if i % 7 else "?" for i in range(N)]),
    "id": pa.array([f"user {i}" for i in range(N)]),
    "many": pa.array([f"user {i % 60}" for i in range(N)]),
    "day": pa.array([DAY + datetime.timedelta(days=i) for i in range(N)]),
    "text_day": pa.array([str(DAY + datetime.timedelta(days=i)) for i in range(N)]),
    "constant": pa.array([2.5] * N),
    "again": pa.array([i * 1000 - 7.0 for i in range(N)]),
    "decimal": pa.array([i / 4 for i in range(N)]).cast(pa.decimal128(10, 2)),
}
TABLE = pa.table(COLUMNS)


@pytest.fixture
def blocks_of_seven(monkeypatch):
    monkeypatch.setattr(spill, "_BLOCK_ROWS", 7)


def on_disk(*call, **options):
    """The data set as it is read when it does not fit into memory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spill, "SPILL_BYTES", 0)
        return read(*call, **options)


def is_mapped(array):
    while array is not None and not isinstance(array, np.memmap):
        array = array.base
    return array is not None


def check_same(one, other):
    np.testing.assert_array_equal(one.values, other.values)
    assert one.notes == other.notes
    for name in ("lengths", "sequence_ids", "times", "weight", "source", "path"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert one.names == other.names
    for a, b in zip(one.schema.columns, other.schema.columns, strict=True):
        a, b = asdict(a), asdict(b)
        for field in ("mean", "sd"):
            assert a.pop(field) == pytest.approx(b.pop(field), rel=1e-12, abs=1e-14)
        assert a == b
    assert one.sha256 == other.sha256
    assert one.complete == other.complete
    np.testing.assert_allclose(one.correlation(), other.correlation(), atol=1e-14)


def written(table, path):
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=20)
    elif path.suffix == ".feather":
        feather.write_feather(table, path, compression="lz4", chunksize=30)
    elif path.stem == "stream":
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=40)
    else:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    return path


FILES = ["a.parquet", "a.feather", "a.arrow", "stream.arrow"]
OPTIONS = {
    "as they are": {},
    "some columns": {"columns": "word,x,truth"},
    "left out": {"ignore": ["x", "word"], "missing": ["-7", "w3", "0.25"]},
    "types": {
        "types": {
            "count": "categorical",
            "truth": "count",
            "zero_one": "continuous",
            "text_number": "categorical",
        }
    },
    "identifiers": {"columns": ["id", "many", "row"]},
    "order": {"time": "row", "sequence": "constant"},
    "dates": {"time": "day", "lengths": [3, 100]},
    "target": {"target": "count", "weights": "row"},
    "target of words": {"target": "word", "columns": "x,gaps"},
}


@pytest.mark.usefixtures("blocks_of_seven")
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name", FILES)
def test_the_same_data_set(name, options, tmp_path):
    path = written(TABLE, tmp_path / name)
    expected, data = read(path, **OPTIONS[options]), on_disk(path, **OPTIONS[options])
    check_same(data, expected)
    assert is_mapped(data.values)
    assert not is_mapped(expected.values)
    assert not data.values.flags.writeable
    assert data.values.flags.c_contiguous
    pd.testing.assert_frame_equal(data.frame(), expected.frame())
    rows = np.arange(5, 90, 3)
    check_same(data.subset(rows), expected.subset(rows))


@pytest.mark.usefixtures("blocks_of_seven")
@pytest.mark.parametrize("name", FILES)
def test_later_data(name, tmp_path):
    schema = read(TABLE, target="word", weights="count").schema
    later = TABLE.slice(3, 60)
    for part in (later, later.drop_columns(["word"]), later.drop_columns(["count"])):
        path = written(part, tmp_path / name)
        check_same(on_disk(path, schema=schema), read(path, schema=schema))
    path = written(later.set_column(9, "word", pa.array(["w0"] * 50 + ["new"] * 10)), tmp_path / name)
    for options in ({}, {"unseen": "missing"}):
        assert outcome(on_disk, path, schema=schema, **options) == outcome(
            read, path, schema=schema, **options
        )
    path = written(later.drop_columns(["x"]), tmp_path / name)
    options = {"schema": schema, "require_schema_columns": False}
    check_same(on_disk(path, **options), read(path, **options))
    path = written(TABLE.select(["id"]), tmp_path / name)
    check_same(on_disk(path, **options), read(path, **options))


def outcome(reader, *call, **options):
    try:
        data = reader(*call, **options)
    except PplError as error:
        return str(error)
    return data.sha256, data.notes


FAULTS = {
    "infinite": [0.5] * 50 + [np.inf] * 3 + [1.5] * 50,
    "huge integer": [1] * 90 + [2**60] * 13,
    "words": ["1"] * 50 + ["x"] + ["2"] * 52,
    "decimal commas": ["1,5"] * N,
    "thousands": ["5"] * 60 + ["1,234"] * 43,
    "huge digits": ["5"] * 60 + ["9007199254740995"] * 43,
    "huge": [1.0] * 70 + [1e300] + [2.0] * 32,
    "all missing": pa.nulls(N, pa.float64()),
    "no text": pa.nulls(N, pa.string()),
    "lists": [[1]] * N,
    "not a count": [3] * 80 + [-1] * 23,
}


@pytest.mark.usefixtures("blocks_of_seven")
@pytest.mark.parametrize("fault", FAULTS)
def test_the_same_refusal(fault, tmp_path):
    table = pa.table({"x": COLUMNS["x"], "bad": pa.array(FAULTS[fault])})
    path = written(table, tmp_path / "a.parquet")
    options = {"types": {"bad": "count"}} if fault == "not a count" else {}
    expected = outcome(read, path, **options)
    assert isinstance(expected, str)
    assert outcome(on_disk, path, **options) == expected


CELLS = {
    "numbers": st.none() | st.floats(-1e6, 1e6) | st.sampled_from([0.0, 1.0, 2.0]),
    "integers": st.none() | st.integers(-3, 2000),
    "small": st.none() | st.integers(0, 1),
    "text": st.none() | st.sampled_from(["a", "b", " a", "1", "2.5", "NA", "yes", "no", "2024-01-01", "3,5"]),
    "truth": st.none() | st.booleans(),
}
TYPES = {
    "numbers": pa.float64(),
    "integers": pa.int64(),
    "small": pa.int8(),
    "text": pa.string(),
    "truth": pa.bool_(),
}


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(data=st.data(), form=st.sampled_from(FILES), target=st.sampled_from([None, "c0", "c1"]))
def test_any_table_is_read_or_refused_the_same(data, form, target, tmp_path):
    rows = data.draw(st.integers(1, 25))
    kinds = data.draw(st.lists(st.sampled_from(list(CELLS)), min_size=2, max_size=4))
    columns = {
        f"c{j}": pa.array(data.draw(st.lists(CELLS[kind], min_size=rows, max_size=rows)), TYPES[kind])
        for j, kind in enumerate(kinds)
    }
    path = written(pa.table(columns), tmp_path / form)
    options = {"target": target, "missing": data.draw(st.sampled_from([None, "1", "a"]))}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spill, "_BLOCK_ROWS", data.draw(st.integers(1, 9)))
        try:
            expected = read(path, **options)
        except PplError:
            with pytest.raises(PplError):
                on_disk(path, **options)
        else:
            check_same(on_disk(path, **options), expected)


@pytest.mark.usefixtures("blocks_of_seven")
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["f8", ">f8", "f4", "i8", "?"])
def test_npy(dtype, order, tmp_path):
    path = tmp_path / "a.npy"
    array = np.asarray(np.abs(RNG.normal(size=(50, 3))) * 9, dtype=dtype, order=order)
    np.save(path, array)
    data = on_disk(path)
    check_same(data, read(path))
    assert is_mapped(data.values)
    source = data.values
    while not isinstance(source, np.memmap):
        source = source.base
    direct = dtype == "f8" and order == "C"
    assert (str(source.filename) == str(path)) == direct
    np.testing.assert_array_equal(on_disk(path, schema=data.schema).values, data.values)
    check_same(on_disk(path, columns="x2,x0", missing="3"), read(path, columns="x2,x0", missing="3"))
    np.save(path, array[:, 0])
    check_same(on_disk(path), read(path))


@pytest.mark.usefixtures("blocks_of_seven")
def test_npy_with_a_whole_number_beyond_float64(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[1, 2]] * 30 + [[3, 2**60]]))
    with pytest.raises(DataError, match="row 31, column 'x1'"):
        on_disk(tmp_path / "a.npy")


@pytest.mark.usefixtures("blocks_of_seven")
def test_arrays_that_are_mapped_by_the_caller(tmp_path):
    mapped = np.memmap(tmp_path / "raw", np.float64, "w+", shape=(40, 2))
    mapped[:] = RNG.normal(size=(40, 2))
    data = on_disk(mapped)
    assert np.shares_memory(data.values, mapped)
    check_same(data, read(np.array(mapped)))
    later = on_disk(mapped[:, ::-1], schema=read({"a": mapped[:, 0], "b": mapped[:, 1]}).schema)
    np.testing.assert_array_equal(later.values, mapped[:, ::-1])


@pytest.mark.usefixtures("blocks_of_seven")
def test_columns_that_differ_only_late_are_not_the_same(tmp_path):
    x = RNG.integers(0, 9, N) + 0.5
    swapped = np.append(x[:-2], [x[-1] + 1, x[-2]])
    x = np.append(x[:-2], [x[-2], x[-1] + 1])
    data = on_disk(written(pa.table({"x": x, "y": swapped, "z": x}), tmp_path / "a.parquet"))
    assert data.notes == ("the same values: 'x', 'z'",)


def test_path_of_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(TABLE, tmp_path / "a.parquet")
    data = read("a.parquet")
    assert data.path == str(tmp_path / "a.parquet")
    assert data.source == "a.parquet"
    assert data.subset(np.arange(3)).path is None
    assert read(TABLE).path is None
    assert read(np.ones((3, 1))).path is None


def test_text_with_too_many_different_values(tmp_path, monkeypatch, blocks_of_seven):
    monkeypatch.setattr(survey, "MOST_TEXTS", 30)
    path = written(TABLE, tmp_path / "a.parquet")
    data = on_disk(path, ignore="text_number")
    assert "left out 'id' (over 30 different texts, more than 50)" in data.notes
    with pytest.raises(DataError, match="'text_number': numbers as text.*store them as numbers"):
        on_disk(path)
    with pytest.raises(DataError, match="'text_number': numbers as text"):
        on_disk(path, target="text_number", columns="x")
    with pytest.raises(DataError, match="'id': more than .* different texts"):
        on_disk(path, columns="id")


def test_nothing_is_left_behind(tmp_path, monkeypatch):
    path = written(TABLE, tmp_path / "a.parquet")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    code = (
        "import os, sys, signal\n"
        "from ppl_models.data import read, spill\n"
        "spill.SPILL_BYTES = 0\n"
        "data = read(sys.argv[1])\n"
        "maps = open('/proc/self/maps').read()\n"
        "print(sys.argv[2] in maps, float(data.values[-1, 0]))\n"
        "sys.stdout.flush()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = os.environ | {"TMPDIR": str(temporary)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), str(temporary)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == -signal.SIGKILL
    assert done.stdout.split() == ["True", str(COLUMNS["x"][-1].as_py())]
    assert not list(temporary.iterdir())


def test_no_room_on_disk_is_said_before_anything_is_written(tmp_path, monkeypatch):
    path = written(TABLE, tmp_path / "a.parquet")
    monkeypatch.setattr(spill.shutil, "disk_usage", lambda _: _Usage())
    with pytest.raises(OutputError, match="a.parquet: reading it takes .* GB in .*TMPDIR") as caught:
        on_disk(path)
    assert "\n" not in str(caught.value)


class _Usage:
    free = 10


def test_a_disk_that_fills_up(tmp_path):
    """A limit on the size of a file is met while writing, like the end of a disk."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({f"x{j}": RNG.normal(size=20_000) for j in range(4)}), path)
    code = (
        "import resource, sys\n"
        "from ppl_models.data import read, spill\n"
        "from ppl_models.errors import OutputError\n"
        "spill.SPILL_BYTES = 0\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try:\n    read(sys.argv[1])\n"
        "except OutputError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=120
    )
    assert "TMPDIR" in done.stdout, done.stderr
    assert done.stdout.count("\n") == 1


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path):
    path = tmp_path / "a.parquet"
    part = pa.table({f"x{j}": RNG.normal(size=100_000) for j in range(10)})
    with pq.ParquetWriter(path, part.schema) as writer:
        for _ in range(35):
            writer.write_table(part)
    code = (
        "import resource, sys, numpy, pyarrow.parquet\n"
        "from ppl_models.data import read\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10\n"
        "before = peak()\n"
        "data = read(sys.argv[1])\n"
        "print(peak() - before, data.values.nbytes >> 20)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True, timeout=300
    )
    grown, size = map(int, done.stdout.split())
    assert size == 267
    assert grown < 150


def test_a_file_that_changes_while_it_is_read(tmp_path, monkeypatch, blocks_of_seven):
    path = written(TABLE, tmp_path / "stream.arrow")
    cells = survey.Survey.cells

    def changed(self, names):
        written(TABLE.slice(0, 50), tmp_path / "new.arrow").replace(path)
        return cells(self, names)

    monkeypatch.setattr(survey.Survey, "cells", changed)
    with pytest.raises(DataError, match="50 rows where there were 103"):
        on_disk(path)


@pytest.mark.parametrize("suffix", ["arrow", "parquet"])
def test_text_that_is_not_utf8_is_damage(suffix, tmp_path, monkeypatch):
    """Of cells and of names; libraries write and read it without a word."""
    offsets = pa.py_buffer(np.array([0, 1, 2], np.int32).tobytes())
    wrong = pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"a\xff")])
    tables = [pa.table({"x": [1.5, 2.5], "w": wrong})]
    if suffix == "arrow":
        tables.append(
            pa.Table.from_arrays([pa.array([1.5, 2.5])], schema=pa.schema([(b"\xff", pa.float64())]))
        )
    path = tmp_path / f"a.{suffix}"
    for table in tables:
        (feather.write_feather if suffix == "arrow" else pq.write_table)(
            table, path, compression=None if suffix == "parquet" else "uncompressed"
        )
        for limit in (1 << 30, 0):
            monkeypatch.setattr(spill, "SPILL_BYTES", limit)
            with pytest.raises(DataError, match="or is damaged"):
                read(path)
