"""Every verb of every system on every table there is: a valid table, or a refusal in one line.

Tables are those of the examples and of scikit-learn; with PPL_DATA=DIR in the environment also every .csv,
.tsv, .csv.gz, .parquet and .npz (X, y) file below that directory. Of each the first rows are taken.
"""

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import ppl_models as ppl
from ppl_models.errors import PplError, PplWarning
from ppl_models.verbs import VERBS

pytestmark = pytest.mark.slow

ROWS, COLUMNS = 90, 12
EXAMPLES = Path(__file__).parents[1] / "examples"
TINY: dict[str, Any] = {"width": 8, "layers": 1, "heads": 1, "orders": 1, "context": 16}
SYSTEMS = {
    "gmm": (ppl.GMM(components=2), {"restarts": 1}),
    "hmm": (ppl.HMM(states=2), {"restarts": 1}),
    "vae": (ppl.VAE(latent=2, hidden="8"), {"steps": 20}),
    "gan": (ppl.GAN(latent=2, hidden="8"), {"steps": 20}),
    "transformer": (ppl.Transformer(**TINY), {"steps": 20}),
    "logistic": (ppl.Logistic(), {}),
    "glm": (ppl.GLM(), {}),
    "svm": (ppl.SVM(inducing=10), {}),
    "mlp": (ppl.MLP(hidden="8", members=2), {"steps": 20}),
    "cnn": (ppl.CNN(members=2), {"steps": 20}),
    "rnn": (ppl.RNN(units=4, members=2), {"steps": 20}),
}
CONDITIONAL = {"logistic", "glm", "svm", "mlp", "cnn"}


def of_npz(path: Path) -> pd.DataFrame | None:
    held = np.load(path, allow_pickle=False)
    if "X" not in held or held["X"].ndim != 2:
        return None
    X = held["X"][:ROWS, :COLUMNS]
    table = pd.DataFrame(X, columns=[f"x{j}" for j in range(X.shape[1])])
    return table.assign(y=np.asarray(held["y"])[:ROWS].ravel()) if "y" in held else table


def of_file(path: Path) -> Any:
    """A table, or the path of one that is for the reader to make sense of."""
    if path.name.endswith(".npz"):
        return of_npz(path)
    if "messy" in path.parts and path.suffix == ".csv":
        return str(path)
    if path.suffix == ".parquet":
        table = pd.read_parquet(path)
    else:
        table = pd.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",", nrows=ROWS)
    return pd.concat(
        [table.iloc[:ROWS, : COLUMNS - 1], table.iloc[:ROWS, COLUMNS - 1 :].iloc[:, -1:]], axis=1
    )


def places() -> dict[str, Any]:
    from sklearn import datasets

    found: dict[str, Any] = {path.name: path for path in sorted(EXAMPLES.glob("*.csv"))}
    found |= {name: getattr(datasets, f"load_{name}") for name in ("wine", "diabetes", "breast_cancer")}
    base = os.environ.get("PPL_DATA")
    for path in sorted(Path(base).rglob("*")) if base else []:
        if (
            path.name.endswith((".csv", ".tsv", ".csv.gz", ".parquet", ".npz"))
            and "expected" not in path.name
        ):
            found[str(path.relative_to(base))] = path
    return found


PLACES = places()


def opened(name: str) -> Any:
    place = PLACES[name]
    if isinstance(place, Path):
        return of_file(place)
    return place(as_frame=True).frame.iloc[:, -COLUMNS:].sample(ROWS, random_state=0)


def refusal(error: PplError) -> None:
    said = str(error)
    assert said
    assert "\n" not in said
    assert len(said) < 700


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("name", PLACES)
def test_every_verb_of_every_system_on_every_table(name, system):
    table = opened(name)
    if table is None:
        pytest.skip("holds no table of X and y")
    model, training = SYSTEMS[system]
    reading = {}
    if system in CONDITIONAL:
        reading["target"] = ppl.read(table).names[-1] if isinstance(table, str) else table.columns[-1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", PplWarning)
        try:
            fit = ppl.fit(model, table, **reading, **training)
            assert fit.check().verdict
        except PplError as error:
            return refusal(error)
        for verb in VERBS:
            try:
                found = getattr(fit, verb)()
            except PplError as error:
                refusal(error)
                continue
            assert isinstance(found, pd.DataFrame), verb
            assert len(found.columns), verb
            assert not np.isinf(found.select_dtypes("number").to_numpy(float)).any(), verb
    return None
