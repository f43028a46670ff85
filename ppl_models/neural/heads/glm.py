"""What heads share whose posterior is a Gaussian by natural gradients, with ψ integrated out: see `heads`."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor

from ppl_models.draws import Draws
from ppl_models.neural.heads.features import Centred, FeatureRows
from ppl_models.neural.heads.head import INTERCEPT, Fitted, Head
from ppl_models.regression.design import Block
from ppl_models.regression.forms import Form, Full, from_params
from ppl_models.regression.glm import GLM
from ppl_models.regression.hyper import Surface, integrate
from ppl_models.regression.newton import fit_glm
from ppl_models.regression.priors import NormalPrior, WithIntercept
from ppl_models.regression.responses import NumberResponse, Response
from ppl_models.regression.rows import Batch

MODE = 10_000
"""Rows at random by which the scale is chosen, at most."""

LEFT = 1e-5
"""Nats a parameter that may be left to gain where ψ is integrated out."""


class GLMHead(Head):
    """A head whose target has a `Response`.

    Attributes:
        response: p(y | φ, ψ).
    """

    response: Response

    @property
    def psi(self) -> Tensor:
        """Where ψ starts, (q,)."""
        return self.response.psi if isinstance(self.response, NumberResponse) else torch.zeros(0).double()

    @property
    def dimension(self) -> int:
        """(d + 1) K + q."""
        return (self.features + 1) * self.response.outputs + len(self.psi)

    def glm(self, scale: float, centre: Tensor | None = None, response: Response | None = None) -> GLM:
        """The regression with a prior of this scale around a centre (d + 1, K), 0 if not given."""
        one = torch.ones(self.features, dtype=torch.float64)
        intercept: Any = NormalPrior(torch.tensor([INTERCEPT], dtype=torch.float64))
        predictors: Any = NormalPrior(scale * one)
        if centre is not None:
            predictors = Centred(predictors, centre[1:])
        return GLM(response or self.response, self.features + 1, WithIntercept(intercept, predictors))

    def log_prior_shared(self, psi: Tensor) -> Tensor:
        """Log p(ψ), (S,), for ψ (S, q)."""
        own = self.response
        return own.log_prior(psi) if isinstance(own, NumberResponse) else psi.new_zeros(len(psi))

    @abstractmethod
    def theta(self, points: Tensor) -> Draws:
        """θ of points (S, (d + 1) K + q): Φ row by row, and ψ."""

    @abstractmethod
    def points(self, theta: Draws) -> Tensor:
        """The way back."""

    @abstractmethod
    def outcomes(self, theta: Draws, Z: Tensor) -> Tensor:
        """Outputs (S, m, O) of rows, as those of a network."""

    @property
    def log_unit(self) -> float:
        """Nats a row that the density in the user's units is below that inside."""
        return 0.0

    def scaled(self, rows: FeatureRows, centre: Tensor | None) -> "_Scaled":
        """By natural gradients."""
        return _Scaled(self, rows, centre)

    def form(self, params: Mapping[str, Tensor]) -> Form:
        """The posterior over `points`."""
        return from_params({n: v for n, v in params.items() if n not in ("scale", "centre")})

    def draw(self, params: Mapping[str, Tensor], draws: int) -> Draws:
        """Coefficients φ, intercept first, and ψ."""
        return self.theta(self.form(params).draw(draws))

    def log_q(self, theta: Draws, params: Mapping[str, Tensor]) -> Tensor:
        """Of the Gaussian, or the mixture over ψ."""
        return self.form(params).log_prob(self.points(theta))

    def log_prior(self, theta: Draws, params: Mapping[str, Tensor]) -> Tensor:
        """Independent normals, and that of ψ."""
        points, d = self.points(theta), self.dimension - len(self.psi)
        B = points[:, :d].reshape(len(points), self.features + 1, -1)
        of_coefficients = self.glm(float(params["scale"]), params["centre"]).prior.log_prob(B)
        return of_coefficients + self.log_prior_shared(points[:, d:]) if len(self.psi) else of_coefficients

    def log_likelihood(self, theta: Draws, Z: Tensor, y: Tensor) -> Tensor:
        """In the user's units."""
        points, d = self.points(theta), self.dimension - len(self.psi)
        B = points[:, :d].reshape(len(points), self.features + 1, -1)
        psi = points[:, d:] if len(self.psi) else None
        found = self.glm(1.0).log_likelihood(B, Block(Z, y, None), psi)
        return found - self.log_unit if self.log_unit else found

    def predictive(self, theta: Draws, Z: Tensor, temperature: float) -> Any:
        """By the outputs."""
        return self.from_outputs(self.outcomes(theta, Z), temperature)

    def expected(self, rows: FeatureRows, loc: Tensor, covariance: Tensor, psi: Tensor) -> Tensor:
        """E_q[log p(y | Φ, ψ)] under Φ ~ N(loc, covariance), of one output; differentiable in ψ."""
        response = cast(NumberResponse, self.response).at(psi.detach())
        total = psi.new_zeros(())
        for block in rows.blocks():
            variance = ((block.Z @ covariance) * block.Z).sum(1).clamp_min(0.0)
            each = response.expected(block.y, block.Z @ loc, variance, tuple(psi), None)
            total = total + (each.sum() if block.weight is None else each @ block.weight)
        return total * rows.scale


class _Scaled:
    """Posteriors at any scale of the prior: at the mode to choose it by, then by natural gradients."""

    def __init__(self, head: GLMHead, rows: FeatureRows, centre: Tensor | None) -> None:
        K = head.response.outputs
        zero = torch.zeros(head.features + 1, K, dtype=torch.float64)
        self.head, self.rows, self.centre = head, rows, zero if centre is None else centre
        self.some = rows.some(MODE) if len(rows) > 2 * MODE else rows

    def worth(self, scale: float, judges: FeatureRows | None) -> float:
        """The score of held-out rows at the temperature that is best for them; or Laplace's evidence."""
        head, glm = self.head, self.head.glm(scale, self.centre)
        loc, precision = glm.map_start(cast(Batch, self.some))
        if judges is not None:
            theta = head.theta(torch.cat([loc, head.psi])[None])
            out, y = head.outcomes(theta, judges.Z), head.outside(judges.y)

            def score(T: float) -> float:
                return judges.mean(head.from_outputs(out, T).log_prob(y)[0])

            return score(head.temperature(score))
        B = loc.reshape(1, head.features + 1, -1)
        return float(glm.log_evidence(cast(Batch, self.some), B) + glm.prior.log_prob(B)) - float(
            torch.linalg.cholesky(precision).diagonal().log().sum()
        )

    def posterior(self, scale: float) -> Fitted:
        """One Gaussian; a mixture over ψ where there is one."""
        head, rows = self.head, cast(Batch, self.rows)
        if len(head.psi):
            response = cast(NumberResponse, head.response)
            surface = Surface(
                lambda psi: head.glm(scale, self.centre, response.at(psi)),
                cast(Any, head.expected), head.log_prior_shared, rows, LEFT, [],
            )  # fmt: skip
            form, elbo = integrate(surface, head.psi)
            converged = True
        else:
            found = fit_glm(head.glm(scale, self.centre), rows)
            form, elbo, converged = Full(found.loc, found.scale_tril), found.elbo, found.converged
        if head.log_unit:
            rows_of = self.rows
            elbo -= head.log_unit * float(len(rows_of) if rows_of.weight is None else rows_of.weight.sum())
        params = form.params | {"scale": torch.tensor([scale], dtype=torch.float64), "centre": self.centre}
        return Fitted(params, elbo, converged)
