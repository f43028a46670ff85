"""Importance sampling against a model whose posterior is known: probabilistic PCA.

x = W z + b + σ ε:   x ~ N(b, W Wᵀ + σ² I),   and the conditional of some cells given others is Gaussian
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from vae_fits import columns_of, fit_of, fitted, schema_of

from ppl_models.data import read
from ppl_models.errors import Unsupported, UsageError
from ppl_models.models.vae.checks import active
from ppl_models.models.vae.importance import particles
from ppl_models.models.vae.model import VAE

pytestmark = pytest.mark.usefixtures("one_thread")

D, L = 4, 2


@pytest.fixture
def linear():
    """A fit whose decoder is exactly linear: its ReLU units are in pairs, relu(a) − relu(−a) = a."""
    rng = np.random.default_rng(0)
    data = read(rng.normal([1.0, -2.0, 50.0, 0.0], [1.0, 3.0, 10.0, 0.1], (60, D)))
    model = VAE(latent=L, hidden="64")
    torch.manual_seed(0)
    target = model.bind(data.schema).target(data)
    net = target.module
    W = torch.tensor([[0.9, 0.0], [0.5, -0.6], [-0.3, 0.8], [0.2, 0.4]])
    bias = torch.tensor([0.1, -0.2, 0.0, 0.3])
    with torch.no_grad():
        for layer in (net.decoder.first, net.decoder.rest[-1]):
            layer.weight.zero_()
            layer.bias.zero_()
        for i in range(L):
            net.decoder.first.weight[2 * i, i], net.decoder.first.weight[2 * i + 1, i] = 1.0, -1.0
            net.decoder.rest[-1].weight[:, 2 * i], net.decoder.rest[-1].weight[:, 2 * i + 1] = (
                W[:, i],
                -W[:, i],
            )
        net.decoder.rest[-1].bias.copy_(bias)
        net.encoder.rest[-1].weight.zero_()  # the guide is the same for all rows: the weights have all to do
        net.encoder.rest[-1].bias.copy_(torch.tensor([0.3, -0.2, 0.4, 0.2]))
    fit = fit_of(model, data, target)
    sigma = net.likelihood.each[0].sigma.detach().double().numpy()
    mean, sd = (np.array([getattr(c, k) for c in data.schema.columns]) for k in ("mean", "sd"))
    m = mean + sd * bias.numpy()
    S = sd[:, None] * (W.double().numpy() @ W.double().numpy().T + np.diag(sigma**2)) * sd
    return fit, m, S


def _gaussian(x, m, S):
    d = x - m
    return -0.5 * (d @ np.linalg.solve(S, d) + np.linalg.slogdet(2 * np.pi * S)[1])


def test_the_importance_weighted_bound_is_the_exact_density(linear):
    fit, m, S = linear
    values = fit.data.values[:12].copy()
    values[3, :2], values[4, 3], values[5] = np.nan, np.nan, np.nan
    data = replace(fit.data, values=values, lengths=np.array([12]))
    exact = np.array(
        [_gaussian(x[o], m[o], S[np.ix_(o, o)]) if (o := ~np.isnan(x)).any() else 0.0 for x in values]
    )
    found = fit.score(data, draws=20_000)
    np.testing.assert_allclose(found["log_density"], exact, atol=0.1)
    assert (found["elbo"] < found["log_density"] + 1e-6).all()
    few = fit.score(data, draws=2)["log_density"]
    assert few.mean() < found["log_density"].mean()


def test_imputation_is_the_exact_conditional(linear):
    fit, m, S = linear
    values = fit.data.values[:8].copy()
    values[:, [0, 2]] = np.nan
    values[7] = np.nan
    table = fit.impute(
        replace(fit.data, values=values, lengths=np.array([8])), draws=4_000, proposals=10_000, level=0.9
    )
    a, b = [0, 2], [1, 3]
    gain = S[np.ix_(a, b)] @ np.linalg.inv(S[np.ix_(b, b)])
    sd = np.sqrt(np.diag(S[np.ix_(a, a)] - gain @ S[np.ix_(b, a)]))
    for i in range(7):
        mean = m[a] + gain @ (values[i, b] - m[b])
        for k, name in enumerate(("x0", "x2")):
            assert table[name][i] == pytest.approx(mean[k], abs=0.12 * sd[k])
            assert table[f"{name}_sd"][i] == pytest.approx(sd[k], rel=0.1)
            assert table[f"{name}_lower"][i] == pytest.approx(mean[k] - 1.645 * sd[k], abs=0.2 * sd[k])
            assert table[f"{name}_upper"][i] == pytest.approx(mean[k] + 1.645 * sd[k], abs=0.2 * sd[k])
    assert table["x1"][7] == pytest.approx(m[1], abs=0.1 * S[1, 1] ** 0.5)
    assert np.isnan(table["x1_sd"][0])


def test_completed_tables_vary_where_cells_were_missing_and_only_there(linear):
    fit = linear[0]
    values = fit.data.values[:5].copy()
    values[0, 1] = np.nan
    tables = fit.impute(replace(fit.data, values=values, lengths=np.array([5])), copies=30)
    assert tables.shape == (150, D + 1)
    assert tables[tables.index % 5 == 0]["x1"].std() > 0
    assert (tables["x1"][1::5] == values[1, 1]).all()


def test_samples_follow_the_density(linear):
    fit, m, S = linear
    drawn = fit.sample(4_000, seed=1).to_numpy()
    np.testing.assert_allclose(drawn.mean(0), m, atol=4 * np.sqrt(np.diag(S) / 4_000).max())
    np.testing.assert_allclose(
        np.cov(drawn.T), S, atol=0.15 * np.sqrt(np.outer(np.diag(S), np.diag(S))).max()
    )
    given = fit.sample(2_000, given={"x1": 1.0}, seed=1)
    assert (given["x1"] == 1.0).all()
    assert given["x0"].mean() == pytest.approx(m[0] + S[0, 1] / S[1, 1] * (1 - m[1]), abs=0.15)


def test_verbs_say_how_rows_are_seen():
    fit = fitted(VAE(latent=2, hidden="32"), schema_of("mixed", 150, 0.1)[0], epochs=20)
    features = fit.transform()
    assert [*features.columns] == ["z_0", "z_1", "z_0_sd", "z_1_sd"]
    assert (features[["z_0_sd", "z_1_sd"]] < 1.2).all(axis=None)
    again = fit.reconstruct(seed=3)
    assert again.equals(fit.reconstruct(seed=3))
    assert again["k0_probability"].between(1 / 3 - 1e-6, 1).all()
    a = fit.data.column("a")
    assert np.corrcoef(again["a"][~np.isnan(a)], a[~np.isnan(a)])[0, 1] > 0.5
    table = fit.summary()
    assert {"z_0", "z_1", "noise[a]"} <= {*table.index}
    with pytest.raises(Unsupported, match="without; fit it with --target"):
        fit.predict()
    with pytest.raises(UsageError, match="draws must be a whole number"):
        fit.score(draws=0)


def test_blocks_do_not_change_a_score():
    """Densities are those of the same draws, whatever the size of the blocks."""
    fit = fitted(VAE(latent=2, hidden="16"), schema_of("mixed", 60, 0.1)[0], epochs=5)
    net, rows = fit.bound.networks(fit.params), fit.bound.rows(fit.data)
    seen = torch.cat([p.index for p in particles(net, rows, 3_000)])
    assert sorted(seen.tolist()) == [*range(60)]
    one = torch.cat([p.log_density for p in particles(net, rows, 3_000)])
    again = fit.score(draws=3_000)["log_density"].to_numpy()
    assert np.median(np.abs(one.numpy() - again)) < 0.1


@pytest.mark.slow
def test_classes_of_iris_are_told_apart_with_few_labels():
    from sklearn.datasets import load_iris

    d, order = load_iris(), np.random.default_rng(0).permutation(150)
    X, y = d.data[order], d.target[order]
    labels = y[:100].astype(float)
    labels[30:] = np.nan
    types = {f"x{i}": "continuous" for i in range(4)}
    fit = fitted(
        VAE(latent=2, hidden="32"),
        np.column_stack([X[:100], labels]),
        epochs=120,
        batch=32,
        lr=1e-2,
        target="x4",
        types=types,
    )
    test = read(np.column_stack([X[100:], y[100:]]), schema=fit.data.schema)
    for options in ({}, {"draws": 50}):
        found = fit.predict(test, **options)
        assert (found["class"].astype(int) == y[100:]).mean() > 0.85
        np.testing.assert_allclose(found.filter(like="probability").sum(axis=1), 1)
    score = fit.score(test)
    assert (score["log_probability"] < 1e-9).all()
    assert score["log_probability"].mean() > np.log(1 / 3) / 2
    assert fit.impute().loc[30:, "x4"].notna().all()
    drawn = fit.sample(50, given={"x4": "2"})
    assert (drawn["x4"] == 2).all()
    assert drawn["x2"].mean() > 4.5
    assert set(fit.sample(200)["x4"]) == {0, 1, 2}


def test_collapse_is_seen():
    data = read(columns_of("gaussian", 200, np.random.default_rng(0)))
    good = fitted(VAE(latent=2, hidden="32"), data, epochs=60, lr=1e-2)
    assert {c.name: c.level for c in good.bound.checks(good)}["active latents"] != "fail"
    collapsed = fitted(VAE(latent=3, hidden="32", beta=50.0, warm_up=0.0), data, epochs=60, lr=1e-2)
    (found,) = [c for c in collapsed.bound.checks(collapsed) if c.name == "active latents"]
    assert found.level == "fail"
    assert "posterior collapse" in found.reason
    few = active(np.random.default_rng(0).normal(size=(100, 6)) * [1, 1, 0.01, 0.01, 0.01, 0.01])
    assert few.level == "warn"
    assert "--latent 2" in few.reason


def test_convolutions_need_images_and_take_any_size():
    images = np.random.default_rng(0).integers(0, 256, (40, 9, 7, 3)).astype(np.uint8)
    images[0, 0, 0, 0], images[1, 0, 0, 0] = 0, 255
    fit = fitted(VAE(latent=2, hidden="16", network="conv"), images, epochs=2)
    assert fit.reconstruct().shape == (40, 9 * 7 * 3)
    holes = fit.data.values.copy()
    holes[:, :50] = np.nan
    assert (
        fit.impute(replace(fit.data, values=holes), draws=10, proposals=10)
        .notna()
        .iloc[:, :189]
        .all(axis=None)
    )
    with pytest.raises(UsageError, match="network conv needs rows that are images"):
        VAE(network="conv").bind(schema_of("gaussian")[0].schema)


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"latent": 0}, "latent must be at least 1, got 0"), ({"hidden": "a"}, "hidden must be whole numbers"),
     ({"hidden": "0"}, "sizes of at least 1"), ({"beta": 0.0}, "beta must be positive"),
     ({"warm_up": -1.0}, "warm_up"), ({"network": "rnn"}, "network must be auto, mlp or conv"),
     ({"likelihood": "gamma"}, "'gamma' is not known")],
)  # fmt: skip
def test_fields_that_cannot_be_meant(fields, message):
    with pytest.raises(UsageError, match=message):
        VAE(**fields)


def test_later_data_outside_the_support_is_refused_by_cell():
    from ppl_models.errors import DataError

    data, likelihood = schema_of("continuous_bernoulli", 50)
    bound = VAE(latent=1, hidden="4", likelihood=likelihood).bind(data.schema)
    values = data.values.copy()
    values[7, 1] = 1e3
    with pytest.raises(DataError, match=r"row 8, column 'u1': 1000 is outside"):
        bound.rows(replace(data, values=values))
