"""Rubin's rules: one answer from the answers of several completed tables."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ppl_models.errors import UsageError


class Pooled(NamedTuple):
    """What m completed tables say of a quantity together; arrays of the shape of one estimate.

    Attributes:
        estimate: the mean of the estimates.
        standard_error: √T.
        within: Ū, the mean of the variances.
        between: B, the variance of the estimates.
        dof: degrees of freedom of the t distribution that (estimate − truth) / √T has.
        fraction_missing: γ, the share of the information that is missing.
    """

    estimate: np.ndarray
    standard_error: np.ndarray
    within: np.ndarray
    between: np.ndarray
    dof: np.ndarray
    fraction_missing: np.ndarray

    def interval(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """The ends of the interval of this probability.

        Raises:
            UsageError: the level is not between 0 and 1.
        """
        from scipy.stats import t

        if not 0 < level < 1:
            raise UsageError(f"level must be between 0 and 1, got {level}")
        half = t.ppf((1 + level) / 2, self.dof) * self.standard_error
        return self.estimate - half, self.estimate + half


def pool(
    estimates: Sequence[object] | np.ndarray, variances: Sequence[object] | np.ndarray, dof: float = np.inf
) -> Pooled:
    """Combine the estimates from m completed tables, such as those of `fit.impute(copies=m)`.

        Q̄ = Σ Q_i / m,   Ū = Σ U_i / m,   B = Σ (Q_i − Q̄)² / (m − 1),   T = Ū + (1 + 1/m) B
        (Q − Q̄) / √T ~ t_ν,   1/ν = 1/ν_m + 1/ν_obs,   ν_m = (m − 1) / λ²,   λ = (1 + 1/m) B / T
        ν_obs = (1 − λ) ν_com (ν_com + 1) / (ν_com + 3)
        γ = (r + 2 / (ν + 3)) / (r + 1),   r = (1 + 1/m) B / Ū

    (Rubin 1987, Multiple Imputation for Nonresponse in Surveys, §3.3; Barnard & Rubin 1999, Biometrika 86,
    https://doi.org/10.1093/biomet/86.4.948, for the degrees of freedom in small samples.)

    Args:
        estimates: Q_1 … Q_m, numbers or arrays of one shape.
        variances: U_1 … U_m, squares of their standard errors, of the same shape.
        dof: ν_com, degrees of freedom that the estimate would have in a complete table: n − p of a
            regression.

    Raises:
        UsageError: fewer than two, of different shapes, or variances that are negative.

    Example:
        >>> found = pool([1.0, 2.0, 3.0], [0.5, 0.5, 0.5])
        >>> float(found.estimate), round(float(found.standard_error) ** 2, 4), round(float(found.dof), 2)
        (2.0, 1.8333, 3.78)
    """
    try:
        Q, U = np.asarray(estimates, dtype=float), np.asarray(variances, dtype=float)
    except (TypeError, ValueError):
        raise UsageError("estimates and variances must be numbers, or arrays of one shape") from None
    if Q.shape != U.shape or Q.ndim < 1 or len(Q) < 2:
        raise UsageError(
            f"pool needs two or more estimates with as many variances, got shapes {Q.shape} and {U.shape}"
        )
    if (U < 0).any():
        raise UsageError("variances must not be negative; they are squares of standard errors")
    if not dof > 0:
        raise UsageError(f"dof must be above 0, got {dof}")
    m = len(Q)
    within, between = U.mean(0), Q.var(0, ddof=1)
    total = within + (1 + 1 / m) * between
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(total > 0, (1 + 1 / m) * between / total, 0.0)
        inverse = share**2 / (m - 1)
        if np.isfinite(dof):
            inverse = inverse + 1 / ((1 - share) * dof * (dof + 1) / (dof + 3))
        freedom = 1 / inverse
        ratio = (1 + 1 / m) * between / within
        missing = np.where(np.isfinite(ratio), (ratio + 2 / (freedom + 3)) / (ratio + 1), 1.0)
    missing = np.where(between > 0, missing, 0.0)
    return Pooled(Q.mean(0), np.sqrt(total), within, between, freedom, missing)
