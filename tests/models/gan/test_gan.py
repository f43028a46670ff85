"""Generative adversarial networks: what players see, what is refused, what checks find, what is learned."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

import ppl_models as ppl
from ppl_models.capabilities import Completes, Criticises, Scores
from ppl_models.errors import Unsupported, UsageError
from ppl_models.inference.loop import Status
from ppl_models.models.gan import checks
from ppl_models.models.gan.coding import rows_of
from ppl_models.models.gan.networks import TEMPERATURE, TableGenerator
from ppl_models.models.gan.two_sample import told_apart

SMALL = {"latent": 2, "hidden": "8"}


def table(n: int = 300, seed: int = 0) -> pd.DataFrame:
    """A skewed number, one with a spike, one of few values, a label with missing cells, a class."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 2, n)
    spiked = np.where(rng.random(n) < 0.4, 0.0, rng.lognormal(3.0, 1.0, n).round(2))
    colour = np.array(["red", "green", "blue"], object)[rng.integers(0, 3, n)]
    colour[::9] = None
    return pd.DataFrame(
        {
            "skewed": rng.lognormal(0.0, 1.0, n) + kind,
            "spiked": spiked,
            "grade": rng.choice([1.0, 2.5, 4.0], n),
            "colour": colour,
            "kind": kind.choose(["left", "right"]),
        }
    )


def bound(frame: pd.DataFrame, **options):
    """A GAN over the columns of a table, with its rows."""
    model = ppl.GAN(**SMALL)
    data = ppl.read(frame, **options)
    from dataclasses import replace

    data = replace(data, schema=model.refer(data))
    return model.bind(data.schema).prepare(data), data


def rows_fit(n: int = 300, **options) -> ppl.Fit:
    return ppl.fit(ppl.GAN(**SMALL), table(n), steps=options.pop("steps", 30), **options)


def test_rows_come_back_from_what_the_critic_sees():
    own, data = bound(table(), target="kind")
    coded = own.coded
    assert sorted(coded.listed) == [data.names.index("grade")]
    assert [coded.column[j].name for j in coded.marginal] == ["skewed", "spiked"]
    values = np.asarray(data.values)
    x, seen = coded.encode(values)
    back = coded.decode(x)
    wanted = values[:, coded.order]
    np.testing.assert_array_equal(seen.numpy(), ~np.isnan(wanted))
    there = seen.numpy()
    np.testing.assert_allclose(back[there], wanted[there], rtol=1e-4, atol=1e-4)
    zero = x[values[:, data.names.index("spiked")] == 0.0]
    at = coded.numbers.index(data.names.index("spiked"))
    assert bool((zero[:, at] == 0).all())
    assert not bool(zero[:, coded.apart[at]].any())


def test_what_is_drawn_is_within_the_range_and_among_the_values_of_the_fit():
    fit = rows_fit()
    drawn, seen = fit.sample(500), table()
    assert set(drawn["grade"]) <= {1.0, 2.5, 4.0}
    assert set(drawn["colour"]) <= {"red", "green", "blue"}
    for name in ("skewed", "spiked"):
        assert drawn[name].between(seen[name].min(), seen[name].max()).all()
    assert (drawn["spiked"].round(2) == drawn["spiked"]).all()
    assert (drawn["spiked"] == 0.0).any()
    assert (drawn["spiked"] != 0.0).any()


def test_the_critic_and_the_encoder_are_blind_to_missing_cells():
    own, data = bound(table(), target="kind")
    torch.manual_seed(0)
    net, rows = own.networks(), own.rows(data)
    hole = int((~rows.seen).any(1).nonzero()[0])
    x = rows.x.clone()
    x[hole] += torch.randn(x.shape[1]) * ~rows.seen[hole].index_select(0, own.coded.owner)
    assert not torch.equal(x, rows.x)
    for look in (net.criticise, lambda *a: net.posterior(*a)[0]):
        assert torch.equal(look(x, rows.y, rows.seen), look(rows.x, rows.y, rows.seen))
        assert not torch.equal(look(x, rows.y, None), look(rows.x, rows.y, None))


def test_choices_are_drawn_by_their_softmax_with_the_gradient_of_a_softer_one():
    class Two:
        width, choices, apart = 3, (3,), {}

    torch.manual_seed(0)
    generator = TableGenerator(Two(), 2, (4,), 0)
    z = torch.zeros(20_000, 2)
    share = generator(z[:1], None, None)[0].detach().numpy()
    noise = -(-torch.rand(20_000, 3).log()).log()
    drawn = generator(z, None, noise)
    assert bool(((drawn == 0) | ((drawn - 1).abs() < 1e-6)).all())
    counts = drawn.detach().round().sum(0).numpy()
    assert stats.chisquare(counts, 20_000 * share / share.sum()).pvalue > 1e-3
    (own,) = torch.autograd.grad(drawn[0, 0], generator.last.bias)
    soft = ((generator.last.bias.detach() + noise[0] + generator.last(generator.layers(z[:1], None))[0]
             - generator.last.bias).detach() / TEMPERATURE).softmax(0)  # fmt: skip
    wanted = soft[0] * (torch.tensor([1.0, 0.0, 0.0]) - soft) / TEMPERATURE
    torch.testing.assert_close(own, wanted, atol=1e-5, rtol=1e-4)


def test_a_classifier_tells_normals_apart_as_well_as_they_can_be():
    """AUC = Φ(d/√2) of normals d apart."""
    rng = np.random.default_rng(0)
    none = np.zeros(1, bool)
    for d in (0.0, 1.0, 2.0):
        parts = [rng.normal(m, 1.0, (1_500, 1)) for m in (0.0, d, 0.0, d)]
        found = told_apart(*parts, none, rounds=20)
        assert found.auc == pytest.approx(stats.norm.cdf(d / 2**0.5), abs=0.035)
        assert found.score == pytest.approx(2 - 2 * max(found.auc, 0.5))
    halves = told_apart(parts[0], parts[2], None, None, none, rounds=20)
    assert abs(halves.auc - 0.5) < 4 * halves.error


def test_a_column_without_cells_tells_nothing():
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(2, 200, 2))
    real[:, 1] = fake[:, 1] = np.nan
    found = told_apart(real, fake, None, None, np.zeros(2, bool), rounds=5)
    assert abs(found.auc - 0.5) < 4 * found.error


@pytest.mark.parametrize("target", [None, "kind"])
def test_it_has_no_density_and_says_who_has(target):
    fit = rows_fit(n=60, target=target, steps=2)
    assert not isinstance(fit.bound, Scores | Completes)
    assert isinstance(fit.bound, Criticises)
    for verb in ("score", "impute"):
        with pytest.raises(Unsupported, match=f"gan has no {verb}; .*gmm.*vae.* have it"):
            getattr(fit, verb)()
    with pytest.raises(UsageError, match="given its target alone, not given 'grade'.*gmm or vae"):
        fit.sample(3, given={"grade": 1.0})


def test_rows_are_drawn_given_the_target():
    fit = rows_fit(target="kind", steps=2)
    assert set(fit.sample(20, given={"kind": "right"})["kind"]) == {"right"}
    share = (table()["kind"] == "left").mean()
    assert (fit.sample(2_000)["kind"] == "left").mean() == pytest.approx(share, abs=0.05)


def test_a_target_that_is_a_number_is_refused():
    with pytest.raises(UsageError, match="'skewed' is a number; leave out --target"):
        rows_fit(target="skewed")


def test_rows_without_their_label_are_left_out():
    frame = table()
    frame.loc[:9, "kind"] = None
    fit = ppl.fit(ppl.GAN(**SMALL), frame, target="kind", steps=2)
    assert any("10 rows without kind were left out" in note for note in fit.notes)
    assert len(fit.transform()) == len(frame)


@pytest.mark.parametrize("when", ["adversarial", "encoder"])
def test_a_fit_that_was_stopped_ends_as_if_it_never_was(tmp_path, when):
    whole, told = rows_fit(60, steps=20, target="kind"), []

    def stop(phase, step, *_):
        told.append(phase)
        if phase == when and step == 12:
            raise KeyboardInterrupt

    stopped = rows_fit(60, steps=20, target="kind", progress=stop)
    assert stopped.status is Status.INTERRUPTED
    assert told[-1] == when
    again = ppl.resume(stopped.save(tmp_path / "run"))
    assert again.status is Status.MAX_STEPS
    assert all(torch.equal(whole.params[name], again.params[name]) for name in whole.params)
    longer = ppl.resume(again.save(tmp_path / "again"), steps=30)
    whole = rows_fit(60, steps=30, target="kind")
    assert all(torch.equal(whole.params[name], longer.params[name]) for name in whole.params)


@pytest.mark.parametrize("shape", [(6, 6), (5, 7, 2)])
def test_images_of_any_size_are_drawn_in_their_range(shape):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 200, (40, *shape))
    fit = ppl.fit(ppl.GAN(latent=3, hidden=8), pixels, steps=3)
    assert fit.bound.image == (*shape, 1)[:3]
    drawn = fit.sample(5).to_numpy()
    assert drawn.shape == (5, np.prod(shape))
    assert ((drawn >= 0) & (drawn <= 199)).all()
    assert (drawn == drawn.round()).all()
    assert fit.reconstruct().shape == (40, np.prod(shape))
    flat = ppl.fit(ppl.GAN(latent=3, hidden=8, network="mlp"), pixels, steps=3)
    assert flat.bound.image is None


def test_convolutions_need_images():
    with pytest.raises(UsageError, match="network conv needs rows that are images"):
        ppl.fit(ppl.GAN(network="conv"), table(), steps=2)


def points(n: int, seed: int, centres: int = 8) -> np.ndarray:
    rng = np.random.default_rng(seed)
    angle = 2 * np.pi * rng.integers(0, centres, n) / 8
    return np.column_stack([np.cos(angle), np.sin(angle)]) + rng.normal(0, 0.05, (n, 2))


def test_checks_find_copies_lost_modes_and_rows_that_are_not_covered():
    real, seen, fresh = (points(400, i) for i in range(3))
    assert checks._copies(real, seen, fresh).level == "ok"
    assert checks._copies(real, seen, seen + 1e-3).level == "warn"
    assert checks._coverage(real, fresh).level == "ok"
    assert checks._coverage(real, points(400, 3, centres=3)).level == "fail"
    assert checks._modes(seen, fresh, 0).level == "ok"
    lost = checks._modes(seen, points(400, 3, centres=7), 0)
    assert lost.level == "fail"
    assert "13 %" in lost.reason or "12 %" in lost.reason


def test_checks_judge_samples_by_how_easily_they_are_told_from_held_out_rows():
    frame = pd.DataFrame(points(500, 0), columns=["a", "b"]).assign(kind=np.arange(500) % 2 * 1.0)
    fit = ppl.fit(ppl.GAN(**SMALL), frame, types={"kind": "binary"}, steps=2)
    report = {check.name: check for check in fit.check().checks}
    assert report["two-sample test"].level != "ok"
    assert fit.check().verdict != "trusted"
    own, data = fit.bound, fit.data
    target = own.target(data, 0, net=own.networks(fit.params))
    rng = np.random.default_rng(1)

    def perfect(index, seed):
        return target.cells(target.train[rng.permutation(len(target.train))[: len(index)]])

    target.generated = perfect
    assert target.test(seed=1).auc == pytest.approx(0.5, abs=0.12)
    levels = {check.name: check.level for check in checks.checks(target, 0)}
    assert levels["two-sample test"] == levels["modes"] == levels["columns"] == "ok"
    narrow = perfect(target.train, 0)
    narrow[:, 0] *= 0.2
    narrow[:, 2] = 0.0
    said = checks._columns(target, target.cells(target.held), narrow)[0]
    assert said.level == "warn"
    assert "a has 0.2" in said.reason
    assert "kind never 1" in said.reason


def test_summary_says_how_far_each_column_is_from_the_data():
    frame = table()
    values = np.asarray(ppl.read(frame).values)
    own = checks.by_column(ppl.read(frame).schema, values, values)
    assert all(cells["distance"] == 0 for cells in own.values())
    moved = values.copy()
    moved[:, 0] += 0.3
    distance = checks.by_column(ppl.read(frame).schema, values, moved)["skewed"]["distance"]
    assert distance == pytest.approx(stats.ks_2samp(values[:, 0], moved[:, 0]).statistic)


def test_noise_spreads_rounded_cells_over_their_bins_in_training_alone():
    frame = pd.DataFrame({"age": np.random.default_rng(0).normal(40, 12, 2_000).round()})
    model = ppl.GAN(distinct=0)
    from dataclasses import replace

    data = ppl.read(frame)
    data = replace(data, schema=model.refer(data))
    own = model.bind(data.schema).prepare(data)
    clean, noisy = own.rows(data).x, own.target(data, 0).data.x
    assert torch.equal(clean, rows_of(own.coded, data, None).x)
    assert not torch.equal(clean, noisy)
    np.testing.assert_array_equal(own.coded.decode(noisy), own.coded.decode(clean))


@pytest.mark.slow
def test_every_mode_of_a_ring_is_covered():
    frame = pd.DataFrame(points(1_500, 0), columns=["a", "b"])
    fit = ppl.fit(ppl.GAN(latent=8, hidden=[64, 64]), frame, steps=1_500, batch_size=128)
    drawn = fit.sample(2_000).to_numpy()
    at = np.rint(np.arctan2(drawn[:, 1], drawn[:, 0]) / (2 * np.pi / 8)).astype(int) % 8
    near = np.abs(np.hypot(*drawn.T) - 1) < 0.25
    assert near.mean() > 0.85
    assert np.bincount(at[near], minlength=8).min() > 2_000 / 8 / 3
    again = fit.reconstruct(drawn).to_numpy()
    assert np.abs(again - drawn).mean() < 0.2
