"""Pictures of every system: which there are, that they are true, and that they leave nothing behind."""

import subprocess
import sys
import warnings

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from systems import SYSTEMS, runs_of_all

import ppl_models as ppl
from ppl_models.errors import OutputError, PplWarning, Unsupported, UsageError
from ppl_models.report.canvas import rendered
from ppl_models.report.picture import Wish
from ppl_models.report.pictures import KINDS
from ppl_models.report.pictures.effects import effect
from ppl_models.report.plot import kinds, panel, planned
from ppl_models.report.sketch import sketched


@pytest.fixture(scope="session")
def places(tmp_path_factory):
    return runs_of_all(tmp_path_factory)


@pytest.fixture(scope="session")
def opened(places):
    found: dict[str, ppl.Fit] = {}

    def fit_of(name: str) -> ppl.Fit:
        if name not in found:
            found[name] = SYSTEMS[name].load(places / name)
        return found[name]

    return fit_of


ALL = "training data graph"
POSTERIOR = "marginals forest pairs"
DRAWN = f"prior_predictive {POSTERIOR}"  # where data can be drawn from the prior
CLASSES = "calibration roc pr confusion predictive"
HAS = {
    "gmm": f"groups predictive {DRAWN}",
    "gmm of low rank": f"groups predictive {DRAWN}",
    "gmm with a target": f"groups effects boundary {CLASSES} {DRAWN}",
    "hmm": f"states forecast transitions predictive {DRAWN}",
    "hmm with a target": f"states forecast transitions predictive calibration roc pr confusion {DRAWN}",
    "hmm with names": f"states forecast transitions predictive {DRAWN}",
    "logistic": f"coefficients effects boundary {CLASSES} {DRAWN}",
    "mlp": f"effects boundary {CLASSES}",
    "mlp of numbers": "effects calibration fitted predictive",
    "mlp by its members": f"effects boundary {CLASSES}",
    "mlp by all its weights": f"effects boundary {CLASSES}",
    "mlp of counts": "effects calibration fitted predictive",
    "cnn": f"effects boundary {CLASSES}",
    "rnn": CLASSES,
    "rnn of steps": CLASSES,
    "glm": f"coefficients effects calibration fitted predictive {DRAWN}",
    "glm of an ordered label": f"coefficients effects boundary {CLASSES} {DRAWN}",
    "glm with groups": f"coefficients effects calibration fitted predictive {DRAWN}",
    "svm": f"effects boundary {CLASSES} {POSTERIOR}",
    "vae": "latent reconstructions predictive",
    "vae with a target": f"groups latent reconstructions effects boundary {CLASSES}",
    "gan": "latent reconstructions predictive",
    "gan with a target": "latent reconstructions predictive",
    "transformer": "predictive",
    "transformer with a target": f"groups effects boundary {CLASSES}",
    "transformer of numbers": "effects calibration fitted predictive",
    "transformer of sequences": "forecast",
    "program": f"predictive {DRAWN}",
}
"""What can be seen of each system: written down by hand, as a reader would expect it."""


def test_every_system_is_looked_at():
    assert {*HAS} == {*SYSTEMS}


@pytest.mark.parametrize("name", SYSTEMS)
def test_kinds_follow_from_what_a_model_can_do(name, opened):
    assert {each.name for each in kinds(opened(name))} == {*f"{HAS[name]} {ALL}".split()}


def drawn(fit, kind):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", PplWarning)
        plan = planned(fit, kind)
        picture = plan.pictures[0]
        content = rendered(plan.figure(), "png", 30)
    assert content.startswith(b"\x89PNG")
    assert picture.title
    assert picture.reading.endswith(".")
    assert len(picture.table)
    assert picture.size[0] <= 6.5
    assert len(sketched(picture, 60).splitlines()) != 1
    return picture


@pytest.mark.parametrize(
    ("name", "kind"),
    [("hmm", "states"), ("hmm", "transitions"), ("gmm with a target", "groups"), ("gmm with a target", "roc")]
    + [("logistic", "coefficients"), ("logistic", "boundary"), ("glm", "fitted"), ("vae", "latent")]
    + [("program", "marginals"), ("vae", "reconstructions"), ("hmm", "graph"), ("gmm", "pairs")]
    + [("gmm", "prior_predictive")],
)
def test_a_picture_is_drawn(name, kind, opened):
    drawn(opened(name), kind)


@pytest.mark.slow
@pytest.mark.parametrize("name", SYSTEMS)
def test_every_picture_is_drawn(name, opened):
    for each in kinds(opened(name)):
        drawn(opened(name), each.name)
    assert rendered(planned(opened(name)).figure(), "pdf").startswith(b"%PDF")


# What they show


def test_the_forecast_is_that_of_the_verb():
    t = np.arange(60)
    x = np.random.default_rng(0).normal(4.0 * (t // 10 % 2), 1.0)
    fit = ppl.fit(ppl.HMM(states=2), {"x": x}, restarts=1)
    verb = fit.forecast(4, level=0.8)
    table = planned(fit, "forecast", steps=4, level=0.8).pictures[0].table
    np.testing.assert_allclose(table["mean"], verb["x"])
    np.testing.assert_allclose(table["lower"], verb["x_lower"])
    shares = planned(fit, "states").pictures[0].table["share of rows"]
    own = fit.predict()[["smoothed_0", "smoothed_1"]].mean().to_numpy()
    np.testing.assert_allclose(shares, own, atol=0.02)  # of some of the draws


def test_groups_are_where_the_model_has_them(opened):
    fit = opened("gmm")
    table = planned(fit, "groups").pictures[0].table
    mean = fit.bound.variables(fit.draws)[0]["mean"][1].mean(0)  # (K, columns)
    for j, name in enumerate(fit.data.names):
        sd = table[f"{name} sd"].to_numpy()
        assert (np.abs(table[f"{name} mean"] - mean[:, j]) < 0.05 * sd + 0.02).all()


def test_marginal_effects_of_a_line_are_its_slope():
    rng = np.random.default_rng(0)
    x, z = rng.normal(size=(2, 80))
    fit = ppl.fit(ppl.GLM(), {"x": x, "z": z, "y": 1 + 2 * x - z + 0.3 * rng.normal(size=80)}, target="y")
    theta = fit.draws
    e = effect(fit, fit.data, fit.data.schema.columns[0], theta, (0.05, 0.95))
    slope = fit.bound.user(theta)[1][:, 0, 0].mean()
    found = (e.mean[-1, 0] - e.mean[0, 0]) / (e.values[-1] - e.values[0])
    assert found == pytest.approx(slope, rel=1e-6)
    own = fit.bound.coefficients(theta)
    assert own.sd[0] == pytest.approx(x.std(), rel=1e-6)
    table = planned(fit, "coefficients").pictures[0].table.set_index("column")
    assert table.loc["x", "a_sd"] == pytest.approx(slope * x.std(), rel=0.05)


def test_numbers_are_judged_by_the_model_that_made_them():
    from scipy.stats import norm

    from ppl_models.report.pictures.numbers import seen

    rng = np.random.default_rng(3)
    x = rng.normal(size=400)
    y = 1 + 2 * x + 0.5 * rng.normal(size=400)
    fit = ppl.fit(ppl.GLM(), {"x": x, "y": y}, target="y")
    s = seen(fit, Wish(fit.data))
    slope, level = np.polyfit(x, y, 1)
    exact = norm.cdf(y, level + slope * x, np.std(y - level - slope * x))
    np.testing.assert_allclose(s.below, exact, atol=0.03)
    inside = (y >= s.lower) & (y <= s.upper)
    assert 0.86 < inside.mean() < 0.94
    off = planned(fit, "calibration", {"x": x, "y": y + 0.6}).pictures[0]
    assert "leaves it" in off.reading
    assert "stays in it" in planned(fit, "calibration").pictures[0].reading


def test_a_predictive_check_sees_a_wrong_family():
    rng = np.random.default_rng(0)
    good = ppl.fit(ppl.GMM(components=1), {"x": rng.normal(size=500)}, restarts=1)
    bad = ppl.fit(ppl.GMM(components=1), {"x": rng.exponential(size=500) ** 2}, restarts=1)
    outside = []
    for fit in (good, bad):
        t = planned(fit, "predictive").pictures[0].table
        outside.append(((t["observed"] < t["lower"]) | (t["observed"] > t["upper"])).mean())
    assert outside[0] < 0.3 < outside[1]


def test_draws_of_the_prior_are_from_the_prior(opened):
    from scipy.stats import kstest, t

    gmm = opened("gmm").bound
    weight = gmm.variables(gmm.prior_draws(4_000, 1))[0]["weight"][1]
    assert (
        kstest(weight[:, 0], "beta", (gmm.structure.concentration, gmm.structure.concentration)).pvalue > 1e-3
    )
    x = np.random.default_rng(0).normal(size=60)
    y = np.where(np.arange(60) % 2, "a", "b")
    for prior, exact in (("normal", "norm"), ("student_t", t(4.0).cdf)):
        options = {"prior_df": 4.0} if prior == "student_t" else {}
        fit = ppl.fit(ppl.Logistic(prior=prior, **options), {"x": x, "y": y}, target="y")
        theta = fit.bound.prior_draws(4_000, 2)
        standardised = theta["regression"]["coefficient"][:, 0, 0].numpy() / float(fit.bound.prior_scale[0])
        assert kstest(standardised, exact).pvalue > 1e-3
        assert torch.isfinite(fit.bound.log_prior(theta)).all()


@pytest.mark.slow
def test_a_prior_that_cannot_be_drawn_from_is_left_out():
    x, y = np.random.default_rng(0).normal(size=60), np.where(np.arange(60) % 2, "a", "b")
    horseshoe = ppl.fit(ppl.Logistic(prior="horseshoe"), {"x": x, "y": y}, target="y")
    with pytest.raises(Unsupported):
        horseshoe.bound.prior_draws(10, 0)
    assert planned(horseshoe, "marginals").pictures[0].table["sd"].min() > 0


# How they are asked for


def test_what_there_is_not_is_refused_in_one_line(opened):
    fit = opened("hmm")
    with pytest.raises(Unsupported, match="no picture roc; it has states, forecast, transitions"):
        fit.plot("roc")
    with pytest.raises(UsageError, match="did you mean states"):
        fit.plot("sates")
    with pytest.raises(UsageError, match="no --steps; states, forecast has it"):
        fit.plot("training", steps=3)
    with pytest.raises(UsageError, match="there is no 'z' to be drawn; there are x, y"):
        fit.plot("states", columns=["z"])
    with pytest.raises(UsageError, match=r"written to \.png, \.svg, \.pdf"):
        fit.plot("training", file="a.gif")
    with pytest.raises(UsageError, match="level must be between 0 and 1"):
        fit.plot("forecast", level=2)
    with pytest.raises(UsageError, match="takes a figure"):
        fit.plot(ax=Figure().subplots())


def test_axes_and_figures_of_ones_own(opened, tmp_path):
    fit = opened("logistic")
    ax = Figure().subplots()
    assert fit.plot("roc", ax=ax) == (ax,)
    assert ax.get_xlabel() == "false positive rate"
    with pytest.raises(UsageError, match="give figure= instead"):
        fit.plot("marginals", ax=Figure().subplots())
    parts = Figure(figsize=(8, 4)).subfigures(1, 2)
    left = fit.plot("coefficients", figure=parts[0], file=tmp_path / "two.svg")
    assert left[0].figure is parts[0]
    assert left._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(OutputError, match="cannot be written"):
        fit.plot("roc", file=tmp_path / "no" / "such.png")
    assert [p.name for p in tmp_path.iterdir()] == ["two.svg"]


def test_other_rows_may_be_drawn(opened):
    fit = opened("logistic")
    other = SYSTEMS["logistic"].table(2)
    picture = planned(fit, "calibration", other).pictures[0]
    assert "rows of the fit" not in picture.title
    assert "flatter" not in picture.reading
    again = planned(fit, "calibration", other).pictures[0]
    pd.testing.assert_frame_equal(picture.table, again.table)


def test_a_run_without_rows_has_pictures_of_parameters(opened, tmp_path):
    path = opened("logistic").save(tmp_path / "slim", slim=True)
    slim = ppl.load(path)
    assert {"coefficients", "marginals", "training"} <= {each.name for each in kinds(slim)}
    with pytest.raises(Unsupported, match="give DATA"):
        slim.plot("roc")
    assert slim.plot("roc", SYSTEMS["logistic"].table(2))


@pytest.mark.slow
def test_nothing_is_left_behind(places):
    """Neither pyplot, which keeps figures, nor a changed style or generator."""
    code = f"""
import sys, matplotlib, numpy as np, torch, ppl_models as ppl
def style():
    return {{name: value for name, value in matplotlib.rcParams.items() if not name.startswith("backend")}}
before, state = style(), torch.get_rng_state()
fit = ppl.load({str(places / "gmm")!r})
fit.plot("groups", file={str(places.parent / "groups.png")!r})
assert fit._repr_html_().count("data:image/png;base64,") == 1
assert style() == before, "the style"
assert torch.equal(torch.get_rng_state(), state), "the generator"
pyplot = sys.modules.get("matplotlib.pyplot")  # ArviZ imports it
assert pyplot is None or not pyplot.get_fignums(), "a figure"
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=300)


def test_the_same_picture_twice_is_the_same_file(opened):
    fit = opened("hmm")
    for form in ("svg", "pdf"):
        once, again = (rendered(planned(fit, "forecast", steps=3).figure(), form) for _ in range(2))
        assert once == again


def test_names_that_are_no_words(tmp_path):
    rng = np.random.default_rng(0)
    odd = {"price ($) & $x_1$": rng.normal(size=40), "<b>名\n前</b>": rng.normal(size=40)}
    fit = ppl.fit(ppl.GMM(components=1), odd, restarts=1)
    for kind in ("groups", "data"):
        content = rendered(planned(fit, kind).figure(), "svg").decode()
        assert "price ($) &amp; $x_1$" in content
        assert "<b>" not in content


def test_a_panel_has_the_most_telling_ones(opened):
    fit = opened("hmm")
    titles = [p.title for p in panel(fit, Wish(fit.data), True).pictures]
    assert titles[0] == "States over the series"
    assert not any("Forecast" in title for title in titles)  # it is in that of the states
    assert len(titles) <= 6
    assert max(each.telling for each in KINDS.values()) == KINDS["states"].telling


def test_style_of_the_caller_is_kept(opened):
    with matplotlib.rc_context({"font.size": 31.0}):
        opened("gmm").plot("training")
        assert matplotlib.rcParams["font.size"] == 31.0
