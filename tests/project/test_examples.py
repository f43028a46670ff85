"""Every example runs, as a reader would run it."""

import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SCRIPTS = {
    "earthquakes_hmm.py": (["--plots", "plots"], "verdict:"),
    "growth_hmm.py": ([], "inside the 90 % interval"),
    "iris_classes.py": ([], "of these, the flowers without missing cells"),
    "sensor_faults.py": ([], "AUC of the faults"),
    "rare_class.py": ([], "gain of made-up rows"),
    "survey_gaps.py": ([], "five imputations"),
    "credit_costs.py": ([], "by the costs"),
    "market_regimes.py": ([], "hidden Markov model"),
    "words_as_counts.py": ([], "ahead by log loss"),
    "learning_curve.py": ([], "the regression is ahead from"),
    "digit_images.py": (["--steps", "50"], "pixels one by one"),
    "text_bytes.py": (["--steps", "5"], "pairs of bytes"),
    "spoken_digits.py": ([], "mean frame, logistic"),
}
QUICK = "earthquakes_hmm.py"
"""The example that every run of the tests goes through; the others take up to minutes."""

PICTURES = tuple(SCRIPTS)[3:]
"""Scripts that leave a picture of their name where they are run."""

EXTRAPOLATE = ("words_as_counts.py",)
"""Scripts that are meant to be told that some rows are far outside of the few that were learned from."""

NOTEBOOKS = ("earthquakes_hmm.ipynb",)
DATA = ("earthquakes.csv", "iris.csv", "votes.csv")
OTHERS = ("README.md", "own_models", "plugin", *DATA)


@pytest.mark.parametrize(
    "name", [name if name == QUICK else pytest.param(name, marks=pytest.mark.slow) for name in SCRIPTS]
)
def test_a_script_runs(name, tmp_path):
    arguments, expected = SCRIPTS[name]
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout
    assert "Warning" not in done.stderr or name in EXTRAPOLATE
    if name in PICTURES:
        assert (tmp_path / name).with_suffix(".png").stat().st_size > 10_000
    if name == QUICK:
        assert (tmp_path / "plots" / "earthquakes.png").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
@pytest.mark.filterwarnings("ignore")  # of Jupyter, not ours
def test_a_notebook_runs(name, tmp_path):
    shutil.copy(EXAMPLES / "earthquakes.csv", tmp_path)
    notebook = nbformat.read(EXAMPLES / name, as_version=4)
    nbformat.validate(notebook)
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    outputs = [out for cell in notebook.cells if cell.cell_type == "code" for out in cell.outputs]
    assert sum("image/png" in out.get("data", {}) for out in outputs) >= 4
    assert any("verdict:" in out.get("data", {}).get("text/html", "") for out in outputs)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_committed_without_outputs(name):
    notebook = nbformat.read(EXAMPLES / name, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert not any(cell.outputs or cell.execution_count for cell in code)


def test_every_example_is_covered():
    found = {path.name for path in EXAMPLES.iterdir() if not path.name.startswith((".", "__"))}
    assert found == {*SCRIPTS, *NOTEBOOKS, *OTHERS}


def test_every_example_is_described():
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for name in (*SCRIPTS, *NOTEBOOKS, *DATA):
        assert f"`{name}`" in text


def test_shipped_data_is_that_of_its_source():
    from sklearn.datasets import load_iris
    from statsmodels.datasets import anes96

    iris, shipped = load_iris(), pd.read_csv(EXAMPLES / "iris.csv")
    assert (shipped.iloc[:, :4].to_numpy() == iris.data).all()
    assert list(shipped["species"]) == [iris.target_names[i] for i in iris.target]
    votes, source = pd.read_csv(EXAMPLES / "votes.csv"), anes96.load_pandas().data
    columns = {"party": "PID", "age": "age", "education": "educ", "income": "income", "tv_news": "TVnews"}
    assert (votes[list(columns)].to_numpy() == source[list(columns.values())].to_numpy()).all()
    assert ((votes["vote"] == "Dole") == (source["vote"] == 1)).all()
