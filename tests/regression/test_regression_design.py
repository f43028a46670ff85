"""Design matrices, formulas and separation."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from ppl_models.api import fit
from ppl_models.data import read
from ppl_models.errors import DataError, PplWarning, UsageError
from ppl_models.models.logistic.model import Logistic
from ppl_models.regression import design as designs
from ppl_models.regression import separation
from ppl_models.regression.formula import FormulaCoding, target_of


def table(n=60, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "age": rng.normal(40, 10, n),
            "fare": rng.gamma(2, 10, n),
            "kind": rng.choice(["long", "short", "tall"], n),
            "my col": rng.normal(size=n),
            "y": rng.choice(["no", "yes"], n),
        }
    )


def built(frame, formula=None, **options):
    data = read(frame, target="y", **options)
    return designs.build(data.schema, formula, data), data


def test_labels_are_dummies_of_the_levels_beyond_the_first():
    frame = table()
    design, data = built(frame)
    assert design.names == ("age", "fare", "kind[short]", "kind[tall]", "my col")
    expected = pd.get_dummies(frame.drop(columns="y"), dtype=float)[
        ["age", "fare", "kind_short", "kind_tall", "my col"]
    ].to_numpy()
    np.testing.assert_array_equal(design.matrix(data), expected)
    np.testing.assert_allclose(design.mean, expected.mean(0))
    np.testing.assert_allclose(design.sd, expected.std(0))
    Z = design.standardised(data.values)
    np.testing.assert_allclose(Z[:, 1:].mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(Z[:, [1, 2, 5]].std(0), 1)
    np.testing.assert_allclose(design.unmixed(Z)[:, 2:4], expected[:, 2:4] - expected[:, 2:4].mean(0))


@pytest.mark.parametrize("formula", [None, "y ~ C(kind) + age", "y ~ kind*age"])
def test_every_difference_between_two_levels_has_the_documented_prior(formula):
    frame = table(200).assign(kind=["rare", *np.random.default_rng(1).choice(["a", "b", "c"], 199)])
    design, _ = built(frame, formula, columns=["age", "kind"])
    p = len(design.names)
    root = design.in_units(np.eye(p)[None])[0]  # β = root φ with φ ~ N(0, 2.5²)
    levels = [j for j, name in enumerate(design.names) if name.startswith("kind[") and ":" not in name]
    effects = np.vstack([np.zeros(p), root[levels]])  # of all levels, the first being 0
    gaps = effects[:, None] - effects[None]
    prior = 2.5 * np.sqrt((gaps**2).sum(-1))
    np.testing.assert_allclose(prior[~np.eye(len(effects), dtype=bool)], 2.5)
    np.testing.assert_allclose(design.unit[design.names.index("age")], frame.age.std(ddof=0))
    for j, name in enumerate(design.names):
        if ":" in name:  # the slope of a level is the slope of the number: of its sd, not of its share
            assert design.unit[j] == pytest.approx(frame.age.std(), rel=0.02)


def test_rows_with_missing_predictors_are_coded_by_a_level_and_an_indicator():
    frame = table()
    frame.loc[[1, 5], "age"] = np.nan
    frame.loc[5, "kind"] = None
    data = read(frame, target="y")
    for formula, names in (
        (None, ("age", "fare", "kind[short]", "kind[tall]", "kind[missing]", "my col", "age[missing]")),
        (
            "y ~ kind + np.log(age)",
            ("kind[short]", "kind[tall]", "kind[missing]", "np.log(age)", "age[missing]"),
        ),
    ):
        design = designs.build(data.schema, formula, data, "level")
        assert design.names == names
        X = design.matrix(data)
        assert design.rows.all()
        mean = np.nanmean(frame.age)
        own = X[:, [j for j, name in enumerate(names) if "age" in name and "miss" not in name][0]]
        assert own[1] == pytest.approx(mean if formula is None else np.log(mean))
        assert np.flatnonzero(X[:, names.index("age[missing]")]).tolist() == [1, 5]
        assert np.flatnonzero(X[:, names.index("kind[missing]")]).tolist() == [5]
        assert "2 rows with missing cells in 'age', 'kind' kept" in design.notes[0]
    later = read(frame.head(3).assign(fare=[1.0, np.nan, 2.0]), schema=data.schema)
    design = designs.build(data.schema, None, data, "level")
    assert np.isfinite(design.standardised(later.values)).all()
    assert design.remarks(later) == [
        "1 row without 'fare', which no row of the fit lacked: its mean is taken"
    ]


def test_missing_numbers_are_imputed_by_regression_on_the_others():
    rng = np.random.default_rng(0)
    a = rng.normal(size=400)
    frame = pd.DataFrame(
        {"a": a, "b": 3 + 2 * a + 0.1 * rng.normal(size=400), "y": rng.choice(["n", "y"], 400)}
    )
    frame["kind"] = np.where(a > 0, "high", "low")
    full = frame.copy()
    frame.loc[::4, "b"] = np.nan
    frame.loc[1::40, "kind"] = None
    data = read(frame, target="y")
    design = designs.build(data.schema, None, data, "impute")
    assert design.names == ("a", "b", "kind[low]")
    X = design.matrix(data)
    gap = X[::4, 1] - full.b[::4]
    assert gap.std() < 0.15  # 2.0 of the mean
    assert (X[1::40, 2] == (full.kind[1::40] == "low")).mean() >= 0.9


def test_blocks_make_the_same_design(monkeypatch):
    frame = table(500)
    frame.loc[3, "age"] = np.nan
    whole, _ = built(frame, weights=np.random.default_rng(0).random(500))
    monkeypatch.setattr(designs, "BLOCK", 7)
    parts, _ = built(frame, weights=np.random.default_rng(0).random(500))
    np.testing.assert_allclose(parts.mean, whole.mean)
    np.testing.assert_allclose(parts.sd, whole.sd)
    np.testing.assert_array_equal(parts.rows, whole.rows)


def test_a_column_far_from_zero_keeps_its_digits():
    frame = table().assign(age=1e9 + np.arange(60.0))
    design, data = built(frame)
    np.testing.assert_allclose(design.sd[0], np.arange(60.0).std(), rtol=1e-9)


def test_rows_with_missing_cells_are_left_out_and_counted():
    frame = table()
    frame.loc[[1, 5], "age"] = np.nan
    frame.loc[5, "kind"] = None
    frame.loc[9, "y"] = None
    design, _ = built(frame)
    assert np.flatnonzero(~design.rows).tolist() == [1, 5, 9]
    assert design.notes == (
        "3 rows of 60 not used: 1 row without a target and missing cells in 'age', 'kind'",
    )


def test_constant_and_duplicated_columns_are_named():
    frame = table()
    frame = frame.assign(flat=7.5, again=-3 * frame.age + 2)[["age", "fare", "flat", "again", "y"]]
    design, _ = built(frame, columns=["age", "fare", "flat", "again"])
    assert any("'flat' did not vary" in note for note in design.notes)
    assert any("age and again" in note for note in design.notes)
    assert len(design.notes) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [({"y": "no"}, "two classes"), ({"age": np.nan}, "every cell is missing|no row has both")],
)
def test_data_that_no_regression_can_be_fitted_to(change, message):
    with pytest.raises(DataError, match=message):
        built(table().assign(**change))


def test_a_table_without_a_target():
    data = read(table())
    with pytest.raises(UsageError, match="--target"):
        designs.build(data.schema, None, data)


def test_a_formula_equals_formulaic_on_the_frame():
    import formulaic

    frame = table()
    text = "y ~ age*C(kind) + np.log(fare) + `my col` + center(age):fare"
    design, data = built(frame, text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = formulaic.model_matrix(text.partition("~")[2], frame)
    np.testing.assert_allclose(design.matrix(data), expected.drop(columns="Intercept").to_numpy())
    assert "kind[short]" in design.names
    assert "age:kind[tall]" in design.names


def test_later_rows_are_coded_with_the_state_of_the_fit():
    frame = table()
    design, data = built(frame, "center(age) + bs(fare, df=4) + kind")
    some = read(frame.iloc[[3]], schema=data.schema)
    np.testing.assert_allclose(design.matrix(some), design.matrix(data)[[3]])
    hole = read(frame.iloc[[3, 4]].assign(age=[np.nan, 50.0]), schema=data.schema)
    made = design.matrix(hole)
    assert np.isnan(made[0]).all()
    assert np.isfinite(made[1]).all()


def test_a_dot_is_every_other_column():
    names = built(table())[0].names
    assert sorted(built(table(), "y ~ .")[0].names) == sorted(names)
    assert built(table(), "y~. - age")[0].names == tuple(name for name in names if name != "age")
    assert "age:fare" in built(table()[["age", "fare", "y"]], "y ~ .^2")[0].names


def test_a_formula_of_nothing_is_the_share_of_the_classes():
    frame = table()
    data = read(frame, target="y")
    bound = Logistic(formula="y ~ 1").bind(data.schema).prepare(data)
    assert bound.names == ()
    loc, _ = bound.glm.map_start(bound.dataset_batch(data))
    share = (frame.y == "yes").mean()
    assert float(loc[0]) == pytest.approx(np.log(share / (1 - share)), abs=0.01)


def test_the_left_side_of_a_formula():
    assert target_of("`my y` ~ a") == "my y"
    assert target_of("a + b") is None


REFUSED = [
    "y ~ agee",  # no such column
    "y ~ np.load('x')",
    "y ~ np.fromfile(age)",
    "y ~ age.__class__",
    "y ~ age.values",
    "y ~ __import__('os')",
    "y ~ {__import__('os').system('true')}",
    "y ~ eval('1')",
    "y ~ [c for c in ().__class__.__base__.__subclasses__()]",
    "y ~ {(lambda: age)()}",
    "y ~ {age if age else fare}",
    "y ~ {9**9**9*age}",
    "y ~ {f'{age}'}",
    "y ~ {'a'*99999}",
    "y ~ poly(age, degree=10000000)",
    "y ~ (age + fare)**99",
    "y ~ lag(age)",
    "y ~ hashed(kind)",
    "y ~ np.linalg.inv(age)",
    "y ~ age | fare",
    "y ~ age - 1",
    "y ~ 0 + age",
    "y ~ y + age",
    "age ~ fare",
    "y ~ ((age",
    "y ~ bs(kind)",
    "y ~ " + "+".join(["age"] * 1000),
]


@pytest.mark.parametrize("text", REFUSED)
def test_formulas_that_are_refused_in_one_line(text):
    with pytest.raises(UsageError) as error:
        built(table(), text)
    assert "\n" not in str(error.value)
    assert "\x1b" not in str(error.value)


HOSTILE = [text for text in REFUSED if any(word in text for word in ("(", "{", "[", "."))]


@pytest.mark.parametrize("text", [text for text in HOSTILE if text != "y ~ bs(kind)"])
def test_hostile_formulas_are_never_evaluated(text, monkeypatch):
    monkeypatch.setattr(FormulaCoding, "_evaluate", lambda *_: pytest.fail("evaluated"))
    with pytest.raises(UsageError):
        built(table(), text)


def test_a_mistyped_column_gets_a_suggestion():
    with pytest.raises(UsageError, match="did you mean age"):
        built(table(), "y ~ agee")


def test_a_formula_that_is_not_finite_names_the_row():
    frame = table()
    frame.loc[4, "fare"] = 0.0
    with pytest.raises(DataError, match="row 5"):
        built(frame, "np.log(fare)")


def separated(frame):
    data = read(frame, target="y")
    bound = Logistic().bind(data.schema)
    batch = bound.dataset_batch(data)
    B = bound.glm.map_start(batch)[0].reshape(bound.glm.width, -1)
    return separation.note(bound.glm, batch, B)


def test_separation_is_named_where_one_column_does_it():
    frame = table()
    assert separated(frame) == ""
    yes = frame.y == "yes"
    assert "'age'" in separated(frame.assign(age=np.where(yes, 50.0, 30.0) + np.arange(60) / 100))
    assert "'kind[tall]'" in separated(frame.assign(kind=np.where(yes & (frame.age > 40), "tall", "long")))


def test_separation_by_several_columns():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 80))
    frame = pd.DataFrame({"a": a, "b": b, "y": np.where(a + b > 0, "yes", "no")})
    assert "combination" in separated(frame)
    flat = frame.assign(y=np.where((a + b > 0) ^ (rng.random(80) < 0.1), "yes", "no"))
    assert separated(flat) == ""


def test_quasi_separation_is_found_by_the_linear_programme():
    a = np.array([0.0, 1, 0, 1, 2, 3, 2, 1])
    b = np.array([0.0, -1, 0, 1, -2, 0, 1, 1.5])  # a + b is 0 in both classes, and never of the wrong sign
    y = ["no", "no", "yes", "yes", "yes", "yes", "yes", "yes"]
    data = read(pd.DataFrame({"a": a, "b": b, "y": y}), target="y")
    bound = Logistic().bind(data.schema)
    batch = bound.dataset_batch(data)
    assert separation._combined(bound.glm, batch, torch.zeros(3, 1, dtype=torch.float64))
    assert not separation._without_error(bound.glm, batch, torch.zeros(3, 1, dtype=torch.float64))


def test_the_proof_against_separation_agrees_with_the_linear_programme():
    rng = np.random.default_rng(4)
    agreed = []
    for n in (6, 8, 12, 30) * 25:
        Z = np.column_stack([np.ones(n), rng.integers(-2, 3, size=(n, 2))])
        M = Z * rng.choice([-1.0, 1.0], n)[:, None]
        proof, found = separation.excluded(M, np.full(n, 0.5)), separation.by_programme(M)
        assert not (proof and found)
        agreed.append(proof != found)
    assert 0.8 < np.mean(agreed)
    assert not separation.excluded(np.ones((5, 1)), np.full(5, 0.5))


@pytest.mark.parametrize(
    ("columns", "further"), [(3, None), (4, "1 further column"), (6, "3 further columns")]
)
def test_many_columns_far_outside_are_told_in_four_lines(columns, further):
    x = np.random.default_rng(0).normal(size=(40, columns))
    table = pd.DataFrame(x).add_prefix("x").assign(y=np.where(x[:, 0] > 0, "a", "b"))
    fitted = fit(Logistic(), table, target="y", seed=0)
    later = table.copy()
    for j in range(columns):
        later.loc[: j + 1, f"x{j}"] = 99.0  # the last column is outside in the most rows
    with pytest.warns(PplWarning) as warned:
        fitted.predict(later)
    said = [str(each.message) for each in warned]
    assert f"{columns + 1} rows with 'x{columns - 1}'" in " ".join(said)
    assert len(said) == (columns if further is None else 4)
    assert further is None or said[-1].endswith(f": and so in {further}")
