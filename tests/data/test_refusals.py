"""Every way in which data can be wrong: one line that says what, where and what to do."""

import gzip
import io
import os
import struct
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from ppl_models.data import read
from ppl_models.errors import DataError, PplError, UsageError

# name: (file name, content, options, what the message must contain)
FAULTS = {
    "empty": ("a.csv", b"", {}, ["a.csv", "is empty"]),
    "blank": ("a.csv", b"\n\n  \n", {}, ["is empty"]),
    "only a mark": ("a.csv", b"\xef\xbb\xbf", {}, ["is empty"]),
    "header only": ("a.csv", b"a,b\n", {}, ["header", "no rows"]),
    "short row": ("a.csv", b"a,b\n1,2\n3\n4,5\n", {}, ["line 3", "1 cell", "header has 2"]),
    "long row": ("a.csv", b"a,b\n1,2\n3,4,5\n", {}, ["line 3", "3 cells", "header has 2"]),
    "ragged late": ("a.csv", b"a,b\n" + b"1,2\n" * 300_000 + b"3\n", {}, ["line 300002", "1 cell"]),
    "unclosed quote": ("a.csv", b'a,b\n1,x\n2,"y\n3,z\n', {}, ["line 3", "quote", "closed"]),
    "swallowed rows": ("a.csv", b'a,b\n1,"x\n2,y\n3,"z\n', {}, ["line 2", "quote"]),
    "rows between quotes": ("a.csv", b'a,b\n1,"x\n2,y\n3,z"\n4,w\n', {}, ["line 2", "quote", "line 4"]),
    "quote, then ragged": ("a.csv", b'a,b\n1,"x\n2,"y"\n3,"z"\n', {}, ["line 2", "quote"]),
    "NUL": ("a.csv", b"a,b\n1,2\n3,\x004\n", {}, ["line 3", "NUL"]),
    "NUL in JSON": ("a.jsonl", b'{"a":1}\n{"a":\x00}\n', {}, ["line 2", "NUL"]),
    "repeated header": ("a.csv", b"a,b,a,b,c\n1,2,3,4,5\n", {}, ["repeats 'a', 'b'"]),
    "blank header": ("a.csv", b"a,,c,\n1,2,3,4\n", {}, ["no name", "column 2, 4"]),
    "padded header": ("a.csv", b"a, b\n1,2\n", {}, ["spaces", "' b'"]),
    "latin-1": ("a.csv", "a,b\n1,2\n3,é\n".encode("latin-1"), {}, ["line 3", "0xe9", "--encoding latin-1"]),
    "UTF-16": ("a.csv", "a,b\n1,2\n".encode("utf-16"), {}, ["UTF-16", "--encoding utf-16"]),
    "UTF-16 without mark": ("a.csv", "a,b\n1,2\n".encode("utf-16-le"), {}, ["--encoding utf-16-le"]),
    "wrong encoding given": ("a.csv", b"a\n\xff\xff\xff\n", {"encoding": "ascii"}, ["line 2", "ascii"]),
    "thousands or decimals": ("a.csv", b"a;b\n1,234;2\n5,000;3\n", {}, ["line 2", "'1,234'", "--decimal ,"]),
    "two currencies": ("a.csv", "a,b\n$1,2\n3 €,4\n".encode(), {}, ["line 2", "'a'", "'$1'", "mark"]),
    "some per cent": ("a.csv", b"a,b\n5%,2\n0.05,4\n", {}, ["line 2", "'5%'", "mark"]),
    "several problems": ("a.csv", b"a,b\n1,x\n2,4\ny,5\n3,6\n", {}, ["line 4", "'y'", "also line 2", "'x'"]),
    "words": ("a.csv", b"a,b\n1,2\nx,3\n4,5\n6,7\n", {}, ["line 3", "'a'", "'x'", "--missing", "--types"]),
    "words, blank lines": ("a.csv", b"a,b\n1,2\n\n\nx,3\n4,5\n6,7\n", {}, ["line 5", "'x'"]),
    "words, one column": ("a.csv", b"a\n1\n\nx\n4\n6\n", {}, ["line 4", "'x'"]),
    "words, long cells": ("a.csv", b't,a\n"u\nv",1\n"u\nv",2\nu,x\nu,4\n', {}, ["line 6", "'x'"]),
    "huge integer": ("a.csv", b"a,b\n1,2\n9007199254740995,3\n", {}, ["line 3", "'a'", "9007199254740995"]),
    "huger integer": ("a.csv", b"a,b\n1,2\n12345678901234567890123,3\n", {}, ["line 3", "1234567890"]),
    "inf": ("a.csv", b"a,b\n1,2\ninf,3\n-inf,4\n", {}, ["line 3", "'a'", "2 infinite values"]),
    "overflow": ("a.csv", b"a,b\n1,2\n1e999,3\n", {}, ["line 3", "1 infinite value"]),
    "missing column": ("a.csv", b"a,b\n1,\n2,NA\n", {}, ["'b'", "every cell is missing", "--ignore"]),
    "date as a column": (
        "a.csv",
        b"d,b\n2024-01-01,1\n2024-01-02,2\n",
        {"columns": "d,b"},
        ["'d'", "--time"],
    ),
    "only dates": ("a.csv", b"d\n2024-01-01\n2024-01-02\n", {}, ["no column that can be modelled", "--time"]),
    "not a count": ("a.csv", b"a\n1\n2.5\n", {"types": {"a": "count"}}, ["line 3", "2.5", "count"]),
    "not continuous": (
        "a.csv",
        b"a\nx\ny\n",
        {"types": {"a": "continuous"}},
        ["line 2", "'x'", "continuous"],
    ),
    "not binary": (
        "a.csv",
        b"a\nx\ny\nz\n",
        {"types": {"a": "binary"}},
        ["'a'", "two values", "'x', 'y', 'z'"],
    ),
    "sequence comes back": (
        "a.csv",
        b"s,x\nu,1\nv,2\nu,3\n",
        {"sequence": "s"},
        ["line 4", "'u'", "comes back"],
    ),
    "sequence missing": ("a.csv", b"s,x\nu,1\n,2\nu,3\n", {"sequence": "s"}, ["line 3", "sequence"]),
    "time decreases": ("a.csv", b"t,x\n1,1.5\n3,2\n2,3\n", {"time": "t"}, ["line 4", "'2' comes after '3'"]),
    "date decreases": (
        "a.csv",
        b"t,x\n2024-02-01,1\n2024-01-01,2\n",
        {"time": "t"},
        ["line 3", "'2024-01-01' comes after '2024-02-01'"],
    ),
    "date is none": ("a.csv", b"t,x\n2024-02-01,1\n2.3.24,2\n", {"time": "t"}, ["line 3", "'2.3.24'", "ISO"]),
    "time missing": ("a.csv", b"t,x\n1,1.5\n,2\n2,3\n", {"time": "t"}, ["line 3", "time is missing"]),
    "not JSON": ("a.jsonl", b'{"a": 1}\n{"a": \n', {}, ["line 2", "not JSON"]),
    "not objects": ("a.jsonl", b'{"a": 1}\n[2]\n', {}, ["line 2", "not an object"]),
    "nested JSON": ("a.jsonl", b'{"a": 1}\n{"a": {"b": 2}}\n', {}, ["line 2", "'a'", "object"]),
    "words in JSON": ("a.jsonl", b'{"a":1}\n{"a":"x"}\n{"a":2}\n', {}, ["line 2", "'a'", "'x'"]),
    "deep JSON": ("a.json", b"[" * 100_000, {}, ["not JSON"]),
    "cut gzip": ("a.csv.gz", gzip.compress(b"a,b\n1,2\n" * 99)[:-12], {}, ["cut off"]),
    "not gzip": ("a.csv.gz", b"a,b\n1,2\n", {}, ["not gzip"]),
    "damaged gzip": ("a.csv.gz", gzip.compress(b"a,b\n1,2\n" * 99)[:20] + b"\xff" * 40, {}, ["damaged"]),
    "not Parquet": ("a.parquet", b"PAR1 and nothing", {}, ["not a Parquet file"]),
    "not Arrow": ("a.feather", b"ARROW1 and nothing", {}, ["not an Arrow file"]),
    "not npy": ("a.npy", b"\x93NUMPY and nothing", {}, ["not a NumPy file"]),
    "empty npy": ("a.npy", b"", {}, ["not a NumPy file"]),
    "not npz": ("a.npz", b"PK\x03\x04 and nothing", {}, ["not a NumPy file"]),
    "not IDX": ("a.idx", b"\x00\x00\x08\x01\x00\x00\x00\x05ab", {}, ["2 bytes"]),
    "unknown name": ("a.dta", b"PK", {}, ["a.dta", ".csv", ".xlsx", ".duckdb"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_refused_in_one_line(fault, tmp_path):
    name, content, options, expected = FAULTS[fault]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert name in message
    for text in expected:
        assert text in message
    assert caught.value.exit_code == 65


USAGE = {
    "unknown column": ({"columns": "bill_lenght"}, ["bill_lenght", "did you mean 'bill_length'"]),
    "unknown in ignore": ({"ignore": ["zzz"]}, ["zzz", "'bill_length', 'kind'"]),
    "unknown in types": ({"types": {"kinds": "count"}}, ["did you mean 'kind'"]),
    "unknown sequence": ({"sequence": "knd"}, ["did you mean 'kind'"]),
    "unknown time": ({"time": "q"}, ["no column 'q'"]),
    "unknown type": ({"types": {"kind": "text"}}, ["continuous, count, binary, categorical"]),
    "unknown encoding": ({"encoding": "utf-99"}, ["utf-99"]),
    "an encoding of bytes": ({"encoding": "hex"}, ["hex"]),
    "long delimiter": ({"delimiter": "ab"}, ["delimiter"]),
    "delimiter is decimal": ({"delimiter": ",", "decimal": ","}, ["both"]),
    "decimal": ({"decimal": "x"}, ["decimal"]),
    "unseen": ({"unseen": "drop"}, ["unseen"]),
    "no columns": ({"columns": ""}, ["columns"]),
    "sequence and lengths": ({"sequence": "kind", "lengths": [2]}, ["lengths"]),
    "lengths that miss rows": ({"lengths": [1, 2]}, ["sum to the 2 rows", "3"]),
    "zero lengths": ({"lengths": [2, 0]}, ["positive", "0"]),
    "broken lengths": ({"lengths": [0.5, 1.5]}, ["whole numbers"]),
}


@pytest.mark.parametrize("fault", USAGE)
def test_an_option_that_cannot_be_meant(fault, tmp_path):
    options, expected = USAGE[fault]
    path = tmp_path / "a.csv"
    path.write_text("bill_length,kind\n1.5,a\n2.5,b\n")
    with pytest.raises(UsageError) as caught:
        read(path, **options)
    for text in expected:
        assert text in str(caught.value)


def test_no_such_file_a_directory_and_no_permission(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path / "none.csv")
    with pytest.raises(DataError, match="is a directory"):
        read(tmp_path)
    path = tmp_path / "a.csv"
    path.write_text("a\n1\n")
    path.chmod(0)
    if not os.access(path, os.R_OK):
        with pytest.raises(DataError, match="permission"):
            read(path)
    with pytest.raises(DataError, match="null byte"):
        read("a\0b.csv")


def test_control_codes_never_reach_the_terminal(tmp_path):
    path = tmp_path / "a\x1b[2J\n.csv"
    path.write_bytes(b"a\x1b[31m,b\n1,2\n3,4\nx\x1b[0m\x07,5\n")
    with pytest.raises(DataError) as caught:
        read(path)
    assert "\x1b" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert r"\x1b[31m" in str(caught.value)
    path.write_bytes(b"a\x1b[31m,b\n1,2\n1,3\n")
    assert all("\x1b" not in note and "\n" not in note for note in read(path).notes)
    assert "\x1b" not in read(path).source


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (np.zeros((0, 2)), "empty"),
        (np.zeros((2, 2, 2, 5)), "2 × 2 × 2 × 5"),
        (np.array(1.0), r"\(\)"),
        (np.array(["a", "b"]), "real numbers"),
        (np.array([1j]), "real numbers"),
        (np.array([[1.0], [np.inf]]), "row 2, column 'x0': 1 infinite"),
        (np.array([[1], [2**60]]), "row 2, column 'x0'"),
        ([np.zeros((2, 2)), np.zeros((2, 3))], "sequence 2"),
        ([np.zeros((2, 2)), np.zeros((0, 2))], "sequence 2: is empty"),
        ([[1, 2], [3]], "differ in length"),
        ([], "empty"),
        ({}, "no columns"),
        ({"a": []}, "no rows"),
        (pd.DataFrame({"a": [1 + 2j, 2j]}), "complex"),
        ({"a": [1, 2], "b": [1]}, "differ in length"),
        (pd.DataFrame({"a": [[1], [2]]}), "neither numbers nor text"),
        (pd.DataFrame({"a": []}), "no rows"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "repeats 'a'"),
        (pd.DataFrame({" a": [1, 2]}), "spaces"),
    ],
)
def test_objects_that_cannot_be_read(data, expected):
    with pytest.raises(DataError, match=expected) as caught:
        read(data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [3, None, object()])
def test_what_is_not_data(data):
    with pytest.raises(UsageError, match="cannot be read"):
        read(data)


class _Payload:
    def __reduce__(self):
        return os.mkdir, ("pickled",)


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_no_pickle_is_loaded(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    array = np.array([_Payload()], dtype=object)
    if name == "a.npz":
        np.savez(name, array)
    else:
        np.save(name, array, allow_pickle=True)
    with pytest.raises(DataError, match="never loaded"):
        read(name)
    assert not os.path.exists("pickled")


def test_a_header_that_promises_more_than_there_is(tmp_path):
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }"
    header = header.ljust(117) + b"\n"
    (tmp_path / "a.npy").write_bytes(
        b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"\0" * 8
    )
    with pytest.raises(DataError, match="damaged|GB"):
        read(tmp_path / "a.npy")


def test_larger_than_the_memory_is_refused_with_an_estimate(tmp_path):
    path = tmp_path / "bomb.csv.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(60):
            file.write(b"1,2,3,4,5,6\n" * 1_000_000)
    code = (
        "import resource, sys, pyarrow, pyarrow.csv, numpy\n"
        "from ppl_models.data import read\n"
        "from ppl_models.errors import DataError\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (600 << 20),) * 2)\n"
        "try:\n    read(sys.argv[1])\n"
        "except DataError as error:\n    print(error)\n"
    )
    out = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert "GB" in out.stdout
    assert out.stdout.count("\n") == 1


@pytest.mark.parametrize(
    "suffix", [".csv", ".tsv", ".txt", ".jsonl", ".json", ".csv.gz", ".npy", ".npz", ".parquet", ".arrow"]
)
def test_noise_is_either_read_or_refused(suffix, tmp_path):
    """Whatever the bytes, the outcome is a data set or one line; never another exception."""
    frame = pd.DataFrame({"a": [1.5, 2.5, np.nan] * 5, "b": ["x", "y", "z"] * 5})
    buffer = io.BytesIO()
    if suffix == ".parquet":
        frame.to_parquet(buffer)
    elif suffix == ".arrow":
        frame.to_feather(buffer)
    elif suffix == ".npy":
        np.save(buffer, frame[["a"]].to_numpy())
    elif suffix == ".npz":
        np.savez_compressed(buffer, X=frame[["a"]].to_numpy())
    elif "json" in suffix:
        frame.to_json(buffer, orient="records", lines=True)
    else:
        text = frame.to_csv(index=False, sep="\t" if suffix == ".tsv" else ",").encode()
        buffer.write(gzip.compress(text) if suffix.endswith("gz") else text)
    good = buffer.getvalue()
    rng = np.random.default_rng(0)
    path = tmp_path / f"a{suffix}"
    for trial in range(40):
        bad = bytearray(good)
        if trial % 2:
            bad = bad[: rng.integers(len(bad))]
        for _ in range(rng.integers(1, 4) if bad else 0):
            bad[rng.integers(len(bad))] = rng.choice(np.frombuffer(b'",\n\r\x00;\xff{}[]1-', np.uint8))
        path.write_bytes(bytes(bad))
        assert "\n" not in _outcome(path)


def _outcome(path):
    try:
        return read(path).sha256
    except PplError as error:
        return str(error)
