"""The E step of rows of which several processes have a part: expected statistics add up."""

from collections.abc import Mapping

from torch import Tensor

from ppl_models.distributed import Share, Shares
from ppl_models.kernels.backend import Backend

EVIDENCE = "log evidence"
"""The name of the log evidence beside those of the factors."""


def share_of(backend: Backend) -> Share:
    """What can be summed over the rows of a backend: the E step, and the log evidence alone."""

    def expect(natural: Mapping[str, Tensor]) -> dict[str, Tensor]:
        evidence, statistics = backend.expect(natural)
        return {EVIDENCE: evidence, **statistics}

    def evidence(natural: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {EVIDENCE: backend.evidence(natural)}

    return {"expect": expect, "evidence": evidence}


class SpreadRows(Backend):
    """The E step of all rows, by those who have them.

    Args:
        whole: of all rows, for whatever is not a sum over them.
        shares: who has which.
    """

    def __init__(self, whole: Backend, shares: Shares) -> None:
        super().__init__(whole.problem)
        self.whole, self.shares = whole, shares

    def expect(self, natural: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Backend`."""
        device = next(iter(natural.values())).device
        found = {name: value.to(device) for name, value in self.shares.sum("expect", natural).items()}
        return found.pop(EVIDENCE), found

    def evidence(self, natural: Mapping[str, Tensor]) -> Tensor:
        """See `Backend`."""
        device = next(iter(natural.values())).device
        return self.shares.sum("evidence", natural)[EVIDENCE].to(device)
