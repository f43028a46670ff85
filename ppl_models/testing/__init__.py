"""One contract for all models, ours and a user's: what the verbs rely on, tried out.

    from ppl_models.testing import check_model
    check_model(Coin())

θ* is drawn, data simulated from p(x | θ*), and the model fitted to it: a posterior that is right covers θ*.
Each variable has to be within 6 posterior standard deviations of its true value. Were the posterior normal, a
right model would fail with probability 2 · 10⁻⁹ a variable; with tails as heavy as those of Student's t with
10 degrees of freedom, 1 · 10⁻⁴. (Cook, Gelman & Rubin 2006, Validation of software for Bayesian models using
posterior quantiles, J. Comput. Graph. Statist. 15; Talts et al. 2018, https://arxiv.org/abs/1804.06788.)
"""

from dataclasses import dataclass
from typing import Any

from ppl_models.api import Fit, fit
from ppl_models.capabilities import Scores
from ppl_models.model import Model
from ppl_models.testing import networks, parts
from ppl_models.testing.contract import ContractError, training
from ppl_models.testing.simulating import simulated as simulate

__all__ = ["Checked", "ContractError", "check_model"]


@dataclass(frozen=True)
class Checked:
    """What was tried.

    Attributes:
        fit: to the simulated data.
        done: one line on each part.
    """

    fit: Fit
    done: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(self.done)


def check_model(model: Model, data: Any = None, *, rows: int = 100, seed: int = 0, **options: Any) -> Checked:
    """Try all that a model has to do.

    Args:
        model: for instance `Coin()`.
        data: rows like those the model is for: what it observes is replaced by what a draw of its posterior
            given them simulates. Without any, predictors are standard normal and θ* is drawn from the prior.
        rows: to simulate, where no data is given.
        seed: of everything.
        **options: of `ppl_models.fit`, such as `target="y"`.

    Raises:
        ContractError: naming the first part of the contract that is not kept.
        PplError: the model cannot be fitted at all.
    """
    from ppl_models.registry import complete

    complete(type(model), type(model).__name__.lower())
    simulated, truth = simulate(model, data, rows, seed, options)
    found = fit(model, simulated, seed=seed, **training(options))
    if found.bayesian:
        done = [parts.ended(found), parts.recovered(found, truth), parts.joint(found), parts.saved(found)]
        done += [*parts.verbs(found), parts.order(found, truth, seed, options)]
    elif isinstance(found.bound, Scores):
        done = [parts.ended(found), networks.density(found), networks.bound(found), networks.saved(found)]
        done += parts.verbs(found)
    else:
        done = [parts.ended(found), networks.implicit(found), networks.saved(found), *parts.verbs(found)]
    done.append(parts.missing(found, seed, options))
    return Checked(found, tuple(line for line in done if line))
