"""What every system owes every verb that it has, and how it refuses those that it has not."""

import io
import json
import random

import numpy as np
import pandas as pd
import pyro
import pytest
import systems
import torch
from click.testing import CliRunner
from systems import SYSTEMS

import ppl_models as ppl
from ppl_models import registry
from ppl_models.api import Fit
from ppl_models.capabilities import OfSequences, Redraws
from ppl_models.cli.root import ppl as command
from ppl_models.data import loading
from ppl_models.errors import Unsupported, UsageError
from ppl_models.verbs import VERBS
from ppl_models.verbs.base import Needs, available, options_of

PAIRS = [(system, verb) for system in SYSTEMS for verb in VERBS]
FURTHER = {
    "gan with a target", "glm of an ordered label", "glm with groups", "hmm with names",
    "mlp by all its weights", "mlp by its members", "mlp of counts", "mlp of numbers", "rnn of steps",
    "transformer of numbers",
}  # fmt: skip
"""Forms of systems of which another form is quick."""


def further(system: str, *others: str):
    """A case, which is slow where it is of a further form."""
    return pytest.param(system, *others, marks=pytest.mark.slow if system in FURTHER else ())


DEAR = {(form, "backtest") for form in ("hmm with names", "hmm with a target", "transformer of sequences")}
"""What takes many seconds, and goes the way of `hmm`."""

KEPT = [
    pytest.param(*pair, marks=pytest.mark.slow if pair in DEAR or pair[0] in FURTHER else ())
    for pair in PAIRS
]

LATER = [further(system, verb) for system, verb in PAIRS if VERBS[verb].takes_data]


@pytest.fixture(scope="session")
def places(tmp_path_factory):
    """A run of each system by its name, that tests must not change."""
    return systems.runs_of_all(tmp_path_factory)


@pytest.fixture(scope="session")
def opened(places):
    """The fit of a system, loaded once."""
    found: dict[str, Fit] = {}

    def fit_of(name: str) -> Fit:
        if name not in found:
            found[name] = SYSTEMS[name].load(places / name)
        return found[name]

    return fit_of


def has(fit: Fit, verb: str) -> bool:
    return isinstance(fit.bound, VERBS[verb].needs)


def forms(fit: Fit, verb: str) -> str:
    """Of what rows a system has a verb, in words."""
    having = {bound.form for bound in type(fit.model).bounds() if issubclass(bound, VERBS[verb].needs)}
    return " and ".join(sorted(having))


def process_state() -> tuple:
    """All that belongs to the process rather than to a fit."""
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002
    generators = torch.get_rng_state().tolist(), kind, keys.tolist(), rest, random.getstate()
    switches = torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled()
    return *generators, *switches, sorted(pyro.get_param_store().keys())


def held(fit: Fit) -> list[bytes]:
    """Every number that a fit was made of."""
    return [
        np.array(fit.data.values).tobytes(),
        *(v.numpy().tobytes() for _, v in sorted(fit.params.items())),
    ]


def table_of(fit: Fit, verb: str, *args, **options) -> pd.DataFrame:
    found = getattr(fit, verb)(*args, **options)
    assert isinstance(found, pd.DataFrame)
    return found


@pytest.mark.parametrize(("system", "verb"), KEPT)
def test_a_system_keeps_to_a_verb_or_refuses_it(opened, places, system, verb):
    fit = opened(system)
    if not has(fit, verb):
        with pytest.raises(Unsupported) as refused:
            getattr(fit, verb)()
        said = str(refused.value)
        assert "\n" not in said
        assert verb in said
        if any(issubclass(bound, VERBS[verb].needs) for bound in type(fit.model).bounds()):
            assert "--target" in said or f"only of {forms(fit, verb)}" in said
        else:
            there = registry.those(lambda bound: issubclass(bound, VERBS[verb].needs))
            assert there
            assert ", ".join(there) in said
        return
    before, numbers = process_state(), held(fit)
    found = table_of(fit, verb)
    assert len(found)
    assert process_state() == before
    assert held(fit) == numbers
    figures = found.select_dtypes("number").to_numpy(float)
    assert not np.isinf(figures).any()
    sure = [name for name in found if not name.startswith(tuple(fit.data.names))]
    if verb in ("predict", "score", "transform", "forecast"):
        assert not found[sure].isna().any().any()
    if verb in ("sample", "impute", "reconstruct"):
        own = [name for name in fit.data.names if name in found]
        if verb == "sample" and isinstance(fit.bound, Redraws) and fit.data.schema.target in own:
            own = [fit.data.schema.target]  # the other cells are as they were, missing ones too
        assert not found[own].isna().any().any()
    torch.manual_seed(99)  # of no consequence
    pd.testing.assert_frame_equal(table_of(fit, verb), found)
    pd.testing.assert_frame_equal(table_of(SYSTEMS[system].load(places / system), verb), found)


@pytest.mark.parametrize(("system", "verb"), LATER)
def test_later_data_is_the_same_as_a_file_a_frame_and_a_data_set(opened, tmp_path, system, verb):
    fit = opened(system)
    if not has(fit, verb):
        return
    frame = SYSTEMS[system].table(2)
    if verb == "sample" and "rows" in available(VERBS[verb], fit.bound):
        with pytest.raises(UsageError, match="draws nothing given data"):
            table_of(fit, verb, data=frame)
        return
    copy, path = frame.copy(deep=True), tmp_path / "later.csv"
    frame.to_csv(path, index=False)
    content = path.read_bytes()
    data = ppl.read(frame, schema=fit.data.schema)
    values = np.array(data.values)
    found = table_of(fit, verb, data=frame)
    whole = verb == "predict" and isinstance(fit.bound, OfSequences)
    every = len(data.lengths) if whole else len(frame)
    assert len(found) == every or verb in ("forecast", "evaluate", "backtest")
    pd.testing.assert_frame_equal(table_of(fit, verb, data=data), found)
    read_back = table_of(fit, verb, data=str(path))
    pd.testing.assert_frame_equal(read_back, found)
    pd.testing.assert_frame_equal(frame, copy)
    assert path.read_bytes() == content
    np.testing.assert_array_equal(data.values, values)
    if verb in ("score", "impute", "reconstruct", "transform"):
        assert not table_of(fit, verb).equals(found)


@pytest.mark.parametrize(("system", "verb"), PAIRS)
def test_options_that_a_system_does_not_have_are_refused_with_those_it_has(opened, system, verb):
    fit, own = opened(system), VERBS[verb]
    if not has(fit, verb):
        return
    with pytest.raises(UsageError, match=rf"^{verb} has no option 'colour'"):
        getattr(fit, verb)(colour="red")
    lacking = [
        name
        for name, (about, _) in options_of(own).items()
        if (needs := about.note(Needs)) is not None and not isinstance(fit.bound, needs.one_of)
    ]
    there = [name for name in options_of(own) if name not in lacking]
    assert available(own, fit.bound) == there
    for name in lacking:
        with pytest.raises(UsageError) as refused:
            getattr(fit, verb)(**{name: 3})
        said = str(refused.value)
        assert said.startswith(f"{verb} of {fit.name} has no --{name.replace('_', '-')}")
        assert all(f"--{other.replace('_', '-')}" in said for other in there)
        assert "\n" not in said


def test_every_verb_has_a_system_and_every_system_a_verb(opened):
    table = {pair: has(opened(pair[0]), pair[1]) for pair in PAIRS}
    assert all(any(table[system, verb] for system in SYSTEMS) for verb in VERBS)
    assert all(any(table[system, verb] for verb in VERBS) for system in SYSTEMS)


def test_the_list_of_models_agrees_with_what_fits_can_do(opened):
    result = CliRunner().invoke(command, ["models", "--json"], prog_name="ppl")
    listed = {row["name"]: row["verbs"] for row in map(json.loads, result.stdout.splitlines())}
    found: dict[str, set[str]] = {name: {"check"} for name in listed}
    series = ppl.fit(ppl.RNN(units=2), np.sin(np.arange(200.0))[:, None], steps=5)  # forecasts alone
    for fit in (series, *map(opened, SYSTEMS)):
        if fit.name in found:
            found[fit.name] |= {verb for verb in VERBS if has(fit, verb)}
    assert {name: set(verbs) for name, verbs in listed.items()} == found


@pytest.mark.parametrize("system", [*map(further, SYSTEMS)])
def test_what_is_looked_at_is_looked_at_once(opened, places, tmp_path, monkeypatch, system):
    from ppl_models import record

    seen = []
    genuine = record.check
    monkeypatch.setattr(record, "check", lambda *args: (seen.append(args), genuine(*args))[1])
    fit = SYSTEMS[system].load(places / system)
    report = fit.check()
    assert fit.check() is report
    fit.save(tmp_path / "again")
    repr(fit)
    assert len(seen) == 1
    assert report.to_dict() == opened(system).check().to_dict()
    assert report.verdict == json.loads((tmp_path / "again" / "run.json").read_text())["verdict"]


@pytest.mark.parametrize("system", [*map(further, SYSTEMS)])
def test_a_fit_reads_and_binds_once_and_is_the_same_again(places, opened, monkeypatch, system):
    own, loads, bound = SYSTEMS[system], [], []
    kind = type(own.model())
    load, bind = loading.load, kind.bind
    monkeypatch.setattr("ppl_models.data.reading.load", lambda *args: (loads.append(args), load(*args))[1])
    monkeypatch.setattr(kind, "bind", lambda self, schema: (bound.append(schema), bind(self, schema))[1])
    torch.manual_seed(17)  # of no consequence
    frame = own.table(1)
    copy, before = frame.copy(deep=True), process_state()
    fit = own.fit(frame)
    assert (len(loads), len(bound)) == (1, 1)
    assert process_state() == before
    pd.testing.assert_frame_equal(frame, copy)
    assert held(fit) == held(opened(system))
    assert fit.elbo == opened(system).elbo
    loads.clear()
    bound.clear()
    own.load(places / system)
    assert (len(loads), len(bound)) == (0, 1)


def test_data_whose_columns_are_taken_for_others_is_read_once(monkeypatch):
    table = pd.DataFrame({"a": [0, 1, 2, 1] * 15, "b": [1, 0] * 30})
    seen, load = [], loading.load
    monkeypatch.setattr("ppl_models.data.reading.load", lambda *args: (seen.append(args), load(*args))[1])
    fit = ppl.fit(ppl.GMM(emission="categorical"), table, restarts=1)
    assert {str(column.kind) for column in fit.data.schema.columns} <= {"categorical", "binary"}
    assert len(seen) == 1


@pytest.mark.parametrize("emission", ["auto", "categorical"])
def test_standard_input_is_read_once(tmp_path, emission):
    text = pd.DataFrame({"a": [0, 1, 2, 1] * 15, "b": [1, 0] * 30}).to_csv(index=False)
    arguments = ["fit", "gmm", "-", "--emission", emission, "--restarts", "1", "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(command, arguments, prog_name="ppl", input=io.BytesIO(text.encode()))
    assert result.exit_code in (0, 3), result.output
    assert ppl.load(tmp_path / "run").data.rows == 60
