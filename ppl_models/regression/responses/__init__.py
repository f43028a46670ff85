"""What a target is given its linear predictor: one family of distributions a file.

`response` says what a family is; `RESPONSES` are those of numbers, by the name that users give them.
"""

from ppl_models.regression.responses.binomial import Binomial
from ppl_models.regression.responses.categorical import Categorical
from ppl_models.regression.responses.gamma import Gamma
from ppl_models.regression.responses.hinge import Hinge, OneAgainstRest
from ppl_models.regression.responses.negative_binomial import NegativeBinomial
from ppl_models.regression.responses.normal import Normal
from ppl_models.regression.responses.ordinal import Ordinal
from ppl_models.regression.responses.poisson import Poisson
from ppl_models.regression.responses.response import NumberResponse, Response
from ppl_models.regression.responses.student_t import StudentT

RESPONSES: dict[str, type[NumberResponse]] = {
    family.name: family for family in (Normal, StudentT, Poisson, NegativeBinomial, Binomial, Gamma, Ordinal)
}

__all__ = ["RESPONSES", "Categorical", "Hinge", "OneAgainstRest", "NumberResponse", "Ordinal", "Response"]
