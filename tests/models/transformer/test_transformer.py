"""Densities that sum to one, conditionals that draws agree with, and fits that go on bit for bit."""

import itertools
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner

import ppl_models as ppl
from ppl_models.api import resume
from ppl_models.cli.root import ppl as command
from ppl_models.errors import DataError, Unsupported, UsageError
from ppl_models.models.transformer.checks import calibration_error, checks

pytestmark = pytest.mark.usefixtures("one_thread")
TINY: dict[str, Any] = {"width": 16, "layers": 1, "heads": 2}
LABELS = {"a": list("pq"), "b": list("rst"), "c": list("uv")}


def labels(n=300, seed=0):
    """b follows a nine times out of ten, c is a xor (b = r)."""
    rng = np.random.default_rng(seed)
    a = rng.integers(2, size=n)
    b = np.where(rng.random(n) < 0.9, a, rng.integers(3, size=n))
    c = (a ^ (b == 0)) ^ (rng.random(n) < 0.1)
    table = pd.DataFrame({"a": a, "b": b, "c": c.astype(int)})
    return pd.DataFrame({name: table[name].map(dict(enumerate(levels))) for name, levels in LABELS.items()})


@cache
def of_labels():
    return ppl.fit(ppl.Transformer(**TINY, orders=3), labels(), steps=200, batch_size=50)


@cache
def of_numbers():
    rng = np.random.default_rng(1)
    g = rng.integers(2, size=400)
    table = pd.DataFrame(
        {"x": rng.normal(3.0 * g), "n": rng.poisson(1 + 4 * g), "g": np.where(g, "hi", "lo")}
    )
    return ppl.fit(ppl.Transformer(**TINY, orders=2), table, steps=30, batch_size=100)


def every(columns=tuple(LABELS)):
    rows = itertools.product(*(LABELS[name] for name in columns))
    return pd.DataFrame(rows, columns=list(columns))


def frequencies(table):
    """The shares of the rows of `every` in a table."""
    count = table.groupby(list(LABELS)).size()
    return count.reindex(pd.MultiIndex.from_frame(every()), fill_value=0).to_numpy() / len(table)


def test_rows_of_labels_have_a_mass_of_one_together():
    fit = of_labels()
    p = np.exp(fit.score(every())["log_density"])
    assert p.sum() == pytest.approx(1, abs=1e-5)
    truth = frequencies(labels(4_000, 7))
    alone = labels().apply(lambda c: c.value_counts(normalize=True)).to_dict()
    apart = [np.prod([alone[name][cell] for name, cell in row.items()]) for _, row in every().iterrows()]
    assert np.abs(truth - p.to_numpy()).sum() < 0.4 * np.abs(truth - apart).sum()


def test_rows_with_missing_cells_have_a_mass_of_one_as_well():
    table = every(("b",)).assign(a=None, c=None)[list("abc")]
    assert np.exp(of_labels().score(table)["log_density"]).sum() == pytest.approx(1, abs=1e-5)


def test_numbers_have_a_density_that_integrates_to_one():
    fit = of_numbers()
    x = np.linspace(-60, 60, 24_001)
    for n, g in [(None, None), (2, None), (None, "hi")]:
        table = pd.DataFrame({"x": x, "n": n, "g": g}).astype({"n": "Int64", "g": "string"})
        one = table.iloc[:1].assign(x=np.nan)
        joint = np.exp(fit.score(table)["log_density"]).sum() * (x[1] - x[0])
        if n is g is None:
            assert joint == pytest.approx(1, abs=3e-3)
        else:  # the other cell's own density, but for what orders disagree in
            assert joint == pytest.approx(np.exp(fit.score(one)["log_density"][0]), rel=0.2)


def test_the_density_is_at_least_the_mean_of_those_of_its_orders():
    fit = of_labels()
    bound = fit.bound
    rows = bound.rows(ppl.read(every(), schema=fit.data.schema))
    net = bound.net(fit.draws)
    each = torch.stack([bound._by_cell(net, rows, order).sum(1) for order in bound.orders(rows.codes)])
    found = bound.log_density(rows, fit.draws)[0]
    torch.testing.assert_close(found, each.logsumexp(0) - np.log(3))
    assert (found >= each.mean(0) - 1e-12).all()
    assert each.std(0).max() > 1e-3


def test_drawn_rows_are_as_frequent_as_they_are_probable():
    fit = of_labels()
    drawn = fit.sample(4_000, seed=1)
    assert all(set(drawn[name]) <= set(levels) for name, levels in LABELS.items())
    p = np.exp(fit.score(every())["log_density"]).to_numpy()
    assert 0.5 * np.abs(frequencies(drawn) - p).sum() < 0.03  # 0.017 by 4,000 draws


def test_cells_drawn_given_others_and_imputed_ones_follow_the_probabilities_of_a_prediction():
    fit = ppl.fit(
        ppl.Transformer(**TINY, orders=1), labels()[["a", "b"]], target="b", steps=100, batch_size=100
    )
    p = fit.predict(pd.DataFrame({"a": ["p"]})).iloc[0, 1:].astype(float).to_numpy()
    drawn = fit.sample(3_000, given={"a": "p"}, seed=2)
    assert set(drawn["a"]) == {"p"}
    share = drawn["b"].value_counts(normalize=True).reindex(LABELS["b"], fill_value=0).to_numpy()
    assert np.abs(share - p).max() < 0.03
    found = fit.impute(pd.DataFrame({"a": ["p"], "b": [None]}), draws=2_000)
    assert found["b"][0] == LABELS["b"][p.argmax()]
    assert found["b_probability"][0] == pytest.approx(p.max(), abs=0.04)
    scores = fit.score(pd.DataFrame({"a": ["p"] * 3, "b": LABELS["b"]}))
    np.testing.assert_allclose(np.exp(scores["log_probability"]), p, rtol=1e-5)
    hardly = fit.sample(50, given={"a": "p"}, temperature=0)
    assert set(hardly["b"]) == {LABELS["b"][p.argmax()]}


@pytest.mark.slow
def test_a_number_as_a_target_has_a_distribution():
    rng = np.random.default_rng(2)
    g = rng.integers(2, size=400)
    table = pd.DataFrame({"g": np.where(g, "hi", "lo"), "y": rng.normal(4.0 * g).round(3)})
    fit = ppl.fit(ppl.Transformer(**TINY), table, target="y", steps=150, batch_size=100)
    later = pd.DataFrame({"g": ["hi", "lo"]})
    found = fit.predict(later, quantiles=[0.25, 0.75])
    for i, name in enumerate(later["g"]):
        own = table.loc[table["g"] == name, "y"]
        assert found["mean"][i] == pytest.approx(own.mean(), abs=0.4)
        assert found["quantile_0.25"][i] == pytest.approx(own.quantile(0.25), abs=0.5)
        grid = np.round(np.arange(-12, 16, 0.01), 3)
        p = np.exp(fit.score(pd.DataFrame({"g": name, "y": grid}))["log_probability"])
        assert p.sum() * 0.01 == pytest.approx(1, abs=0.02)


def test_later_rows_may_have_values_that_no_row_of_the_fit_had():
    fit = of_numbers()
    far = pd.DataFrame({"x": [1e6, -500.0], "n": [999, 10**6], "g": ["hi", "lo"]})
    score = fit.score(far)["log_density"]
    assert np.isfinite(score).all()
    assert (score < fit.score()["log_density"].min()).all()
    drawn = fit.sample(2_000)
    own = fit.data.frame()
    assert drawn["x"].between(own["x"].min(), own["x"].max()).all()
    assert set(drawn["n"]) <= set(own["n"])


def binary(lengths, seed=0):
    rng = np.random.default_rng(seed)
    rows = [
        (str(i), "on" if rng.random() < 0.3 + 0.4 * (t % 2) else "off")
        for i, T in enumerate(lengths)
        for t in range(T)
    ]
    return pd.DataFrame(rows, columns=["id", "event"])


def test_sequences_of_one_length_have_a_mass_of_one_together():
    rows = binary([200])["event"].to_frame()
    fit = ppl.fit(ppl.Transformer(**TINY, context=8, rows_are="sequence"), rows, steps=60)
    table = pd.DataFrame(
        [(str(i), v) for i, s in enumerate(itertools.product(["on", "off"], repeat=4)) for v in s]
    )
    table.columns = ["id", "event"]
    found = fit.score(table, sequence="id", by="sequence")["log_density"]
    assert len(found) == 16
    assert np.exp(found).sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
def test_sequences_end_as_often_as_they_should():
    lengths = np.random.default_rng(3).integers(1, 4, 150)
    fit = ppl.fit(
        ppl.Transformer(**TINY, context=8), binary(lengths), sequence="id", steps=150, batch_size=50
    )
    one = pd.DataFrame({"id": ["a", "b"], "event": ["on", "off"]})
    p = np.exp(fit.score(one, by="sequence")["log_density"]).sum()
    drawn = fit.sample(rows=12, sequences=1_000, seed=1)
    share = (drawn.groupby("id").size() == 1).mean()
    assert share == pytest.approx(p, abs=0.05)
    assert p == pytest.approx((lengths == 1).mean(), abs=0.12)
    assert fit.forecast(3)["event"].notna().all()


def test_what_is_longer_than_the_context_is_scored_given_most_of_it():
    rows = binary([90])["event"].to_frame()
    fit = ppl.fit(ppl.Transformer(**TINY, context=16, rows_are="sequence"), rows, steps=60)
    found = fit.score()["log_density"].to_numpy()
    np.testing.assert_allclose(found[:16], fit.score(rows[:16])["log_density"], atol=1e-6)
    net, stream = fit.bound.net(fit.draws), fit.bound.rows(fit.data)
    t = 57  # in the window that begins at 12 k and has it among its last four
    first = next(lo for lo in range(0, 90, 4) if lo + 12 <= t < lo + 16)
    value = stream.value[first - 1 : t]
    h = net(value[None], torch.zeros(1, len(value), dtype=torch.long), net.vectors())[0, -1:]
    wanted = net.logits(h, 0, net.vectors()).log_softmax(1)[0, stream.value[t]]
    assert found[t] == pytest.approx(float(wanted), abs=1e-5)


@pytest.mark.slow
def test_a_series_is_forecast_around_what_it_does():
    x = np.tile([0.0, 1.0, 2.0, 3.0], 100)[:, None]
    fit = ppl.fit(ppl.Transformer(**TINY, context=16, rows_are="sequence"), x, steps=200, batch_size=8)
    ahead = fit.forecast(40)  # longer than the context
    assert np.abs(ahead["x0"].to_numpy() - np.tile([0.0, 1, 2, 3], 10)).mean() < 0.3


@cache
def of_text():
    text = "the cat sat on the mat. " * 60
    frame = pd.DataFrame({"said": [text[i * 24 : i * 24 + 24] for i in range(60)], "k": 1})
    return ppl.fit(ppl.Transformer(**TINY, context=32, text="said"), frame, steps=60, batch_size=30)


def test_texts_are_bytes_with_an_end():
    fit = of_text()
    assert fit.data.rows == 60 * 24
    assert not fit.data.notes
    later = pd.DataFrame({"said": ["the cat", "Ünlikely"]})
    by = fit.score(later, by="sequence")
    assert list(by["steps"]) == [7, 9]
    np.testing.assert_allclose(by["bits_per_byte"], -by["log_density"] / by["steps"] / np.log(2))
    assert by["bits_per_byte"][0] < by["bits_per_byte"][1]
    summary = fit.score(later, summary=True).set_index("score")["mean"]
    assert summary["bits_per_byte"] == pytest.approx(-summary["log_density"] / np.log(2))
    texts = fit.sample(sequences=3, rows=60, prompt="the ", seed=1)["said"]
    assert len(texts) == 3
    assert all(text.startswith("the ") for text in texts)
    sure = fit.sample(rows=30, prompt="the cat", temperature=0)["said"][0]
    assert sure == fit.sample(rows=30, prompt="the cat", top_p=1e-6)["said"][0]
    with pytest.raises(Unsupported, match="forecast only of sequences, and this one was fitted to texts"):
        fit.forecast()


def test_a_text_file_is_one_text_for_this_model_and_a_table_for_others(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("x,y\n" + "".join(f"{i % 7},{i * i}\n" for i in range(60)))
    fit = ppl.fit(ppl.Transformer(**TINY, context=16), str(path), steps=20)
    assert fit.data.rows == len(path.read_bytes())
    assert bytes(fit.data.values[:, 0].astype(int).tolist()) == path.read_bytes()
    assert np.isfinite(fit.score(str(path))["log_density"]).all()
    assert ppl.read(str(path)).names == ("x", "y")
    assert ppl.fit(ppl.Transformer(**TINY, text="none"), str(path), steps=5).data.names == ("x", "y")
    with pytest.raises(UsageError, match="no column 'z'"):
        ppl.fit(ppl.Transformer(text="z"), str(path))


def test_the_command_line_writes_text(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("abracadabra " * 40)
    fields = ["--width", "16", "--layers", "1", "--heads", "2", "--context", "16"]
    run = CliRunner()
    out = ["--out", str(tmp_path / "run")]
    done = run.invoke(command, ["fit", "transformer", str(path), *fields, "--steps", "20", *out])
    assert done.exit_code in (0, 3), done.output
    more = ["--prompt", "abra", "--temperature", "0.8", "--top-p", "0.9", "--rows", "10", "--json"]
    done = run.invoke(command, ["sample", str(tmp_path / "run"), *more])
    assert done.exit_code == 0, done.output
    assert '"text":"abra' in done.stdout
    done = run.invoke(command, ["sample", str(tmp_path / "run"), "--temperature", "-1"])
    assert "temperature must be at least 0 and finite, got -1" in done.output


@pytest.mark.parametrize("kind", ["table", "sequences"])
def test_a_fit_goes_on_bit_for_bit(tmp_path, kind):
    data, reading = (labels(), {}) if kind == "table" else (binary([5] * 40), {"sequence": "id"})
    options = {"batch_size": 16, **reading}
    model = ppl.Transformer(**TINY, context=8, dropout=0.1, passes=30)
    whole = ppl.fit(model, data, steps=40, **options)
    ppl.fit(model, data, steps=20, **options).save(tmp_path / "run")
    found = resume(tmp_path / "run", steps=40)
    assert found.params.keys() == whole.params.keys()
    assert all(torch.equal(v, found.params[name]) for name, v in whole.params.items())
    assert found.elbo == whole.elbo


def test_training_ends_after_its_passes_with_small_steps():
    fit = ppl.fit(ppl.Transformer(**TINY, passes=6), labels(), batch_size=15, patience=100)
    assert fit.status == "converged"
    assert fit.trained.steps == 6 * 18
    for line in fit.trained.history[20:]:
        assert line["step_size"] == pytest.approx(6e-3 * (1 - (line["step"] - 1) / 108))


def test_a_graphics_card_s_options_are_noted_without_one():
    fit = ppl.fit(ppl.Transformer(**TINY), labels(), steps=2, precision="bfloat16", device="cpu")
    assert any("are for a GPU; this fit was without them" in note for note in fit.notes)


def test_the_check_says_so_where_probabilities_are_not_to_be_believed():
    fit = of_labels()
    fine = {check.name: check.level for check in fit.check().checks}
    assert fine["calibration"] == fine["held-out rows"] == "ok"
    target = fit.bound.judged(fit)
    target.held = torch.arange(len(target.codes))
    target.module.value *= 4.0  # surer than it was
    assert {check.name: check.level for check in checks(target)}["calibration"] in ("warn", "fail")
    target = fit.bound.judged(fit)
    target.codes[target.held, 0] = 1 - target.codes[target.held, 0]  # rows that are none of these
    assert {check.name: check.level for check in checks(target)}["held-out rows"] == "warn"


def test_the_calibration_error_is_that_of_its_definition():
    rng = np.random.default_rng(0)
    sure = rng.uniform(0.2, 1, 500)
    right = rng.random(500) < sure**2
    wanted = 0.0
    for lo in np.linspace(0, 1, 16)[:-1]:
        own = (sure >= lo) & (sure < lo + 1 / 15)
        if own.any():
            wanted += own.mean() * abs(sure[own].mean() - right[own].mean())
    assert calibration_error(sure, right) == pytest.approx(wanted, abs=1e-9)


def test_what_cannot_be_is_refused_in_a_line():
    with pytest.raises(UsageError, match="width must be a multiple of twice the heads"):
        ppl.Transformer(width=10, heads=4)
    with pytest.raises(UsageError, match="leave --target out, or predict it with rnn"):
        ppl.fit(ppl.Transformer(**TINY), binary([4, 4]), sequence="id", target="event")
    with pytest.raises(DataError, match="no cell has a text"):
        ppl.fit(ppl.Transformer(text="a"), pd.DataFrame({"a": [None, None], "b": [1, 2]}))
    with pytest.raises(Unsupported, match="impute only of independent rows"):
        ppl.fit(ppl.Transformer(**TINY, context=8), binary([4, 4]), sequence="id", steps=2).impute()


def test_weighted_rows_count_as_often_as_they_say():
    table = pd.DataFrame({"a": ["p", "q"] * 50, "w": [9, 1] * 50})
    fit = ppl.fit(ppl.Transformer(**TINY), table, weights="w", steps=100)
    p = np.exp(fit.score(pd.DataFrame({"a": ["p", "q"]}))["log_density"])
    assert p[0] == pytest.approx(0.9, abs=0.05)


def test_a_run_without_its_rows_says_the_same(tmp_path):
    for fit, later in (
        (of_numbers(), of_numbers().data.frame()[:5]),
        (of_text(), pd.DataFrame({"said": ["a cat"]})),
    ):
        place = tmp_path / fit.bound.form.replace(" ", "_")
        fit.save(place, slim=True)
        again = ppl.load(place)
        pd.testing.assert_frame_equal(again.score(later), fit.score(later))
        pd.testing.assert_frame_equal(again.sample(5), fit.sample(5))
        assert again.check().to_dict() == fit.check().to_dict()
