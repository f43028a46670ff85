"""The same table from every kind of file and object."""

import gzip
import io
import json
import struct
import sys

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppl_models.data import read, write_table

FRAME = pd.DataFrame(
    {
        "x": [1.5, np.nan, -3.25, 1e-9],
        "k": [0, 3, 5, 2],
        "b": [True, False, True, True],
        "c": ["u", 'é, "q"', None, "v w"],
    }
)
EXPECTED = np.array([[1.5, 0, 1, 0], [np.nan, 3, 0, 2], [-3.25, 5, 1, np.nan], [1e-9, 2, 1, 1]])
LEVELS = ("u", "v w", 'é, "q"')


def check(data, source=None):
    np.testing.assert_array_equal(data.values, EXPECTED)
    assert data.names == ("x", "k", "b", "c")
    assert [c.kind.value for c in data.schema.columns] == ["continuous", "count", "binary", "categorical"]
    assert data.schema.columns[3].levels == LEVELS
    assert data.values.flags.c_contiguous
    assert data.values.dtype == np.float64
    assert data.lengths.dtype == np.int64
    assert data.lengths.tolist() == [4]
    assert data.sequence_ids == ("",)
    if source:
        assert data.source == source


@pytest.mark.parametrize(
    "suffix", [".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".json", ".parquet", ".feather", ".arrow"]
)
@pytest.mark.parametrize("packed", [False, True])
def test_files(suffix, packed, tmp_path):
    if packed and suffix in (".parquet", ".feather", ".arrow"):
        pytest.skip("these compress by themselves")
    buffer = io.BytesIO()
    if suffix == ".parquet":
        FRAME.to_parquet(buffer)
    elif suffix in (".feather", ".arrow"):
        FRAME.to_feather(buffer)
    elif "js" in suffix:
        FRAME.to_json(buffer, orient="records", lines=suffix != ".json")
    else:
        buffer.write(FRAME.to_csv(index=False, sep={".tsv": "\t", ".txt": "|"}.get(suffix, ",")).encode())
    path = tmp_path / f"a{suffix}{'.gz' if packed else ''}"
    path.write_bytes(gzip.compress(buffer.getvalue()) if packed else buffer.getvalue())
    check(read(path), str(path))
    check(read(str(path)))


@pytest.mark.parametrize(
    "frame", [FRAME, pl.from_pandas(FRAME), pa.Table.from_pandas(FRAME), FRAME.to_dict("list")]
)
def test_frames(frame):
    check(read(frame))


def test_other_frames():
    check(read(FRAME.to_dict("records")))
    check(read(FRAME.astype(object)))
    check(read(FRAME.astype({"c": "category"})))
    check(read(pl.from_pandas(FRAME).with_columns(pl.col("c").cast(pl.Categorical))))
    check(read(FRAME.convert_dtypes()))
    assert read(pd.Series([1.5, 2.5], name="s")).names == ("s",)
    assert read(pd.DataFrame([[1.5, 2.5], [2.5, 4.5]])).names == ("0", "1")
    assert read(pl.Series("s", [1.5, 2.5])).names == ("s",)


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16", "utf-16-le"])
def test_line_ends_and_encodings(ends, encoding, tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(FRAME.to_csv(index=False).replace("\n", ends).encode(encoding))
    check(read(path, encoding="utf-8" if "utf-8" in encoding else encoding))


@pytest.mark.parametrize("text", ["csv", "json"])
def test_standard_input(text, monkeypatch):
    content = FRAME.to_csv(index=False) if text == "csv" else FRAME.to_json(orient="records", lines=True)
    for raw in (content.encode(), gzip.compress(content.encode())):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))
        check(read("-"), "stdin")


def test_a_decimal_comma(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a;b\n1,5;x\n-2,25;y\n")
    data = read(path, delimiter=";", decimal=",")
    assert data.values[:, 0].tolist() == [1.5, -2.25]
    path.write_text("a;b\n1,5;x\n2 ;y\n ,5;z\n?;z\n")
    assert read(path, delimiter=";", decimal=",").values[:3, 0].tolist() == [1.5, 2, 0.5]


def test_no_header(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("1.5,2.5\n3.5,4.5\n")
    data = read(path)
    assert data.names == ("x0", "x1")
    assert data.rows == 2
    assert "no header" in data.notes[0]
    path.write_text("a,b\nb,c\na,d\na,b\n")
    assert any("first line" in note for note in read(path).notes)


def test_quotes_in_plain_tsv_are_characters(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text('k\tx\n"a\t1.5\nb\t2.5\n"a\t3.5\n')
    data = read(path)
    assert data.rows == 3
    assert data.schema.columns[0].levels == ('"a', "b")


def test_text_over_several_lines(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('k,x\n"a\nb",1.5\n"c ""d""\n\ne",2.5\n')
    assert read(path).schema.columns[0].levels == ("a\nb", 'c "d"\n\ne')


def test_only_the_columns_asked_for_are_read(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,b,c\n1.5,1,inf\n2.5,x,3\n3.5,2,4\n")
    assert read(path, columns="a").names == ("a",)
    assert read(path, ignore=["b", "c"]).names == ("a",)
    pd.DataFrame({"a": [1.5, 2.5], "s": ["u", "v"], "bad": [np.inf, 1]}).to_parquet(tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet", columns="a", sequence="s").sequence_ids == ("u", "v")


def test_float64_arrays_are_not_copied():
    array = np.random.default_rng(0).normal(size=(5, 3))
    assert np.shares_memory(read(array).values, array)
    assert np.shares_memory(read(array, schema=read(array).schema).values, array)
    column = array[:, 0].copy()
    assert np.shares_memory(read(column).values, column)
    assert not np.shares_memory(read(array, columns="x0,x2").values, array)
    for other in (array.T.copy().T, array.astype(np.float32), array[::2]):
        np.testing.assert_array_equal(read(other).values, other)
        assert read(other).values.flags.c_contiguous


def test_arrays_of_other_types():
    np.testing.assert_array_equal(read(np.array([True, False])).values[:, 0], [1, 0])
    np.testing.assert_array_equal(read(np.array([[1, 2], [3, 7]])).values, [[1, 2], [3, 7]])
    masked = np.ma.masked_array([1.5, 2.5, 3.5], mask=[0, 1, 0])
    np.testing.assert_array_equal(read(masked).values[:, 0], [1.5, np.nan, 3.5])
    named = np.array([(1.5, 2), (2.5, 3)], dtype=[("a", "f8"), ("b", "i4")])
    assert read(named).names == ("a", "b")
    np.testing.assert_array_equal(read([[1.5, 2.0], [2.5, 4.0]]).values, [[1.5, 2], [2.5, 4]])
    np.testing.assert_array_equal(read([1.5, 2.5]).values, [[1.5], [2.5]])


def test_tensors():
    torch = pytest.importorskip("torch")
    tensor = torch.randn(6, 2, dtype=torch.float64)
    assert np.shares_memory(read(tensor).values, tensor.numpy())
    np.testing.assert_array_equal(read(tensor.float().requires_grad_()).values, tensor.float().numpy())
    assert read([tensor[:2], tensor[2:]]).lengths.tolist() == [2, 4]
    assert read({"a": tensor[:, 0]}).names == ("a",)


def test_npy_and_npz(tmp_path):
    array = np.random.default_rng(0).normal(size=(6, 2))
    np.save(tmp_path / "a.npy", array)
    np.testing.assert_array_equal(read(tmp_path / "a.npy").values, array)
    np.savez(tmp_path / "a.npz", array)
    np.testing.assert_array_equal(read(tmp_path / "a.npz").values, array)
    np.savez_compressed(tmp_path / "b.npz", X=array, y=array[:1], lengths=[2, 4])
    assert read(tmp_path / "b.npz").lengths.tolist() == [2, 4]
    np.savez(tmp_path / "c.npz", a=array, b=array)
    with pytest.raises(ValueError, match="'a', 'b'"):
        read(tmp_path / "c.npz")


def test_idx_images(tmp_path):
    pixels = np.arange(24, dtype=np.uint8).reshape(4, 2, 3)
    content = struct.pack(">BBBB3I", 0, 0, 8, 3, 4, 2, 3) + pixels.tobytes()
    (tmp_path / "a.idx3.gz").write_bytes(gzip.compress(content))
    data = read(tmp_path / "a.idx3.gz")
    np.testing.assert_array_equal(data.values, pixels.reshape(4, 6))
    assert {column.kind.value for column in data.schema.columns} == {"continuous"}


def test_json_with_gaps_and_mixed_numbers(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"a": 1, "k": "u"}\n\n{"a": 2.5}\n{"k": "v", "a": "NA"}\n{"a": "3", "b": NaN, "k": null}\n'
    )
    data = read(path, ignore="b")
    np.testing.assert_array_equal(data.values, [[1, 0], [2.5, np.nan], [np.nan, 1], [3, np.nan]])
    path.write_text(json.dumps([{"a": 1.5}, {"a": 2.5}], indent=1))
    assert read(path).values[:, 0].tolist() == [1.5, 2.5]


NUMBERS = st.floats(-1e9, 1e9, width=64) | st.none()
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=6) | st.none()


@given(
    st.lists(st.tuples(NUMBERS, WORDS), min_size=1, max_size=12), st.sampled_from(["csv", "jsonl", "parquet"])
)
def test_what_was_written_is_read(tmp_path_factory, rows, suffix):
    """Labels survive up to spaces around them and the texts that mean a missing cell."""
    frame = pd.DataFrame(
        {"x": [1.5, *(x for x, _ in rows)], "k": ["=word", *(f"w{k}" if k else None for _, k in rows)]}
    )
    frame["x"] = frame["x"].astype(float)
    path = tmp_path_factory.mktemp("round") / f"a.{suffix}"
    write_table(frame, path)
    data = read(path, columns=["x", "k"], types={"k": "categorical"})
    np.testing.assert_allclose(data.values[:, 0], frame["x"], rtol=1e-12, atol=1e-12)
    if suffix != "jsonl":
        np.testing.assert_array_equal(data.values[:, 0], frame["x"])
    prefix = "'" if suffix == "csv" else ""
    expected = [None if pd.isna(k) else (prefix if k.startswith("=") else "") + k.strip() for k in frame["k"]]
    assert data.frame()["k"].astype(object).where(data.frame()["k"].notna(), None).tolist() == expected


@given(st.integers(1, 20), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_arrays_go_through_files_bit_for_bit(tmp_path_factory, n, d, seed):
    array = np.random.default_rng(seed).normal(size=(n, d)) * 10.0 ** np.random.default_rng(seed).integers(
        -9, 9
    )
    data = read(array)
    folder = tmp_path_factory.mktemp("round")
    np.save(folder / "a.npy", array)
    for name in ("a.csv", "a.parquet"):
        write_table(data.frame(), folder / name)
    for name in ("a.csv", "a.parquet", "a.npy"):
        again = read(folder / name)
        assert again.sha256 == data.sha256
        assert again.schema.columns == data.schema.columns
