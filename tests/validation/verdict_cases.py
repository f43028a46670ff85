"""Fits of which it is known whether they are to be trusted, and what the verdict said: the confusion matrix.

    python -m tests.validation.verdict_cases [NAME …]    # prints the tables of docs/trust.md

A case is right or wrong by how its data were made (by the model that is fitted, or by another), or by its
draws against a posterior that is known otherwise (in closed form or by quadrature): means within 0.3 sds, sds
within a third. So a wrong guide whose draws were put right counts as right.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import torch

import ppl_models as ppl
from ppl_models.errors import PplError

Truth = Literal["right", "wrong"]

KNOWN = 0.3, 4 / 3
"""Sds by which a mean, and the factor by which an sd, may be off."""


class Case(NamedTuple):
    """One fit.

    Attributes:
        name: of it.
        about: what it is, in a few words.
        fit: makes it.
        truth: whether it is to be trusted; or a function that says so of the fit.
    """

    name: str
    about: str
    fit: Callable[[], Any]
    truth: Truth | Callable[[Any], Truth]


CASES: list[Case] = []


def case(about: str, truth: Any):
    """A decorator: the case of this name."""

    def add(function: Callable[[], Any]) -> Callable[[], Any]:
        CASES.append(Case(function.__name__, about, function, truth))
        return function

    return add


def draws(**reference: tuple[float, float]) -> Callable[[Any], Truth]:
    """Right if mean and sd of sites (single numbers) are those of a posterior that is known."""

    def truth(fit: Any) -> Truth:
        values = fit.bound.values(fit.posterior_draws.theta)
        for name, (mean, sd) in reference.items():
            x = values[name].numpy()
            far, ratio = abs(x.mean() - mean) / sd, x.std() / sd
            if far > KNOWN[0] or not 1 / KNOWN[1] < ratio < KNOWN[1]:
                return "wrong"
        return "right"

    return truth


def quantiles(name: str, reference: tuple[float, float, float]) -> Callable[[Any], Truth]:
    """Right if the 10, 50 and 90 % points of a site are within a tenth of their distance of known ones."""

    def truth(fit: Any) -> Truth:
        x = fit.bound.values(fit.posterior_draws.theta)[name].numpy()
        off = np.abs(np.quantile(x, [0.1, 0.5, 0.9]) - reference)
        return "right" if off.max() < 0.1 * (reference[2] - reference[0]) else "wrong"

    return truth


def rng(seed: int) -> np.random.Generator:
    """Of the data of a case."""
    return np.random.default_rng(seed)


def labels(yes: np.ndarray) -> np.ndarray:
    """Two classes."""
    return np.where(yes, "yes", "no")


def chain(seed: int, length: int, stay: float = 0.9) -> np.ndarray:
    """States 0 and 1 of a chain."""
    moves = rng(seed).random(length) > stay
    return np.cumsum(moves) % 2


# Data from the model that is fitted


@case("mixture of 2, apart", "right")
def gmm_apart():
    z = rng(1).random(300) < 0.4
    x = rng(2).normal(np.where(z, 8.0, 0.0), np.where(z, 1.0, 1.5))
    return ppl.fit(ppl.GMM(components=2), pd.DataFrame({"x": x}))


@case("mixture of 2 that overlap", "right")
def gmm_overlap():
    z = rng(3).random(400) < 0.4
    x = rng(4).normal(np.where(z, 2.8, 0.0), np.where(z, 0.8, 1.0))
    return ppl.fit(ppl.GMM(components=2), pd.DataFrame({"x": x}))


@case("mixture of 3 in the plane", "right")
def gmm_plane():
    z = rng(5).integers(0, 3, 400)
    x = rng(6).normal(np.array([[0, 0], [5, 0], [0, 5]])[z], 1.0)
    return ppl.fit(ppl.GMM(components=3), pd.DataFrame(x, columns=["a", "b"]))


@case("mixture of counts", "right")
def gmm_counts():
    z = rng(7).random(300) < 0.5
    return ppl.fit(ppl.GMM(components=2), pd.DataFrame({"n": rng(8).poisson(np.where(z, 3.0, 15.0))}))


@case("mixture, a fifth of the cells missing", "right")
def gmm_missing():
    z = rng(9).random(300) < 0.5
    x = rng(10).normal(np.where(z, 4.0, 0.0)[:, None], 1.0, (300, 2))
    x[rng(11).random(x.shape) < 0.2] = np.nan
    return ppl.fit(ppl.GMM(components=2), pd.DataFrame(x, columns=["a", "b"]))


@case("mixture of Student-t on heavy tails", "right")
def gmm_student():
    z = rng(12).random(500) < 0.5
    x = np.where(z, 10.0, 0.0) + rng(13).standard_t(3, 500)
    return ppl.fit(ppl.GMM(components=2, emission="student_t"), pd.DataFrame({"x": x}))


@case("mixture as a classifier", "right")
def gmm_classes():
    z = rng(14).random(200) < 0.5
    x = rng(15).normal(np.where(z, 2.0, 0.0)[:, None], 1.0, (200, 2))
    return ppl.fit(ppl.GMM(components=1), pd.DataFrame(x, columns=["a", "b"]).assign(y=labels(z)), target="y")


@case("chain of 2 states", "right")
def hmm_two():
    z = chain(16, 400)
    x = rng(17).normal(np.where(z, 3.0, 0.0), 1.0)
    return ppl.fit(ppl.HMM(states=2), pd.DataFrame({"x": x}))


@case("chain of 2 states that overlap", "right")
def hmm_overlap():
    z = chain(18, 500)
    x = rng(19).normal(np.where(z, 1.5, 0.0), np.where(z, 1.2, 1.0))
    return ppl.fit(ppl.HMM(states=2), pd.DataFrame({"x": x}))


@case("chain of counts", "right")
def hmm_counts():
    z = chain(20, 300)
    return ppl.fit(ppl.HMM(states=2), pd.DataFrame({"n": rng(21).poisson(np.where(z, 9.0, 3.0))}))


@case("logistic regression", "right")
def logistic():
    x = rng(22).normal(size=(200, 3))
    y = rng(23).random(200) < 1 / (1 + np.exp(-(x @ [1.0, -1.0, 0.0])))
    return ppl.fit(ppl.Logistic(), pd.DataFrame(x, columns=list("abc")).assign(y=labels(y)), target="y")


@case("logistic regression of 30 rows", "right")
def logistic_few():
    x = rng(24).normal(size=30)
    y = rng(25).random(30) < 1 / (1 + np.exp(-x))
    return ppl.fit(ppl.Logistic(), pd.DataFrame({"x": x, "y": labels(y)}), target="y")


@case("logistic regression of 3 classes", "right")
def multinomial():
    x = rng(26).normal(size=(300, 2))
    f = np.stack([np.zeros(300), x @ [1.0, 0.5], x @ [-1.0, 1.0]], 1)
    y = (f + rng(27).gumbel(size=f.shape)).argmax(1)
    return ppl.fit(
        ppl.Logistic(), pd.DataFrame(x, columns=["a", "b"]).assign(y=np.array(list("uvw"))[y]), target="y"
    )


def regressed(
    family: str, seed: int, draw: Callable[[np.ndarray, np.random.Generator], np.ndarray], **fields: Any
):
    """A regression of 200 rows on two columns."""
    x = rng(seed).normal(size=(200, 2))
    y = draw(x @ [0.6, -0.4], rng(seed + 1))
    return ppl.fit(
        ppl.GLM(family=family, **fields), pd.DataFrame(x, columns=["a", "b"]).assign(y=y), target="y"
    )


@case("linear regression", "right")
def glm_normal():
    return regressed("normal", 30, lambda f, r: 3 + f + 0.5 * r.normal(size=200))


@case("Poisson regression", "right")
def glm_poisson():
    return regressed("poisson", 32, lambda f, r: r.poisson(np.exp(1 + f)))


@case("negative binomial regression", "right")
def glm_negative_binomial():
    return regressed("negative_binomial", 34, lambda f, r: r.poisson(np.exp(1 + f) * r.gamma(2, 0.5, 200)))


@case("Student-t regression on heavy tails", "right")
def glm_student():
    return regressed("student_t", 36, lambda f, r: f + 0.3 * r.standard_t(3, 200))


@case("gamma regression", "right")
def glm_gamma():
    return regressed("gamma", 38, lambda f, r: np.exp(f) * r.gamma(3, 1 / 3, 200))


@case("ordinal regression", "right")
def glm_ordinal():
    return regressed("ordinal", 40, lambda f, r: np.digitize(f + r.logistic(size=200), [-1.0, 0.0, 1.0]))


@case("regression with intercepts by group", "right")
def glm_groups():
    g = np.repeat(np.arange(12), 20)
    y = rng(42).normal(size=12)[g] + rng(43).normal(size=240)
    return ppl.fit(ppl.GLM(formula="y ~ 1 + (1 | g)"), pd.DataFrame({"y": y, "g": [f"g{k}" for k in g]}))


@case("support vector machine", "right")
def svm():
    x = rng(44).normal(size=(200, 2))
    y = rng(45).random(200) < 1 / (1 + np.exp(-2 * x[:, 0]))
    return ppl.fit(ppl.SVM(), pd.DataFrame(x, columns=["a", "b"]).assign(y=labels(y)), target="y")


def labelled(seed: int) -> pd.DataFrame:
    """400 rows of three columns and two classes."""
    x = rng(seed).normal(size=(400, 3))
    y = rng(seed + 1).random(400) < 1 / (1 + np.exp(-(2 * x[:, 0] - x[:, 1])))
    return pd.DataFrame(x, columns=list("abc")).assign(y=labels(y))


def curve(seed: int) -> pd.DataFrame:
    """600 rows about a line in space."""
    z = rng(seed).normal(size=(600, 1))
    return pd.DataFrame(z * [1, -1, 1] + 0.3 * rng(seed + 1).normal(size=(600, 3)), columns=list("abc"))


@case("network for classes", "right")
def mlp():
    return ppl.fit(ppl.MLP(hidden=[16]), labelled(110), target="y")


@case("network for classes, 10 steps", "wrong")
def mlp_few_steps():
    return ppl.fit(ppl.MLP(hidden=[16]), labelled(110), target="y", steps=10)


@case("variational autoencoder", "right")
def vae():
    return ppl.fit(ppl.VAE(latent=1, hidden=[16]), curve(112))


@case("variational autoencoder, 10 steps", "wrong")
def vae_few_steps():
    return ppl.fit(ppl.VAE(latent=1, hidden=[16]), curve(112), steps=10)


def again(table: pd.DataFrame, unit: int = 1) -> pd.DataFrame:
    """Each row, or run of rows, 20 times; in that order."""
    at = np.arange(len(table)).reshape(-1, unit)
    return table.loc[np.repeat(at, 20, 0).ravel()].reset_index(drop=True)


def waves(seed: int, rows: int = 300) -> pd.DataFrame:
    """Waves of two kinds at twelve times."""
    y = rng(seed).random(rows) < 0.5
    x = np.sin(0.6 * np.arange(12) + 1.5 * y[:, None]) + rng(seed + 1).normal(scale=0.8, size=(rows, 12))
    return pd.DataFrame(x, columns=[f"t{i}" for i in range(12)]).assign(y=labels(y))


@case("convolutional network", "right")
def cnn():
    return ppl.fit(ppl.CNN(members=2), waves(200), target="y")


@case("convolutional network, 5 steps", "wrong")
def cnn_few_steps():
    return ppl.fit(ppl.CNN(members=2), waves(200), target="y", steps=5)


@case("convolutional network, each signal 20 times", "wrong")
def cnn_duplicated():
    return ppl.fit(ppl.CNN(members=2), again(waves(202, 20)), target="y")


def drifts(seed: int, number: int = 200) -> pd.DataFrame:
    """Sequences of eight rows that drift up or down."""
    walk, step = np.divmod(np.arange(8 * number), 8)
    y = (rng(seed).random(number) < 0.5)[walk]
    x = rng(seed + 1).normal(np.where(y, 0.3, -0.3) * step, 1.0)
    return pd.DataFrame({"walk": walk, "x": x, "y": labels(y)})


DRIFTS: dict[str, Any] = {"sequence": "walk", "target": "y"}


@case("recurrent network", "right")
def rnn():
    return ppl.fit(ppl.RNN(units=8, members=2), drifts(204), **DRIFTS)


@case("recurrent network, 5 steps", "wrong")
def rnn_few_steps():
    return ppl.fit(ppl.RNN(units=8, members=2), drifts(204), **DRIFTS, steps=5)


@case("recurrent network, each sequence 20 times", "wrong")
def rnn_duplicated():
    table = again(drifts(206, 15), 8)
    return ppl.fit(ppl.RNN(units=8, members=2), table.assign(walk=np.arange(len(table)) // 8), **DRIFTS)


def moons(seed: int, rows: int = 600) -> pd.DataFrame:
    """Rows about a bent line, and a label that hangs on where they are."""
    z = rng(seed).normal(size=rows)
    x = np.stack([z, 0.5 * z**2], 1) + 0.3 * rng(seed + 1).normal(size=(rows, 2))
    return pd.DataFrame(x, columns=["a", "b"]).assign(c=labels(z + 0.3 * rng(seed + 2).normal(size=rows) > 0))


@case("adversarial network", "right")
def gan():
    return ppl.fit(ppl.GAN(latent=4, hidden=[32, 32]), moons(208), batch_size=100)


@case("adversarial network, 20 steps", "wrong")
def gan_few_steps():
    return ppl.fit(ppl.GAN(latent=4, hidden=[32, 32]), moons(208), batch_size=100, steps=20)


@case("adversarial network, each row 20 times", "wrong")
def gan_duplicated():
    return ppl.fit(ppl.GAN(latent=4, hidden=[32, 32]), again(moons(211, 30)), batch_size=100, steps=100)


SMALL: dict[str, Any] = {"width": 16, "layers": 1, "heads": 2}


@case("transformer of a table", "right")
def transformer():
    return ppl.fit(ppl.Transformer(**SMALL), moons(214), batch_size=100)


@case("transformer of a table, 5 steps", "wrong")
def transformer_few_steps():
    return ppl.fit(ppl.Transformer(**SMALL), moons(214), batch_size=100, steps=5)


@case("transformer of a table, each row 20 times", "wrong")
def transformer_duplicated():
    return ppl.fit(ppl.Transformer(**SMALL), again(moons(217, 30)), batch_size=100)


# Programs, whose posteriors are known


@dataclass(frozen=True)
class Coin(ppl.PyroModel):
    """p ~ Beta(2, 2)."""

    def model(self, data):
        p = pyro.sample("p", dist.Beta(2.0, 2.0))
        with pyro.plate("rows", len(data)):
            pyro.sample("y", dist.Bernoulli(p), obs=data["y"])


FLIPS = pd.DataFrame({"y": ([1] * 13 + [0] * 27)})
BETA = 15 / 44, (15 * 29 / 44**2 / 45) ** 0.5


@case("coin", draws(p=BETA))
def coin():
    return ppl.fit(Coin(), FLIPS)


@dataclass(frozen=True)
class Centre(ppl.PyroModel):
    """mu ~ Normal(0, 10), rows about it with sd 1; `kind` is what goes wrong."""

    kind: str = ""

    def model(self, data):
        mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
        mean = twisted(mu, self.kind)
        with pyro.plate("rows", len(data)):
            pyro.sample("x", dist.Normal(mean, 1.0), obs=data["x"])


def twisted(value: torch.Tensor, kind: str) -> torch.Tensor:
    """A value whose gradient is another than it should be."""
    if kind == "no gradient":
        return value.detach()
    if kind == "sign":
        return 2 * value.detach() - value
    if kind == "tenfold":
        return 10 * value - 9 * value.detach()
    return value


def normal_posterior(x: np.ndarray) -> tuple[float, float]:
    """Mean and sd of `Centre.mu`."""
    precision = len(x) + 0.01
    return float(x.sum() / precision), precision**-0.5


ABOUT_5 = rng(50).normal(5.0, 1.0, 30)
MU = normal_posterior(ABOUT_5)


@case("mean of a normal", draws(mu=MU))
def mean():
    return ppl.fit(Centre(), pd.DataFrame({"x": ABOUT_5}))


@case("gradient of zero", draws(mu=MU))
def gradient_zero():
    return ppl.fit(Centre(kind="no gradient"), pd.DataFrame({"x": ABOUT_5}))


@case("gradient of the wrong sign", draws(mu=MU))
def gradient_sign():
    return ppl.fit(Centre(kind="sign"), pd.DataFrame({"x": ABOUT_5}))


@case("gradient ten times too large", draws(mu=MU))
def gradient_tenfold():
    return ppl.fit(Centre(kind="tenfold"), pd.DataFrame({"x": ABOUT_5}))


@dataclass(frozen=True)
class Guided(Centre):
    """With a guide that does not learn: at `at`, of this width."""

    at: float = 5.0
    width: float = 0.05

    def guide(self, data, fit=None):
        shift = pyro.param("shift", torch.zeros(()))
        pyro.sample("mu", dist.Normal(self.at + 0 * shift, self.width))


@case("own guide, four times too narrow", draws(mu=MU))
def guide_narrow():
    return ppl.fit(Guided(), pd.DataFrame({"x": ABOUT_5}), steps=50)


@case("own guide, 3 sds beside the posterior", draws(mu=MU))
def guide_beside():
    return ppl.fit(Guided(at=5.6, width=0.18), pd.DataFrame({"x": ABOUT_5}), steps=50)


@case("own guide, five times too wide", draws(mu=MU))
def guide_wide():
    return ppl.fit(Guided(at=MU[0], width=0.9), pd.DataFrame({"x": ABOUT_5}), steps=50)


@dataclass(frozen=True)
class Line(ppl.PyroModel):
    """Intercept and slope of a predictor far from zero: correlated by −0.998."""

    def model(self, data):
        a = pyro.sample("a", dist.Normal(0.0, 100.0))
        b = pyro.sample("b", dist.Normal(0.0, 100.0))
        with pyro.plate("rows", len(data)):
            pyro.sample("y", dist.Normal(a + b * data["x"], 1.0), obs=data["y"])


X = 20 + rng(51).normal(size=60)
LINE = pd.DataFrame({"x": X, "y": 1 + 2 * X + rng(52).normal(size=60)})
_P = np.array([[60, X.sum()], [X.sum(), (X**2).sum()]]) + np.eye(2) / 1e4
_MEAN = np.linalg.solve(_P, [LINE.y.sum(), (LINE.y * X).sum()])
_SD = np.linalg.inv(_P).diagonal() ** 0.5
AB = {"a": (_MEAN[0], _SD[0]), "b": (_MEAN[1], _SD[1])}


@case("line, correlated by −0.998", draws(**AB))
def line():
    return ppl.fit(Line(), LINE)


@case("line, independent normals", draws(**AB))
def line_mean_field():
    return ppl.fit(Line(), LINE, guide="normal", steps=400)


@case("line, 5 steps", draws(**AB))
def line_few_steps():
    return ppl.fit(Line(), LINE, guide="normal", steps=5)


@case("line, step size 100", draws(**AB))
def line_step_size():
    return ppl.fit(Line(), LINE, guide="normal", steps=200, learning_rate=100.0)


@case("line, 20 steps of mini-batches", draws(**AB))
def line_batches():
    return ppl.fit(Line(), LINE, batch_size=5, steps=20)


@dataclass(frozen=True)
class Funnel(ppl.PyroModel):
    """v ~ Normal(0, 3), x_j ~ Normal(0, e^{v/2}): Neal's funnel, as it is; y says next to nothing."""

    written: bool = True

    def model(self, data):
        v = pyro.sample("v", dist.Normal(0.0, 3.0))
        with pyro.plate("nine", 9):
            x = pyro.sample("x", dist.Normal(0.0, (v / 2).exp()))
        pyro.sample("y", dist.Normal(0.0 * x.sum(), 1.0).expand([1]).to_event(1), obs=data["y"])


@case("funnel, location and scale taken out", draws(v=(0.0, 3.0)))
def funnel():
    return ppl.fit(Funnel(), {"y": [0.0]})


@case("funnel, independent normals", draws(v=(0.0, 3.0)))
def funnel_mean_field():
    return ppl.fit(Funnel(), {"y": [0.0]}, guide="normal", steps=400)


@case("funnel, full-rank guide of 50 steps", draws(v=(0.0, 3.0)))
def funnel_few_steps():
    return ppl.fit(Funnel(), {"y": [0.0]}, guide="full-rank", steps=50)


@dataclass(frozen=True)
class Heavy(ppl.PyroModel):
    """A Cauchy posterior."""

    def model(self, data):
        t = pyro.sample("t", dist.Cauchy(0.0, 1.0))
        pyro.sample("y", dist.Normal(0.0 * t, 1.0).expand([1]).to_event(1), obs=data["y"])


@case("posterior with Cauchy tails", quantiles("t", (-3.078, 0.0, 3.078)))
def heavy_tails():
    return ppl.fit(Heavy(), {"y": [0.0]})


@case("posterior with Cauchy tails, independent normals", quantiles("t", (-3.078, 0.0, 3.078)))
def heavy_tails_mean_field():
    return ppl.fit(Heavy(), {"y": [0.0]}, guide="normal", steps=400)


@dataclass(frozen=True)
class Square(ppl.PyroModel):
    """`number` of t_j with y ~ Normal(t_j², 1): each of two signs."""

    number: int = 1

    def model(self, data):
        with pyro.plate("each", self.number):
            t = pyro.sample("t", dist.Normal(0.0, 2.0))
            pyro.sample("y", dist.Normal(t**2, 0.3), obs=data["y"])


def both_signs(fit: Any) -> Truth:
    """Right if both signs of every t are there in about equal numbers."""
    share = (fit.bound.values(fit.posterior_draws.theta)["t"] > 0).double().mean(0)
    return "right" if bool(((share - 0.5).abs() < 0.15).all()) else "wrong"


@case("two modes", both_signs)
def modes_two():
    return ppl.fit(Square(), {"y": [4.0]})


@case("64 modes", both_signs)
def modes_many():
    return ppl.fit(Square(number=6), {"y": [4.0, 3.0, 5.0, 4.5, 3.5, 6.0]})


@case("two modes, independent normals", both_signs)
def modes_mean_field():
    return ppl.fit(Square(), {"y": [4.0]}, guide="normal", steps=400)


@dataclass(frozen=True)
class Needle(ppl.PyroModel):
    """Half of the probability is in a needle far from where any search begins."""

    def model(self, data):
        t = pyro.sample("t", dist.Normal(0.0, 100.0))
        wide = dist.Normal(0.0, 1.0).log_prob(t)
        needle = dist.Normal(400.0, 0.01).log_prob(t)
        prior = dist.Normal(0.0, 100.0).log_prob(t)
        pyro.factor("both", torch.logaddexp(wide, needle) - prior)
        pyro.sample("y", dist.Normal(0.0 * t, 1.0).expand([1]).to_event(1), obs=data["y"])


@case("half of the posterior in a needle that no search finds", draws(t=(200.0, 200.0)))
def modes_hidden():
    return ppl.fit(Needle(), {"y": [0.0]})


@dataclass(frozen=True)
class Product(ppl.PyroModel):
    """y ~ Normal(a b, 0.05): a bent ridge of two signs."""

    def model(self, data):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        b = pyro.sample("b", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(a * b, 0.05).expand([1]).to_event(1), obs=data["y"])


def _product() -> tuple[float, float]:
    """Mean and sd of a, by quadrature."""
    axis = np.linspace(-5, 5, 4001)
    a, b = np.meshgrid(axis, axis, indexing="ij")
    log_p = -0.5 * a**2 - 0.5 * b**2 - 0.5 * ((1.0 - a * b) / 0.05) ** 2
    w = np.exp(log_p - log_p.max())
    w /= w.sum()
    return 0.0, float((w * a**2).sum() ** 0.5)


@case("bent ridge of two signs", draws(a=_product()))
def ridge():
    return ppl.fit(Product(), {"y": [1.0]})


@dataclass(frozen=True)
class Flat(ppl.PyroModel):
    """Only a + b is known, and the priors are improper: there is no posterior."""

    improper = True

    def model(self, data):
        a = pyro.sample("a", dist.ImproperUniform(dist.constraints.real, (), ()))
        b = pyro.sample("b", dist.ImproperUniform(dist.constraints.real, (), ()))
        with pyro.plate("rows", len(data)):
            pyro.sample("x", dist.Normal(a + b, 1.0), obs=data["x"])


@case("flat direction, no posterior", "wrong")
def flat():
    return ppl.fit(Flat(), pd.DataFrame({"x": ABOUT_5}))


@dataclass(frozen=True)
class Sum(ppl.PyroModel):
    """Only a + b is known beyond priors N(0, 3)."""

    def model(self, data):
        a = pyro.sample("a", dist.Normal(0.0, 3.0))
        b = pyro.sample("b", dist.Normal(0.0, 3.0))
        with pyro.plate("rows", len(data)):
            pyro.sample("x", dist.Normal(a + b, 1.0), obs=data["x"])


def _sum() -> tuple[float, float]:
    n = len(ABOUT_5)
    P = n * np.ones((2, 2)) + np.eye(2) / 9
    return float(np.linalg.solve(P, [ABOUT_5.sum()] * 2)[0]), float(np.linalg.inv(P)[0, 0] ** 0.5)


@case("ridge that priors close", draws(a=_sum()))
def ridge_straight():
    return ppl.fit(Sum(), pd.DataFrame({"x": ABOUT_5}))


@dataclass(frozen=True)
class Exchangeable(ppl.PyroModel):
    """Two means in equal shares, which can change their names."""

    def model(self, data):
        with pyro.plate("two", 2):
            mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
        with pyro.plate("rows", len(data)):
            z = pyro.sample("z", dist.Categorical(torch.tensor([0.5, 0.5])))
            pyro.sample("x", dist.Normal(mu[z], 1.0), obs=data["x"])


def both_names(fit: Any) -> Truth:
    """Right if either mean is the larger one in about half of the draws."""
    mu = fit.bound.values(fit.posterior_draws.theta)["mu"]
    share = float((mu[:, 0] > mu[:, 1]).double().mean())
    return "right" if abs(share - 0.5) < 0.15 else "wrong"


TWO = rng(53).normal(np.where(rng(54).random(80) < 0.5, 3.0, -3.0), 1.0)


@case("names that switch", both_names)
def label_switching():
    return ppl.fit(Exchangeable(), pd.DataFrame({"x": TWO}))


@case("names that switch, independent normals", both_names)
def label_switching_mean_field():
    return ppl.fit(Exchangeable(), pd.DataFrame({"x": TWO}), guide="normal", steps=400)


@case("mixture of independent columns, diagonal", "right")
def gmm_diagonal():
    z = rng(100).random(400) < 0.5
    x = rng(101).normal(np.where(z, 4.0, 0.0)[:, None], 1.0, (400, 4))
    return ppl.fit(ppl.GMM(components=2, covariance="diag"), pd.DataFrame(x, columns=list("abcd")))


@case("linear regression on a predictor of five values", "right")
def glm_few_values():
    x = np.repeat(np.arange(5.0), 40)
    return ppl.fit(ppl.GLM(), pd.DataFrame({"x": x, "y": x + rng(102).normal(size=200)}), target="y")


@case("mixture of numbers rounded to a tenth", "right")
def gmm_rounded():
    z = rng(103).random(500) < 0.5
    x = rng(104).normal(np.where(z, 5.0, 0.0), 1.0).round(1)
    return ppl.fit(ppl.GMM(components=2), pd.DataFrame({"x": x}))


# Too little training


@case("mixture, 1 step", "wrong")
def gmm_one_step():
    z = rng(3).random(20_000) < 0.4
    x = rng(4).normal(np.where(z, 2.0, 0.0), np.where(z, 0.8, 1.0))
    return ppl.fit(ppl.GMM(components=2), pd.DataFrame({"x": x}), steps=1, restarts=1)


@case("chain, 1 step", "wrong")
def hmm_one_step():
    z = chain(18, 20_000)
    x = rng(19).normal(np.where(z, 1.5, 0.0), np.where(z, 1.2, 1.0))
    return ppl.fit(ppl.HMM(states=2), pd.DataFrame({"x": x}), steps=1, restarts=1)


@case("horseshoe of 80 columns on 40 rows", "wrong")
def horseshoe():
    x = rng(56).normal(size=(40, 80))
    y = labels(x[:, 0] + 0.5 * rng(57).normal(size=40) > 0)
    frame = pd.DataFrame(x, columns=[f"x{j}" for j in range(80)]).assign(y=y)
    return ppl.fit(ppl.Logistic(prior="horseshoe"), frame, target="y")


@case("classes that are separated", "wrong")
def separation():
    x = rng(58).normal(size=60)
    return ppl.fit(ppl.Logistic(), pd.DataFrame({"x": x, "y": labels(x > 0.1)}), target="y")


@case("six components on two groups of 40 rows", "wrong")
def gmm_too_many():
    z = rng(59).random(40) < 0.5
    return ppl.fit(ppl.GMM(components=6), pd.DataFrame({"x": rng(60).normal(np.where(z, 6.0, 0.0), 1.0)}))


# Data from another model


@case("normal mixture of lognormal rows", "wrong")
def gmm_skewed():
    return ppl.fit(ppl.GMM(components=1), pd.DataFrame({"x": rng(61).lognormal(0.0, 0.8, 400)}))


@case("one normal of two groups", "wrong")
def gmm_bimodal():
    z = rng(62).random(400) < 0.5
    return ppl.fit(ppl.GMM(components=1), pd.DataFrame({"x": rng(63).normal(np.where(z, 6.0, 0.0), 1.0)}))


@case("normal mixture with heavy tails", "wrong")
def gmm_heavy():
    z = rng(64).random(500) < 0.5
    x = np.where(z, 12.0, 0.0) + rng(65).standard_t(2, 500)
    return ppl.fit(ppl.GMM(components=2), pd.DataFrame({"x": x}))


@case("Poisson mixture of counts that vary more", "wrong")
def gmm_overdispersed():
    return ppl.fit(ppl.GMM(components=1), pd.DataFrame({"n": rng(66).negative_binomial(2, 0.2, 300)}))


@case("columns that hang together, taken as independent", "wrong")
def gmm_correlated():
    a = rng(67).normal(size=400)
    b = a + 0.3 * rng(68).normal(size=400)
    return ppl.fit(ppl.GMM(components=1, covariance="diag"), pd.DataFrame({"a": a, "b": b}))


@case("chain of a random walk", "wrong")
def hmm_walk():
    return ppl.fit(ppl.HMM(states=3), pd.DataFrame({"x": np.cumsum(rng(69).normal(size=400))}))


@case("chain of a series that goes on from itself", "wrong")
def hmm_autoregressive():
    e, x = rng(70).normal(size=500), np.zeros(500)
    for t in range(1, 500):
        x[t] = 0.8 * x[t - 1] + e[t]
    return ppl.fit(ppl.HMM(states=2), pd.DataFrame({"x": x}))


@case("mixture of a series in time", "wrong")
def gmm_series():
    z = chain(71, 400, 0.95)
    return ppl.fit(ppl.GMM(components=2), pd.DataFrame({"x": rng(72).normal(np.where(z, 4.0, 0.0), 1.0)}))


@case("Poisson regression of counts that vary more", "wrong")
def glm_overdispersed():
    return regressed("poisson", 74, lambda f, r: r.poisson(np.exp(1 + f) * r.gamma(1, 1, 200)))


@case("Poisson regression with a third of zeros", "wrong")
def glm_zeros():
    return regressed("poisson", 76, lambda f, r: r.poisson(np.exp(1.5 + f)) * (r.random(200) > 0.33))


@case("linear regression with Cauchy errors", "wrong")
def glm_cauchy():
    return regressed("normal", 78, lambda f, r: f + 0.3 * r.standard_cauchy(200))


@case("linear regression of a bent effect", "wrong")
def glm_bent():
    x = rng(80).normal(size=300)
    y = x**2 + 0.3 * rng(81).normal(size=300)
    return ppl.fit(ppl.GLM(), pd.DataFrame({"x": x, "y": y}), target="y")


@case("linear regression whose spread grows", "wrong")
def glm_spread():
    x = rng(82).uniform(0, 3, 300)
    y = x + np.exp(x - 2) * rng(83).normal(size=300)
    return ppl.fit(ppl.GLM(), pd.DataFrame({"x": x, "y": y}), target="y")


@case("regression without the groups that there are", "wrong")
def glm_no_groups():
    g = np.repeat(np.arange(15), 20)
    x = rng(84).normal(size=15)[g]  # of a group, as what is left of y is
    y = rng(85).normal(size=15)[g] + 0.3 * rng(86).normal(size=300)
    return ppl.fit(ppl.GLM(), pd.DataFrame({"x": x, "y": y}), target="y")


@case("logistic regression of a bent effect", "wrong")
def logistic_bent():
    x = rng(87).normal(size=400)
    y = rng(88).random(400) < 1 / (1 + np.exp(-(2 * x**2 - 2)))
    return ppl.fit(ppl.Logistic(), pd.DataFrame({"x": x, "y": labels(y)}), target="y")


@case("program: normal rows that are exponential", "wrong")
def program_skewed():
    return ppl.fit(Centre(), pd.DataFrame({"x": rng(89).exponential(1.0, 200)}))


@case("program: rows that vary twice as much", "wrong")
def program_spread():
    return ppl.fit(Centre(), pd.DataFrame({"x": rng(90).normal(5.0, 2.0, 100)}))


@case("mixture, each row 20 times", "wrong")
def gmm_duplicated():
    z = rng(91).random(60) < 0.4
    x = rng(92).normal(np.where(z, 2.8, 0.0), 1.0)
    return ppl.fit(ppl.GMM(components=2), pd.DataFrame({"x": np.repeat(x, 20)}))


@case("linear regression, each row 20 times", "wrong")
def glm_duplicated():
    x = rng(93).normal(size=30)
    y = x + rng(94).normal(size=30)
    return ppl.fit(ppl.GLM(), pd.DataFrame({"x": np.repeat(x, 20), "y": np.repeat(y, 20)}), target="y")


@case("logistic regression, each row 20 times", "wrong")
def logistic_duplicated():
    x = rng(95).normal(size=(40, 2))
    y = labels(rng(96).random(40) < 1 / (1 + np.exp(-x[:, 0])))
    frame = pd.DataFrame(x, columns=["a", "b"]).assign(y=y)
    return ppl.fit(ppl.Logistic(), frame.loc[np.repeat(np.arange(40), 20)].reset_index(drop=True), target="y")


UNSEEN = {
    "modes_hidden": "no search comes upon it, and no chain begins near it",
    "gmm_series": "that rows follow one another is not looked at where the model takes them in any order: "
    "files are often sorted",
}
"""Cases that are wrong, are called trusted, and why."""


class Judged(NamedTuple):
    """A case with what is known and what was said."""

    case: Case
    truth: str
    verdict: str
    seconds: float


def judged(each: Case) -> Judged:
    """Fit a case and hear the verdict; a fit that was refused counts as not trusted."""
    began = time.perf_counter()
    try:
        fit = each.fit()
        verdict = fit.check().verdict
        truth = each.truth if isinstance(each.truth, str) else each.truth(fit)
    except PplError:
        verdict, truth = "refused", "wrong"
    return Judged(each, truth, verdict, time.perf_counter() - began)


SAID = ("trusted", "use with care", "not trusted", "refused")


def matrix(found: list[Judged]) -> str:
    """The confusion matrix as Markdown."""
    lines = [f"| | {' | '.join(SAID)} | cases |", "|---|" + "---|" * (len(SAID) + 1)]
    for truth in ("right", "wrong"):
        own = [each for each in found if each.truth == truth]
        counts = [sum(each.verdict == said for each in own) for said in SAID]
        lines.append(f"| {truth} | {' | '.join(map(str, counts))} | {len(own)} |")
    return "\n".join(lines)


def rows(found: list[Judged]) -> str:
    """All cases as Markdown."""
    lines = ["| case | known | verdict |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {e.case.about} | {e.truth} | {e.verdict} |" for e in found)])


if __name__ == "__main__":
    wanted = [each for each in CASES if not sys.argv[1:] or each.name in sys.argv[1:]]
    everything = []
    for each in wanted:
        everything.append(judged(each))
        last = everything[-1]
        print(
            f"{last.case.name:28} {last.truth:6} {last.verdict:14} {last.seconds:.1f} s",
            file=sys.stderr,
            flush=True,
        )
    print(f"{matrix(everything)}\n\n{rows(everything)}")
