"""What is checked of user-defined models alone: that the posterior has one mode."""

import numpy as np

from ppl_models.checks import Check
from ppl_models.inference.loop import Trained

SAME, BESIDE = 0.3, 4.0
"""Nats up to which optima count as the same (estimates differ), and below which another one matters."""


def modes(trained: Trained) -> list[Check]:
    """Whether another optimum has so much of the probability that one Gaussian cannot stand for all."""
    r = trained.restarts
    if r is None:
        return []
    others = [r.elbo[0] - value for value in r.elbo if SAME < r.elbo[0] - value < BESIDE]
    if not others:
        return []
    share = 100 / (1 + float(np.exp(min(others))))
    reason = (
        f"another optimum is only {min(others):.1f} nats below, about {share:.0f} % of the probability: the "
        "posterior has several modes, and draws are of one; order or fix what can be exchanged"
    )
    return [Check("modes", min(others), "fail", reason)]
