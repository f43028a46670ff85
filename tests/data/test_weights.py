"""Weights of the rows: a column or an array, checked, carried along, and part of the fingerprint."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ppl_models.data import read
from ppl_models.errors import DataError, UsageError

FRAME = pd.DataFrame({"x": [1.5, 2.5, 3.5], "w": [2.0, 0.0, 0.5], "s": ["a", "a", "b"]})
KISH = np.array([2.0, 0.0, 0.5]) * (2.5 / 4.25)  # sums to 2.5² / 4.25 rows


def test_a_column_is_not_modelled():
    data = read(FRAME, weights="w", sequence="s")
    assert data.names == ("x",)
    assert data.weight == pytest.approx(KISH)
    assert data.weight.dtype == np.float64
    assert data.schema.weights == "w"
    pd.testing.assert_frame_equal(data.frame()[["x", "w", "s"]], FRAME, check_dtype=False)
    assert read(FRAME, weights="w", columns="x").weight == pytest.approx(KISH)
    assert read(FRAME, weights="w", columns="x,w").names == ("x",)
    assert read(FRAME).weight is None


@pytest.mark.parametrize("cells", [[1, 2, 3], ["1", "2", "3"], [True, False, True], np.float32([1, 2, 3])])
def test_numbers_of_any_sort(cells):
    data = read({"x": [1.5, 2.5, 3.5], "w": cells}, weights="w")
    np.testing.assert_array_equal(data.weight, np.asarray(cells).astype(float))


@pytest.mark.parametrize("form", [list, np.array, pd.Series])
def test_an_array(form):
    data = read(FRAME[["x"]], weights=form([1, 2, 3]))
    assert data.weight.tolist() == [1, 2, 3]
    assert data.schema.weights is None
    assert list(data.frame()) == ["x"]
    assert read(np.zeros((3, 2)), weights=form([1.0, 2.0, 3.0])).weight.tolist() == [1, 2, 3]


def test_the_caller_s_array_is_not_shared():
    given = np.ones(3)
    both = read(FRAME[["x"]], weights=given), read({"x": given + 0.5, "w": given}, weights="w")
    given[0] = -1
    for data in both:
        assert data.weight[0] == 1
        data.weight[0] = 2  # nor is it read-only


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ([1, None, -2], ["row 2", "missing"]),
        ([1, -2, None], ["row 2", "-2"]),
        ([1, 2, np.inf], ["row 3", "inf"]),
        ([0, 0, 0], ["every weight is 0"]),
    ],
)
def test_weights_that_are_refused(weights, words):
    for call in (
        lambda: read({"x": [1.5, 2.5, 3.5], "w": weights}, weights="w"),
        lambda: read({"x": [1.5, 2.5, 3.5]}, weights=np.array(weights, dtype=float)),
    ):
        with pytest.raises(DataError) as caught:
            call()
        for word in ("w", *words):
            assert word in str(caught.value)
        assert "\n" not in str(caught.value)


def test_the_line_of_a_file_is_named(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("x,w\n1.5,1\n2.5,\n3.5,-999\n")
    with pytest.raises(DataError, match="line 3, column 'w': a weight is missing"):
        read(path, weights="w")
    path.write_text("x,w\n1.5,1\n2.5,2\n3.5,-999\n")
    with pytest.raises(DataError, match="line 4.*missing"):
        read(path, weights="w", missing="-999")
    path.write_text("x;w\n1,5;0,5\n2,5;2\n")
    assert read(path, weights="w", delimiter=";", decimal=",", weights_are="counts").weight.tolist() == [
        0.5,
        2,
    ]


def test_words_and_dates_are_not_weights():
    with pytest.raises(DataError, match="row 1, column 'w': 'a' is not a number"):
        read(FRAME.assign(w=["a", "b", "c"]), weights="w")
    with pytest.raises(DataError, match="dates"):
        read(FRAME.assign(w=pd.date_range("2024-01-01", periods=3)), weights="w")


def test_what_cannot_be_meant():
    with pytest.raises(UsageError, match="did you mean 'w'"):
        read(FRAME, weights="ww")
    with pytest.raises(UsageError, match="as many as the 3 rows"):
        read(FRAME, weights=[1, 2])
    with pytest.raises(UsageError, match="weights must be"):
        read(FRAME, weights=np.ones((3, 1)))
    with pytest.raises(UsageError, match="weights must be"):
        read(FRAME, weights=["a", "b", "c"])


def test_later_data_may_have_none():
    schema = read(FRAME, weights="w").schema
    assert read(FRAME, schema=schema).weight == pytest.approx(KISH)
    assert read(FRAME[["x", "s"]], schema=schema).weight is None
    assert read(FRAME, schema=schema, weights=[1, 1, 1]).weight.tolist() == [1, 1, 1]


def test_a_subset_keeps_its_weights():
    data = read(FRAME, weights="w", sequence="s")
    assert data.subset(np.array([True, False, True])).weight == pytest.approx(KISH[[0, 2]])
    assert data.subset(np.arange(3)).sha256 == data.sha256


def test_the_fingerprint_covers_the_weights():
    plain = read(FRAME[["x"]])
    ones, twos = read(FRAME[["x"]], weights=[1, 1, 1]), read(FRAME[["x"]], weights=[1, 2, 1])
    assert len({plain.sha256, ones.sha256, twos.sha256}) == 3
    assert replace(ones, weight=None).sha256 == plain.sha256


def test_the_fingerprint_without_weights_is_as_it_was():
    """Runs that were stored before there were weights must still match their data."""
    data = read(np.array([[1.5, 2.5], [np.nan, 4.0]]))
    assert data.sha256 == "a432a1fa019aaa30eaa1c99573643e87d111977238a2bb733d001e30f7d15b67"


@pytest.mark.parametrize(
    ("weights", "meaning"),
    [
        ([1, 2, 3], "counts"),
        ([30, 70, 45], "counts"),  # a table of counts
        ([0.2, 0.3, 0.5], "importance"),  # sum to one
        ([1.5, 1, 3], "importance"),
        (np.tile([5.0, 25.0], 40), "importance"),  # 1/p of a survey, as whole numbers
        (np.tile([1.0, 25.0], 40), "counts"),
    ],
)
def test_whole_numbers_are_counts_unless_they_look_like_a_survey(weights, meaning):
    frame = {"x": np.arange(len(weights)) + 0.5}
    data = read(frame, weights=weights)
    assert data.schema.weights_are == meaning
    assert f"weights are taken as {meaning}" in data.notes[0]
    w = np.asarray(weights, float)
    kish = w.sum() ** 2 / (w @ w)
    assert data.weight.sum() == pytest.approx(w.sum() if meaning == "counts" else kish)
    other = {"counts": "importance", "importance": "counts"}[meaning]
    turned = read(frame, weights=weights, weights_are=other)
    assert turned.weight.sum() == pytest.approx(w.sum() if other == "counts" else kish)


def test_a_common_factor_of_weights_of_importance_makes_no_difference():
    w = np.random.default_rng(0).random(20)
    a, b = (read({"x": w}, weights=k * w) for k in (1.0, 1e-6))
    np.testing.assert_allclose(a.weight, b.weight)
    assert read({"x": w}).weight is None
    with pytest.raises(UsageError, match="give weights"):
        read({"x": w}, weights_are="counts")
    with pytest.raises(UsageError, match="counts or importance"):
        read({"x": w}, weights=w, weights_are="both")
