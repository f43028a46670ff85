"""The densities in NumPyro, from their definitions, sharing no code with the package.

Discrete latents are summed out. Sites are in the units the priors are in; `user` gives the user's.
"""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd

from references.cases import Case

Draws = dict[str, np.ndarray]
"""Variables by name, each (chain, draw, ...)."""


@dataclass
class Posterior:
    """What the sampler needs of a case.

    Attributes:
        model: the density as a NumPyro program without arguments.
        joint: the density that `sites` are scored by; the model itself unless that is not centred.
        sites: the names of the parameters of `joint`.
        key: the variable of the user's that components are ordered by, first to last; None for none.
        names: the columns that coefficients are of.
    """

    model: Any
    user: Any
    sites: tuple[str, ...]
    joint: Any = None
    key: str | None = None
    names: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.joint = self.joint or self.model


def posterior(case: Case) -> Posterior:
    """The posterior of a case."""
    build = {"gmm": mixture, "hmm": chain, "logistic": regression, "glm": generalised}[case.model]
    return build(case, case.frame())


# Emissions


def gaussian(frame: pd.DataFrame, K: int, variance: float) -> tuple[Any, Any]:
    """Λ_k ~ Wishart(ν₀, (ν₀ s² C)⁻¹), μ_k | Λ_k ~ N(0, (κ₀ Λ_k)⁻¹), of standardised columns.

    κ₀ = 0.01, ν₀ = D + 2, s² as given, C the correlation of all rows with 0.99 of what is off its
    diagonal. In one column Wishart(ν₀, 1/(ν₀ s²)) is Gamma(ν₀/2, ν₀ s²/2).
    """
    x = frame.to_numpy(float)
    centre, scale = x.mean(0), x.std(0)
    z = (x - centre) / scale
    D = z.shape[1]
    dof = D + 2.0
    C = 0.99 * np.corrcoef(z.T).reshape(D, D) + 0.01 * np.eye(D)

    def log_density() -> jax.Array:
        """log p(x_n | k), (n, K)."""
        with numpyro.plate("component", K):
            if D == 1:
                gamma = dist.Gamma(dof / 2, dof * variance / 2).expand([1]).to_event(1)
                precision = numpyro.sample("precision", gamma)
                mean = numpyro.sample("mean", dist.Normal(0.0, (0.01 * precision) ** -0.5).to_event(1))
                normal = dist.Normal(mean, precision**-0.5).to_event(1)
            else:
                precision = numpyro.sample("precision", dist.Wishart(dof, rate_matrix=dof * variance * C))
                prior = dist.MultivariateNormal(jnp.zeros(D), precision_matrix=0.01 * precision)
                mean = numpyro.sample("mean", prior)
                normal = dist.MultivariateNormal(mean, precision_matrix=precision)
        return normal.log_prob(z[:, None]) - np.log(scale).sum()

    def user(s: Draws) -> Draws:
        mean = centre + scale * s["mean"]
        if D == 1:
            return {"mean": mean, "sd": scale * s["precision"] ** -0.5}
        covariance = np.linalg.inv(s["precision"])
        sd = np.sqrt(np.diagonal(covariance, axis1=-2, axis2=-1))
        correlation = covariance[..., 0, 1] / sd[..., 0] / sd[..., 1]
        return {"mean": mean, "sd": scale * sd, "correlation": correlation}

    return log_density, user


def poisson(frame: pd.DataFrame, K: int) -> tuple[Any, Any]:
    """x | k ~ Poisson(x̄ r_k), r_k ~ Gamma(1, 1)."""
    x = frame.to_numpy(float)
    mean = x.mean(0)

    def log_density() -> jax.Array:
        with numpyro.plate("component", K):
            rate = numpyro.sample("rate", dist.Gamma(1.0, 1.0).expand([1]).to_event(1))
        return dist.Poisson(mean * rate).to_event(1).log_prob(x[:, None])

    return log_density, lambda s: {"rate": mean * s["rate"]}


# Models


def mixture(case: Case, frame: pd.DataFrame) -> Posterior:
    """w ~ Dirichlet(1), p(x_n) = Σ_k w_k p(x_n | k)."""
    K = case.fields["components"]
    log_density, user = gaussian(frame, K, case.fields["state_variance"])

    def model() -> None:
        weight = numpyro.sample("weight", dist.Dirichlet(jnp.ones(K)))
        numpyro.factor("x", jax.nn.logsumexp(jnp.log(weight) + log_density(), -1).sum())

    return Posterior(
        model, lambda s: {"weight": s["weight"], **user(s)}, ("weight", "precision", "mean"), key="mean"
    )


def chain(case: Case, frame: pd.DataFrame) -> Posterior:
    """π and the rows of A ~ Dirichlet(1), p(x) = πᵀ B_1 A B_2 A … B_T 1 with B_t = diag p(x_t | k)."""
    K = case.fields["states"]
    counts = all(kind.kind == "i" for kind in frame.dtypes)
    log_density, user = poisson(frame, K) if counts else gaussian(frame, K, case.fields["state_variance"])

    def model() -> None:
        start = numpyro.sample("start", dist.Dirichlet(jnp.ones(K)))
        with numpyro.plate("from", K):
            transition = numpyro.sample("transition", dist.Dirichlet(jnp.ones(K)))
        log_b = log_density()
        most = log_b.max(-1, keepdims=True)
        b = jnp.exp(log_b - most)
        first = jnp.log(start * b[0])
        product, log_scale = multiply(transition * b[1:, None])
        ends = jax.nn.logsumexp(first + jnp.log(product.sum(-1)))
        numpyro.factor("x", ends + log_scale + most.sum())

    sites = ("start", "transition", *(("rate",) if counts else ("precision", "mean")))
    key = "rate" if counts else "mean"
    return Posterior(
        model,
        lambda s: {"start": s["start"], "transition": s["transition"], **user(s)},
        sites,
        key=key,
    )


def multiply(matrices: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(T, K, K) -> their product in order, (K, K), over e^s, and s: pairs, then pairs of pairs."""
    log_scale = jnp.zeros(())
    while len(matrices) > 1:
        odd = matrices[-1:] if len(matrices) % 2 else matrices[:0]
        pairs = matrices[: len(matrices) // 2 * 2]
        pairs = pairs[::2] @ pairs[1::2]
        size = pairs.sum((-1, -2), keepdims=True)
        log_scale = log_scale + jnp.log(size).sum()
        matrices = jnp.concatenate([pairs / size, odd])
    return matrices[0], log_scale


def regression(case: Case, frame: pd.DataFrame) -> Posterior:
    """y_n ~ softmax(0, α + z_nᵀ B), α ~ N(0, 10² M), rows of B by the prior, M = (I + 11ᵀ)/2.

    Columns are standardised with divisor n. normal: b_j ~ N(0, 2.5² M). student_t: b_j ~ t_4(0, 2.5² M).
    horseshoe (Piironen & Vehtari 2017, Sparsity information and regularization in the horseshoe and other
    shrinkage priors, https://doi.org/10.1214/17-EJS1337SI): b_j ~ N(0, τ² c² λ_j²/(c² + τ² λ_j²)),
    λ_j ~ C⁺(1), τ ~ C⁺(τ₀), τ₀ = p₀/(p − p₀) · 2/√n, c² ~ InvGamma(2, 2 · 2.5²).
    """
    assert case.target is not None
    levels, y = np.unique(frame[case.target].to_numpy(), return_inverse=True)
    predictors = [name for name in frame.columns if name != case.target]
    names = list(case.columns or predictors)
    X = np.stack([frame[name.split(":")].to_numpy(float).prod(1) for name in names], 1)
    centre, scale = X.mean(0), X.std(0)
    Z = (X - centre) / scale
    n, p = Z.shape
    J = len(levels) - 1
    M = (np.eye(J) + 1) / 2
    kind = case.fields.get("prior", "normal")

    def coefficients(centred: bool) -> jax.Array:
        zero, root = jnp.zeros(J), 2.5 * np.linalg.cholesky(M)
        if kind == "horseshoe":
            return horseshoe(p, n, case.fields["expected_nonzero"], centred)[:, None]
        with numpyro.plate("column", p):
            if kind == "student_t":
                return numpyro.sample("coefficient", dist.MultivariateStudentT(4.0, zero, root))
            return numpyro.sample("coefficient", dist.MultivariateNormal(zero, scale_tril=root))

    def model(centred: bool = False) -> None:
        intercept = numpyro.sample("intercept", dist.MultivariateNormal(jnp.zeros(J), 100 * M))
        f = intercept + Z @ coefficients(centred)
        logits = jnp.concatenate([jnp.zeros((n, 1)), f], 1)
        numpyro.factor("y", dist.Categorical(logits=logits).log_prob(y).sum())

    def user(s: Draws) -> Draws:
        b, alpha = s["coefficient"].reshape(*s["intercept"].shape[:2], p, J), s["intercept"]
        beta = b / scale[:, None]
        f = alpha[:, :, None] + np.einsum("np,cdpj->cdnj", Z[:5], b)
        odds = np.exp(np.concatenate([np.zeros_like(f[..., :1]), f], -1))
        return {
            "intercept": alpha - np.einsum("p,cdpj->cdj", centre, beta),
            "coefficient": beta,
            "probability": odds / odds.sum(-1, keepdims=True),
        }

    sites = (
        "intercept",
        "coefficient",
        *(("local_scale", "global_scale", "slab") if kind == "horseshoe" else ()),
    )
    return Posterior(model, user, sites, joint=lambda: model(centred=True), names=names)


def generalised(case: Case, frame: pd.DataFrame) -> Posterior:
    """A number, count or ordered label: f = α + Zβ + u_g + v_g z, α ~ N(0, 10²), β ~ N(0, 2.5²).

    normal: (y − ȳ)/s ~ N(f, σ²), σ ~ Exponential(1). Ordered: P(y ≤ k) = logistic(c_k − f), c_0 = 0, log gaps
    ~ N(0, 1). u ~ N(0, τ₁²), v ~ N(0, τ₂²), τ ~ half-normal(1), of the standardised x.
    """
    assert case.target is not None
    family, grouped = case.fields.get("family", "normal"), "|" in case.fields.get("formula", "")
    y = frame[case.target].to_numpy(float)
    names = list(case.columns or [c for c in frame.columns if c != case.target])
    X = frame[names].to_numpy(float)
    two = np.array([len(np.unique(x)) == 2 for x in X.T])  # whose unit is the difference of their values
    centre, scale = X.mean(0), np.where(two, 1.0, X.std(0))
    Z = (X - centre) / scale
    shift, unit = (y.mean(), y.std()) if family == "normal" else (0.0, 1.0)
    slopes = "1 + x" in case.fields.get("formula", "")
    levels, g = np.unique(frame["g"], return_inverse=True) if grouped else ([], np.zeros(len(y), int))

    def model() -> None:
        alpha = numpyro.sample("intercept", dist.Normal(0.0, 10.0))
        with numpyro.plate("column", Z.shape[1]):
            beta = numpyro.sample("coefficient", dist.Normal(0.0, 2.5))
        f = alpha + Z @ beta
        if grouped:
            with numpyro.plate("term", 1 + slopes):
                tau = numpyro.sample("group_sd", dist.HalfNormal(1.0))
            direction = numpyro.sample(
                "direction", dist.Normal(jnp.zeros((1 + slopes, len(levels))), 1.0).to_event(2)
            )
            u = numpyro.deterministic("group", tau[:, None] * direction)
            f = f + u[0][g] + (u[1][g] * Z[:, 0] if slopes else 0.0)
        if family == "normal":
            sigma = numpyro.sample("sigma", dist.Exponential(1.0))
            numpyro.factor("y", dist.Normal(f, sigma).log_prob((y - shift) / unit).sum())
        elif family == "poisson":
            numpyro.factor("y", dist.Poisson(jnp.exp(f)).log_prob(y).sum())
        else:
            gaps = numpyro.sample("gap", dist.LogNormal(jnp.zeros(int(y.max()) - 1), 1.0).to_event(1))
            cuts = jnp.concatenate([jnp.zeros(1), jnp.cumsum(gaps)])
            numpyro.factor("y", dist.OrderedLogistic(f, cuts).log_prob(y.astype(int)).sum())

    def user(s: Draws) -> Draws:
        beta = s["coefficient"] / scale * unit
        found = {"intercept": shift + unit * s["intercept"] - beta @ centre, "coefficient": beta}
        if family == "normal":
            found["sigma"] = s["sigma"] * unit
        if family == "ordinal":
            found["cutpoint"] = np.concatenate([np.zeros_like(s["gap"][..., :1]), s["gap"].cumsum(-1)], -1)[
                ..., 1:
            ]
        if grouped:
            found["group_sd"] = s["group_sd"] * unit / np.array([1.0, scale[0]])[: 1 + slopes]
            found["1|g"] = s["group"][:, :, 0] * unit
        return found

    own = {"normal": ("sigma",), "ordinal": ("gap",)}.get(family, ())
    sites = ("intercept", "coefficient", *own, *(("group_sd", "direction") if grouped else ()))
    return Posterior(model, user, sites, names=names)


def horseshoe(p: int, n: int, nonzero: float, centred: bool) -> jax.Array:
    """The coefficients; not centred, they are products of independent sites."""
    tau0 = nonzero / (p - nonzero) * 2 / np.sqrt(n)
    tau = numpyro.sample("global_scale", dist.HalfCauchy(tau0))
    slab = numpyro.sample("slab", dist.InverseGamma(2.0, 2 * 2.5**2))
    with numpyro.plate("column", p):
        local = numpyro.sample("local_scale", dist.HalfCauchy(1.0))
        sd = jnp.sqrt(slab * tau**2 * local**2 / (slab + tau**2 * local**2))
        if centred:
            return numpyro.sample("coefficient", dist.Normal(0.0, sd))
        return numpyro.deterministic("coefficient", sd * numpyro.sample("direction", dist.Normal(0.0, 1.0)))
