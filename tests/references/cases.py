"""The cases: where the data come from, and the model with its fields.

Every table is simulated from a seed, or comes with scikit-learn, statsmodels or this repository.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
EARTHQUAKES = ROOT / "examples" / "earthquakes.csv"


@dataclass(frozen=True)
class Case:
    """One posterior.

    Attributes:
        name: also of the table, `NAME.json`.
        model: gmm, hmm, logistic or glm.
        frame: makes the data, the same every time.
        fields: of the model, where they differ from the defaults.
        target: the column that a regression predicts.
        columns: the columns of the design matrix, if there is a formula: `a`, or `a:b` for a product.
    """

    name: str
    model: str
    frame: Callable[[], pd.DataFrame]
    fields: Mapping[str, Any] = field(default_factory=dict)
    target: str | None = None
    columns: tuple[str, ...] = ()

    @property
    def kinds(self) -> dict[str, str]:
        """Of the target, where a table alone does not say it."""
        if self.model != "glm" or self.target is None:
            return {}
        return {self.target: "categorical" if self.fields.get("family") == "ordinal" else "continuous"}

    def digest(self) -> str:
        """Of the data to nine digits: tells whether a recipe still makes the rows that a table is of."""
        text = self.frame().to_csv(index=False, float_format="%.9g", lineterminator="\n")
        return hashlib.sha256(text.encode()).hexdigest()


def gmm1() -> pd.DataFrame:
    """300 rows of two normals in one column, 2.8 standard deviations apart."""
    rng = np.random.default_rng(1)
    z = rng.random(300) < 0.4
    return pd.DataFrame({"x": rng.normal(np.where(z, 12.8, 10.0), np.where(z, 0.8, 1.0))})


def gmm2() -> pd.DataFrame:
    """300 rows of two normals in the plane that overlap, correlated in opposite directions."""
    rng = np.random.default_rng(2)
    z = (rng.random(300) < 0.45).astype(int)
    mean = np.array([[0.0, 5.0], [2.0, 6.0]])[z]
    root = np.array([[[1.0, 0.0], [0.6, 0.8]], [[0.9, 0.0], [-0.4, 0.7]]])[z]
    x = mean + (root @ rng.normal(size=(300, 2, 1)))[..., 0]
    return pd.DataFrame(x * [1.0, 10.0], columns=["a", "b"])


def gmm_geyser() -> pd.DataFrame:
    """272 rows with about the means and covariances of the Old Faithful geyser, well apart."""
    rng = np.random.default_rng(3)
    z = (rng.random(272) < 0.64).astype(int)
    mean = np.array([[2.04, 54.5], [4.29, 80.0]])[z]
    root = np.linalg.cholesky([[[0.07, 0.44], [0.44, 33.7]], [[0.17, 0.94], [0.94, 36.0]]])[z]
    x = mean + (root @ rng.normal(size=(272, 2, 1)))[..., 0]
    return pd.DataFrame(x, columns=["eruptions", "waiting"])


def _path(rng: np.random.Generator, transition: list[list[float]], length: int) -> np.ndarray:
    """States of a chain that starts in the first."""
    z = np.zeros(length, int)
    for t in range(1, length):
        z[t] = rng.random() > np.cumsum(transition[z[t - 1]])[0]
    return z


def hmm2() -> pd.DataFrame:
    """300 steps of two normal states, 1.5 standard deviations apart."""
    rng = np.random.default_rng(4)
    z = _path(rng, [[0.9, 0.1], [0.15, 0.85]], 300)
    return pd.DataFrame({"x": rng.normal(np.where(z, 51.5, 50.0), np.where(z, 1.2, 1.0))})


def hmm_poisson() -> pd.DataFrame:
    """250 steps of counts with rates 3 and 6."""
    rng = np.random.default_rng(5)
    z = _path(rng, [[0.9, 0.1], [0.1, 0.9]], 250)
    return pd.DataFrame({"calls": rng.poisson(np.where(z, 6.0, 3.0))})


def earthquakes() -> pd.DataFrame:
    """Major earthquakes a year, 1900 to 2006 (Zucchini & MacDonald 2009)."""
    return pd.read_csv(EARTHQUAKES, usecols=["earthquakes"])


def _labels(yes: np.ndarray) -> np.ndarray:
    return np.where(yes, "yes", "no")


def _simulate(
    rng: np.random.Generator, z: np.ndarray, effects: np.ndarray, intercept: float = 0.0
) -> pd.DataFrame:
    """Columns of several units and origins, and a target that depends on what they were made of."""
    p = z.shape[1]
    y = rng.random(len(z)) < 1 / (1 + np.exp(-intercept - z @ effects))
    frame = pd.DataFrame(
        z * 10.0 ** (np.arange(p) % 3 - 1) + np.arange(p) % 5, columns=[f"x{j}" for j in range(p)]
    )
    return frame.assign(y=_labels(y))


def affairs() -> pd.DataFrame:
    """Every tenth row of Fair (1978), A theory of extramarital affairs, J. Political Economy 86."""
    from statsmodels.datasets import fair

    data: Any = fair.load_pandas()
    table = data.data.iloc[::10].reset_index(drop=True)
    frame = table[["rate_marriage", "yrs_married", "religious"]].copy()
    return frame.assign(affair=_labels(table["affairs"].to_numpy() > 0))


def twenty() -> pd.DataFrame:
    """500 rows of 20 predictors, each correlated with the next by 0.7."""
    rng = np.random.default_rng(6)
    z = rng.normal(size=(500, 20))
    for j in range(1, 20):
        z[:, j] = 0.7 * z[:, j - 1] + np.sqrt(1 - 0.7**2) * z[:, j]
    return _simulate(rng, z, rng.normal(size=20) * 0.7, -0.5)


def wine() -> pd.DataFrame:
    """Four columns of scikit-learn's wines, three cultivars that overlap."""
    from sklearn.datasets import load_wine

    table: Any = load_wine(as_frame=True)
    names = ["alcohol", "malic_acid", "ash", "alcalinity_of_ash"]
    return table.data[names].assign(cultivar=np.array(["first", "second", "third"])[table.target])


def iris() -> pd.DataFrame:
    """scikit-learn's irises: one of the three species is apart from the others."""
    from sklearn.datasets import load_iris

    table: Any = load_iris(as_frame=True)
    data = table.data.set_axis(["sepal_length", "sepal_width", "petal_length", "petal_width"], axis=1)
    return data.assign(species=np.array(["setosa", "versicolor", "virginica"])[table.target])


def eight() -> pd.DataFrame:
    """120 rows of eight predictors, one of which says much."""
    rng = np.random.default_rng(7)
    effects = np.array([4.0, -1.0, 0.5, 0.0, 0.0, 0.0, 0.3, 0.0])
    return _simulate(rng, rng.normal(size=(120, 8)), effects, 0.5)


def sparse() -> pd.DataFrame:
    """40 rows of 80 predictors, four of which matter."""
    rng = np.random.default_rng(8)
    effects = np.zeros(80)
    effects[[3, 20, 41, 66]] = 4.0, -4.0, 3.0, -2.0
    return _simulate(rng, rng.normal(size=(40, 80)), effects)


def kids() -> pd.DataFrame:
    """434 rows like the test scores of Gelman & Hill (2007): mother's schooling and IQ."""
    rng = np.random.default_rng(9)
    school, iq = rng.integers(0, 2, 434).astype(float), rng.normal(100, 15, 434)
    return pd.DataFrame(
        {"school": school, "iq": iq, "score": 26 + 6 * school + 0.6 * iq + rng.normal(0, 18, 434)}
    )


def _grouped(
    seed: int, groups: int, rows: int
) -> tuple[np.random.Generator, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    g, x = rng.integers(0, groups, rows), rng.normal(size=rows)
    return rng, g, x, np.array([f"g{i:02d}" for i in range(groups)])[g]


def radon() -> pd.DataFrame:
    """300 rows in 20 groups whose intercepts and slopes vary."""
    rng, g, x, names = _grouped(10, 20, 300)
    y = 1.4 + rng.normal(0, 0.4, 20)[g] + (0.6 + rng.normal(0, 0.25, 20)[g]) * x + rng.normal(0, 0.8, 300)
    return pd.DataFrame({"x": x, "g": names, "y": y})


def counts() -> pd.DataFrame:
    """250 counts in 15 groups."""
    rng, g, x, names = _grouped(11, 15, 250)
    return pd.DataFrame(
        {"x": x, "g": names, "y": rng.poisson(np.exp(0.3 + 0.4 * x + rng.normal(0, 0.6, 15)[g]))}
    )


def ordered() -> pd.DataFrame:
    """250 rows of four ordered levels."""
    rng = np.random.default_rng(12)
    X = rng.normal(size=(250, 3))
    f = X @ [0.8, -0.5, 0.0] + rng.logistic(size=250)
    return pd.DataFrame(X, columns=["a", "b", "c"]).assign(y=np.digitize(f, [-1.0, 0.3, 1.5]))


CASES = {
    case.name: case
    for case in [
        Case("gmm1", "gmm", gmm1, {"components": 2, "state_variance": 2.0**-2 / 3}),
        Case("gmm2", "gmm", gmm2, {"components": 2, "state_variance": 2.0**-1 / 4}),
        Case("gmm_geyser", "gmm", gmm_geyser, {"components": 2, "state_variance": 2.0**-1 / 4}),
        Case("hmm2", "hmm", hmm2, {"states": 2, "state_variance": 2.0**-2 / 3}),
        Case("hmm_poisson", "hmm", hmm_poisson, {"states": 2}),
        Case("earthquakes", "hmm", earthquakes, {"states": 2}),
        Case("earthquakes3", "hmm", earthquakes, {"states": 3}),
        Case(
            "logistic_interaction",
            "logistic",
            affairs,
            {"formula": "affair ~ rate_marriage * yrs_married + religious"},
            "affair",
            ("rate_marriage", "yrs_married", "religious", "rate_marriage:yrs_married"),
        ),
        Case("logistic_20", "logistic", twenty, target="y"),
        Case("multinomial", "logistic", wine, target="cultivar"),
        Case("multinomial_iris", "logistic", iris, target="species"),
        Case("student_t", "logistic", eight, {"prior": "student_t"}, "y"),
        Case("horseshoe", "logistic", sparse, {"prior": "horseshoe", "expected_nonzero": 4.0}, "y"),
        Case("glm_kids", "glm", kids, {}, "score"),
        Case("glm_radon", "glm", radon, {"formula": "y ~ x + (1 + x | g)"}, "y", ("x",)),
        Case("glm_counts", "glm", counts, {"family": "poisson", "formula": "y ~ x + (1 | g)"}, "y", ("x",)),
        Case("glm_ordered", "glm", ordered, {"family": "ordinal"}, "y"),
    ]
}
