"""Made-up rows: that they look like the data, that classes even out, and that copies are told."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats as ss
from fits import uncalibrated

import ppl_models as ppl
from ppl_models import fidelity
from ppl_models.errors import UsageError


def table(seed, n=400):
    """A rare class of a tenth, a number to two decimals, a count, a positive number to one decimal."""
    rng = np.random.default_rng(seed)
    rare = rng.random(n) < 0.1
    return pd.DataFrame(
        {
            "a": rng.normal(3.0 * rare, 1.0).round(2),
            "visits": rng.poisson(4 + 4 * rare),
            "kind": np.where(rare, "rare", "usual"),
            "e": np.exp(rng.normal(0, 1, n)).round(1),
        }
    )


@pytest.fixture(scope="module")
def fit():
    return uncalibrated(ppl.fit(ppl.GMM(components=3), table(1), restarts=2))


def figure(report, name):
    return report.set_index("figure").loc[name]


def test_rows_look_like_those_of_the_data(fit):
    own, made = table(1), fit.augment(rows=500)
    assert made.dtypes.equals(own.dtypes)
    assert list(made) == list(own)
    assert len(made) == 500
    assert len(fit.augment()) == 400
    assert set(made["kind"]) == {"rare", "usual"}
    for name in ("a", "visits", "e"):
        assert own[name].min() <= made[name].min() <= made[name].max() <= own[name].max()
    np.testing.assert_allclose(made["a"], made["a"].round(2))
    np.testing.assert_allclose(made["e"], made["e"].round(1))
    assert not np.allclose(made["a"], made["a"].round(1))
    pd.testing.assert_frame_equal(fit.augment(rows=500), made)


def test_numbers_out_of_range_are_drawn_again_and_not_piled_up(fit):
    """e is at least 0: a clipped normal would have a tenth of its rows there."""
    assert (fit.augment(rows=2_000)["e"] == table(1)["e"].min()).mean() < 0.03


def test_classes_are_evened_out(fit):
    own, made = table(1), fit.augment(balance="kind")
    both = pd.concat([own, made])["kind"].value_counts()
    assert both["rare"] == both["usual"] == (own["kind"] == "usual").sum()
    assert set(made["kind"]) == {"rare"}
    rare = own[own["kind"] == "rare"]["a"]
    assert abs(made["a"].mean() - rare.mean()) < 4 * rare.std() * (1 / len(rare) + 1 / len(made)) ** 0.5
    given = fit.augment(rows=50, given={"kind": "rare", "visits": 99})
    assert set(given["kind"]) == {"rare"}
    assert set(given["visits"]) == {99}  # what is given is not put inside of the range


def test_chains_are_sequences_as_long_as_those_of_the_fit():
    rng = np.random.default_rng(0)
    walks = pd.DataFrame({"who": ["a"] * 30 + ["b"] * 12, "x": rng.normal(size=42).round(1)})
    made = ppl.fit(ppl.HMM(states=1), walks, sequence="who").augment()
    assert made["who"].tolist() == walks["who"].tolist()
    np.testing.assert_allclose(made["x"], made["x"].round(1))
    assert not made["x"].equals(walks["x"])


def test_a_report_finds_rows_of_the_same_kind_good_and_copies_to_be_copies(fit):
    """Real rows as if they were made up: nothing is found. The training rows themselves: all copies."""
    columns, train, test = fit.data.schema.columns, fit.data.values, ppl.read(
        table(2), schema=fit.data.schema).values  # fmt: skip
    real = ppl.read(table(3), schema=fit.data.schema).values

    def of(made):
        return pd.DataFrame(list(fidelity.report(columns, made, train, test, 2, 0)))

    good, copied = of(real), of(train)
    assert abs(figure(good, "two_sample")["value"] - 0.5) < 4 * figure(good, "two_sample")["standard_error"]
    assert abs(figure(good, "nearer")["value"] - 0.05) < 4 * figure(good, "nearer")["standard_error"]
    assert abs(figure(good, "nearest_is_training")["value"] - 0.5) < 4 * (0.25 / 400) ** 0.5
    assert figure(copied, "exact_copies")["value"] == 1
    assert figure(copied, "nearer")["value"] > 0.9
    assert figure(copied, "nearest_is_training")["value"] > 0.95
    spoilt = real.copy()
    spoilt[:, 0] = np.random.default_rng(0).permutation(
        spoilt[:, 0]
    )  # the column is right, and its pairs are not
    wrong = of(spoilt)
    assert figure(wrong, "column")["value"].to_numpy() == pytest.approx(
        figure(good, "column")["value"].to_numpy()
    )
    pair = wrong[(wrong["figure"] == "pair") & (wrong["column"] == "a") & (wrong["other"] == "kind")]
    assert pair["value"].item() < good.loc[pair.index, "value"].item() - 0.02
    assert figure(wrong, "two_sample")["value"] > figure(good, "two_sample")["value"] + 0.03
    assert figure(wrong, "made_to_real")["value"] < figure(wrong, "real_to_real")["value"] - 0.02


def test_columns_and_pairs_are_those_of_scipy_and_pandas(fit):
    x, y = fit.data.values, ppl.read(table(3), schema=fit.data.schema).values
    report = pd.DataFrame(list(fidelity.report(fit.data.schema.columns, x, x, y, None, 0)))
    own = report[report["figure"] == "column"].set_index("column")["value"]
    assert own["a"] == pytest.approx(1 - ss.ks_2samp(x[:, 0], y[:, 0]).statistic)
    assert own["kind"] == pytest.approx(1 - abs(x[:, 2].mean() - y[:, 2].mean()))
    pair = report[(report["figure"] == "pair") & (report["column"] == "a") & (report["other"] == "e")]
    r = [np.corrcoef(z[:, 0], z[:, 3])[0, 1] for z in (x, y)]
    assert pair["value"].item() == pytest.approx(1 - abs(r[0] - r[1]) / 2)


def test_the_report_of_a_fit(fit):
    found = fit.augment(report=True, test=table(2), outcome="kind")
    assert figure(found, "two_sample")["value"] < 0.7
    assert figure(found, "nearest_is_training")["value"] < 0.6
    assert figure(found, "made_to_real")["value"] > 0.8
    assert figure(found, "real_to_real")["other"] == "auc"
    without = fit.augment(report=True)
    assert not {"nearest_is_training", "made_to_real"} & set(without["figure"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"balance": "a"}, "column of labels, got 'a'; those with levels are kind"),
        ({"balance": "kind", "rows": 3}, "leave rows and given out"),
        ({"test": "a.csv"}, "ask for --report"),
        ({"report": True, "outcome": "b"}, "outcome names the column 'b'"),
        ({"rows": 0}, "rows must be"),
        ({"given": {"b": 1}}, "given names the column 'b'"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(fit, options, said):
    with pytest.raises(UsageError, match=said):
        fit.augment(**options)
