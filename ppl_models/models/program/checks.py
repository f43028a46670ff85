"""What is checked of user-defined models alone: whether the posterior has modes that the draws are not of."""

from ppl_models.checks import Check
from ppl_models.inference.loop import Trained
from ppl_models.models.program.modes import described, gaussians


def modes(trained: Trained) -> list[Check]:
    """How many modes the draws are of, and whether there are more than could be combined."""
    params = trained.params
    if "modes.unseen" in params:
        left = int(params["modes.unseen"][0])
        reason = (
            f"the posterior has at least {left + 1} modes, too many to combine, and draws are of one; order "
            "what can be exchanged, or fix what has no sign"
        )
        return [Check("modes", left + 1, "fail", reason)]
    if "modes.loc" not in params:
        return []
    q = gaussians(params)
    alike = (
        ", some of which the density does not tell apart: means of single parameters say little there, so "
        "order what can be exchanged, or fix its sign"
    )
    same = alike if "modes.images" in params else ""
    return [Check("modes", len(q.log_weight), "ok", f"draws are of {described(q)}{same}")]
