"""From the guide that training leaves to draws whose widths are right.

A mean-field guide is too narrow where components overlap, as it takes the latents of the rows to say
nothing of one another. What is done about it goes as far as it has to, and as the size of the model allows:

1. `mean field`: its draws, weighed against the exact joint density (Pareto-smoothed importance sampling),
   are good enough where k̂ is small and the weights are even.
2. `Gaussian`: the Gaussian rule in unconstrained space, on the exact log joint with the latents summed out;
   its draws weighed in the same way.
3. `moved`: where neither will do on small data, draws of the better one are moved by short Hamiltonian chains
   until they have forgotten where they came from.
4. `linear response`: where there are too many dimensions or rows for these, the posterior is close to a
   Gaussian, whose covariance follows from the mean-field one and from how much the latents are not known
   (Giordano, Broderick & Jordan 2018, Covariances, robustness, and variational Bayes, JMLR 19). On small data
   its draws are moved as well, up to some hundred dimensions.

On data of every size the first that is good enough is taken.
"""

from ppl_models.calibration.base import ALIKE, Calibrated, draw, evenness, number_of_draws
from ppl_models.data import Dataset
from ppl_models.kinds import KINDS
from ppl_models.models.bound import Bayesian, Learned, Params

__all__ = ["ALIKE", "Calibrated", "calibrate", "draw", "evenness", "number_of_draws", "restored"]


def calibrate(bound: Bayesian, data: Dataset, params: Params, device: str, seed: int) -> Calibrated:
    """The first of the ways above that is good enough."""
    return KINDS[bound.kind].part("calibration").calibrate(Learned(bound, params), data, device, seed)


def restored(bound: Bayesian, method: str, learned: Params, params: Params) -> Calibrated:
    """What `calibrate` gave, from its method and `Calibrated.params`."""
    return KINDS[bound.kind].part("calibration").restored(bound, method, learned, params)
