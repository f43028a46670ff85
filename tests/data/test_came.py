"""As what columns came: types, order, codes, missing texts; and what a pair of predictors and target is."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp

import ppl_models as ppl
from ppl_models.data import Schema, read, write_table
from ppl_models.data.index import from_plain, to_plain
from ppl_models.errors import DataError, UsageError

Z = np.array([0, 1, 1, 0, 1, 0])


@pytest.mark.parametrize(
    "y",
    [
        pd.Series(Z + 1),
        pd.Series(Z.astype("int8")),
        pd.Series(Z == 1),
        pd.Series(Z.astype(float)),
        pd.Series(Z, dtype="Int64"),
        pd.Series(Z == 1, dtype="boolean"),
        pd.Series(np.where(Z, "02134", "10001")),
        pd.Series(np.where(Z, "01", "1")),
        pd.Series(np.where(Z, "a", "b"), dtype="string"),
        pd.Series(pd.Categorical.from_codes(Z, ["lo", "hi", "never"], ordered=True)),
        pd.Series(pd.Categorical.from_codes(Z, [20, 10])),
        pd.Series(2**60 + Z),
    ],
    ids=lambda y: f"{y.dtype}-{y[0]}",
)
def test_labels_come_back_as_they_came(y):
    data = read(pd.DataFrame({"x": [0.5, 1, 2, 3, 4, 5], "y": y}), target="y")
    pd.testing.assert_series_equal(data.frame()["y"], y, check_names=False)
    column = Schema.from_dict(data.schema.to_dict()).columns[-1]
    assert column == data.schema.columns[-1]


def test_missing_labels_need_a_type_that_has_them():
    values = np.array([[0.0], [np.nan], [1.0]])
    for given, dtype in (([1, 0, 1], "Int64"), ([True, False, True], "boolean")):
        data = read({"y": given}, types={"y": "categorical"})
        found = data.frame(values)["y"]
        assert str(found.dtype) == dtype
        assert found.isna().tolist() == [False, True, False]


def test_labels_of_files(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("n,t,z,k,x\n1,True,02134,01,0.5\n3,False,10001,1,1.5\n1,True,02134,1,2.5\n")
    kinds = dict.fromkeys("ntzk", "categorical")
    frame = read(path, types=kinds).frame()
    assert [frame[name].tolist() for name in "ntzk"] == [
        [1, 3, 1], [True, False, True], ["02134", "10001", "02134"], ["01", "1", "1"],
    ]  # fmt: skip
    plain = read(path)  # nobody said so, and a leading zero does
    assert plain.schema.columns[plain.names.index("z")].levels == ("02134", "10001")
    assert any("'z'" in note and "leading zero" in note for note in plain.notes)
    assert read(path, types={"z": "continuous"}).column("z").tolist() == [2134, 10001, 2134]


@pytest.mark.parametrize("library", ["pandas", "polars", "parquet"])
def test_the_order_of_categories_is_kept(library, tmp_path):
    order, cells = ["small", "medium", "large"], ["large", "small", "medium", "small"]
    frame = pd.DataFrame({"size": pd.Categorical(cells, categories=order), "x": [0.5, 1, 2, 3]})
    data = frame
    if library == "polars":
        data = pl.DataFrame({"size": pl.Series(cells, dtype=pl.Enum(order)), "x": [0.5, 1, 2, 3]})
    elif library == "parquet":
        data = tmp_path / "a.parquet"
        frame.to_parquet(data)
    found = read(data)
    assert found.schema.columns[0].levels == tuple(order)
    assert list(found.frame()["size"].dtype.categories) == order


def test_levels_and_the_positive_class_are_given(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("size,y,x\nM,no,1.5\nS,yes,2.5\nL,no,3.5\n")
    data = read(path, levels={"size": ["S", "M", "L"]}, target="y", positive="no")
    levels = {column.name: column.levels for column in data.schema.columns}
    assert (levels["size"], levels["y"]) == (("S", "M", "L"), ("yes", "no"))
    assert read(path, schema=data.schema).schema == data.schema
    with pytest.raises(DataError, match="has 'L' as well"):
        read(path, levels={"size": "S,M"})
    with pytest.raises(DataError, match="one of two classes, got 'perhaps'"):
        read(path, target="y", positive="perhaps")
    with pytest.raises(UsageError, match="of the target"):
        read(path, positive="no")


WORDS = ["None", "Grvl", "NA", ""]


def test_words_are_labels_where_the_source_has_missing_cells_of_its_own(tmp_path):
    frame = pd.DataFrame({"alley": WORDS, "x": ["1.5", "NA", "2.5", "3.5"]})
    frame.to_parquet(tmp_path / "a.parquet")
    for source in (frame, pl.from_pandas(frame), tmp_path / "a.parquet"):
        data = read(source)
        assert data.schema.columns[0].levels == ("", "Grvl", "NA", "None")
        np.testing.assert_array_equal(data.column("x"), [1.5, np.nan, 2.5, 3.5])
        notes = " ".join(data.notes)
        assert "taken as labels" in notes
        assert "'NA' among numbers, 1 cell taken as missing" in notes
    assert read(frame, missing=["NA", ""]).schema.columns[0].levels == ("Grvl", "None")


def test_missing_texts_of_files_can_be_replaced(tmp_path):
    path = tmp_path / "a.csv"
    pd.DataFrame({"alley": WORDS, "x": [0.5, 1, 2, 3]}).to_csv(path, index=False)
    usual = read(path)
    assert usual.schema.columns[0].levels == ("Grvl",)
    assert any("of 'None', 'NA' taken as missing" in note for note in usual.notes)
    kept = read(path, na_values="")
    assert kept.schema.columns[0].levels == ("Grvl", "NA", "None")
    assert np.isnan(kept.column("alley")).tolist() == [False, False, False, True]
    assert read(path, na_values="Grvl").schema.columns[0].levels == ("NA", "None")


def test_yes_and_no_in_any_case_are_two():
    column = read({"q": ["yes", "No", "YES", "yes", "NO", "No"], "x": np.arange(6) / 4}).schema.columns[0]
    assert (column.kind, column.levels) == ("binary", ("No", "yes"))


def test_identifiers_are_names(tmp_path):
    ids = [2**53 + 1 + i // 3 for i in range(30)]
    frame, path = pd.DataFrame({"id": ids, "x": np.linspace(0, 1.5, 30)}), tmp_path / "a.csv"
    frame.to_csv(path, index=False)
    for source in (frame, path):
        data = read(source)
        assert data.names == ("x",)
        assert "identifiers" in data.notes[0]
        assert read(source, sequence="id").sequence_ids == tuple(dict.fromkeys(map(str, ids)))
        assert read(source, types={"id": "categorical"}).schema.columns[0].levels[0] == str(ids[0])
    with pytest.raises(DataError, match="row 2.*too large"):  # a slip among numbers is none
        read({"n": [1, 2**53 + 1, 3]})
    hashes = pd.DataFrame({"id": np.arange(30, dtype=np.uint64) + np.uint64(2**63), "x": frame["x"]})
    hashes.to_parquet(tmp_path / "a.parquet")  # Arrow compares these as if they had a sign
    for source in (hashes, tmp_path / "a.parquet"):
        assert read(source).names == ("x",)
    for slip in (np.array([1, 2**63, 3], np.uint64), np.array([1, -(2**63), 3])):
        with pytest.raises(DataError, match="row 2.*too large"):
            read({"n": slip})


def test_periods_are_the_times_when_they_begin():
    table = pd.DataFrame({"month": pd.period_range("2020-01", periods=24, freq="M"), "x": np.arange(24) / 4})
    data = read(table, time="month")
    assert data.times is not None
    assert str(data.times[0])[:10] == "2020-01-01"
    assert len(data.times) == 24


def test_underscores_between_thousands(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1_000,x_1\n25,x_2\n1_234_567.5,x_1\n")
    data = read(path)
    assert data.column("a").tolist() == [1000, 25, 1234567.5]
    assert data.schema.columns[1].levels == ("x_1", "x_2")
    assert any("'1_000' read as 1000" in note for note in data.notes)


X = np.array([[0.5, 1], [1.5, 0], [2.5, 2], [3.5, 1], [4.5, 3], [0.25, 2]])


def test_predictors_and_target_apart():
    expected = read(np.c_[X, Z], target="x2")
    for data in ((X, Z), (X, list(Z)), (X, Z[:, None]), (X.tolist(), Z), (sp.csr_array(X), Z)):
        found = read(data)
        assert found.names == ("x0", "x1", "y")
        np.testing.assert_array_equal(found.values, expected.values)
    assert read(X, target=Z).sha256 == read((X, Z)).sha256
    frame, named = pd.DataFrame(X, columns=["a", "y"]), pd.Series(Z, name="label")
    assert read((frame, named)).schema.target == "label"
    assert read((frame, Z)).schema.target == "y_"
    assert read((pl.DataFrame(X), pl.Series("t", Z))).schema.target == "t"
    fitted = read((X, Z)).schema
    assert np.isnan(read(X, schema=fitted).values[:, 2]).all()
    np.testing.assert_array_equal(read((X, Z), schema=fitted).values, expected.values)
    assert read((X[:, :1], X[:, :1])).lengths.tolist() == [6, 6]  # two sequences


def test_what_is_no_pair():
    with pytest.raises(UsageError, match="one value for each of the 6 rows, got 5"):
        read(X, target=Z[:5])
    with pytest.raises(UsageError, match="given twice"):
        read((X, Z), target="x1")
    with pytest.raises(UsageError, match="without a target"):
        read((X, Z), schema=read(X).schema)
    shuffled = pd.Series(Z).sample(frac=1, random_state=0)
    with pytest.raises(UsageError, match="different orders"):
        read((pd.DataFrame(X, index=[5, 4, 3, 2, 1, 9]), pd.Series(Z, index=[9, 4, 3, 2, 1, 5])))
    assert read((pd.DataFrame(X, index=shuffled.index), shuffled)).rows == 6


def test_python_is_warned_of_what_changes_the_data():
    frame = pd.DataFrame({"id": [f"u{i}" for i in range(30)], "x": np.linspace(0, 1.5, 30)})
    with pytest.warns(ppl.PplWarning, match="data frame: left out 'id'") as caught:
        read(frame)
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    "index",
    [
        pd.Index([3, 1, 2], name="id"),
        pd.Index(["b", "a", None]),
        pd.date_range("2024-01-31", periods=3, tz="Europe/Rome"),
        pd.date_range("2024-01-31", periods=3, name="day"),
        pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)], names=["g", None]),
    ],
    ids=["numbers", "texts", "zone", "dates", "levels"],
)
def test_an_index_is_stored(index):
    found = from_plain(to_plain(index))
    assert found.equals(index)
    assert found.names == index.names
    assert found.dtype == index.dtype


@pytest.mark.parametrize(
    "suffix", [".xlsx", ".tsv", ".csv.gz", ".jsonl.gz", ".feather", ".arrow", ".parquet"]
)
def test_files_are_what_their_names_say(suffix, tmp_path):
    frame = pd.DataFrame({"x": [1.5, np.nan, -2.5], "k": ["=a", "b", None], "n": [1, 2, 30]})
    path = tmp_path / f"a{suffix}"
    write_table(frame, path)
    data = read(path)
    assert data.names == ("x", "k", "n")
    np.testing.assert_array_equal(data.column("x"), frame["x"])
    magic = {
        ".xlsx": b"PK",
        ".gz": b"\x1f\x8b",
        ".feather": b"ARROW1",
        ".arrow": b"ARROW1",
        ".parquet": b"PAR1",
    }
    assert path.read_bytes().startswith(magic.get(path.suffix, b"x\tk"))


@pytest.mark.parametrize("name", ["a.xls", "a.pkl", "a.parquet.gz", "a.csv.zip"])
def test_files_of_other_names_are_refused(name, tmp_path):
    with pytest.raises(UsageError, match="not written; it must end in one of"):
        write_table(pd.DataFrame({"x": [1]}), tmp_path / name)
    assert not list(tmp_path.iterdir())
