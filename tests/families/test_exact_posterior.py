"""Every family in the exact log joint: its gradient, by Fisher's identity, against differences of values."""

import numpy as np
import pytest
import torch
from family_cases import CASES

import ppl_models as ppl
from ppl_models.data import Kind
from ppl_models.latent.unconstrained import ExactPosterior


def table(case, rows, missing=0.15):
    """A data set of the columns of a case."""
    x = case.rows(rows, seed=1, missing=missing).numpy()[3:]  # without an empty row
    if case.kind is Kind.CATEGORICAL:
        return ppl.read(
            {f"x{j}": [None if np.isnan(v) else "abcd"[int(v)] for v in x[:, j]] for j in range(3)}
        )
    return ppl.read(x, types=dict.fromkeys(("x0", "x1", "x2"), str(case.kind)))


def model_of(case, kind=ppl.GMM, **options):
    """A model with every column of the family, and the priors of the case."""
    priors = {name: getattr(case.priors, name) for name in case.family.fields.__dataclass_fields__}
    return kind(emission=case.family.name, **priors, **options)


@pytest.mark.parametrize("name", CASES)
def test_gradient_is_that_of_the_values(name):
    data = table(CASES[name], 25)
    joint = model_of(CASES[name], components=2).bind(data.schema)
    batch = joint.dataset_batch(data)
    S = joint.from_labels(batch, torch.arange(data.rows)[None] % 2)
    exact = ExactPosterior(joint.at(joint.learned(S)), batch)
    u = exact.space.point(joint.draw(S, 2))
    value, gradient = exact(u)
    theta, log_det = exact.space.theta(u)
    parts = joint.at(joint.learned(S))
    torch.testing.assert_close(value, parts.log_evidence(batch, theta) + parts.log_prior(theta) + log_det)
    for _ in range(2):
        step = 1e-5 * torch.randn_like(u)
        slope = (exact(u + step)[0] - exact(u - step)[0]) / 2
        torch.testing.assert_close((gradient * step).sum(1), slope, rtol=2e-5, atol=2e-8)
