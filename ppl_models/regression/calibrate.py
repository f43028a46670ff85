"""Calibration of regressions: the Gaussian that was trained, its draws moved where weights will not do."""

import torch
from torch import Tensor

from ppl_models.data import Dataset
from ppl_models.inference.calibration import (
    CHAINS,
    DIMENSIONS,
    MOVE_WORK,
    ROUNDS,
    Calibrated,
    Learned,
    number_of_draws,
    restored_guide,
    weigh,
)
from ppl_models.inference.moves import move
from ppl_models.inference.psis import smooth
from ppl_models.regression.bound import Regression
from ppl_models.regression.density import LogJoint
from ppl_models.regression.quadrature import safe_cholesky
from ppl_models.regression.rows import Batch
from ppl_models.threads import threads_for


def _by_weight(bound: Regression, learned: Learned, batch: Batch, points: Tensor) -> Tensor:
    """Draws of a guide drawn again by their importance weights, (S, d)."""
    theta = bound.theta(points)
    log_p = bound.log_evidence(batch, theta) + bound.log_prior(theta)
    weight = torch.from_numpy(smooth((log_p - learned.log_prob(theta)).numpy()).log_weight).exp()
    return points[torch.multinomial(weight, len(points), replacement=True)]


def calibrate(bound: Regression, learned: Learned, data: Dataset, seed: int) -> Calibrated:
    """As it was trained, unless weights will not do and the data is small.

    Args:
        bound: the regression.
        learned: the Gaussian that training left.
        data: the rows of the fit.
        seed: of the fit; torch's global generator is left as it was.

    Returns:
        `Gaussian`, `Markov chains` (where training has made draws) or `moved`.
    """
    d, each = bound.parameters, data.rows * bound.response.width
    as_it_is = restored_guide(bound, "Gaussian", learned.params, {})
    if as_it_is.draws is not None or d > DIMENSIONS or each * CHAINS * 4 * 16 > MOVE_WORK:
        return as_it_is
    with torch.random.fork_rng(devices=[]), threads_for(each * CHAINS):
        torch.manual_seed(seed + 3)
        batch = bound.dataset_batch(data)
        if weigh(bound, batch, learned, number_of_draws(bound, data), seed).good:
            return as_it_is
        joint = LogJoint(bound, batch)
        start = bound.form(learned.params).draw(20 * d + CHAINS)
        if bound.shared:  # a few far draws of ψ would decide the covariance
            start = joint.round(_by_weight(bound, learned, batch, start))
        covariance = torch.cov(start.T).reshape(d, d)
        sd = covariance.diagonal().sqrt()
        if not bool((sd > 0).all()):  # a single draw has all the weight, as where nothing is left over
            return as_it_is
        scale_tril = sd[:, None] * safe_cholesky(covariance / (sd * sd[:, None]))
        moved = move(joint.rounded if bound.shared else joint, start[:CHAINS], scale_tril, most=ROUNDS)
    memory = torch.tensor([moved.memory, moved.limit], dtype=torch.float64)
    return restored_guide(
        bound, "moved", learned.params, {"points": joint.back(moved.points), "memory": memory}
    )
