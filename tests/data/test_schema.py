"""A schema is stored, and later data is held against it."""

import json

import numpy as np
import pandas as pd
import pytest

from ppl_models.data import Schema, read
from ppl_models.errors import DataError

FRAME = pd.DataFrame(
    {
        "x": [1.5, np.nan, 3.5, 4.0],
        "k": [0, 3, 5, 2],
        "c": ["u", "v", "w", "u"],
        "y": ["no", "yes", "no", "yes"],
        "z": [0, 1, 0, 1],
        "b": [True, False, True, True],
    }
)


@pytest.fixture
def fitted():
    return read(FRAME)


def test_a_schema_goes_through_json(fitted):
    stored = json.loads(json.dumps(fitted.schema.to_dict(), allow_nan=False))
    assert Schema.from_dict(stored) == fitted.schema


def test_columns_are_matched_by_name(fitted, tmp_path):
    later = FRAME[["b", "z", "y", "c", "k", "x"]].assign(extra=["what", "ever", "1", "x"])
    later.to_csv(tmp_path / "a.csv", index=False)
    for data in (read(later, schema=fitted.schema), read(tmp_path / "a.csv", schema=fitted.schema)):
        np.testing.assert_array_equal(data.values, fitted.values)
        assert data.schema == fitted.schema


def test_one_row_and_levels_not_all_there(fitted):
    data = read({"x": [2], "k": [1], "c": ["w"], "y": ["yes"], "z": [0], "b": [False]}, schema=fitted.schema)
    assert data.values.tolist() == [[2, 1, 2, 1, 0, 0]]


REFUSED = {
    "lacks": (FRAME.drop(columns=["x", "c"]), ["lacks the columns 'x', 'c'"]),
    "fraction": (FRAME.assign(k=[0, 1, 2.5, 3]), ["row 3", "'k'", "2.5", "count"]),
    "negative": (FRAME.assign(k=[0, -1, 2, 3]), ["row 2", "'k'", "-1", "count"]),
    "new level": (
        FRAME.assign(c=["u", "new", "v", "w"]),
        ["row 2", "'c'", "'new'", "'u', 'v', 'w'", "--unseen"],
    ),
    "numbers": (FRAME.assign(c=[1, 2, 3, 4]), ["row 1", "'c'", "number '1'", "categories 'u', 'v', 'w'"]),
    "words": (FRAME.assign(x=["a", "b", "c", "d"]), ["row 1", "'x'", "'a' is not a number"]),
    "a word": (FRAME.assign(x=["1", "2", "c", "3"]), ["row 3", "'x'", "'c' is not a number"]),
    "another number": (FRAME.assign(z=[0, 1, 2, 1]), ["row 3", "'z'", "'2'", "'0', '1'"]),
    "dates": (FRAME.assign(x=pd.date_range("2024-01-01", periods=4)), ["'x'", "dates"]),
    "dates for words": (FRAME.assign(c=pd.date_range("2024-01-01", periods=4)), ["'c'", "dates"]),
    "infinite": (FRAME.assign(x=[1, 2, np.inf, 3]), ["row 3", "'x'", "infinite"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_later_data_that_does_not_fit(case, fitted):
    frame, expected = REFUSED[case]
    with pytest.raises(DataError) as caught:
        read(frame, schema=fitted.schema)
    for text in expected:
        assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_new_level_can_be_a_missing_cell(fitted):
    later = FRAME.assign(c=["u", "new", "other", "w"])
    data = read(later, schema=fitted.schema, unseen="missing")
    np.testing.assert_array_equal(data.column("c"), [0, np.nan, np.nan, 2])
    assert "2 cells" in data.notes[0]
    assert "'new', 'other'" in data.notes[0]


def test_a_column_may_be_missing_altogether(fitted):
    later = FRAME.assign(c=None, x=np.nan)
    data = read(later, schema=fitted.schema)
    assert np.isnan(data.column("c")).all()
    assert np.isnan(data.column("x")).all()
    assert len(data.notes) == 2
    data = read(FRAME.drop(columns="y"), schema=fitted.schema, require_schema_columns=False)
    assert np.isnan(data.column("y")).all()
    assert "'y'" in data.notes[0]


def test_columns_missing_altogether_in_a_file(fitted, tmp_path):
    FRAME.assign(c=None, x=np.nan).to_csv(tmp_path / "a.csv", index=False)
    data = read(tmp_path / "a.csv", schema=fitted.schema)
    assert np.isnan(data.values[:, [0, 2]]).all()


@pytest.mark.parametrize("spelling", [["True", "False"], ["TRUE", "FALSE"], ["true", "false"]])
def test_truth_values_in_any_spelling(spelling, fitted):
    data = read(FRAME.assign(b=[*spelling, *spelling]), schema=fitted.schema)
    assert data.column("b").tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize("values", [["0", "1", "1", "0"], [0.0, 1.0, 1.0, 0.0], ["0.0", "1.0", "1", " 0"]])
def test_numbers_as_levels_in_any_spelling(values, fitted):
    assert read(FRAME.assign(z=values), schema=fitted.schema).column("z").tolist() == [0, 1, 1, 0]


def test_categories_that_look_like_numbers(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("zip,x\n007,1.5\n070,2.5\n")
    schema = read(path, types={"zip": "categorical"}).schema
    path.write_text("zip,x\n070,1.5\n")
    assert read(path, schema=schema).column("zip").tolist() == [1]
    path.write_text("zip,x\n7,1.5\n")
    with pytest.raises(DataError, match="'7' was never seen"):
        read(path, schema=schema)


def test_sequence_and_time_are_used_if_there():
    frame = pd.DataFrame({"s": ["a", "a", "b"], "t": [1, 2, 1], "x": [1.5, 2.5, 3.5]})
    schema = read(frame, sequence="s", time="t").schema
    assert read(frame, schema=schema).lengths.tolist() == [2, 1]
    alone = read(frame[["x"]], schema=schema)
    assert alone.lengths.tolist() == [3]
    assert alone.times is None
    assert list(alone.frame()) == ["x"]
    assert read(frame[["s", "x"]], schema=schema, lengths=[1, 2]).lengths.tolist() == [1, 2]
    with pytest.raises(DataError, match="comes back"):
        read(frame.iloc[[0, 2, 1]], schema=schema)


def test_arrays_are_matched_by_position():
    array = np.random.default_rng(0).normal(size=(5, 2))
    schema = read({"a": array[:, 0], "b": array[:, 1]}).schema
    np.testing.assert_array_equal(read(array, schema=schema).values, array)
    np.testing.assert_array_equal(read(array[:, ::-1], schema=schema).values, array[:, ::-1])
    with pytest.raises(DataError, match="3 columns, where the model was fitted to 2: 'a', 'b'"):
        read(np.zeros((4, 3)), schema=schema)
    codes = read(np.array([1, 2, 5]), types={"x0": "categorical"}).schema
    assert read(np.array([5.0, np.nan, 1.0]), schema=codes).values[[0, 2], 0].tolist() == [2, 0]
