"""What kind a column is taken for, and what is left out."""

import numpy as np
import pandas as pd
import pytest

from ppl_models.data import Kind, read
from ppl_models.errors import DataError

KINDS = {
    "lengths in mm": ([172, 195, 231], "continuous"),
    "masses in g": ([2700, 3750, 6300], "continuous"),
    "waits in minutes": ([43, 79, 96], "continuous"),
    "years": ([1959, 1960, 1961], "continuous"),
    "earthquakes": ([6, 13, 41], "count"),
    "visits": ([0, 3, 77], "count"),
    "small": ([0, 1, 2, 3], "count"),
    "large counts": ([0, 1, 5000], "continuous"),
    "negative": ([-1, 0, 1], "continuous"),
    "fractions": ([0.5, 1.0, 2.0], "continuous"),
    "whole floats": ([0.0, 3.0, None], "count"),
    "zero and one": ([0, 1, 1], "binary"),
    "zero and one, floats": ([0.0, 1.0, None], "binary"),
    "truth": ([True, False, None], "binary"),
    "yes": (["no", "yes", None], "binary"),
    "Yes": (["Yes", "No", "Yes"], "binary"),
    "one letter": (["f", "t", "t"], "binary"),
    "two words": (["male", "female", "male"], "categorical"),
    "three words": (["a", "b", "c"], "categorical"),
    "numbers as text": (["1.5", " 2 ", "NA"], "continuous"),
    "question marks": (["1.5", "?", "2"], "continuous"),
}


@pytest.mark.parametrize("case", KINDS)
def test_kinds(case):
    values, kind = KINDS[case]
    assert read({"x": values}).schema.columns[0].kind == kind


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        (["a10", "a9", "a2"], ("a2", "a9", "a10")),
        (["b", "A", "a"], ("A", "a", "b")),
        (["Yes", "No", "Yes"], ("No", "Yes")),
        (["on", "off", "on"], ("off", "on")),
        (["y", "n", "n"], ("n", "y")),
        ([True, True, True], ("false", "true")),
        ([0, 0, 0], ("0", "1")),
        ([" a", "a ", "b"], ("a", "b")),
    ],
)
def test_levels_are_in_order(values, levels):
    data = read({"x": values})
    assert data.schema.columns[0].levels == levels
    assert data.values.max() <= len(levels) - 1


def test_codes_point_at_the_levels():
    data = read({"x": ["b", None, "a", "c"], "z": [True, False, None, True]})
    np.testing.assert_array_equal(data.values, [[1, 1], [np.nan, 0], [0, np.nan], [2, 1]])


@pytest.mark.parametrize(
    ("values", "kind", "levels", "codes"),
    [
        ([1, 2, 10], "categorical", ("1", "2", "10"), [0, 1, 2]),
        ([0.5, 2.0, 0.5], "categorical", ("0.5", "2"), [0, 1, 0]),
        ([1, 2, 2], "binary", ("1", "2"), [0, 1, 1]),
        (["ham", "spam", "ham"], "binary", ("ham", "spam"), [0, 1, 0]),
        ([True, False, True], "count", (), [1, 0, 1]),
        ([1, 2, 3], "continuous", (), [1, 2, 3]),
        ([100, 2000, 3], "count", (), [100, 2000, 3]),
    ],
)
def test_a_given_type_wins(values, kind, levels, codes):
    data = read({"x": values}, types={"x": kind})
    assert data.schema.columns[0].kind is Kind(kind)
    assert data.schema.columns[0].levels == levels
    np.testing.assert_array_equal(data.values[:, 0], codes)


def test_a_given_category_keeps_its_text(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("zip,x\n007,1.5\n070,2.5\n")
    assert read(path, types={"zip": "categorical"}).schema.columns[0].levels == ("007", "070")


def test_what_is_stored_of_a_column():
    column = read({"x": [1.0, 2.0, None, 6.5]}).schema.columns[0]
    assert (column.missing, column.minimum, column.maximum, column.integer) == (1, 1.0, 6.5, False)
    assert column.mean == pytest.approx(9.5 / 3)
    assert column.sd == pytest.approx(np.std([1, 2, 6.5]))
    assert read({"x": [0.1] * 9}).schema.columns[0].sd == 1.0
    assert read({"x": [3, 1]}).schema.columns[0].integer


def test_a_value_too_large_to_compute_with():
    with pytest.raises(DataError, match="row 2.*1e\\+300"):
        read({"x": [1.0, 1e300, 2.0]})


def test_what_is_left_out_is_said():
    n = 30
    data = read(
        {
            "": range(n),
            "id": [f"user {i}" for i in range(n)],
            "day": np.arange(n).astype("datetime64[D]"),
            "x": np.linspace(0, 1.5, n),
        }
    )
    assert data.names == ("x",)
    notes = " ".join(data.notes)
    for text in ("row numbers", "'id'", "'day'", "--time"):
        assert text in notes


def test_row_numbers_are_modelled_if_named_or_in_memory(tmp_path):
    frame, path = pd.DataFrame({"n": range(1, 31), "x": np.linspace(0, 1.5, 30)}), tmp_path / "a.csv"
    assert read(frame).names == ("n", "x")  # somebody put the column there
    frame.to_csv(path, index=False)
    assert read(path).names == ("x",)
    assert read(path, columns="n,x").names == ("n", "x")
    frame[["x", "n"]].to_csv(path, index=False)
    assert read(path).names == ("x", "n")
    frame[["n"]].to_csv(path, index=False)
    assert read(path).names == ("n",)
    assert read(np.arange(40.0).reshape(2, 20).T).names == ("x0", "x1")


def test_identifiers_and_many_levels_are_modelled_if_named():
    texts = [f"user {i}" for i in range(60)]
    frame = {"id": texts, "twice": texts[:59] + texts[:1], "x": np.linspace(0, 1.5, 60)}
    assert read(frame).names == ("x",)
    assert len(read(frame, columns=["id"]).schema.columns[0].levels) == 60
    assert len(read(frame, types={"twice": "categorical"}).schema.columns[0].levels) == 59


def test_what_is_noticed_is_said():
    x = [1.5, 2.5, None, 4.0]
    data = read({"x": x, "y": x, "c": [2.5, 2.5, None, 2.5], "k": [0, 2, None, 1]})
    notes = "\n".join(data.notes)
    assert "constant: 'c'" in notes
    assert "the same values: 'x', 'y'" in notes
    assert "4 of 16 cells are missing" in notes
    assert "every cell is missing: 1" in notes
    assert "counts: 'k'" in notes
    assert data.rows == 4


def test_missing_cells(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(
        'x,k\n1.5,a\n,NA\n"",""\nNA,b\nN/A,None\nNaN,null\nnan,b\n-999,none\n-999.0,x\n?,?\n2,b\n'
    )
    data = read(path, missing=["-999", "x"])
    np.testing.assert_array_equal(np.isnan(data.values[:, 0]), [0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0])
    assert data.schema.columns[1].levels == ("a", "b", "none")
    np.testing.assert_array_equal(np.isnan(data.values[:, 1]), [0, 1, 1, 0, 1, 1, 0, 0, 1, 1, 0])
    assert not data.complete
    array = read(np.array([1.5, -999, 2]), missing="-999")
    assert np.isnan(array.values[1, 0])


def test_columns_and_ignore():
    frame = {"a": [1.5, 2.5], "b": [2.5, 3.5], "c": [3.5, 4.5]}
    assert read(frame, columns=["c", "a"]).names == ("c", "a")
    assert read(frame, columns="c, a").names == ("c", "a")
    assert read(frame, ignore="b").names == ("a", "c")
    assert read(frame, columns="a,b", ignore=["a"]).names == ("b",)
    with pytest.raises(DataError, match="no column"):
        read(frame, ignore="a,b,c")


@pytest.mark.parametrize(
    "dates", [["01/02/2020", "3/2/2020"], ["2020-01-01", "2020-01-02 12:30"], ["1.2.20", None]]
)
def test_text_that_is_a_date_is_not_a_category(dates):
    data = read({"d": dates, "x": [1.5, 2.5]})
    assert data.names == ("x",)
    assert "'d' (dates)" in data.notes[0]
