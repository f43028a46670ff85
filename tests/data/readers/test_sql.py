"""DuckDB databases and relations, compared with the tables that were put into them."""

import sys
from dataclasses import replace

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from ppl_models.data import read
from ppl_models.errors import DataError, UsageError

FRAME = pd.DataFrame(
    {
        "x": [1.5, np.nan, -3.25, 1e-9],
        "k": [0, 3, 5, 2],
        "b": [True, False, True, True],
        "c": ["u", 'é, "q"', None, "v w"],
        "day": pd.date_range("2024-01-31", periods=4),
    }
)


def database(path, *statements):
    with duckdb.connect(str(path)) as connection:
        connection.register("frame", pa.Table.from_pandas(FRAME, preserve_index=False))
        for statement in statements:
            connection.execute(statement)
    return path


@pytest.fixture
def one(tmp_path):
    return database(
        tmp_path / "w.duckdb",
        "create table t as from frame",
        "create view v as select x from t",
        "create sequence counter",
    )


def test_the_only_table(one):
    data, expected = read(one), read(FRAME)
    assert data.sha256 == expected.sha256
    types = {"x": "float64", "k": "int64", "b": "bool", "c": ""}
    assert {c.name: c.dtype for c in data.schema.columns} == types
    as_frame = [
        replace(c, dtype=e.dtype) for c, e in zip(data.schema.columns, expected.schema.columns, strict=True)
    ]
    assert as_frame == list(expected.schema.columns)
    assert (data.source, data.path) == (str(one), str(one))
    assert read(one, time="day").times == read(FRAME, time="day").times
    assert read(one, columns="c,x").names == ("c", "x")
    assert read(one, schema=expected.schema, columns=None).sha256 == expected.sha256


def test_a_query(one):
    data = read(one, query="select x * 2 as twice, k, c from t where k > 0 order by k")
    assert data.names == ("twice", "k", "c")
    np.testing.assert_array_equal(data.values[:, :2], [[2e-9, 2], [np.nan, 3], [-6.5, 5]])
    assert data.path is None  # it could not be read again without the query
    assert (
        read(one, query="with q as (from t) select sum(k) as total, c from q group by c order by c").rows == 4
    )
    assert read(one, query="select k as A, x as a from t", ignore="A").names == ("a",)
    assert read(one, query='select k as "q ""r""", x from t', columns='q "r"').names == ('q "r"',)
    levels = read(one, query="select c::enum('u', 'é, \"q\"', 'v w') as e, k from t").schema.columns[0].levels
    assert levels == ("u", 'é, "q"', "v w")  # the order of the enum
    sums = read(one, query="select k::hugeint as h, k::decimal(9, 2) / 4 as d from t").values
    np.testing.assert_array_equal(sums, np.column_stack([FRAME["k"], FRAME["k"] / 4]))


@pytest.mark.parametrize(
    ("query", "error", "words"),
    [
        ("selec x from t", DataError, ["w.duckdb: Parser Error", '"selec"']),
        ("select zz from t", DataError, ['"zz" not found']),
        ("from nowhere", DataError, ["nowhere does not exist"]),
        ("select c::int as i from t", DataError, ["Could not convert string"]),
        ("select x, x from t", DataError, ["repeats 'x'"]),
        ("select x from t where k > 9", DataError, ["no rows"]),
        ("select [x] as l from t", DataError, ["neither numbers nor text"]),
        ("from request", DataError, ["request does not exist"]),  # a variable of the reader is no table
        ("select nextval('counter') as n", DataError, ["read-only"]),  # a query that would change the file
        ("", UsageError, ["one select statement"]),
        ("select 1; select 2", UsageError, ["one select statement"]),
        ("create table u (a int)", UsageError, ["one select statement"]),
        ("copy t to 'stolen.csv'", UsageError, ["one select statement", "stolen"]),
    ],
)
def test_a_query_that_is_refused(query, error, words, one, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error) as caught:
        read(one, query=query)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "stolen.csv").exists()


def test_tables_to_choose_from(tmp_path):
    path = database(tmp_path / "a.ddb")
    with pytest.raises(DataError, match="has no tables"):
        read(path)
    database(path, "create view v as select 1.5 as x")
    assert read(path).names == ("x",)
    database(path, "create schema s", 'create table s."odd ""name""" as from frame')
    assert read(path).rows == 4
    database(path, "create table t as from frame")
    with pytest.raises(DataError, match="has the tables 't', 's.odd \"name\"'; say which with --query"):
        read(path)


def test_a_file_that_is_no_database(tmp_path):
    path = tmp_path / "a.duckdb"
    path.write_bytes(b"nothing at all" * 1000)
    with pytest.raises(DataError, match="not a valid DuckDB database file") as caught:
        read(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path / "none.duckdb")
    assert not (tmp_path / "none.duckdb").exists()


def test_a_database_is_not_changed_and_not_kept_open(one):
    before = one.read_bytes()
    read(one)
    with pytest.raises(DataError):
        read(one, query="select zz from t")
    assert one.read_bytes() == before
    database(one, "insert into t from frame")
    assert read(one).rows == 8
    with duckdb.connect(str(one)), pytest.raises(DataError, match="is open in this program"):
        read(one)


def test_relations():
    frame = pa.Table.from_pandas(FRAME, preserve_index=False)
    with duckdb.connect() as connection:
        data = read(connection.sql("from frame"))
        assert data.sha256 == read(frame).sha256
        assert read(connection.sql("from frame where k > 2")).rows == 2
        with pytest.raises(DataError, match="Could not convert string") as caught:
            read(connection.sql("select c::int as i from frame"))
        assert "\n" not in str(caught.value)
        with pytest.raises(DataError, match="no rows"):
            read(connection.sql("from frame where k > 9"))
        with pytest.raises(DataError, match="repeats 'x'"):
            read(connection.sql("select x, x from frame"))
        assert read(connection.sql("select x, k as X from frame")).names == ("x", "X")


def test_what_is_needed_is_named(one, monkeypatch):
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(DataError, match=r"not installed; pip install 'ppl_models\[sql\]'$"):
        read(one)


def test_the_option_is_of_databases_only(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a\n1.5\n2.5\n")
    with pytest.raises(UsageError, match=r"query is for \.duckdb, \.ddb files; leave it out for .*a\.csv"):
        read(path, query="from t")
