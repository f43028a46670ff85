"""`ppl sbc`, and `ppl check --prior`."""

import json
from pathlib import Path

MODEL = """
from dataclasses import dataclass
import pyro
import pyro.distributions as dist
import ppl_models as ppl


@dataclass(frozen=True)
class Centre(ppl.PyroModel):
    \"\"\"Rows about a mean.\"\"\"

    scale: float = 1.0

    def model(self, data):
        mu = pyro.sample("mu", dist.Normal(0.0, self.scale))
        with pyro.plate("rows", len(data)):
            pyro.sample("x", dist.Normal(mu, 1.0), obs=data["x"])
"""


def test_a_model_of_ones_own_is_calibrated_and_gone_on_with(run):
    Path("centre.py").write_text(MODEL)
    words = ["sbc", "centre.py:Centre", "--rows", "5", "--rank-draws", "9", "--scale", "2", "--out", "sbc"]
    first = run(*words, "--simulations", "3")
    assert first.exit_code == 0, first.stderr
    assert "all 2 quantities are uniform as far as 3 simulations tell" in first.stdout
    assert "3 of 3 simulations" in first.stderr
    again = run(*words, "-n", "4", "--json", "--quiet", "-o", "sbc.png")
    told = json.loads(again.stdout)
    assert told["simulations"] == 4
    assert told["model"].endswith("centre.py:Centre")
    assert told["fields"] == {"scale": 2.0}
    assert {row["quantity"] for row in told["quantities"]} == {"mu", "log_likelihood"}
    assert Path("sbc.png").stat().st_size > 5_000
    assert len(Path("sbc/simulations.jsonl").read_text().splitlines()) == 5
    other = run(*words[:-3], "3", "--out", "sbc")
    assert other.exit_code == 2
    assert "simulations with another scale" in other.stderr


def test_what_cannot_be_meant_is_one_line(run):
    found = run("sbc", "vae")
    assert found.exit_code == 2
    assert "vae has no such parameters" in found.stderr
    assert "goes after the model" in run("sbc", "--rows", "3", "gmm").stderr
    assert "--columns is a number" in run("sbc", "gmm", "--columns", "a,b").stderr
    assert "no such file" in run("sbc", "gmm", "nothing.csv").stderr.lower()
    assert run("sbc", "gmm", "-o", "sbc.txt").exit_code == 2


def test_check_says_how_much_the_prior_matters(run):
    run("fit", "logistic", "labelled.csv", "--target", "kind", "--out", "one", "--quiet")
    said = run("check", "one", "--prior")
    assert "sensitivity to the power of prior and likelihood" in said.stdout
    assert "coefficient[x]" in said.stdout
    assert "what the prior expects of the data" in said.stdout
    found = json.loads(run("check", "one", "--prior", "--json").stdout)
    assert {row["parameter"] for row in found["sensitivity"]} == {
        "intercept",
        "coefficient[x]",
        "coefficient[y]",
    }
    assert {row["column"] for row in found["prior_predictive"]} == {"kind"}
