"""The fast update rule against the model and guide as Pyro programs, and against its own promises."""

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from fits import by_hand

import ppl_models as ppl
from ppl_models.data.batches import gather, minibatches, pieces
from ppl_models.inference.calibration import Calibrated, Learned
from ppl_models.inference.conjugate import ConjugateRule
from ppl_models.inference.convergence import Plateau
from ppl_models.inference.loop import Status
from ppl_models.kernels.rows import Rows
from ppl_models.posterior import draw_posterior

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import pyro
    from pyro import poutine
    from pyro.infer import TraceEnum_ELBO

LENGTHS = [3, 2]
_RNG = np.random.default_rng(7)
_COUNT = _RNG.poisson(3.0, (5, 2)).astype(float)
_REAL = _RNG.normal(1.0, 2.0, (5, 2))
_LABEL = np.array([[0, 1], [1, 2], [1, 0], [0, 2], [1, 1]], float)
CASES = {
    "diag": (ppl.HMM(states=2, covariance="diag"), _REAL, "continuous"),
    "spherical": (ppl.HMM(states=2, covariance="spherical"), _REAL, "continuous"),
    "full": (ppl.HMM(states=2, covariance="full"), _REAL, "continuous"),
    "tied": (ppl.HMM(states=2, covariance="tied"), _REAL, "continuous"),
    "poisson": (ppl.HMM(states=2, emission="poisson"), _COUNT, "count"),
    "bernoulli": (ppl.HMM(states=2, emission="bernoulli"), _LABEL.clip(0, 1), "binary"),
    "categorical": (ppl.HMM(states=2, emission="categorical"), _LABEL, "categorical"),
    "exponential": (ppl.HMM(states=2, emission="exponential"), np.abs(_REAL) + 0.1, "continuous"),
    "gamma": (ppl.HMM(states=2, emission="gamma"), np.abs(_REAL) + 0.1, "continuous"),
    "student_t": (ppl.HMM(states=2, emission="student_t"), _REAL, "continuous"),
    "negative_binomial": (ppl.HMM(states=2, emission="negative_binomial"), _COUNT, "count"),
    "mixed": (
        ppl.HMM(states=2, emission="x0=gaussian,x1=poisson", covariance="diag"),
        np.c_[_REAL[:, 0], _COUNT[:, 1]],
        None,
    ),
}


def guided(name, missing):
    """A fit by hand: its statistics are one step from arbitrary labels, far from any optimum."""
    model, x, kind = CASES[name]
    x = x.copy()
    if missing:
        x[1, 0] = x[3, 1] = np.nan
        x[4] = np.nan
    types = {"x0": "continuous", "x1": "count"} if kind is None else {"x0": kind, "x1": kind}
    data = ppl.read(x, lengths=LENGTHS, types=types)
    joint = model.bind(data.schema)
    batch = joint.dataset_batch(data)
    start = joint.from_labels(batch, torch.tensor([[0, 1, 1, 0, 1]]), 0.2)
    elbo, following = joint.elbo(batch, start)
    fit = by_hand(model, data, start, float(elbo[0]))
    fit.__dict__["calibrated"] = Calibrated("mean field", Learned(fit.bound, start))  # what the ELBO is of
    return fit, batch, following


def pyro_elbo(fit, seed, with_path=True):
    """One particle of Pyro's bound, states summed out, with the parameters it was drawn at."""

    def guide():
        fit.model.guide(fit.data, fit)

    if not with_path:
        guide = poutine.block(guide, hide_fn=lambda site: site["name"].startswith("z_"))
    with pyro.validation_enabled(False), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pyro's own deprecations
        torch.manual_seed(seed)
        value = -TraceEnum_ELBO(max_plate_nesting=0).loss(lambda: fit.resolved.model(fit.data), guide)
        torch.manual_seed(seed)
        trace = poutine.trace(lambda: fit.model.guide(fit.data, fit)).get_trace()
    theta = {
        name: {
            site: trace.nodes[f"{name}.{site}"]["value"]
            for site in [k.removeprefix(f"{name}.") for k in trace.nodes if k.startswith(f"{name}.")]
        }
        for name in fit.bound.factors
    }
    return value, theta


AUGMENTED = ("student_t", "negative_binomial")  # cells have latents of their own, as missing ones may have
EXACT = [
    (name, missing)
    for name in CASES
    for missing in (False, True)
    if name not in AUGMENTED and not (missing and name in ("full", "tied"))
]


@pytest.mark.parametrize(("name", "missing"), EXACT)
def test_elbo_is_pyros_draw_by_draw(name, missing):
    """For each θ ~ q, log p(x, z, θ) − log q(θ) − log q(z), averaged over z, is linear in η(θ).

    Its mean over θ is then log Z_z − KL, exactly: nothing is left to simulation.
    """
    fit, batch, _ = guided(name, missing)
    joint, S = fit.bound, fit.params
    expected = joint.expected_natural(S)
    evidence, found = joint.local(batch, expected)

    def inner(natural):
        return sum(float((found[f] * natural[f]).sum()) for f in joint.factors)

    entropy = float(evidence) - batch.base - inner(expected)
    assert entropy >= -1e-9  # of q(z)
    for seed in range(3):
        value, theta = pyro_elbo(fit, seed)
        exact = inner(joint.natural(theta)) + entropy + batch.base
        exact += float(joint.log_prob(theta, None) - joint.log_prob(theta, S))
        assert value == pytest.approx(exact, rel=1e-9, abs=1e-7)
    mean = (
        inner(expected)
        + entropy
        + batch.base
        - sum(float(f.evaluate(S[n])[1]) for n, f in joint.factors.items())
    )
    assert fit.elbo == pytest.approx(mean, abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "missing"), [("diag", True), ("poisson", False), ("gamma", True), ("full", False)]
)
def test_elbo_is_the_mean_of_pyros(name, missing):
    fit, _, _ = guided(name, missing)
    values = np.array([pyro_elbo(fit, seed)[0] for seed in range(300)])
    error = values.std() / len(values) ** 0.5
    assert abs(values.mean() - fit.elbo) < 4 * error  # 4 standard errors: fails 6 times in 100,000 seeds


@pytest.mark.parametrize("name", ["full", *AUGMENTED, pytest.param("tied", marks=pytest.mark.slow)])
def test_elbo_with_latents_of_cells_is_below_pyros(name):
    """Pyro sums missing cells and scales of cells out exactly; the rule has a factor for them."""
    fit, _, following = guided(name, True)
    joint = fit.bound
    batch = joint.dataset_batch(fit.data)
    elbo = float(joint.elbo(batch, following)[0])
    fit = replace(fit, trained=replace(fit.trained, params=following, elbo=elbo))
    values = np.array([pyro_elbo(fit, seed)[0] for seed in range(30)])
    assert fit.elbo < values.mean() + 4 * values.std() / len(values) ** 0.5


@pytest.mark.parametrize(
    ("name", "missing"), [*EXACT, ("full", True), ("tied", True), *((name, True) for name in AUGMENTED)]
)
def test_exact_density_of_draws_is_pyros(name, missing):
    """The bound without q(z): log p(x, θ) − log q(θ), by Pyro and by `log_p` and `log_q`; above the ELBO."""
    fit, batch, _ = guided(name, missing)
    joint = fit.bound
    for seed in range(2):
        value, theta = pyro_elbo(fit, seed, with_path=False)
        natural = joint.natural(theta)
        log_c, _ = joint.structure.log_predictive(joint.density(batch, natural), natural, batch.rows)
        exact = float(log_c.sum()) + batch.base + float(joint.log_prob(theta, None))
        assert value == pytest.approx(exact - float(joint.log_prob(theta, fit.params)), rel=1e-9, abs=1e-7)
    p = draw_posterior(fit, 1_000)
    assert not p.corrected or p.k_hat <= 0.7
    ratio = p.log_p - p.log_q
    assert ratio.mean() > fit.elbo - 4 * ratio.std() / len(ratio) ** 0.5  # fails 3 times in 100,000 seeds
    np.testing.assert_allclose(p.log_likelihood.sum(1) + joint.log_prob(p.theta, None).numpy(), p.log_p)


def test_model_and_guide_name_the_same_sites():
    fit, _, _ = guided("mixed", True)
    with pyro.validation_enabled(False), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's of singular Wishart draws
        model = poutine.trace(lambda: fit.resolved.model(fit.data)).get_trace()
        guide = poutine.trace(lambda: fit.model.guide(fit.data, fit)).get_trace()
    latent = {n for n, s in model.nodes.items() if s["type"] == "sample" and not s["is_observed"]}
    assert latent == {n for n, s in guide.nodes.items() if s["type"] == "sample"}
    assert {"start.start", "transition.transition", "gaussian.mean", "poisson.rate", "z_4"} <= latent


# What a fit does


def path(fit):
    """The most probable states at the guide's expected log parameters."""
    natural = fit.bound.expected_natural(fit.params)
    density = fit.bound.density(fit.batch, natural)
    return fit.bound.structure.path(density, natural, fit.batch.rows)[0].tolist()


def table(simulate, kind, missing, rows=(70, 1, 39), seed=3):
    """A data set of two clear enough states."""
    means = np.array([[0.0, 0.0], [2.0, -1.0]])
    emit = {
        "gaussian": lambda z, r: means[z] + r.normal(size=(len(z), 2)),
        "poisson": lambda z, r: r.poisson(np.array([[1.0, 4.0], [5.0, 2.0]])[z]),
        "categorical": lambda z, r: (
            (r.random((len(z), 2)) < np.array([[0.2, 0.3], [0.9, 0.6]])[z]) * 1
            + (r.random((len(z), 2)) < 0.1)
        ),
        "gamma": lambda z, r: r.gamma(3.0, np.array([[1.0, 0.5], [4.0, 0.4]])[z]),
        "exponential": lambda z, r: r.exponential(np.array([[1.0, 0.5], [6.0, 0.4]])[z]),
    }[kind]
    truth = simulate(emit, rows, [[0.9, 0.1], [0.2, 0.8]], [0.5, 0.5], seed)
    x = truth.masked(0.2, seed) if missing else truth.x
    types = {"gaussian": "continuous", "poisson": "count", "gamma": "continuous", "exponential": "continuous"}
    return ppl.read(x, types=dict.fromkeys(("x0", "x1"), types.get(kind, kind)))


FITTED = [("gaussian", c) for c in ("full", "diag", "tied", "spherical")] + [
    (e, "full") for e in ("poisson", "categorical", "exponential", "gamma")
]


def run(model, data, rule, steps, labels=None):
    """The states of a rule, step by step, from arbitrary labels."""
    joint = model.bind(data.schema)
    batch = joint.dataset_batch(data)
    g = torch.Generator().manual_seed(0)
    labels = torch.randint(model.states, (3, data.rows), generator=g) if labels is None else labels
    state = rule.init(joint.from_labels(batch, labels))
    for _ in range(steps):
        state, info = rule.step(joint, state, batch)
        yield joint, batch, state, info


@pytest.mark.parametrize("missing", [False, True], ids=["complete", "missing"])
@pytest.mark.parametrize("accelerate", [False, True], ids=["plain", "accelerated"])
@pytest.mark.parametrize(("kind", "covariance"), FITTED)
def test_elbo_never_falls(simulate, kind, covariance, accelerate, missing):
    data = table(simulate, kind, missing)
    model = ppl.HMM(states=3, emission=kind, covariance=covariance)
    elbos = torch.stack([info.elbo for *_, info in run(model, data, ConjugateRule(accelerate), 25)])
    assert torch.isfinite(elbos).all()
    assert (elbos.diff(dim=0) >= -1e-9 * elbos.abs().max()).all()
    assert (elbos[-1] > elbos[0]).all()


@pytest.mark.parametrize("missing", [False, True], ids=["complete", "missing"])
@pytest.mark.parametrize(
    ("kind", "covariance"), [("gaussian", "full"), ("poisson", "full"), ("gamma", "full")]
)
def test_acceleration_reaches_the_plain_optimum(simulate, kind, covariance, missing):
    data = table(simulate, kind, missing)
    model = ppl.HMM(states=2, emission=kind, covariance=covariance)
    labels = torch.as_tensor(data.values[:, :1] > np.nanmedian(data.values[:, 0])).long().T
    found, used = [], []
    for accelerate in (False, True):
        plateau = Plateau(1e-7)
        for _joint, _, _, info in run(model, data, ConjugateRule(accelerate), 3_000, labels):
            used.append(accelerate)
            if plateau.update(info).all():
                break
        found.append(float(info.elbo))
    assert found[1] == pytest.approx(found[0], abs=1e-5)
    assert used.count(True) < 3_000


def test_acceleration_saves_steps(simulate):
    """Where states overlap, plain variational EM crawls."""
    truth = simulate(lambda z, r: r.normal(1.2 * z, 1.0), [600], [[0.9, 0.1], [0.1, 0.9]], [0.5, 0.5], 1)
    data, model = ppl.read(truth.x), ppl.HMM(states=2)
    labels = torch.as_tensor(data.values.T > 0.6).long()
    steps = {}
    for accelerate in (False, True):
        plateau = Plateau(1e-4)
        for step, (*_, info) in enumerate(run(model, data, ConjugateRule(accelerate), 3_000, labels), 1):
            steps[accelerate] = step
            if plateau.update(info).all():
                break
    assert steps[True] < 0.7 * steps[False] < 0.7 * 3_000


@pytest.mark.parametrize("steps", range(1, 16))
def test_elbo_belongs_to_the_statistics_that_are_kept(simulate, steps):
    """Wherever a fit is cut short, an extrapolation that was accepted is neither lost nor claimed in vain."""
    data = table(simulate, "gaussian", False, rows=(120, 1, 60))
    fit = ppl.fit(ppl.HMM(states=3), data, restarts=1, steps=steps)
    again = float(fit.bound.elbo(fit.bound.dataset_batch(data), fit.params)[0])
    assert fit.status == "max_steps"
    assert fit.elbo <= again + 1e-9 * abs(again)


def test_converged_elbo_is_that_of_the_statistics(simulate):
    for missing in (False, True):
        data = table(simulate, "gaussian", missing)
        fit = ppl.fit(ppl.HMM(states=2), data, restarts=3)
        again = fit.bound.elbo(fit.bound.dataset_batch(data), fit.params)[0]
        assert fit.elbo == pytest.approx(float(again), abs=1e-8)
        assert fit.status == "converged"


@pytest.mark.parametrize("restarts", [1, 3])
def test_reported_elbo_never_falls(simulate, restarts):
    """Nor when the best restart is done before the others."""
    fit = ppl.fit(ppl.HMM(states=2), table(simulate, "gaussian", True), restarts=restarts)
    reported = [h["elbo"] for h in fit.trained.history]
    assert np.diff(reported).min() >= -1e-9 * abs(fit.elbo)
    assert reported[-1] == pytest.approx(fit.elbo, abs=1e-9)


def test_stationary_point(simulate):
    """At the end, one more step of natural gradient moves nothing: the gradient of the ELBO is zero."""
    data = table(simulate, "gaussian", True)
    fit = ppl.fit(ppl.HMM(states=2), data, restarts=2, tolerance=1e-9)
    S = {name: value.clone() for name, value in fit.params.items()}
    _, following = fit.bound.elbo(fit.bound.dataset_batch(data), S)
    for name, value in following.items():
        torch.testing.assert_close(value, S[name], rtol=1e-3, atol=1e-3)


def test_restarts_are_counted(simulate):
    data = table(simulate, "gaussian", False)
    fit = ppl.fit(ppl.HMM(states=2), data, restarts=5)
    r = fit.trained.restarts
    assert len(r.elbo) == 5
    assert list(r.elbo) == sorted(r.elbo, reverse=True)
    assert r.elbo[0] == fit.elbo
    assert 2 <= r.agreeing <= 5
    assert r.agreeing == sum(r.elbo[0] - e < 1 for e in r.elbo)
    one = ppl.fit(ppl.HMM(states=1), data, restarts=5)
    assert one.trained.restarts.elbo == (one.elbo,)  # one state has one optimum


def test_max_steps_is_a_status(simulate):
    fit = ppl.fit(ppl.HMM(states=4), table(simulate, "gaussian", False), steps=2, restarts=2)
    assert fit.status is Status.MAX_STEPS
    assert fit.trained.steps == 2
    assert "2 steps" in fit.trained.reason


def test_an_interrupted_fit_is_a_fit(simulate):
    def stop(phase, step, elbo, left):
        if step == 4:
            raise KeyboardInterrupt

    data = table(simulate, "gaussian", False)
    fit = ppl.fit(ppl.HMM(states=3), data, restarts=2, progress=stop)
    assert fit.status is Status.INTERRUPTED
    assert math.isfinite(fit.elbo)
    assert float(fit.bound.elbo(fit.bound.dataset_batch(data), fit.params)[0]) >= fit.elbo - 1e-6


@pytest.mark.parametrize("covariance", ["full", "diag", "tied", "spherical"])
@pytest.mark.parametrize("missing", [False, True], ids=["complete", "missing"])
def test_units_do_not_matter(simulate, covariance, missing):
    data = table(simulate, "gaussian", missing)
    model = ppl.HMM(states=2, covariance=covariance)
    moved = ppl.read(1000 * data.values + 7, lengths=data.lengths)
    one, two = ppl.fit(model, data, restarts=2), ppl.fit(model, moved, restarts=2)
    gains = [np.diff([h["elbo"] for h in f.trained.history]) for f in (one, two)]
    np.testing.assert_allclose(gains[0], gains[1], atol=1e-6)
    cells = np.count_nonzero(~np.isnan(data.values))
    assert two.elbo == pytest.approx(one.elbo - cells * math.log(1000), abs=1e-6)
    assert path(one) == path(two)


@pytest.mark.parametrize("kind", ["exponential", "gamma"])
def test_units_of_positive_columns_do_not_matter(simulate, kind):
    data = table(simulate, kind, True)
    moved = ppl.read(1000 * data.values, lengths=data.lengths)
    one, two = (ppl.fit(ppl.HMM(states=2, emission=kind), d, restarts=1) for d in (data, moved))
    cells = np.count_nonzero(~np.isnan(data.values))
    assert two.elbo == pytest.approx(one.elbo - cells * math.log(1000), abs=1e-3)
    assert path(one) == path(two)


@pytest.mark.parametrize(("kind", "covariance"), FITTED)
def test_names_of_states_do_not_matter(simulate, kind, covariance):
    data = table(simulate, kind, True)
    joint = ppl.HMM(states=3, emission=kind, covariance=covariance, stickiness=2.0).bind(data.schema)
    batch = joint.dataset_batch(data)
    S = joint.from_labels(batch, torch.randint(3, (1, data.rows)))
    order = torch.tensor([2, 0, 1])
    moved = joint.reorder(S, order)
    a, to_a = joint.elbo(batch, S)
    b, to_b = joint.elbo(batch, moved)
    assert float(a) == pytest.approx(float(b), abs=1e-9)
    for name, value in joint.reorder(to_a, order).items():
        torch.testing.assert_close(value, to_b[name])
    first, second = joint.canonical(S), joint.canonical(moved)
    for name, value in first.items():
        torch.testing.assert_close(value, second[name])


def test_states_are_in_the_order_of_their_means(simulate):
    truth = simulate(lambda z, r: r.normal(np.array([5.0, -5.0, 0.0])[z], 1), [300],
                     np.full((3, 3), 1 / 3), np.full(3, 1 / 3), 0)  # fmt: skip
    fit = ppl.fit(ppl.HMM(states=3), truth.x, restarts=3)
    means = fit.posterior["posterior"]["mean"].mean(("chain", "draw")).values.ravel()
    np.testing.assert_allclose(means, [-5, 0, 5], atol=0.5)


# Mini-batches


def averages(joint, data, size, buffer, natural, scaled=True):
    """The mean over the batches of one pass of N/B times their statistics, and of their evidence."""
    rng, total, evidence = np.random.default_rng(1), {}, 0.0
    seen = np.zeros(data.rows)
    batches = minibatches(data.lengths, size, buffer, rng)
    first = next(batches)
    number = int(first.scale)
    for part in [first, *(next(batches) for _ in range(number - 1))]:
        rows = Rows(part.lengths, part.entered, part.weight)
        batch = joint.batch(data.values[part.rows], rows, scale=part.scale)
        e, found = joint.local(batch, natural)
        np.add.at(seen, part.rows, part.weight)
        evidence += part.scale * float(e) / number
        for name, value in found.items():
            total[name] = total.get(name, 0) + part.scale * value / number
    assert (seen == 1).all()
    return evidence, total


@pytest.mark.parametrize("missing", [False, True], ids=["complete", "missing"])
@pytest.mark.parametrize("covariance", ["full", "diag"])
def test_batches_of_sequences_are_unbiased(simulate, covariance, missing):
    data = table(simulate, "gaussian", missing, rows=[9, 1, 20, 5, 5, 17, 2])
    joint = ppl.HMM(states=2, covariance=covariance).bind(data.schema)
    batch = joint.dataset_batch(data)
    natural = joint.expected_natural(joint.from_labels(batch, torch.randint(2, (1, data.rows))))
    evidence, wanted = joint.local(batch, natural)
    found_evidence, found = averages(joint, data, 20, 3, natural)
    assert found_evidence == pytest.approx(float(evidence), abs=1e-9)
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("missing", [False, True], ids=["complete", "missing"])
def test_blocks_of_a_sequence_are_unbiased_up_to_their_buffers(simulate, missing):
    data = table(simulate, "gaussian", missing, rows=[300, 30, 150])
    joint = ppl.HMM(states=2).bind(data.schema)
    batch = joint.dataset_batch(data)
    labels = torch.as_tensor(np.nan_to_num(data.values[:, :1]).T > 1).long()
    natural = joint.expected_natural(joint.from_labels(batch, labels))
    evidence, wanted = joint.local(batch, natural)
    errors = {}
    for buffer in (1, 5, 100):
        found_evidence, found = averages(joint, data, 60, buffer, natural)
        errors[buffer] = max(float((found[name] - value).abs().max()) for name, value in wanted.items())
    assert errors[100] < 1e-6 < errors[5] < errors[1]
    assert found_evidence == pytest.approx(float(evidence), abs=1e-6)


def test_pieces_cover_every_row_once():
    lengths = np.array([7, 1, 30])
    parts = pieces(lengths, 8, 2)
    counted = np.concatenate([np.arange(p.first, p.last) for p in parts])
    assert counted.tolist() == list(range(38))
    assert max(p.last - p.first for p in parts) <= 8
    owner = np.repeat(np.arange(3), lengths)
    for p in parts:
        assert len(set(owner[p.lo : p.hi])) == 1  # buffers stop at the ends of their sequence
        assert p.begins == (p.lo in (0, 7, 8))
    batch = gather(parts, 1.0)
    assert batch.weight.sum() == 38
    assert batch.lengths.sum() == len(batch.rows) == len(batch.weight)


@pytest.mark.parametrize("lengths", [[1_200], [40] * 30, [800, 1, 399]], ids=["one", "many", "mixed"])
def test_mini_batches_reach_nearly_the_same_elbo(simulate, lengths):
    data = table(simulate, "gaussian", True, rows=lengths)
    model = ppl.HMM(states=2)
    full = ppl.fit(model, data, restarts=2)
    part = ppl.fit(model, data, restarts=2, batch_size=200, steps=250)
    assert part.elbo < full.elbo + 1e-6  # the optimum is the optimum
    assert part.elbo > full.elbo - 1e-3 * abs(full.elbo)
    assert np.mean(np.equal(path(part), path(full))) > 0.99


def test_mini_batches_learn_from_a_bad_start(simulate):
    """The race is over the whole of a small data set; started from noise, the steps must do the work."""
    data = table(simulate, "gaussian", False, rows=[800, 800])
    model = ppl.HMM(states=2)
    joint = model.bind(data.schema)
    full = ppl.fit(model, data, restarts=2)
    whole = joint.dataset_batch(data)
    rule = ConjugateRule()
    g = torch.Generator().manual_seed(0)
    noisy = torch.where(torch.rand(data.rows, generator=g) < 0.3, 1.0, 0.0)
    labels = (torch.as_tensor(data.values[:, 0] > 1).double() - noisy).abs().long()[None]
    state = rule.init(joint.from_labels(whole, labels))
    before = float(joint.elbo(whole, state.statistics)[0])
    batches = minibatches(data.lengths, 200, 10, np.random.default_rng(0))
    for _ in range(150):
        p = next(batches)
        batch = joint.batch(data.values[p.rows], Rows(p.lengths, p.entered, p.weight), scale=p.scale)
        state, info = rule.step(joint, state, batch)
        assert info.step_size == pytest.approx(state.step**-0.7)
    after = float(joint.elbo(whole, state.statistics)[0])
    assert full.elbo - after < 0.02 * (full.elbo - before)


@pytest.mark.parametrize("smooth", [0.0, 0.1])
def test_statistics_of_labels_are_counts(simulate, smooth):
    """Each row, start and transition counts once, whatever share of it is spread over other states."""
    data = table(simulate, "gaussian", False, rows=[9, 1, 20])
    joint = ppl.HMM(states=3, covariance="diag").bind(data.schema)
    labels = torch.randint(3, (2, 30))
    S = joint.from_labels(joint.dataset_batch(data), labels, smooth)
    for r in range(2):
        assert float(S["start"][r].sum()) == pytest.approx(3)
        assert float(S["transition"][r].sum()) == pytest.approx(27)
        assert float(S["gaussian"][r, :, 0, 0].sum()) == pytest.approx(30)
        if smooth:
            continue
        z = labels[r].numpy()
        start, pairs = np.bincount(z[[0, 9, 10]], minlength=3), np.zeros((3, 3))
        for t in [*range(1, 9), *range(11, 30)]:
            pairs[z[t - 1], z[t]] += 1
        np.testing.assert_allclose(S["start"][r], start)
        np.testing.assert_allclose(S["transition"][r], pairs)
        np.testing.assert_allclose(S["gaussian"][r, :, 0, 0], np.bincount(z, minlength=3))
