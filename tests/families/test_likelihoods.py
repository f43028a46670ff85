"""Likelihoods against torch.distributions: densities, means, draws, and what they make of odd columns."""

import math

import numpy as np
import pytest
import torch
from torch import distributions as dist
from vae_fits import SCHEMAS, schema_of

from ppl_models.data import Column, Kind, read
from ppl_models.errors import DataError, UsageError
from ppl_models.families.choose import families
from ppl_models.families.continuous_bernoulli import ContinuousBernoulliLikelihood, log_normaliser
from ppl_models.families.gaussian import GaussianLikelihood
from ppl_models.families.likelihood import FLOOR
from ppl_models.families.unit import two_valued, unit_intervals
from ppl_models.networks.product import Product


@pytest.mark.parametrize("name", SCHEMAS)
def test_density_mean_and_draws_agree_with_torch(name):
    data, likelihood = schema_of(name)
    product = Product(likelihood, data.schema)
    torch.manual_seed(1)
    out = torch.randn(1, product.outputs)
    drawn = product.sample(out.expand(40_000, -1))
    (family,) = product.each
    p = family.distribution(out)
    u = torch.where(
        torch.isnan(torch.as_tensor(data.values)),
        torch.as_tensor(data.values[0]),
        torch.as_tensor(data.values),
    )
    cells = family.encode(u[:, product.order])
    reference = p.log_prob(family.observed(cells))
    found = family.log_prob(out, cells) + family.log_unit
    torch.testing.assert_close(found.double(), reference.double(), rtol=2e-4, atol=2e-4)
    expected = product.expect(out)[0]
    if name == "categorical":
        share = torch.cat(
            [
                torch.nn.functional.one_hot(c.long(), n).double()
                for c, n in zip(drawn.T, family.slots, strict=True)
            ],
            1,
        )
        torch.testing.assert_close(share.mean(0), expected, rtol=0, atol=0.015)
    else:
        error = 5 * drawn.std(0) / 200 + 1e-9
        assert ((drawn.mean(0) - expected).abs() < error).all()
    torch.testing.assert_close(
        family.total(out.expand(len(cells), -1), cells), family.log_prob(out, cells).sum()
    )


def test_continuous_bernoulli_is_finite_and_right_for_any_logit():
    o = torch.tensor(
        [-1e4, -90.0, -5.0, -0.61, -0.59, -1e-4, 0.0, 1e-4, 0.59, 0.61, 5.0, 90.0, 1e4], requires_grad=True
    )
    A = log_normaliser(o)
    A.sum().backward()
    x = torch.linspace(0, 1, 200_001, dtype=torch.float64)
    exact = torch.stack([torch.logsumexp(v * x, 0) - math.log(len(x)) for v in o.detach().double()[2:-2]])
    torch.testing.assert_close(A.detach().double()[2:-2], exact, rtol=1e-4, atol=1e-5)
    assert torch.isfinite(A).all()
    assert torch.isfinite(o.grad).all()
    column = Column("x", Kind.CONTINUOUS, minimum=0.0, maximum=1.0)
    family = ContinuousBernoulliLikelihood([column], image=False)
    expected = family.expect(o.detach()[:, None])[:, 0].float()
    torch.testing.assert_close(expected[2:-2], o.grad[2:-2], rtol=1e-3, atol=1e-4)
    assert float(expected[0]) == float(expected[1]) == pytest.approx(1 / 20, rel=1e-3)  # the steepest
    always = torch.zeros(1, 1)
    assert float(family.log_prob(torch.tensor([[-1e4]]), always)) == pytest.approx(math.log(20), rel=1e-4)
    draws = family.sample(torch.tensor([[-1e4], [0.0], [1e4]]).expand(3, 1))
    assert ((draws >= 0) & (draws <= 1)).all()


def test_the_scale_of_a_gaussian_has_a_floor():
    """A constant column, reconstructed without error, has a bounded density."""
    family = GaussianLikelihood([Column("x", Kind.CONTINUOUS, mean=3.0)])
    family.log_scale.data.fill_(-100.0)
    assert family.sigma.item() == pytest.approx(FLOOR)
    best = family.log_prob(torch.zeros(1, 1), torch.zeros(1, 1))
    assert best.item() == pytest.approx(-math.log(FLOOR) - 0.5 * math.log(2 * math.pi), rel=1e-5)


def test_two_values_are_known_by_their_moments():
    rng = np.random.default_rng(0)
    x = np.where(rng.random((500, 1)) < 0.3, 255.0, 0.0)
    grey = x.copy()
    grey[7] = 100.0
    for table, expected in ((x, True), (grey, False)):
        (column,) = read(table, types={"x0": "continuous"}).schema.columns
        assert two_valued(column) is expected


def test_families_follow_kinds_and_names():
    data = read({"a": [0.5, 1.5, 2.5], "n": [0, 1, 4], "b": [0, 1, 1], "k": ["u", "v", "w"]})

    def named(choice):
        return {name: family.name for name, family in families("likelihood", choice, data.schema).items()}

    assert list(named("auto").values()) == ["gaussian", "poisson", "bernoulli", "categorical"]
    assert named("n=gaussian")["n"] == named({"n": "gaussian"})["n"] == "gaussian"
    with pytest.raises(UsageError, match="'gamma' is not known"):
        named("n=gamma")
    with pytest.raises(UsageError, match="'z', which is not modelled"):
        named({"z": "poisson"})
    with pytest.raises(DataError, match="'b' is binary, which a gaussian"):
        Product("gaussian", data.schema)


@pytest.mark.parametrize(
    ("pixels", "family", "high"),
    [([0, 255], "bernoulli", 255), ([0, 90, 255], "continuous_bernoulli", 255),
     ([0, 0.5, 1], "continuous_bernoulli", 1),
     ([0, 1], "bernoulli", 1), ([0, 7, 16], "continuous_bernoulli", 16)],
)  # fmt: skip
def test_images_get_a_family_over_the_unit_interval(pixels, family, high):
    images = np.random.default_rng(0).choice(pixels, (60, 2, 3))
    schema = read(images.astype(float)).schema
    assert schema.shape == (2, 3)
    assert {f.name for f in families("likelihood", "auto", schema).values()} == {family}
    assert unit_intervals(schema.columns, image=True) == [(0.0, float(high))] * 6


def test_pairs_of_torch_are_what_is_compared_with():
    assert isinstance(
        GaussianLikelihood([Column("x", Kind.CONTINUOUS)]).distribution(torch.zeros(1, 1)), dist.Normal
    )
