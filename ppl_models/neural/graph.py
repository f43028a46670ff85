"""A network and its head at one value of θ as a graph of tensors, which other programs can run."""

from abc import abstractmethod
from typing import Any

from torch import Tensor, nn

from ppl_models.capabilities import Conditional, Graph
from ppl_models.draws import Draws
from ppl_models.errors import Unsupported
from ppl_models.neural.bound import Neural
from ppl_models.neural.training import Network


class NetworkGraph(nn.Module):
    """(n, P) cells ↦ probabilities (n, C), or means (n,).

    Args:
        bound: a network of one unit a row.
        theta: of its head, S = 1; nothing where the members stand for themselves.
    """

    def __init__(self, bound: "Exported", theta: Draws) -> None:
        super().__init__()
        bound = bound.to("cpu")
        self.network: Network = bound.network(bound.state)
        self.bound, self.theta, self.temperature = bound, theta, bound.temperature
        self.classes = isinstance(bound, Conditional)

    def forward(self, x: Tensor) -> Tensor:
        """The mean over members of features, standardised, then the head; or over what members say."""
        h = self.network.backbone(self.bound.cell_inputs(x))
        head, T = self.bound.head, self.temperature
        if self.bound.by_members:
            new: Any = head.from_outputs(self.network.outputs(h).transpose(0, 1), T)
        else:
            new = head.predictive(self.theta, self.bound.standardised(h.mean(1).double()), T)
        return (new.probs if self.classes else new.mean).double().mean(0)


class Exported(Neural):
    """Networks over the cells of a row."""

    @abstractmethod
    def cell_inputs(self, cells: Tensor) -> Any:
        """Rows as the backbone takes them, from cells (n, P) of the predictors, NaN where missing."""

    def graph(self, draws: Draws) -> Graph:
        """Probabilities of the classes, or means.

        Raises:
            Unsupported: all weights have a posterior.
        """
        if self.whole:
            raise Unsupported(
                "a network whose weights all have a posterior has no one graph; fit with --posterior head"
            )
        outputs = ("probabilities" if isinstance(self, Conditional) else "expected",)
        return Graph(NetworkGraph(self, draws), tuple(self.predictors), outputs)
