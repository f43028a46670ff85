"""Sums over the rows of a regression, of which several processes have a part."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ppl_models.distributed import Share
from ppl_models.regression.glm import GLM
from ppl_models.regression.priors import NormalPrior, WithIntercept
from ppl_models.regression.responses import NumberResponse, Response
from ppl_models.regression.rows import Batch


def expected(glm: GLM, batch: Batch, B: Tensor, sigma: Tensor, psi: Tensor) -> Tensor:
    """Σ_n w_n E_q[log p(y_n | f_n, ψ)] of the rows that are here, differentiable in ψ.

    Args:
        glm: with one output.
        batch: the rows.
        B: mean of the coefficients, (p + 1, 1).
        sigma: their covariance, (p + 1, 1, p + 1, 1).
        psi: of the response, (q,).
    """
    total, response = psi.new_zeros(()), glm.response
    assert isinstance(response, NumberResponse)
    for block in glm.parts(batch):
        mean = block.predictor(block.Z @ B)[:, 0]
        variance = glm.spread(block.Z, sigma)[:, 0, 0].clamp_min(0.0)
        each = response.at(psi.detach()).expected(block.y, mean, variance, tuple(psi), block.trials)
        total = total + (each.sum() if block.weight is None else each @ block.weight)
    return total


def share_of(response: Response, batch: Batch) -> Share:
    """What can be summed over some rows, at parameters that are given.

    Args:
        response: p(y | f, ψ), of whatever ψ.
        batch: the rows, by their blocks.
    """
    width = next(iter(batch.blocks())).Z.shape[1]
    none = NormalPrior(torch.ones(1, dtype=torch.float64))  # the prior is no sum over rows

    def glm(given: Mapping[str, Tensor]) -> GLM:
        psi = given.get("psi")
        own = (
            response.at(psi)
            if isinstance(response, NumberResponse) and psi is not None and psi.dim() == 1
            else response
        )
        return GLM(own, width, WithIntercept(none, none))

    def likelihood(given: Mapping[str, Tensor], concave: bool = False) -> dict[str, Tensor]:
        found = glm(given).sums(batch, given["B"], given.get("sigma"), concave)
        return dict(zip(("log_p", "gradient", "curvature"), found, strict=True))

    def concave(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return likelihood(given, concave=True)

    def evidence(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        psi = given.get("psi")
        psi = psi if psi is not None and psi.dim() == 2 else None
        return {"evidence": glm(given).log_evidence(batch, given["B"], psi)}

    def expectation(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        with torch.enable_grad():
            psi = given["psi"].clone().requires_grad_()
            value = expected(glm(given), batch, given["B"], given["sigma"], psi)
            (gradient,) = torch.autograd.grad(value, psi)
        return {"value": value.detach(), "gradient": gradient}

    def gram(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return batch.gram._asdict()

    return {
        "likelihood": likelihood,
        "concave": concave,
        "evidence": evidence,
        "expected": expectation,
        "gram": gram,
    }
