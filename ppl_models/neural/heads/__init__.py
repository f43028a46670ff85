"""Bayesian regressions on the features of a network: what a target is, its posterior, its predictive.

    class    y_n ~ Categorical(softmax(A φ_n)),  φ_n = α + Bᵀ z_n,  b_j ~ N(c_j, s² I)
    number   y_n ~ N(α + βᵀ z_n, σ²),  β_j ~ N(c_j, σ² s²),  σ² ~ InverseGamma(1, 0.05)
    family   y_n ~ p(· | f_n, ψ),  f_n = α + βᵀ z_n,  β_j ~ N(c_j, s²),  ψ as `regression.responses` has it

with z_n the standardised features, A the contrasts of `ppl_models.regression.priors`, and y_n of a number in
units of its standard deviation. The centre c is the network's own output layer. The scale s is that of the
best score of held-out rows, since features know the rows that they were trained on, and the evidence of these
would take them at their word; where no rows are held out it is that of the largest evidence: the Laplace
approximation at the mode (MacKay 1992, Bayesian interpolation, Neural Computation 4,
https://doi.org/10.1162/neco.1992.4.3.415), of a normal number the evidence itself. The posterior of classes
and families is the Gaussian of `ppl_models.regression.newton` with full covariance, with ψ integrated out as
`ppl_models.regression.hyper` does it; that of a normal number the normal-inverse-gamma distribution itself.

Held-out rows set one number more, the temperature: predictions are softmax(A φ/T), or of a number T times as
wide (Guo, Pleiss, Sun & Weinberger 2017, On calibration of modern neural networks, ICML,
https://arxiv.org/abs/1706.04599). It is no part of the posterior.
"""

from ppl_models.neural.heads.classes import ClassHead
from ppl_models.neural.heads.family import FamilyHead
from ppl_models.neural.heads.features import FeatureRows
from ppl_models.neural.heads.head import INTERCEPT, NAME, SCALES, Fitted, Head
from ppl_models.neural.heads.normal import RATE, SHAPE, NumberHead

__all__ = [
    "INTERCEPT", "NAME", "RATE", "SCALES", "SHAPE",
    "ClassHead", "FamilyHead", "FeatureRows", "Fitted", "Head", "NumberHead",
]  # fmt: skip
