"""One chunk of a chain forward and backward: by compiled recursions on a CPU, by scans in torch elsewhere.

Both have the same two methods. `forward` filters a chunk's rows from the message that the chunk before has
left, `backward` smooths them from that of the chunk after. Either works on probabilities, scaled row by row,
or on their logarithms where scaled ones would underflow (`log`); `ppl_models.kernels.chain` decides which.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ppl_models.errors import DataError
from ppl_models.importing import lazy
from ppl_models.kernels import scan
from ppl_models.kernels.pool import pool
from ppl_models.kernels.rows import BEGINS, ENTERED, Chunk
from ppl_models.kernels.workspace import Workspace

if TYPE_CHECKING:
    from ppl_models.kernels import forward_backward
    from ppl_models.kernels.forward_backward import Kernels
else:
    forward_backward = lazy("ppl_models.kernels.forward_backward")  # Numba takes half a second to load

SPECIALISE = 20_000
"""Rows × chains from which compiling for exactly K states pays: two seconds, once a machine, against half the
time of a step at K = 4."""

UNROLLED = 32
"""States up to which it does."""

THREADED = 2_000
"""Rows × chains from which waking another thread pays."""


class Parameters(NamedTuple):
    """The chain's parameters in logs: start (R, K), transition (R, K, K); and the same exponentiated."""

    log_enter: Float[Tensor, "r 2 k"]
    log_A: Float[Tensor, "r k k"]
    enter: Float[Tensor, "r 2 k"]
    A: Float[Tensor, "r k k"]

    @classmethod
    def of(cls, log_start: Tensor, log_transition: Tensor) -> "Parameters":
        """Add the distribution in which a piece of a longer sequence is entered: the stationary one."""
        A = log_transition.exp()
        stationary = torch.linalg.matrix_power(A / A.sum(-1, keepdim=True), 64).mean(-2)
        log_enter = torch.stack([log_start, stationary.clamp_min(1e-300).log()], 1)
        return cls(log_enter, log_transition.contiguous(), log_enter.exp(), A.contiguous())


class Filtered(NamedTuple):
    """One chunk after the forward pass. `b` and `s` are scaled or logs, as `log` says.

    `alpha` (R, m, K) are the filtered probabilities p(z_t | x_{1:t}), or their logs; `log_c` (R, m) is
    log p(x_t | x_{1:t−1}).
    """

    alpha: Tensor
    log_c: Tensor
    b: Tensor
    s: Tensor
    log: bool


def each_share(function: Callable, tasks: np.ndarray) -> list:
    """Call `function(tasks[a:b], slice(a, b))` in as many threads as torch may use, with even shares."""
    threads = min(torch.get_num_threads(), len(tasks))
    if threads <= 1 or (tasks[:, 2] - tasks[:, 1]).sum() < THREADED:
        return [function(tasks, slice(0, len(tasks)))]
    done = np.cumsum(tasks[:, 2] - tasks[:, 1])
    cuts = np.searchsorted(done, np.linspace(0, done[-1], threads + 1)[1:-1]) + 1
    cuts = [0, *np.unique(cuts), len(tasks)]
    parts = [slice(a, b) for a, b in zip(cuts[:-1], cuts[1:], strict=True) if a < b]
    futures = [pool().submit(function, tasks[part], part) for part in parts]
    return [future.result() for future in futures]


def unreachable(row: int) -> DataError:
    """What to say of a row (counted from 0) that no path of the chain reaches."""
    return DataError(f"row {row + 1} has probability zero under every path of the chain")


class Underflow(ArithmeticError):
    """The scaled recursion ran out of exponents: use log space."""


class CompiledSteps:
    """The compiled kernels, on tensors that live in main memory."""

    def __init__(self, work: Workspace) -> None:
        self.take = work.take

    def forward(
        self, p: Parameters, log_b: Tensor, chunk: Chunk, carry: Tensor | None, log: bool
    ) -> Filtered:
        """Filter a chunk; `carry` (R, K) is α of the row before it, and `log_b` (R, m, K) is overwritten.

        Raises:
            Underflow: if scaled probabilities vanish.
            DataError: if a row has probability zero under every path.
        """
        R, m, K = log_b.shape
        tasks = chunk.tasks(R)
        carried = torch.zeros(R, K, dtype=log_b.dtype) if carry is None else carry.contiguous()
        if not log:
            top = log_b.amax(-1, keepdim=True)
            b = log_b.sub_(top).exp_()
            alpha, s = self.take("alpha", (R, m, K), b), self.take("s", (R, m), b)
            forward = _compiled(K, R * m).forward
            args = [x.numpy() for x in (b, p.enter, p.A)]
            rest = [x.numpy() for x in (carried, alpha, s)]
            bad = max(each_share(lambda part, _: forward(*args, part, *rest), tasks))
            if bad >= 0:
                raise Underflow
            log_c = torch.log(s, out=self.take("log_c", (R, m), b)).add_(top.squeeze(-1))
            return Filtered(alpha, log_c, b, s, False)
        alpha, s = self.take("alpha", (R, m, K), log_b), self.take("s", (R, m), log_b)
        args = [x.numpy() for x in (log_b, p.log_enter, p.log_A)]
        rest = [x.numpy() for x in (carried, alpha, s)]
        bad = max(each_share(lambda part, _: forward_backward.log_forward(*args, part, *rest), tasks))  # type: ignore[call-arg]
        if bad >= 0:
            raise unreachable(chunk.lo + bad)
        return Filtered(alpha, s, log_b, s, True)

    def backward(
        self, p: Parameters, f: Filtered, chunk: Chunk, message: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """γ (R, m, K), Σ_t w_t ξ_t (R, K, K), and v with its weight (R, K + 1) for the chunk before."""
        R, m, K = f.alpha.shape
        tasks = chunk.tasks(R)
        ends = np.tile(chunk.ends, R)
        received = torch.zeros(R, K + 1, dtype=f.alpha.dtype) if message is None else message
        left = torch.zeros_like(received)
        pairs = torch.empty(len(tasks), K, K, dtype=f.alpha.dtype)
        kernel = forward_backward.log_backward if f.log else _compiled(K, R * m).backward
        b, A, alpha, s = (x.numpy() for x in (f.b, p.log_A if f.log else p.A, f.alpha, f.s))
        each_share(
            lambda part, at: kernel(
                b,
                A,
                part,
                chunk.weight,
                ends[at],
                received.numpy(),
                alpha,
                s,
                pairs[at].numpy(),
                left.numpy(),
            ),
            tasks,
        )
        pairs = pairs.reshape(R, -1, K, K).sum(1)
        return (f.alpha.exp_(), pairs, left) if f.log else (f.alpha, pairs * p.A, left)


def _compiled(K: int, work: int) -> "Kernels":
    return forward_backward.kernels(K if work >= SPECIALISE and K <= UNROLLED else None)


class ScannedSteps:
    """Blocked scans in torch, on any device."""

    def __init__(self, work: Workspace) -> None:
        self.take = work.take

    def matrices(self, p: Parameters, b: Tensor, chunk: Chunk, log: bool) -> Tensor:
        """(R, m, K, K): the step into each row."""
        A, enter = (p.log_A, p.log_enter) if log else (p.A, p.enter)
        R, m, K = b.shape
        step = A.unsqueeze(1).expand(R, m, K, K).clone()
        for kind in (BEGINS, ENTERED):
            rows = torch.as_tensor(chunk.bounds[:-1][chunk.kind == kind], device=b.device)
            step[:, rows] = enter[:, kind, None, None, :].expand(R, len(rows), K, K)
        return step.add_(b.unsqueeze(-2)) if log else step.mul_(b.unsqueeze(-2))

    def forward(
        self, p: Parameters, log_b: Tensor, chunk: Chunk, carry: Tensor | None, log: bool
    ) -> Filtered:
        """See `CompiledSteps`."""
        R, _, K = log_b.shape
        if carry is None:
            carry = log_b.new_full((R, K), -float(np.log(K)) if log else 1.0 / K)
        if log:
            alpha, s = scan.prefix(carry, self.matrices(p, log_b, chunk, log), scan.LOG)
            bad = ~torch.isfinite(s)
            if bad.any():
                raise unreachable(chunk.lo + int(bad.nonzero()[0, 1]))
            return Filtered(alpha, s, log_b, s, True)
        top = log_b.amax(-1, keepdim=True)
        b = (log_b - top).exp_()
        alpha, log_s = scan.prefix(carry, self.matrices(p, b, chunk, log), scan.LINEAR)
        if not bool((log_s > np.log(1e-280)).all()):
            raise Underflow
        return Filtered(alpha, log_s + top.squeeze(-1), b, log_s.exp(), False)

    def backward(
        self, p: Parameters, f: Filtered, chunk: Chunk, message: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See `CompiledSteps`."""
        R, m, K = f.alpha.shape
        ring = scan.LOG if f.log else scan.LINEAR
        A = p.log_A if f.log else p.A
        unit = f.alpha.new_zeros(R, K) if f.log else f.alpha.new_ones(R, K)
        weight = torch.as_tensor(chunk.weight, dtype=f.alpha.dtype, device=f.alpha.device)
        matrices = self.matrices(p, f.b, chunk, f.log)
        last = unit
        if not chunk.ends[-1]:
            if message is None:
                raise AssertionError("a chunk that goes on needs the message of the next one")
            last = ring.matmul(A, message[:, :K].unsqueeze(-1)).squeeze(-1)
        beta, _ = scan.prefix(last, matrices.flip(1).transpose(-1, -2), ring)  # β_{t−1} for t = m … 1
        beta = torch.cat([beta[:, :-1].flip(1), last.unsqueeze(1)], 1)  # (R, m, K), up to scale

        if f.log:
            joint = f.alpha + beta
            log_z = joint.logsumexp(-1, keepdim=True)
            gamma, v = (joint - log_z).exp(), f.b + beta
            pair = (f.alpha[:, :-1, :, None] + A[:, None] + v[:, 1:, None, :]).flatten(2)
            xi = pair.softmax(-1).unflatten(2, (K, K))
        else:
            joint = f.alpha * beta
            gamma, v = joint / joint.sum(-1, keepdim=True), f.b * beta
            xi = f.alpha[:, :-1, :, None] * A[:, None] * v[:, 1:, None, :]
            xi = xi / xi.sum((-1, -2), keepdim=True)
        inner = weight.clone()
        inner[torch.as_tensor(chunk.bounds[:-1], device=inner.device)] = 0.0
        pairs = (xi * inner[1:, None, None]).sum(1)
        if not chunk.ends[-1] and message is not None:
            pairs = pairs + self._across(p, f, message)
        left = torch.cat([self._scaled(v[:, 0], p, f), weight[:1].expand(R, 1)], -1)
        return gamma, pairs, left

    def _scaled(self, v: Tensor, p: Parameters, f: Filtered) -> Tensor:
        return v - v.amax(-1, keepdim=True) if f.log else v / v.amax(-1, keepdim=True)

    def _across(self, p: Parameters, f: Filtered, message: Tensor) -> Tensor:
        """ξ between the chunk's last row and the next chunk's first, with its weight."""
        K = f.alpha.shape[-1]
        log_alpha = f.alpha[:, -1] if f.log else f.alpha[:, -1].log()
        v = message[:, :K] if f.log else message[:, :K].log()
        pair = (log_alpha[:, :, None] + p.log_A + v[:, None, :]).flatten(1).softmax(-1)
        return pair.unflatten(1, (K, K)) * message[:, K, None, None]


def steps_on(device: torch.device, work: Workspace, scans: bool = False) -> CompiledSteps | ScannedSteps:
    """The compiled recursions in main memory, the scans elsewhere, and where they are asked for."""
    return CompiledSteps(work) if device.type == "cpu" and not scans else ScannedSteps(work)
