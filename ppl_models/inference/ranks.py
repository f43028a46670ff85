"""The processes of a fit, as an update rule sees them."""

from collections.abc import Callable, Mapping
from typing import NoReturn, Protocol

from torch import Tensor

Tensors = Mapping[str, Tensor]

Share = Mapping[str, Callable[[Tensors], Tensors]]
"""What can be summed over the rows of a rank, by name: each gives its part of the sum."""


class Ranks(Protocol):
    """The processes of a fit, as one of them sees them: see `ppl_models.distributed.Team`."""

    rank: int
    size: int

    def sum(self, what: str, given: Tensors, own: Share) -> dict[str, Tensor]:
        """A sum over all ranks, at rank 0.

        Args:
            what: name of the sum.
            given: at which parameters.
            own: the share of rank 0.
        """
        ...

    def serve(self, share: Share) -> NoReturn:
        """Add up what rank 0 asks for, as long as it is of this share."""
        ...
