"""Mixtures against scikit-learn, Pyro, and what repeated rows, labels and closed forms say."""

import warnings
from dataclasses import replace

import numpy as np
import pyro
import pytest
import torch
from fits import by_hand
from pyro.infer import TraceEnum_ELBO
from scipy.stats import multivariate_normal
from sklearn.datasets import load_iris
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.mixture import GaussianMixture

import ppl_models as ppl
from ppl_models.families.label import Label
from ppl_models.inference.factors import Sticks
from ppl_models.latent.independent import Independent

IRIS = load_iris().data


def guided(model, table, **reading):
    """A fit whose guide is one step from a random start: no optimum, where errors could hide."""
    data = ppl.read(table, **reading)
    data = replace(data, schema=model.refer(data))
    joint = model.bind(data.schema)
    batch = joint.dataset_batch(data)
    torch.manual_seed(3)
    start = joint.from_labels(batch, torch.randint(joint.states, (1, data.rows)), 0.2)
    elbo, _ = joint.elbo(batch, start)
    return by_hand(model, data, start, float(elbo[0]))


def mixed(n=40, missing=0.2, seed=0):
    rng = np.random.default_rng(seed)
    table = {
        "a": rng.normal(size=n), "b": rng.normal(3, 2, n), "n": rng.poisson(3, n).astype(float),
        "yes": rng.choice(["no", "yes"], n), "kind": rng.choice(["u", "v", "w"], n),
    }  # fmt: skip
    table["b"][rng.random(n) < missing] = np.nan
    table["kind"] = np.where(rng.random(n) < missing, None, table["kind"])
    return table


@pytest.mark.parametrize("covariance", ["full", "diag", "tied"])
def test_log_densities_are_scikit_learns_at_equal_parameters(covariance):
    peer = GaussianMixture(3, covariance_type=covariance, random_state=0).fit(IRIS)
    data = ppl.read(IRIS)
    joint = ppl.GMM(components=3, covariance=covariance).bind(data.schema)
    (e,) = joint.emissions
    mean = (torch.as_tensor(peer.means_) - e.centre) / e.scale
    precision = peer.precisions_.reshape(1, 4, 4) if covariance == "tied" else peer.precisions_
    scale = e.scale.numpy()
    precision = precision * (scale if covariance == "diag" else np.outer(scale, scale))
    if covariance == "diag":
        precision = precision * scale
    theta = {
        "weight": {"weight": torch.as_tensor(peer.weights_)[None]},
        "gaussian": {"mean": mean[None], "precision": torch.as_tensor(precision)[None]},
    }
    found = joint.log_likelihood(data, theta)[0].numpy()
    np.testing.assert_allclose(found, peer.score_samples(IRIS), atol=1e-5)
    marginals = joint.structure.marginals(
        joint.density(joint.dataset_batch(data), joint.natural(theta)), joint.natural(theta),
        joint.dataset_batch(data).rows
    )  # fmt: skip
    np.testing.assert_allclose(marginals.smoothed[0].numpy(), peer.predict_proba(IRIS), atol=1e-6)


@pytest.mark.parametrize("prior", ["dirichlet", "process"])
def test_elbo_is_pyros(prior):
    """At one draw of θ Pyro's bound is linear in η(θ), so that it is known exactly; see the HMM's test."""
    fit = guided(ppl.GMM(components=3, covariance="diag", weight_prior=prior), mixed())
    joint, S = fit.bound, fit.params
    batch = fit.batch
    expected = joint.expected_natural(S)
    evidence, found = joint.local(batch, expected)

    def inner(natural):
        return sum(float((found[f] * natural[f]).sum()) for f in joint.factors)

    entropy = float(evidence) - batch.base - inner(expected)
    for seed in range(3):
        with pyro.validation_enabled(False), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(seed)
            value = -TraceEnum_ELBO(max_plate_nesting=1).loss(
                lambda: fit.resolved.model(fit.data), lambda: fit.model.guide(fit.data, fit)
            )
            torch.manual_seed(seed)
            trace = pyro.poutine.trace(lambda: fit.model.guide(fit.data, fit)).get_trace()

        def sites(statistics, name, trace=trace):
            return joint.factors[name].sites(statistics, lambda s, _: trace.nodes[f"{name}.{s}"]["value"])

        theta = {name: sites(S[name], name) for name in joint.factors}
        exact = inner(joint.natural(theta)) + entropy + batch.base
        exact += float(joint.log_prior(theta) - joint.log_q(theta, S))
        assert value == pytest.approx(exact, rel=1e-9, abs=1e-7)


def test_pyro_model_of_full_covariance_with_missing_cells_is_the_exact_density():
    x = IRIS[::5].copy()
    x[np.random.default_rng(0).random(x.shape) < 0.3] = np.nan
    fit = guided(ppl.GMM(components=2), x)
    torch.manual_seed(0)
    theta = fit.bound.draw(fit.params, 1)
    values = {f"{f}.{s}": v for f, sites in theta.items() for s, v in sites.items()}
    with pyro.validation_enabled(False):
        model = pyro.poutine.condition(lambda: fit.resolved.model(fit.data), data=values)
        value = -TraceEnum_ELBO(max_plate_nesting=1).loss(pyro.infer.config_enumerate(model), lambda: None)
    exact = fit.bound.log_evidence(fit.batch, theta) + fit.bound.log_prior(theta)
    assert value == pytest.approx(float(exact), rel=1e-10)


@pytest.mark.parametrize(
    ("covariance", "prior"), [("full", "dirichlet"), ("tied", "process"), ("diag", "process")]
)
def test_elbo_never_falls(covariance, prior):
    fit = ppl.fit(ppl.GMM(components=4, covariance=covariance, weight_prior=prior), IRIS, restarts=1, seed=2)
    elbo = [line["elbo"] for line in fit.trained.history]
    assert all(b >= a - 1e-9 * abs(a) for a, b in zip(elbo[:-1], elbo[1:], strict=True))
    assert fit.status == "converged"


def test_weights_are_repeated_rows():
    rng = np.random.default_rng(1)
    weight = rng.integers(0, 4, len(IRIS)).astype(float)
    data = ppl.read(IRIS, weights=weight)
    twice = ppl.read(np.repeat(IRIS, weight.astype(int), axis=0))
    model = ppl.GMM(components=3, covariance="diag")
    joint = model.bind(data.schema)
    labels = torch.as_tensor(rng.integers(0, 3, (2, len(IRIS))))
    batch = joint.dataset_batch(data)
    again = joint.batch(twice.values, replace(batch.rows, lengths=np.array([twice.rows]), weight=None))
    start = joint.from_labels(batch, labels)
    repeated = joint.from_labels(again, labels[:, np.repeat(np.arange(len(IRIS)), weight.astype(int))])
    for name in start:
        torch.testing.assert_close(start[name], repeated[name])
    elbo, found = joint.elbo(batch, start)
    other, same = joint.elbo(again, start)
    torch.testing.assert_close(elbo, other)
    for name in found:
        torch.testing.assert_close(found[name], same[name])
    theta = joint.draw({k: v[:1] for k, v in start.items()}, 3)
    torch.testing.assert_close(joint.log_evidence(batch, theta), joint.log_evidence(again, theta))


def test_a_weight_of_zero_is_a_row_that_is_not_there():
    weight = np.ones(len(IRIS))
    weight[100:] = 0.0
    some = ppl.fit(ppl.GMM(components=2, covariance="diag"), IRIS, weights=weight, seed=1)
    assert float(some.params["weight"].sum()) == pytest.approx(100, abs=1e-6)


def table_of(missing_labels=0.0, seed=0):
    iris = load_iris()
    label = iris.target_names[iris.target].astype(object)
    label[np.random.default_rng(seed).random(len(label)) < missing_labels] = None
    return {f"x{j}": column for j, column in enumerate(iris.data.T)} | {"kind": label}


@pytest.mark.parametrize(
    ("covariance", "peer"),
    [("full", QuadraticDiscriminantAnalysis()), ("tied", LinearDiscriminantAnalysis())],
    ids=["qda", "lda"],
)
def test_one_component_a_class_is_discriminant_analysis(covariance, peer):
    rng = np.random.default_rng(4)
    y = rng.choice(3, 6_000, p=[0.2, 0.3, 0.5])
    root = np.array([[[1.0, 0.0], [0.5, 1.0]], [[0.7, 0.0], [-0.4, 1.2]], [[1.5, 0.0], [0.0, 0.6]]])
    noise = root[y] if covariance == "full" else root[np.zeros_like(y)]
    x = np.array([[0.0, 0.0], [2.0, 0.0], [1.0, 2.0]])[y] + (noise @ rng.normal(size=(6_000, 2, 1)))[..., 0]
    table = {"a": x[:, 0], "b": 100 * x[:, 1], "kind": np.array(["u", "v", "w"], dtype=object)[y]}
    found = ppl.fit(ppl.GMM(components=1, covariance=covariance), table, target="kind").predict()
    p = found[["probability_u", "probability_v", "probability_w"]].to_numpy()
    np.testing.assert_allclose(p, peer.fit(x, y).predict_proba(x), atol=0.02)
    assert (found["class"].to_numpy() == np.array(["u", "v", "w"])[p.argmax(1)]).all()


def test_rows_without_labels_take_part():
    fit = ppl.fit(ppl.GMM(components=1), table_of(0.9), target="kind")
    truth = load_iris()
    counted = float(fit.params["weight"].sum())
    assert counted == pytest.approx(150, abs=1e-6)
    assert (fit.predict()["class"].to_numpy() == truth.target_names[truth.target]).mean() > 0.9
    scored = fit.score()
    assert scored["log_probability"].isna().sum() == fit.data.schema.columns[-1].missing > 100


def test_a_label_keeps_a_row_in_the_components_of_its_class():
    fit = ppl.fit(ppl.GMM(components=2, covariance="diag"), table_of(0.3), target="kind")
    joint = fit.bound
    natural = joint.expected_natural(fit.params)
    gamma = joint.structure.marginals(joint.density(fit.batch, natural), natural, fit.batch.rows).smoothed[0]
    label = fit.data.column("kind")
    seen = ~np.isnan(label)
    own = gamma.reshape(len(label), 3, 2).sum(2).numpy()
    np.testing.assert_allclose(own[seen, label[seen].astype(int)], 1.0, atol=1e-12)
    assert fit.score()["log_density"].notna().all()


def test_labels_are_filled_in_by_imputation():
    fit = ppl.fit(ppl.GMM(components=1), table_of(0.3), target="kind")
    filled = fit.impute()
    truth = load_iris()
    assert (filled["kind"].to_numpy() == truth.target_names[truth.target]).mean() > 0.95


def test_label_emission_has_no_parameters():
    e = Label(0, [0, 0, 1], 2)
    S = e.zeros(2) + 1.0
    assert e.free_parameters == 0
    assert bool(e.possible(S).all())
    assert e.evaluate(S)[1].tolist() == [0.0, 0.0]


def test_sampling_given_some_columns_is_exact():
    """One component: the conditional normal, with parameters that are nearly known."""
    rng = np.random.default_rng(2)
    cov = np.array([[2.0, 1.2, 0.3], [1.2, 1.5, -0.4], [0.3, -0.4, 1.0]])
    x = rng.multivariate_normal([1.0, 2.0, 3.0], cov, 20_000)
    fit = ppl.fit(ppl.GMM(components=1), {"a": x[:, 0], "b": x[:, 1], "c": x[:, 2]})
    drawn = fit.sample(20_000, given={"a": 3.0}, seed=0)
    assert (drawn["a"] == 3.0).all()
    S = np.cov(x.T)
    mean = x.mean(0)[1:] + S[1:, 0] / S[0, 0] * (3.0 - x[:, 0].mean())
    rest = S[1:, 1:] - np.outer(S[1:, 0], S[0, 1:]) / S[0, 0]
    np.testing.assert_allclose(drawn[["b", "c"]].mean(), mean, atol=4 * (2 / 20_000) ** 0.5)
    np.testing.assert_allclose(np.cov(drawn[["b", "c"]].T), rest, atol=0.08)


def test_what_is_given_says_which_component():
    rng = np.random.default_rng(3)
    z = rng.random(1_000) < 0.5
    x = np.stack([rng.normal(np.where(z, 0.0, 10.0)), rng.normal(np.where(z, 5.0, -5.0))], 1)
    fit = ppl.fit(ppl.GMM(components=2), {"a": x[:, 0], "b": x[:, 1]})
    drawn = fit.sample(200, given={"a": 0.3})
    assert (drawn["component"] == 0).all()
    assert drawn["b"].between(1, 9).all()
    with pytest.raises(ppl.UsageError, match="'z'"):
        fit.sample(3, given={"z": 1})
    with pytest.raises(ppl.UsageError, match="not a number"):
        fit.sample(3, given={"a": "x"})


def test_score_is_the_mean_of_the_density_over_draws():
    fit = ppl.fit(ppl.GMM(components=2), IRIS[:, :2], seed=0)
    p = fit.posterior_draws
    mean, sd, rho = (fit.bound.variables(p.theta)[0][k][1] for k in ("mean", "sd", "correlation"))
    cov = rho * sd[..., None] * sd[..., None, :]
    weight = p.theta["weight"]["weight"].numpy()
    x = IRIS[:4, :2]
    density = np.zeros(4)
    for s in range(500):
        density += (
            sum(weight[s, k] * multivariate_normal(mean[s, k], cov[s, k]).pdf(x) for k in range(2)) / 500
        )
    np.testing.assert_allclose(fit.score()["log_density"][:4], np.log(density), atol=0.03)


@pytest.mark.slow
def test_a_process_uses_the_components_that_it_needs():
    rng = np.random.default_rng(5)
    x = np.concatenate([rng.normal(c, 0.4, (200, 2)) for c in ((0, 0), (4, 0), (0, 4))])
    fit = ppl.fit(ppl.GMM(components=10, weight_prior="process"), x)
    assert int((fit.bound.occupied(fit.params) >= 1).sum()) == 3
    assert "3 of 10 components are used" in fit.check().text()
    counts = fit.params["weight"][0]
    assert (counts.diff() <= 1e-9).all()  # sticks in order of their size


def test_sticks_are_their_log_normalizer():
    factor = Sticks("weight", 4, 1.7)
    S = torch.rand(2, 4, dtype=torch.float64) * 9
    leaf = S.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(factor.log_normalizer(leaf).sum(), leaf)
    torch.testing.assert_close(gradient, factor.expected_natural(S))
    theta = factor.draw(S)
    torch.testing.assert_close(theta["weight"].sum(-1), torch.ones(2, dtype=torch.float64))
    gain = factor.log_prob(theta, S) - factor.log_prob(theta, factor.zeros(2))
    torch.testing.assert_close((S * factor.natural(theta)).sum(-1) - factor.log_normalizer(S), gain)


def test_moments_of_sticks_are_those_of_simulated_ones():
    rng = np.random.default_rng(0)
    S = torch.tensor([[5.0, 1.0, 3.0]], dtype=torch.float64)
    v1, v2 = rng.beta(1 + 5, 2 + 4, 40_000), rng.beta(1 + 1, 2 + 3, 40_000)
    simulated = np.stack([np.log(v1), np.log1p(-v1) + np.log(v2), np.log1p(-v1) + np.log1p(-v2)], 1)
    error = 5 * simulated.std(0) / 200  # 5 standard errors: fails less than once in 10⁶ seeds
    found = Sticks("weight", 3, 2.0).expected_natural(S)[0].numpy()
    assert (np.abs(found - simulated.mean(0)) < error).all()


def test_mini_batches_get_where_all_rows_get():
    rng = np.random.default_rng(6)
    x = np.concatenate([rng.normal(c, 1.0, (3_000, 2)) for c in ((0, 0), (5, 0), (0, 5))])[
        rng.permutation(9_000)
    ]
    whole = ppl.fit(ppl.GMM(components=3), x, restarts=2)
    part = ppl.fit(ppl.GMM(components=3), x, restarts=2, batch_size=500)
    assert part.elbo > whole.elbo - 2.0


def test_rows_are_exchangeable_and_their_order_does_not_matter():
    joint = Independent(3, 1.0)
    assert joint.exchangeable
    order = np.random.default_rng(0).permutation(len(IRIS))
    a = ppl.fit(ppl.GMM(components=3), IRIS, restarts=1)
    b = ppl.fit(ppl.GMM(components=3), IRIS[order], restarts=8)
    assert b.elbo >= a.elbo - 0.05


@pytest.mark.slow
def test_select_shows_evidence_held_out_and_loo_side_by_side():
    rng = np.random.default_rng(7)
    x = np.concatenate([rng.normal(c, 0.5, (80, 2)) for c in ((0, 0), (4, 0), (0, 4))])
    fit = ppl.select(ppl.GMM(), x, {"components": range(1, 5)}, restarts=2)
    assert fit.model.components == 3
    best = max(fit.candidates, key=lambda row: row["loo"])
    assert best["components"] in (3, 4)
    for row in fit.candidates:
        assert row["loo"] == pytest.approx(row["held_out"], abs=4 * row["held_out_se"])
        assert row["loo_se"] > 0


def test_loo_is_that_of_refits():
    """Leaving a row out by importance weights against leaving it out in fact."""
    rng = np.random.default_rng(8)
    x = rng.normal(size=(25, 1))
    fit = ppl.select(ppl.GMM(components=1), x, {"components": [1]})
    exact = [_left_out(x, i) for i in range(len(x))]
    assert fit.candidates[0]["loo"] == pytest.approx(np.mean(exact), abs=0.02)


def _left_out(x, i):
    data = ppl.read(x)
    model = ppl.GMM(components=1)
    rest = ppl.fit(model, data.subset(np.arange(len(x)) != i))
    return float(rest.score(data.subset(np.arange(len(x)) == i))["log_density"][0])


@pytest.mark.parametrize("field", [{"components": 0}, {"weight_prior": "x"}, {"weight_concentration": 0.0}])
def test_fields_that_cannot_be_meant_are_refused(field):
    with pytest.raises(ppl.UsageError, match=next(iter(field))):
        ppl.GMM(**field)


def test_hmm_refuses_weights_and_targets_that_vary_within_a_sequence():
    with pytest.raises(ppl.UsageError, match="weigh"):
        ppl.fit(ppl.HMM(), IRIS, weights=np.ones(150))
    with pytest.raises(ppl.DataError, match="one sequence has one class"):
        ppl.fit(ppl.HMM(), table_of(), target="kind")


@pytest.mark.parametrize("covariance", ["full", "tied", "diag", "spherical"])
def test_a_component_that_has_lost_its_rows_has_no_mean(covariance):
    """A jump can leave no rows and a sum of 5e-17: a mean of 5e283, unless it is taken for what it is."""
    x = np.random.default_rng(0).normal(size=(60, 3))
    fit = ppl.fit(ppl.GMM(components=2, covariance=covariance), x, restarts=1)
    name = next(name for name in fit.bound.factors if name not in ("weight", "chain"))
    statistics = fit.params[name].clone()
    statistics[:, 1] = 0.0
    statistics[:, 1, ..., 1] = 5.551115123125783e-17
    natural = fit.bound.factors[name].evaluate(statistics)
    assert all(bool(part.isfinite().all()) for part in natural if isinstance(part, torch.Tensor))


@pytest.mark.slow
def test_many_components_have_one_start_and_rows_are_drawn_in_parts(monkeypatch):
    table = np.random.default_rng(0).normal(size=(300, 2))
    fit = ppl.fit(ppl.GMM(components=60, covariance="diag"), table, steps=5)
    assert len(fit.trained.restarts.elbo) == 1
    few = ppl.fit(ppl.GMM(components=2, covariance="diag"), table, steps=5)
    assert len(few.trained.restarts.elbo) == 8
    whole = few.sample(rows=400, seed=1)
    monkeypatch.setattr("ppl_models.models.gmm.bound.HELD", 50 * few.bound.parameters)
    parts = few.sample(rows=400, seed=1)
    assert len(parts) == len(whole) == 400
    assert abs(parts["x1"].mean() - whole["x1"].mean()) < 0.3


def test_a_glance_says_of_which_class_a_component_is():
    table = {"x": np.arange(60.0), "kind": np.repeat(["a", "b", "c"], 20)}
    fit = ppl.fit(ppl.GMM(components=2), table, target="kind", restarts=1)
    assert list(fit.bound.glance(fit)["kind"]) == ["a", "a", "b", "b", "c", "c"]


def test_a_cell_a_million_million_away_ends_in_a_verdict():
    x = np.random.default_rng(5).normal(size=(24, 2)).round(3)
    x[0, 0] = 1e12
    assert ppl.fit(ppl.GMM(components=2), x, restarts=1).check().checks
