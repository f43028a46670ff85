"""The target is labels or numbers, is the last column, and may be absent from later data."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppl_models.data import Kind, Schema, read, spill, targets
from ppl_models.errors import DataError, UsageError

FRAME = pd.DataFrame({"y": [2, 0, 1, 0], "x": [1.5, 2.5, 3.5, 4.5], "k": ["u", "v", "u", "v"]})


def target_of(values, **options):
    data = read({"y": values, "x": np.arange(len(values)) + 0.5}, target="y", **options)
    return data.schema.columns[-1], data.values[:, -1]


@pytest.mark.parametrize(
    ("values", "kind", "levels", "codes"),
    [
        ([2, 0, 1], "categorical", ("0", "1", "2"), [2, 0, 1]),
        ([10, 9, 2], "categorical", ("2", "9", "10"), [2, 1, 0]),
        ([1.0, 0.0, None], "binary", ("0", "1"), [1, 0, np.nan]),
        ([1, 2, 2], "binary", ("1", "2"), [0, 1, 1]),
        ([-1, 1, -1], "binary", ("-1", "1"), [0, 1, 0]),
        ([0, 0, None], "binary", ("0", "1"), [0, 0, np.nan]),
        (["spam", "ham", None], "binary", ("ham", "spam"), [1, 0, np.nan]),
        (["Yes", "No", "Yes"], "binary", ("No", "Yes"), [1, 0, 1]),
        ([True, False, None], "binary", ("false", "true"), [1, 0, np.nan]),
        ([True, True, True], "binary", ("false", "true"), [1, 1, 1]),
        (["a10", "a9", "a2"], "categorical", ("a2", "a9", "a10"), [2, 1, 0]),
        (["only", "only"], "categorical", ("only",), [0, 0]),
        (["1.0", "2", "1"], "binary", ("1", "2"), [0, 1, 0]),
        (["0", "unknown", "1", "1"], "categorical", ("0", "1", "unknown"), [0, 2, 1, 1]),
    ],
)
def test_levels(values, kind, levels, codes):
    column, cells = target_of(values)
    assert column.kind == kind
    assert column.levels == levels
    np.testing.assert_array_equal(cells, codes)
    assert (column.minimum, column.maximum) == (np.nanmin(codes), np.nanmax(codes))
    assert column.missing == np.isnan(codes).sum()


@pytest.mark.parametrize("form", ["csv", "parquet", "jsonl"])
def test_whole_numbers_of_a_file(form, tmp_path):
    path = tmp_path / f"a.{form}"
    frame = pd.DataFrame({"species": [3.0, 1.0, None, 2.0], "x": [0.5, 1.5, 2.5, 3.5]})
    {"csv": frame.to_csv, "parquet": frame.to_parquet}.get(
        form, lambda p, **_: frame.to_json(p, orient="records", lines=True)
    )(path, index=False)
    data = read(path, target="species")
    assert data.names == ("x", "species")
    assert data.schema.target == "species"
    assert data.schema.columns[1].levels == ("1", "2", "3")
    np.testing.assert_array_equal(data.values[:, 1], [2, 0, np.nan, 1])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["0.5", "1", "2", "2", "x"], ["row 5", "'x' is not a number"]),
        (["0.5", "1", "inf"], ["infinite", "row 3"]),
        ([*map(str, range(60)), "x"], ["row 61", "'x' is not a number"]),
        ([str(2**53 + i) for i in range(120)], ["at most 50 levels", "120"]),
        ([f"2024-{m:02}-{d:02}" for m in range(1, 5) for d in range(1, 20)], ["dates"]),
        ([f"w{i}" for i in range(51)], ["at most 50 levels", "51"]),
        ([None, None], ["every cell of the target is missing"]),
        (np.arange(3).astype("datetime64[D]"), ["dates"]),
        ([1.0, np.inf], ["infinite", "row 2"]),
    ],
)
def test_what_cannot_be_a_target(values, words):
    with pytest.raises(DataError) as caught:
        target_of(values)
    for word in ("'y'", *words):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_given_type_of_the_target_wins():
    assert target_of([0.5, 2.0, 0.5], types={"y": "categorical"})[0].levels == ("0.5", "2")
    assert target_of(["a", "b"], types={"y": "categorical"})[0].kind is Kind.CATEGORICAL
    assert len(target_of(list(range(60)), types={"y": "categorical"})[0].levels) == 60
    with pytest.raises(DataError, match="two values"):
        target_of([0, 1, 2], types={"y": "binary"})
    with pytest.raises(DataError, match="row 3.*'y'.*2.5 is not a count"):
        target_of([0, 1, 2.5], types={"y": "count"})
    with pytest.raises(DataError, match="'a' is not a number, and the column is to be continuous"):
        target_of(["a", "b"], types={"y": "continuous"})


@pytest.mark.parametrize(
    ("values", "kind", "options"),
    [
        ([0.5, 1.0, 2.0, None], "continuous", {}),
        (["0.5", "1", " 2", "NA"], "continuous", {}),
        ([float(i) for i in range(51)], "count", {}),
        ([str(i) for i in range(51)], "count", {}),
        (list(range(-1, 50)), "continuous", {}),
        (list(range(950, 1001)), "continuous", {}),
        (list(range(0, 102, 2)), "count", {}),
        ([-999, *range(51)], "count", {"missing": -999}),
        ([0, 1, 1, None], "continuous", {"types": {"y": "continuous"}}),
        (["0", "1", "7"], "count", {"types": {"y": "count"}}),
        ([True, False, True], "count", {"types": {"y": Kind.COUNT}}),
    ],
)
def test_numbers(values, kind, options):
    column, cells = target_of(values, **options)
    as_other = read({"y": values}, **{"types": {"y": kind}} | options)
    assert column == as_other.schema.columns[0]
    assert column.kind == kind
    numbers = [np.nan if v in (None, "NA", -999) else float(v) for v in values]
    np.testing.assert_array_equal(cells, numbers)
    np.testing.assert_array_equal(cells, as_other.values[:, 0])
    assert column.levels == ()
    assert column.mean == pytest.approx(np.nanmean(numbers))
    assert column.sd == pytest.approx(np.nanstd(numbers))


@pytest.mark.parametrize("written", [int, float, str])
def test_as_many_values_as_levels_are_labels(written):
    column, cells = target_of([written(i) for i in range(50)] * 2)
    assert column.levels == tuple(map(str, range(50)))
    np.testing.assert_array_equal(cells, list(range(50)) * 2)


@pytest.mark.parametrize("suffix", ["csv", "parquet", "npy", "npz"])
def test_later_data_with_a_target_of_numbers(suffix, tmp_path):
    """Also read block after block, and with a decimal comma where the format is text."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x0": rng.normal(size=70), "y": rng.normal(size=70)})
    path, name = tmp_path / f"a.{suffix}", "x1" if suffix == "npy" else "y"
    options = {"decimal": ",", "delimiter": ";"} if suffix == "csv" else {}
    if suffix == "csv":
        frame.to_csv(path, index=False, sep=";", decimal=",")
    elif suffix == "parquet":
        frame.to_parquet(path)
    elif suffix == "npy":
        np.save(path, frame.to_numpy())
    else:
        np.savez(path, X=frame[["x0"]].to_numpy(), y=frame["y"].to_numpy())
    data = read(path, target=name, **options)
    assert (data.schema.target, data.schema.columns[1].kind) == (name, "continuous")
    np.testing.assert_allclose(data.values, frame.to_numpy(), rtol=1e-14)
    stored = Schema.from_dict(json.loads(json.dumps(data.schema.to_dict())))
    again = read(path, schema=stored, **options)
    np.testing.assert_array_equal(again.values, data.values)
    later = read(frame[["x0"]] if suffix != "npy" else frame[["x0"]].to_numpy(), schema=stored)
    np.testing.assert_allclose(later.values[:, 0], frame["x0"], rtol=1e-14)
    assert np.isnan(later.values[:, 1]).all()
    with pytest.raises(DataError, match="'word' is not a number"):
        read({"x0": [0.5], name: ["word"]}, schema=stored)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spill, "SPILL_BYTES", 0)
        patch.setattr(spill, "_BLOCK_ROWS", 7)
        patch.setattr(targets, "_SOME", 3)
        assert read(path, target=name, **options).sha256 == data.sha256


@pytest.mark.parametrize("values", [[0, 2, 1] * 30, list(range(90)), [*[3] * 89, 0.5]])
def test_the_same_target_block_after_block(values, tmp_path):
    path = tmp_path / "a.parquet"
    pd.DataFrame({"x": np.arange(90) + 0.5, "y": values}).to_parquet(path)
    data = read(path, target="y")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spill, "SPILL_BYTES", 0)
        patch.setattr(spill, "_BLOCK_ROWS", 7)
        blocks = read(path, target="y")
    assert blocks.sha256 == data.sha256
    assert [c.kind for c in blocks.schema.columns] == [c.kind for c in data.schema.columns]
    assert blocks.schema.columns[1].levels == data.schema.columns[1].levels


def test_the_target_is_last_and_added_to_columns():
    assert read(FRAME, target="y").names == ("x", "k", "y")
    assert read(FRAME, target="y", columns="k").names == ("k", "y")
    assert read(FRAME, target="y", columns="y,k").names == ("k", "y")
    assert read(FRAME).schema.target is None


def test_a_target_that_cannot_be_meant():
    with pytest.raises(UsageError, match="did you mean 'y'"):
        read(FRAME, target="yy")
    for options in ({"ignore": "y"}, {"sequence": "y"}, {"time": "y"}, {"weights": "y"}):
        with pytest.raises(UsageError, match="'y' is the target"):
            read(FRAME, target="y", **options)


def test_later_data_need_not_have_the_target(tmp_path):
    schema = read(FRAME, target="y").schema
    later = read(FRAME.drop(columns="y"), schema=schema)
    assert later.names == ("x", "k", "y")
    assert np.isnan(later.column("y")).all()
    assert not later.notes
    np.testing.assert_array_equal(later.values[:, :2], read(FRAME, target="y").values[:, :2])
    np.testing.assert_array_equal(read(FRAME, schema=schema).values, read(FRAME, target="y").values)
    for suffix in ("csv", "parquet"):
        path = tmp_path / f"a.{suffix}"
        part = FRAME.drop(columns="y")
        part.to_csv(path, index=False) if suffix == "csv" else part.to_parquet(path)
        np.testing.assert_array_equal(read(path, schema=schema).values, later.values)
    with pytest.raises(DataError, match="lacks the column 'x' "):
        read(FRAME.drop(columns=["x", "y"]), schema=schema)


def test_a_level_of_the_target_never_seen():
    schema = read(FRAME, target="y").schema
    with pytest.raises(DataError, match="row 2.*'y'.*'7' was never seen"):
        read(FRAME.assign(y=[0, 7, 1, 2]), schema=schema)
    data = read(FRAME.assign(y=[0, 7, 1, 2]), schema=schema, unseen="missing")
    np.testing.assert_array_equal(data.column("y"), [0, np.nan, 1, 2])


def test_arrays_with_and_without_the_target():
    rng = np.random.default_rng(0)
    classes, others = rng.integers(0, 3, (30, 1)), rng.normal(size=(30, 2))
    for target, array in (("x0", np.hstack([classes, others])), ("x2", np.hstack([others, classes]))):
        data = read(array, target=target)
        assert data.names[2] == target
        np.testing.assert_array_equal(data.values, np.hstack([others, classes]))
        np.testing.assert_array_equal(read(array, schema=data.schema).values, data.values)
        without = read(others, schema=data.schema)
        np.testing.assert_array_equal(without.values[:, :2], others)
        assert np.isnan(without.values[:, 2]).all()
    with pytest.raises(DataError, match="1 column, where"):
        read(array[:, :1], schema=data.schema)


def test_an_array_whose_last_column_is_the_target_is_not_copied():
    array = np.array([[0.5, 0], [1.5, 1], [2.5, 2]])
    assert np.shares_memory(read(array, target="x1").values, array)
    assert not np.shares_memory(read(array, target="x1", missing="0.5").values, array)
    assert not np.shares_memory(read(array + 1, target="x1").values, array)


def test_a_level_of_an_array_never_seen_does_not_stay():
    schema = read(np.array([[0.5, 0], [1.5, 1], [2.5, 2]]), target="x1").schema
    later = np.array([[0.5, 0], [1.5, 7], [2.5, 2]])
    data = read(later, schema=schema, unseen="missing")
    np.testing.assert_array_equal(data.values, [[0.5, 0], [1.5, np.nan], [2.5, 2]])
    assert later[1, 1] == 7


def test_old_schemas_have_no_target_and_no_weights():
    schema = read(FRAME.assign(w=1.0), target="y", weights="w").schema
    stored = json.loads(json.dumps(schema.to_dict()))
    assert Schema.from_dict(stored) == schema
    assert (schema.target, schema.weights) == ("y", "w")
    del stored["target"], stored["weights"]
    old = Schema.from_dict(stored)
    assert (old.target, old.weights) == (None, None)
    assert old.columns == schema.columns


@given(st.lists(st.none() | st.integers(-3, 30), min_size=1, max_size=20).filter(lambda v: {*v} != {None}))
def test_labels_are_the_numbers_again(values):
    data = read({"x": np.zeros(len(values)), "y": pd.array(values, dtype="Int64")}, target="y")
    shown = data.frame()["y"]
    assert [None if pd.isna(v) else int(v) for v in shown] == values
    assert list(data.schema.columns[1].levels) == sorted(data.schema.columns[1].levels, key=int)
    again = read(data.frame(), schema=data.schema)
    assert again.sha256 == data.sha256
