"""Flags, then the environment, then `ppl.toml`."""

import json
from pathlib import Path

import pytest

FIT = ["fit", "hmm", "data.csv", "--restarts", "1"]
NETWORK = ["fit", "vae", "data.csv", "--steps", "2"]
"""A fit of two steps, to nothing of use: where only the options matter."""


def fields(run, *args, fit=FIT, **settings):
    result = run(*fit, "--json", "--out", "r", "--force", *args, **settings)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["fields"]


def toml(text: str, name: str = "ppl.toml") -> None:
    Path(name).write_text(text)


def test_precedence(run):
    def found(*args, **env):
        return fields(run, *args, fit=NETWORK, env=env)

    toml("[fit.vae]\nlatent = 3\nhidden = '4'\n")
    assert found()["latent"] == 3
    assert found(PPL_FIT_LATENT="4")["latent"] == 4
    assert found(PPL_FIT_LATENT="4", PPL_FIT_VAE_LATENT="5")["latent"] == 5
    assert found("--latent", "1", PPL_FIT_LATENT="4")["latent"] == 1
    assert found()["hidden"] == [4]


@pytest.mark.slow
def test_lists_and_tables_of_toml(run):
    toml("[fit]\ncolumns = ['x']\ntypes = {x = 'continuous'}\n[fit.hmm]\nstates = [1, 2]\nlog-shape-sd = 1\n")
    found = fields(run)
    assert found["log_shape_sd"] == 1.0
    manifest = json.loads(Path("r/run.json").read_text())
    assert [c["name"] for c in manifest["data"]["schema"]["columns"]] == ["x"]
    assert len(manifest["candidates"]) == 2


def test_another_file(run):
    toml("[fit.hmm]\nstates = 3\n")
    toml("[fit.hmm]\nstates = 1\n", "other.toml")
    assert fields(run, "--config", "other.toml")["states"] == 1
    assert fields(run, env={"PPL_CONFIG": "other.toml"})["states"] == 1


@pytest.mark.slow
def test_tables_of_verbs(run, stored):
    toml("[sample]\nsteps = 3\n[fit]\nseed = 1\n")
    assert len(run("sample", "latest").stdout.splitlines()) == 4
    assert len(run("sample", "latest", env={"PPL_SAMPLE_STEPS": "5"}).stdout.splitlines()) == 6


def test_the_runs_directory_for_all_commands(run, stored):
    stored.parent.rename("out")
    toml("runs = 'out'\n")
    assert "hmm-data-001" in run("runs").stdout
    assert run("check", "latest").exit_code == 0
    assert run("models").exit_code == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[fit.hmm]\nstate = 3\n", "ppl: ppl.toml: 'state' is no option in [fit.hmm]; did you mean states?"),
        ("[fit]\nsede = 3\n", "ppl: ppl.toml: 'sede' is no option in [fit]; did you mean seed?"),
        ("[fit]\nstates = 3\n", "ppl: ppl.toml: 'states' is no option in [fit]"),
        ("[fitt]\nseed = 3\n", "ppl: ppl.toml: 'fitt' is no command; did you mean fit?"),
        ("[fit.hnm]\nseed = 3\n", "ppl: ppl.toml: 'fit.hnm' is no model; did you mean hmm?"),
        ("seed = 3\n", "ppl: ppl.toml: 'seed' is no command; did you mean serve?"),
        ("fit = 3\n", "ppl: ppl.toml: fit must be a table, [fit]"),
        ("[fit]\nhmm = 3\n", "ppl: ppl.toml: 'hmm' is no option in [fit]"),
        ("[fit]\nconfig = 'x'\n", "ppl: ppl.toml: 'config' is no option"),
        ("[fit\n", "ppl: ppl.toml is not TOML: "),
        (
            "[fit]\nseed = 'x'\n",
            "ppl: invalid value for '--seed': 'x' is not a valid integer (from ppl.toml)",
        ),
    ],
)
def test_a_wrong_file(run, text, message):
    toml(text)
    result = run("fit", "hmm", "data.csv")
    assert result.exit_code == 2
    assert result.stderr.startswith(message)
    assert not Path("runs").exists()


def test_a_file_that_is_not_there(run):
    result = run("predict", "latest", "--config", "none.toml")
    assert (result.exit_code, result.stderr) == (2, "ppl: none.toml: no such file\n")


def test_a_wrong_value_in_the_environment(run):
    result = run("fit", "hmm", "data.csv", env={"PPL_FIT_SEED": "x"})
    assert result.exit_code == 2
    assert "(from the environment)" in result.stderr


def test_help_works_with_a_wrong_file(run):
    toml("[fit\n")
    assert run("--help").exit_code == 0
    assert run("fit", "--help").exit_code == 0
