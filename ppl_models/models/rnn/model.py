"""Recurrent network for the class or the number of a sequence, or of its steps, with a Bayesian head.

    h_t = GRU_θ(x_t, h_{t−1}) forwards and backwards
    z_n = the mean over members of dense_θ,m([mean_t h_t, max_t h_t])      a target constant in every sequence
    z_t = the mean over members of dense_θ,m(h_t)                          one that varies
    y ~ Categorical(softmax(A φ)), φ = α + Bᵀ z, b_j ~ N(c_j, s² I)          a label
    y ~ N(α + βᵀ z, σ²), β_j ~ N(c_j, σ² s²), σ² ~ InverseGamma(1, 0.05)     a number, in its sds
    y ~ p(· | α + βᵀ z, ψ), β_j ~ N(c_j, s²), ψ ~ p(ψ)                      a number of another family

Without a target it forecasts, one step after another: with L the steps of a season, s a sequence's own scale
and base_t = x_{t−L} (0 of counts),

    h_t = GRU_θ(x_{t−1}, x_{t−1} − base_{t−1}, base_t, calendar_t; h_{t−1})
    x_t = base_t + s (κ m_θ(h_t) + T σ_θ(h_t) ε_t),  ε_t ~ Student t with df_θ(h_t)        a number
    x_t ~ NegativeBinomial(mean s m_θ(h_t), dispersion r_θ(h_t))                       a count

(Salinas, Flunkert, Gasthaus & Januschowski 2020, DeepAR, Int. J. Forecasting 36,
https://doi.org/10.1016/j.ijforecast.2019.07.001.) Its draws are simulated paths; there is no head. The last
eighth of long sequences is held out (of short ones some sequences): it stops the training; κ in {0, ¼, ½, ¾,
1} and T have its highest density of one step; and T is raised where that lowers the CRPS of forecasts of many
steps from within it.

Numbers enter in units of their column and of their sequence, missing cells as 0 with a flag. c is the
network's own output layer. θ is a point estimate by the gradient rule, stopped by held-out sequences; the
posterior is that of the head given the features. (Cho et al. 2014, EMNLP, https://arxiv.org/abs/1406.1078;
Snoek et al. 2015, ICML, https://arxiv.org/abs/1502.05700.)
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ppl_models.inference.settings import NetworkSettings, Training
from ppl_models.model import Model
from ppl_models.models.rnn.fields import RNNFields

if TYPE_CHECKING:
    from ppl_models.bound import Bound
    from ppl_models.data import Schema


@dataclass(frozen=True)
class RNN(RNNFields, Model):
    """Recurrent network: classes or numbers of sequences, or of their steps; without a target a forecast.

    Example:
        >>> RNN(units=32).units
        32
    """

    name: ClassVar[str] = "rnn"
    summary: ClassVar[str] = (
        "recurrent network: classes or numbers of sequences or steps, forecasts without a target"
    )
    example: ClassVar[str] = " --target y --sequence id"
    settings: ClassVar[type[Training]] = NetworkSettings

    @classmethod
    def bounds(cls) -> "tuple[type[Bound], ...]":
        """Of labels and of numbers, with and without a head; and of what follows a sequence."""
        from ppl_models.models.rnn.bound import BOUNDS
        from ppl_models.models.rnn.forecast import Forecaster

        return (*(bound for pair in BOUNDS.values() for bound in pair), Forecaster)

    def bind(self, schema: "Schema") -> "Bound":
        """The network over the columns of a schema, by the kind of its target."""
        from ppl_models.models.rnn.bound import bound_of
        from ppl_models.models.rnn.forecast import Forecaster

        if schema.target is None:
            return Forecaster(self, schema)
        return bound_of(self, schema)
