"""The E step for any emission, on any device: densities of a chunk of rows, marginals, statistics."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ppl_models.kernels.backend import Backend, chunk, width


class Generic(Backend):
    """Chunk by chunk through the latents and the emissions; all other backends are tested against it."""

    def expect(self, natural: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Backend`."""
        problem = self.problem
        found: dict[str, Tensor] = {}

        def consume(at: slice | None, gamma: Tensor | None) -> None:
            if at is None or gamma is None:
                found.clear()
                return
            for i, emission in enumerate(problem.emissions):
                name = emission.name
                part = emission.statistics(problem.features(i, at), gamma, natural[name])
                found[name] = found[name] + part if name in found else part

        sets = next(iter(natural.values())).shape[0]
        size = chunk(sets, problem.states, width(problem.emissions))
        density = problem.density(natural)
        evidence, own = problem.latents.expect(density, natural, problem.rows, consume, problem.work, size)
        return evidence, {**own, **found}

    def evidence(self, natural: Mapping[str, Tensor]) -> Tensor:
        """See `Backend`."""
        problem, weight = self.problem, self.problem.rows.weight
        log_c, _ = problem.latents.log_predictive(problem.density(natural), natural, problem.rows)
        each = log_c if weight is None else log_c * torch.as_tensor(weight).to(log_c)
        return each.sum(-1)
