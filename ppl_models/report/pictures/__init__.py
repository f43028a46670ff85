"""The kinds of pictures, a file an idea. A further kind is a function in one of them, and a line here."""

from ppl_models.report.picture import Kind
from ppl_models.report.pictures.classes import calibration, confusion, pr, roc
from ppl_models.report.pictures.effects import boundary, effects
from ppl_models.report.pictures.fitting import data, predictive
from ppl_models.report.pictures.groups import groups
from ppl_models.report.pictures.latents import latent, reconstructions, samples
from ppl_models.report.pictures.learning import training
from ppl_models.report.pictures.numbers import fitted
from ppl_models.report.pictures.parameters import coefficients, forest, marginals, pairs
from ppl_models.report.pictures.prior import prior_predictive
from ppl_models.report.pictures.series import forecast, states, transitions
from ppl_models.report.pictures.structure import graph

KINDS: dict[str, Kind] = {
    each.name: each
    for each in (
        groups, states, forecast, transitions, latent, reconstructions, samples, coefficients, effects,
        boundary, predictive, prior_predictive, fitted, calibration, roc, pr, confusion, marginals,
        forest, pairs, training, data, graph,
    )
}  # fmt: skip
"""Name -> the kind, in the order in which they are listed."""
