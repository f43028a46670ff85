"""y ~ Binomial(N, p): p = σ(f) (logit), Φ(f) (probit) or 1 − exp(−e^f) (cloglog)."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ppl_models.errors import DataError
from ppl_models.regression.quadrature import binary_moments
from ppl_models.regression.responses.response import NumberResponse, RowTerms, whole


def log_chances(link: str, f: Tensor) -> tuple[Tensor, Tensor]:
    """Log p and log(1 − p) of a link."""
    if link == "logit":
        return logsigmoid(f), logsigmoid(-f)
    if link == "probit":
        return torch.special.log_ndtr(f), torch.special.log_ndtr(-f)
    rate = f.clamp_max(700.0).exp()
    return torch.log(-torch.expm1(-rate.clamp_min(1e-300))), -rate


@dataclass(frozen=True, eq=False)
class Binomial(NumberResponse):
    """Successes in a known number of trials; in one where no trials are given."""

    name: ClassVar[str] = "binomial"
    work: ClassVar[float] = 4.0
    links: ClassVar[tuple[str, ...]] = ("logit", "probit", "cloglog")
    discrete: ClassVar[bool] = True

    @classmethod
    def check(cls, y: Tensor, where: str, trials: Tensor | None = None) -> None:
        """Whole numbers from 0 to the trials."""
        whole(y, where, cls.name)
        most = torch.ones_like(y) if trials is None else trials
        if bool((y > most).any()):
            i = int((y > most).nonzero()[0])
            hint = "; name the column of the trials with --trials" if trials is None else ""
            raise DataError(f"{where} has {float(y[i]):g} successes in {float(most[i]):g} trials{hint}")

    def density(self, f: Tensor, y: Tensor, psi: tuple[Tensor, ...], trials: Tensor | None) -> Tensor:
        """Y log p + (N − y) log(1 − p) + log C(N, y)."""
        n = torch.ones_like(f) if trials is None else trials
        yes, no = log_chances(self.link, f)
        return _ways(y, n) + _times(y, yes) + _times(n - y, no)

    def row_terms(
        self, y: Tensor, mean: Tensor, cov: Tensor | None, trials: Tensor | None = None
    ) -> RowTerms:
        """Of the logit as `quadrature.binary_moments` has it."""
        if self.link != "logit" or cov is None:
            return super().row_terms(y, mean, cov, trials)
        n = torch.ones_like(y) if trials is None else trials
        softplus, p, slope = binary_moments(mean[:, 0], cov[:, 0, 0].clamp_min(0.0).sqrt())
        value = y * mean[:, 0] - n * softplus + _ways(y, n)
        return RowTerms(value, (y - n * p)[:, None], (n * slope)[:, None, None])

    def mean(self, f: Tensor, psi: Tensor) -> Tensor:
        """p: the mean of one trial."""
        return log_chances(self.link, f)[0].exp()

    def sample(self, f: Tensor, psi: Tensor, trials: Tensor | None = None) -> Tensor:
        """Successes."""
        n = torch.ones_like(f) if trials is None else trials.expand_as(f).to(f)
        return torch.binomial(n.contiguous(), self.mean(f, psi))

    def cdf(self, y: Tensor, f: Tensor, psi: Tensor, trials: Tensor | None = None) -> Tensor:
        """I_{1−p}(N − ⌊y⌋, ⌊y⌋ + 1), by SciPy."""
        from scipy.special import betainc

        n = torch.ones_like(f) if trials is None else trials.expand_as(f).to(f)
        p, count = self.mean(f, psi), y.floor().expand_as(f)
        inside = (count.clamp_min(0.0)).minimum(n - 1)
        found = torch.from_numpy(betainc((n - inside).numpy(), (inside + 1).numpy(), (1 - p).numpy()))
        return torch.where(count < 0, 0.0, torch.where(count >= n, 1.0, found))

    def start(self, y: Tensor, weight: Tensor, trials: Tensor | None = None) -> Tensor:
        """At the share of successes."""
        n = torch.ones_like(y) if trials is None else trials
        p = float((y @ weight + 0.5) / (n @ weight + 1.0))
        if self.link == "logit":
            f = math.log(p / (1 - p))
        elif self.link == "probit":
            f = float(torch.special.ndtri(torch.tensor(p, dtype=torch.float64)))
        else:
            f = math.log(-math.log1p(-p))
        return torch.tensor([f], dtype=torch.float64)


def _ways(y: Tensor, n: Tensor) -> Tensor:
    return torch.lgamma(n + 1) - torch.lgamma(y + 1) - torch.lgamma(n - y + 1)


def _times(count: Tensor, log_p: Tensor) -> Tensor:
    """Count × log p, and 0 where there is none, whatever p."""
    return torch.where(count == 0, torch.zeros_like(log_p), count * log_p.clamp_min(-1e300))
