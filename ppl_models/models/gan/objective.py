"""What a GAN is trained on, what it is stopped by, and the encoder's objective.

Real rows and generated ones are paired with the label of the real row, and are shown with its missing cells.
A tenth of the rows, 10,000 at most and none of fewer than 400, is held out. The evidence is the two-sample
score of these against as many generated ones by a classifier that learned from training rows and from other
generated ones; where none are held out, of the two halves of the rows in turn.

The encoder is fitted to the generator when that is done, by draws of the model itself:

    max_φ E_{z ~ N(0, I), x = G(z, y)} log q_φ(z | x, y)

whose optimum is the posterior of z among normal distributions (the reverse direction of a variational
bound, which an implicit model does not have; Dumoulin et al. 2017, Adversarially learned inference, ICLR,
https://arxiv.org/abs/1606.00704, discuss both).
"""

import math

import numpy as np
import torch
from torch import Tensor, nn

from ppl_models.data import Schema
from ppl_models.inference.adversarial import AdversarialTarget, Given, Pair
from ppl_models.inference.gradient import GradientTarget
from ppl_models.models.gan.coding import Coding, Rows
from ppl_models.models.gan.networks import Players
from ppl_models.models.gan.two_sample import Components, Test, told_apart

HELD_OUT, MOST, FEW = 0.1, 10_000, 400
"""The share of rows that is held out, how many at most, and the number of rows below which none are."""

LEARNED, JUDGED = 5_000, 3_000
"""Rows that the classifier learns from at most, and by which it is judged."""

BLOCK = 4_096
"""Rows that are generated at a time."""


class GANTarget(AdversarialTarget):
    """A generator and a critic on the rows of a fit.

    Args:
        schema: the columns, for messages and kinds.
        coding: how cells are coded.
        module: the networks, on the device of the rows.
        rows: the rows of the fit that have their label.
        penalty: γ.
        seed: of the rows that are held out, and of the noise of `evidence`.

    Attributes:
        train, held: positions of the training rows and of the others, (rows,) int64.
    """

    module: Players

    def __init__(
        self, schema: Schema, coding: Coding, module: Players, rows: Rows, penalty: float, seed: int
    ) -> None:
        self.schema, self.coding, self.module, self.data = schema, coding, module, rows
        self.penalty, self.seed = penalty, seed
        n = len(rows)
        held = 0 if n < FEW else min(round(HELD_OUT * n), MOST)
        order = torch.from_numpy(np.random.default_rng(seed).permutation(n))
        self.held = order[:held].sort().values.to(rows.x.device)
        self.train = order[held:].sort().values.to(rows.x.device)
        self.rows = n - held
        self._mean_weight = 1.0 if rows.weight is None else float(rows.weight[self.train].mean())
        self._components: Components | None = None

    def players(self) -> tuple[nn.Module, nn.Module]:
        """Critic and generator."""
        return self.module.critic, self.module.generator

    def pair(self, rows: Tensor) -> Pair:
        """Training rows, and generated ones with their labels."""
        batch = self.data.at(self.train.index_select(0, rows.to(self.train.device)))
        fake = self.module.generate(*_ordered(self.module, len(batch), batch.y))
        weight = None if batch.weight is None else batch.weight / self._mean_weight
        return Pair(batch.x, fake, (batch.y, batch.seen), weight)

    def critic(self, shown: Tensor, given: Given) -> Tensor:
        """D, (B,), given the label and which cells are there."""
        y, seen = given
        return self.module.criticise(shown, y, seen)

    def evidence(self) -> float:
        """The two-sample score."""
        return self.test().score

    def test(self, seed: int = 0, rounds: int = 60) -> Test:
        """Whether held-out rows can be told from generated ones, with the same noise every time.

        Args:
            seed: of other noise.
            rounds: of the classifier.
        """
        sets = [self.train[i] for i in self._some(self.train, LEARNED, 1)]
        if len(self.held):
            sets.append(self.held[self._some(self.held, JUDGED, 2)[0]])
        real = [self.cells(at) for at in sets]
        fake = [self.generated(at, self.seed + 31 * (i + 1) + 1_009 * seed) for i, at in enumerate(sets)]
        labels = np.array([*(self.schema.columns[j].labelled for j in self.coding.order), True])
        labels = labels[: real[0].shape[1]]
        if self.schema.shape is not None:
            project = self._components = self._components or Components(np.nan_to_num(real[0]))
            real, fake = ([project(np.nan_to_num(v)) for v in part] for part in (real, fake))
            labels = np.zeros(real[0].shape[1], bool)
        later = (real[1], fake[1]) if len(sets) > 1 else (None, None)
        return told_apart(real[0], fake[0], *later, labels, self.seed, rounds)

    def _some(self, index: Tensor, most: int, which: int) -> list[Tensor]:
        """Some of these, the same every time; as often as their weights say, where they have some."""
        rng = np.random.default_rng(self.seed + which)
        n = len(index)
        if self.data.weight is None:
            found = np.sort(rng.permutation(n)[:most])
        else:
            weight = self.data.weight[index].double().cpu().numpy()
            found = np.sort(rng.choice(n, min(most, n), p=weight / weight.sum()))
        return [torch.from_numpy(found).to(index.device)]

    def cells(self, index: Tensor) -> np.ndarray:
        """Rows at these positions in the user's units, (n, M) and the label; NaN where missing."""
        return self._table(self.data.at(index), None)

    @torch.no_grad()
    def generated(self, index: Tensor, seed: int) -> np.ndarray:
        """As many generated rows, with the labels and the missing cells of these."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            found = []
            for some in index.split(BLOCK):
                rows = self.data.at(some)
                x = self.module.generate(*_ordered(self.module, len(rows), rows.y))
                found.append(self._table(rows, x))
        return np.concatenate(found)

    def _table(self, rows: Rows, x: Tensor | None) -> np.ndarray:
        cells = self.coding.decode(rows.x if x is None else x)
        if rows.seen is not None:
            cells = np.where(rows.seen.cpu().numpy(), cells, np.nan)
        if rows.y is not None:
            cells = np.column_stack([cells, rows.y.cpu().numpy()])
        return cells

    def where(self) -> str:
        """Which weights are not finite."""
        for name, value in self.module.named_parameters():
            if not bool(value.isfinite().all()):
                return f"the weights {name} are not finite; lower the learning rate: it"
        return "a loss of the critic or the generator"


def _ordered(net: Players, number: int, y: Tensor | None) -> tuple[Tensor, Tensor | None, Tensor]:
    """z, y and the noise of choices, as the generator takes them."""
    z, noise = net.draw(number, y)
    return z, y, noise


class EncoderTarget(GradientTarget):
    """The encoder of a generator that no longer changes: see the module.

    Args:
        of: the objective that the generator was trained on.
    """

    def __init__(self, of: GANTarget) -> None:
        self.of, self.module, self.rows = of, of.module.encoder, of.rows
        of.module.generator.requires_grad_(False)

    def loss(self, rows: Tensor, epoch: float) -> Tensor:
        """−log q(z | x, y), nats a row, of generated rows with the labels and missing cells of these."""
        net, batch = self.of.module, self.of.data.at(self.of.train[rows.to(self.of.train.device)])
        z, y, noise = _ordered(net, len(batch), batch.y)
        with torch.no_grad():
            x = net.generate(z, y, noise)
        mean, log_var = net.posterior(x, y, batch.seen)
        each = 0.5 * (log_var + (z - mean).square() * (-log_var).exp() + math.log(2 * math.pi))
        return each.sum(1).mean()

    @torch.no_grad()
    def evidence(self) -> float:
        """Log q(z | x, y) of rows that are the same every time."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.of.seed + 17)
            return -float(self.loss(torch.arange(min(self.rows, 2_048)), 0.0))
