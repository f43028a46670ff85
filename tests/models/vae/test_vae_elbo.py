"""The fast objective against Pyro: the same model and guide, the same bound, for every likelihood."""

from dataclasses import dataclass, replace

import numpy as np
import pyro
import pytest
import torch
from pyro.infer import Trace_ELBO, TraceEnum_ELBO, TraceMeanField_ELBO
from pyro.poutine import condition, replay, trace
from vae_fits import SCHEMAS, adam, fitted, schema_of

from ppl_models.data import read
from ppl_models.models.vae.bound import VAEBound
from ppl_models.models.vae.elbo import drawn, terms, unlabelled_sum
from ppl_models.models.vae.model import VAE

pytestmark = pytest.mark.usefixtures("one_thread")


@dataclass
class Known:
    """What `model` and `guide` ask of a fit."""

    bound: VAEBound
    params: dict


def trained(data, model, epochs=3):
    torch.manual_seed(0)
    bound = model.bind(data.schema)
    target = bound.target(data)
    adam(target, epochs)
    return target, Known(bound, bound.params(target.module))


def labelled(missing=0.0, share=0.5, n=60):
    """The mixed table with its first categorical column as a target that some rows lack."""
    data, _ = schema_of("mixed", n, missing)
    frame = data.frame()
    frame.loc[np.random.default_rng(1).random(n) > share, "k0"] = None
    return read(frame, target="k0")


@pytest.mark.parametrize("missing", [0.0, 0.3])
@pytest.mark.parametrize("name", [*SCHEMAS, "mixed"])
def test_the_bound_is_that_of_pyro_with_the_same_noise(name, missing):
    data, likelihood = schema_of(name, 80, missing)
    target, fit = trained(data, VAE(latent=2, hidden="16,8", likelihood=likelihood))
    net, rows = target.module, target.data
    noise = torch.randn(80, 2)
    z = drawn(*net.posterior(net.likelihood.features(rows.x, rows.seen)), noise).detach()
    found = trace(condition(target.model.model, {"z": z.double()})).get_trace(data, fit)
    found.compute_log_prob()
    by_row = sum(s["log_prob"] for n, s in found.nodes.items() if n.startswith("x_"))
    ours = terms(net, rows, noise)
    torch.testing.assert_close(ours.fit.double(), by_row.double(), rtol=1e-4, atol=1e-4)
    both = unlabelled_sum(net, rows, noise)
    torch.testing.assert_close(
        torch.stack([*both]), torch.stack([t.sum() for t in ours]), rtol=1e-4, atol=1e-3
    )


@pytest.mark.parametrize("elbo", [TraceMeanField_ELBO, Trace_ELBO])
def test_the_bound_is_that_of_pyros_own_elbos(elbo):
    data, _ = schema_of("mixed", 50, 0.2)
    target, fit = trained(data, VAE(latent=2, hidden="16,8"))
    net, rows = target.module, target.data
    torch.manual_seed(5)
    z = trace(target.model.guide).get_trace(data, fit).nodes["z"]["value"]
    torch.manual_seed(5)
    loss = elbo().loss(target.model.model, target.model.guide, data, fit)
    mean, log_var = net.posterior(net.likelihood.features(rows.x, rows.seen))
    noise = (z - mean) / (log_var / 2).exp()
    found = terms(net, rows, noise.float())
    kl = (
        found.divergence
        if elbo is TraceMeanField_ELBO
        else 0.5 * (z.square() - noise.square() - log_var).sum(-1)
    )
    assert -loss == pytest.approx((found.fit - kl).sum().item(), rel=1e-5)


@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_with_classes_the_bound_sums_over_missing_labels_as_pyro_does(missing):
    """In expectation over z, of which there is little: Pyro draws its own for every class."""
    data, draws = labelled(missing), 30
    target, _ = trained(data, VAE(latent=2, hidden="16,8"))
    target.module.encoder.rest[-1].bias.data[2:] = -6.0
    fit = Known(target.model.bind(data.schema), target.model.bind(data.schema).params(target.module))
    assert 0 < (target.data.y < 0).sum() < data.rows
    with torch.no_grad():
        found = (terms(target.module, target.data) for _ in range(100))
        every = torch.stack([(t.fit - t.divergence).sum() for t in found])
    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    pyros = np.array([-elbo.loss(target.model.model, target.model.guide, data, fit) for _ in range(draws)])
    error = np.hypot(pyros.std() / draws**0.5, float(every.std()) / 10)
    assert error < 3
    assert abs(pyros.mean() - float(every.mean())) < 4 * error


def test_pyro_can_train_the_pair_by_itself():
    data, _ = schema_of("gaussian", 60)
    model = VAE(latent=1, hidden="8")
    pyro.clear_param_store()
    svi = pyro.infer.SVI(model.model, model.guide, pyro.optim.Adam({"lr": 0.03}), TraceMeanField_ELBO())
    losses = [svi.step(data) for _ in range(40)]
    pyro.clear_param_store()
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 20


def test_guide_and_model_name_the_same_sites():
    data = labelled()
    target, fit = trained(data, VAE(latent=2, hidden="8"), 0)
    q = trace(target.model.guide).get_trace(data, fit)
    p = trace(replay(target.model.model, q)).get_trace(data, fit)
    hidden = {n for n, s in p.nodes.items() if s["type"] == "sample" and not s["is_observed"]} - {
        "rows",
        "rows_unlabelled",
    }
    assert (
        hidden
        == {"z", "z_unlabelled", "y_unlabelled"}
        == {n for n in q.stochastic_nodes if not n.startswith("rows")}
    )


def test_mini_batches_are_unbiased_for_all_rows():
    """The mean gradient of the mini-batches of a partition is that of all rows, weighted ones too."""
    data, _ = schema_of("mixed", 22, 0.2)
    weight = np.random.default_rng(0).integers(0, 4, 22).astype(float)
    for each in (data, replace(data, weight=weight)):
        torch.manual_seed(0)
        bound = VAE(latent=2, hidden="8").bind(data.schema)
        target = bound.target(each)
        assert target.rows == 20
        net = target.module

        def gradient(rows, target=target, net=net):
            total = []
            for row in rows:  # the noise of a row is its own, whatever the batch
                torch.manual_seed(int(row))
                total.append(target.loss(row[None], 20.0))
            return torch.autograd.grad(torch.stack(total).mean(), [*net.parameters()])

        whole = gradient(torch.arange(20))
        parts = [gradient(part) for part in torch.randperm(20).split(5)]
        for a, *b in zip(whole, *parts, strict=True):
            torch.testing.assert_close(a, torch.stack(b).mean(0), rtol=1e-4, atol=1e-5)


def test_a_batch_is_the_mean_of_its_rows():
    """The loss of a batch is the mean of those of its rows: with no noise left in z, exactly."""
    for data in (schema_of("mixed", 30, 0.2)[0], labelled(0.2, n=30)):
        torch.manual_seed(0)
        target = VAE(latent=2, hidden="8").bind(data.schema).target(data)
        with torch.no_grad():
            target.module.encoder.rest[-1].weight.zero_()
            target.module.encoder.rest[-1].bias.copy_(torch.tensor([0.3, -0.2, -200.0, -200.0]))
        rows = torch.arange(target.rows)
        alone = torch.stack([target.loss(row[None], 5.0) for row in rows]).mean()
        torch.testing.assert_close(target.loss(rows, 5.0), alone, rtol=1e-4, atol=1e-4)


def test_cells_that_are_missing_never_matter():
    """What a cell was before it went missing is neither in the bound nor in what the encoder sees."""
    data, _ = schema_of("mixed", 40, 0.3)
    target, _ = trained(data, VAE(latent=2, hidden="8"))
    net, noise = target.module, torch.randn(40, 2)
    rows = target.data
    assert float(rows.x[~rows.seen].abs().max()) == 0.0
    garbage = torch.where(rows.seen, rows.x, 1.0)
    out = net.decoder(torch.randn(40, 2))
    torch.testing.assert_close(
        net.likelihood.rows(out, garbage, rows.seen), net.likelihood.rows(out, rows.x, rows.seen)
    )
    features = net.likelihood.features(rows.x, rows.seen)
    hidden = features[:, : -net.likelihood.width][~rows.seen.any(1)]
    assert float(hidden.abs().max() if len(hidden) else 0.0) == 0.0
    some = terms(net, rows, noise).fit.detach().numpy()
    more = np.array(data.values)
    more[:, 0] = np.nan
    fewer = target.model.bind(data.schema).rows(replace(data, values=more))
    assert not np.allclose(some, terms(net, fewer, noise).fit.detach().numpy())


def test_held_out_rows_and_warm_up():
    data, _ = schema_of("gaussian", 200)
    target, _ = trained(data, VAE(latent=2, hidden="8", beta=2.0, warm_up=4.0))
    assert (target.rows, len(target.held)) == (180, 20)
    assert not {*target.train.tolist()} & {*target.held.tolist()}
    assert target.evidence() == target.evidence()
    assert [target.kl_weight(e) for e in (0.0, 2.0, 4.0, 100.0)] == [0.0, 1.0, 2.0, 2.0]
    few = VAE(latent=1, hidden="4").bind(data.schema).target(data.subset(np.arange(19)))
    assert few.rows == 19
    assert np.isfinite(few.evidence())


def test_a_fit_that_diverged_says_where():
    data, _ = schema_of("poisson", 40)
    target, _ = trained(data, VAE(latent=2, hidden="8"), 0)
    with torch.no_grad():
        target.module.decoder.rest[-1].bias[1] = 1e3
    assert "column 'n1', poisson" in target.where()
    with torch.no_grad():
        target.module.decoder.rest[-1].bias[1] = torch.nan
    assert "decoder.rest.1.bias" in target.where()


def test_a_network_is_restored_from_its_parameters():
    fit = fitted(VAE(latent=2, hidden="8,4"), schema_of("mixed", 60, 0.2)[0], epochs=2)
    shapes = fit.bound.shapes()
    assert {name: tuple(value.shape[1:]) for name, value in fit.params.items()} == shapes
    again = fit.bound.params(fit.bound.networks(fit.params))
    assert all(torch.equal(again[name], value) for name, value in fit.params.items())
    assert fit.bound.parameters == sum(value.numel() for value in fit.params.values())
