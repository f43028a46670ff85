"""Inference in a hidden Markov chain: evidence, marginals, the best path, paths drawn.

    p(x_{1:T}, z_{1:T}) = π_{z_1} Π_{t>1} A_{z_{t−1} z_t} Π_t p(x_t | z_t)

Everything is batched over R chains that share the rows (restarts, posterior draws). Parameters and
densities come in logs and need not be normalised: with the exponentials of expected logs, `expect`
gives the optimal q(z) of variational EM and its log normaliser (Beal 2003, ch. 3). On a CPU the
compiled kernels run, elsewhere the blocked scans; both fall back to log space by themselves where
the scaled recursion would underflow. Rows are worked through in chunks, so that memory stays bounded:
one pass forward that keeps only the message at each chunk's end, and one back over the chunks.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ppl_models.errors import DataError
from ppl_models.kernels import kernels as cpu
from ppl_models.kernels import scan
from ppl_models.kernels.rows import Chunk, Rows
from ppl_models.kernels.workspace import Workspace
from ppl_models.latent.structure import LogDensity, Marginals

WORKSPACE = 24 * 2**20
"""Bytes that the messages of one chunk may take."""

_SPECIALISE = 20_000  # rows × chains from which compiling for exactly K states pays
_STATES = 32  # and the number of states up to which it does


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


class Expectation(NamedTuple):
    """What the posterior of the paths says: log evidence (R,) and expected counts."""

    log_evidence: Float[Tensor, " r"]
    start: Float[Tensor, "r k"]
    transition: Float[Tensor, "r k k"]


def pool() -> ThreadPoolExecutor:
    """The threads that kernels run in: made once for each process."""
    return _pool(os.getpid())


@cache
def _pool(pid: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, os.cpu_count() or 1), thread_name_prefix="chain")


def _each(function: Callable, tasks: np.ndarray, *arguments) -> list:
    """Call `function(tasks[a:b], slice(a, b))` in as many threads as torch may use, with even shares."""
    threads = min(torch.get_num_threads(), len(tasks))
    if threads <= 1 or (tasks[:, 2] - tasks[:, 1]).sum() < 2_000:
        return [function(tasks, slice(0, len(tasks)))]
    done = np.cumsum(tasks[:, 2] - tasks[:, 1])
    cuts = np.searchsorted(done, np.linspace(0, done[-1], threads + 1)[1:-1]) + 1
    cuts = [0, *np.unique(cuts), len(tasks)]
    parts = [slice(a, b) for a, b in zip(cuts[:-1], cuts[1:], strict=True) if a < b]
    futures = [pool().submit(function, tasks[part], part) for part in parts]
    return [future.result() for future in futures]


def _unreachable(row: int) -> DataError:
    return DataError(f"row {row + 1} has probability zero under every path of the chain")


class _Cpu:
    """The compiled kernels, on tensors that live in main memory."""

    def __init__(self, work: Workspace) -> None:
        self.take = work.take

    def forward(
        self, p: Parameters, log_b: Tensor, chunk: Chunk, carry: Tensor | None, log: bool
    ) -> Filtered:
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
            bad = max(_each(lambda part, _: forward(*args, part, *rest), tasks))
            if bad >= 0:
                raise _Underflow
            log_c = torch.log(s, out=self.take("log_c", (R, m), b)).add_(top.squeeze(-1))
            return Filtered(alpha, log_c, b, s, False)
        alpha, s = self.take("alpha", (R, m, K), log_b), self.take("s", (R, m), log_b)
        args = [x.numpy() for x in (log_b, p.log_enter, p.log_A)]
        rest = [x.numpy() for x in (carried, alpha, s)]
        bad = max(_each(lambda part, _: cpu.log_forward(*args, part, *rest), tasks))  # type: ignore[call-arg]
        if bad >= 0:
            raise _unreachable(chunk.lo + bad)
        return Filtered(alpha, s, log_b, s, True)

    def backward(
        self, p: Parameters, f: Filtered, chunk: Chunk, message: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        R, m, K = f.alpha.shape
        tasks = chunk.tasks(R)
        ends = np.tile(chunk.ends, R)
        received = torch.zeros(R, K + 1, dtype=f.alpha.dtype) if message is None else message
        left = torch.zeros_like(received)
        pairs = torch.empty(len(tasks), K, K, dtype=f.alpha.dtype)
        kernel = cpu.log_backward if f.log else _compiled(K, R * m).backward
        b, A, alpha, s = (x.numpy() for x in (f.b, p.log_A if f.log else p.A, f.alpha, f.s))
        _each(
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


def _compiled(K: int, work: int) -> cpu.Kernels:
    return cpu.kernels(K if work >= _SPECIALISE and K <= _STATES else None)


class _Scan:
    """Blocked scans in torch, on any device."""

    def __init__(self, work: Workspace) -> None:
        self.take = work.take

    def _matrices(self, p: Parameters, b: Tensor, chunk: Chunk, log: bool) -> Tensor:
        """(R, m, K, K): the step into each row."""
        A, enter = (p.log_A, p.log_enter) if log else (p.A, p.enter)
        R, m, K = b.shape
        step = A.unsqueeze(1).expand(R, m, K, K).clone()
        for kind in (cpu.BEGINS, cpu.ENTERED):
            rows = torch.as_tensor(chunk.bounds[:-1][chunk.kind == kind], device=b.device)
            step[:, rows] = enter[:, kind, None, None, :].expand(R, len(rows), K, K)
        return step.add_(b.unsqueeze(-2)) if log else step.mul_(b.unsqueeze(-2))

    def forward(
        self, p: Parameters, log_b: Tensor, chunk: Chunk, carry: Tensor | None, log: bool
    ) -> Filtered:
        R, _, K = log_b.shape
        if carry is None:
            carry = log_b.new_full((R, K), -float(np.log(K)) if log else 1.0 / K)
        if log:
            alpha, s = scan.prefix(carry, self._matrices(p, log_b, chunk, log), scan.LOG)
            bad = ~torch.isfinite(s)
            if bad.any():
                raise _unreachable(chunk.lo + int(bad.nonzero()[0, 1]))
            return Filtered(alpha, s, log_b, s, True)
        top = log_b.amax(-1, keepdim=True)
        b = (log_b - top).exp_()
        alpha, log_s = scan.prefix(carry, self._matrices(p, b, chunk, log), scan.LINEAR)
        if not bool((log_s > np.log(1e-280)).all()):
            raise _Underflow
        return Filtered(alpha, log_s + top.squeeze(-1), b, log_s.exp(), False)

    def backward(
        self, p: Parameters, f: Filtered, chunk: Chunk, message: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        R, m, K = f.alpha.shape
        ring = scan.LOG if f.log else scan.LINEAR
        A = p.log_A if f.log else p.A
        unit = f.alpha.new_zeros(R, K) if f.log else f.alpha.new_ones(R, K)
        weight = torch.as_tensor(chunk.weight, dtype=f.alpha.dtype, device=f.alpha.device)
        matrices = self._matrices(p, f.b, chunk, f.log)
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


class _Underflow(ArithmeticError):
    """The scaled recursion ran out of exponents: use log space."""


def _backend(device: torch.device, work: Workspace) -> _Cpu | _Scan:
    return _Cpu(work) if device.type == "cpu" else _Scan(work)


def _chunk_size(p: Parameters) -> int:
    R, K = p.log_enter.shape[0], p.log_enter.shape[-1]
    return max(1024, WORKSPACE // (8 * R * (3 * K + 4)))


def _forward(
    backend: _Cpu | _Scan,
    density: LogDensity,
    p: Parameters,
    chunk: Chunk,
    carry: Tensor | None,
    log: bool,
    work: Workspace,
) -> Filtered:
    log_b = work.take("log_b", (p.A.shape[0], chunk.hi - chunk.lo, p.A.shape[-1]), p.A)
    density(slice(chunk.lo, chunk.hi), log_b)
    return backend.forward(p, log_b, chunk, carry, log)


def _forward_chunks(
    density: LogDensity, p: Parameters, rows: Rows, log: bool, size: int | None = None
) -> Iterator[tuple[Chunk, Filtered]]:
    backend, carry = _backend(p.A.device, work := Workspace()), None
    for chunk in rows.chunks(size or _chunk_size(p)):
        filtered = _forward(backend, density, p, chunk, carry, log, work)
        carry = filtered.alpha[:, -1].clone()
        yield chunk, filtered


def _safely(p: Parameters, attempt: Callable[[bool], object]) -> object:
    """In scaled space where that is exact, else in log space."""
    if float(p.log_A.min()) >= cpu.SAFE:
        try:
            return attempt(False)
        except _Underflow:
            pass
    return attempt(True)


def expect(
    density: LogDensity,
    log_start: Float[Tensor, "r k"],
    log_transition: Float[Tensor, "r k k"],
    rows: Rows,
    consume: Callable[[slice, Tensor], None] | None = None,
    *,
    chunk: int | None = None,
    work: Workspace | None = None,
) -> Expectation:
    """Forward–backward over all rows: the E step.

    Args:
        density: gives log p(x_t | k) for a slice of the rows.
        log_start: log π, or its expectation.
        log_transition: log A, or its expectation.
        rows: the sequences and the weights of their rows.
        consume: called with a slice and its weighted marginals γ (R, rows, K), for statistics of the
            emissions; called once for every row, in no fixed order, and again from the start should a
            first attempt in scaled space have failed: it is then called with `None` first.
        chunk: rows a chunk, chosen from the workspace unless given.
        work: memory to use again, when called many times.

    Raises:
        DataError: if a row has probability zero under every path.
    """
    p = Parameters.of(log_start, log_transition)
    R, K = log_start.shape
    size = chunk or _chunk_size(p)
    memory = work or Workspace()
    backend = _backend(p.A.device, memory)

    def attempt(log: bool) -> Expectation:
        if log and consume is not None:
            consume(None, None)  # type: ignore[arg-type]
        chunks = list(rows.chunks(size))
        carries: list[Tensor | None] = [None] * len(chunks)
        for i, now in enumerate(chunks[:-1]):  # only the messages at the ends of chunks are kept
            if not chunks[i + 1].continues:
                continue
            filtered = _forward(backend, density, p, now, carries[i], log, memory)
            carries[i + 1] = filtered.alpha[:, -1].clone()
        evidence, start = log_start.new_zeros(R), log_start.new_zeros(R, K)
        transition, message = log_start.new_zeros(R, K, K), None
        for now, carry in zip(reversed(chunks), reversed(carries), strict=True):
            filtered = _forward(backend, density, p, now, carry, log, memory)
            log_c = filtered.log_c
            gamma, pairs, message = backend.backward(p, filtered, now, message)
            begins = torch.as_tensor(now.bounds[:-1][now.kind == cpu.BEGINS], device=gamma.device)
            if now.unweighted:
                evidence += log_c.sum(-1)
                start += gamma[:, begins].sum(1)
            else:
                weight = torch.as_tensor(now.weight, dtype=gamma.dtype, device=gamma.device)
                evidence += log_c @ weight
                start += (gamma[:, begins] * weight[begins, None]).sum(1)
                gamma = gamma.mul_(weight[:, None])
            transition += pairs
            if consume is not None:
                consume(slice(now.lo, now.hi), gamma)
        return Expectation(evidence, start, transition)

    return _safely(p, attempt)  # type: ignore[return-value]


def marginals(density: LogDensity, log_start: Tensor, log_transition: Tensor, rows: Rows) -> Marginals:
    """Filtered and smoothed probabilities of the states."""
    p = Parameters.of(log_start, log_transition)
    R, K = log_start.shape
    backend = _backend(p.A.device, memory := Workspace())

    def attempt(log: bool) -> Marginals:
        chunks = list(rows.chunks(_chunk_size(p)))
        filtered = log_start.new_empty(R, rows.steps, K)
        for now, f in _forward_chunks(density, p, rows, log):
            filtered[:, now.lo : now.hi] = f.alpha.exp() if log else f.alpha
        smoothed, message = torch.empty_like(filtered), None
        for i, now in reversed(list(enumerate(chunks))):
            carry = filtered[:, now.lo - 1] if i else None
            if log and carry is not None:
                carry = carry.log()
            f = _forward(backend, density, p, now, carry, log, memory)
            gamma, _, message = backend.backward(p, f, now, message)
            smoothed[:, now.lo : now.hi] = gamma
        return Marginals(filtered, smoothed)

    return _safely(p, attempt)  # type: ignore[return-value]


def log_predictive(
    density: LogDensity, log_start: Tensor, log_transition: Tensor, rows: Rows
) -> tuple[Float[Tensor, "r n"], Float[Tensor, "r s k"]]:
    """Log p(x_t | x_{1:t−1}) of each row, and p(z_T | x_{1:T}) at the end of each sequence."""
    p = Parameters.of(log_start, log_transition)

    def attempt(log: bool) -> tuple[Tensor, Tensor]:
        log_c, ends = [], []
        for now, f in _forward_chunks(density, p, rows, log):
            log_c.append(f.log_c.clone())
            final = torch.as_tensor(now.bounds[1:][now.ends] - 1, device=f.alpha.device)
            ends.append(f.alpha[:, final].exp() if log else f.alpha[:, final])
        return torch.cat(log_c, 1), torch.cat(ends, 1)

    return _safely(p, attempt)  # type: ignore[return-value]


def viterbi(density: LogDensity, log_start: Tensor, log_transition: Tensor, rows: Rows) -> Int[Tensor, "r n"]:
    """The most probable path argmax_z p(z | x) of each sequence (Viterbi 1967)."""
    p = Parameters.of(log_start, log_transition)
    R, K = log_start.shape
    log_b = log_start.new_empty(R, rows.steps, K)
    density(slice(0, rows.steps), log_b)
    if p.A.device.type == "cpu":
        path = torch.empty(R, rows.steps, dtype=torch.int64)
        args = [x.numpy() for x in (log_b, p.log_enter, p.log_A)]
        tasks = rows.chunk.tasks(R)
        _each(lambda part, _: cpu.viterbi(*args, part, path.numpy()), tasks)  # type: ignore[call-arg]
        return path
    matrices = _Scan(Workspace())._matrices(p, log_b, rows.chunk, log=True)
    score, _ = scan.prefix(log_b.new_zeros(R, K), matrices, scan.MAX)
    pointers = torch.zeros(R, rows.steps, K, dtype=torch.int64, device=log_b.device)
    pointers[:, 1:] = (score[:, :-1, :, None] + matrices[:, 1:]).argmax(-2)
    return scan.follow(pointers, score[:, -1].argmax(-1))


def sample_paths(
    density: LogDensity, log_start: Tensor, log_transition: Tensor, rows: Rows, uniform: Float[Tensor, "r n"]
) -> Int[Tensor, "r n"]:
    """Draw z ~ p(z | x) for each chain: filter forward, sample backward, by inversion of `uniform`."""
    p = Parameters.of(log_start, log_transition)
    R, K = log_start.shape

    def attempt(log: bool) -> Tensor:
        log_alpha = log_start.new_empty(R, rows.steps, K)
        for now, f in _forward_chunks(density, p, rows, log):
            log_alpha[:, now.lo : now.hi] = f.alpha if log else f.alpha.log()
        if log_alpha.device.type == "cpu":
            path = torch.empty(R, rows.steps, dtype=torch.int64)
            arrays = (log_alpha.numpy(), p.log_A.numpy())
            u = uniform.contiguous().numpy()
            _each(lambda part, _: cpu.sample_paths(*arrays, part, u, path.numpy()), rows.chunk.tasks(R))
            return path
        step = p.log_A.unsqueeze(1).expand(R, rows.steps, K, K).clone()
        begins = torch.as_tensor(rows.offsets[:-1], device=log_alpha.device)
        step[:, begins] = 0.0  # what came before a sequence does not depend on how it begins
        log_weight = log_alpha[:, :-1, :, None] + step[:, 1:]  # (R, n − 1, from, to)
        top = log_weight.amax(-2, keepdim=True).clamp_min(-1e300)
        weight = (log_weight - top).exp().cumsum(-2)
        target = uniform[:, :-1, None, None] * weight[..., -1:, :]
        pointers = torch.zeros(R, rows.steps, K, dtype=torch.int64, device=log_alpha.device)
        pointers[:, 1:] = (weight <= target).sum(-2).clamp_max(K - 1)
        final = log_alpha[:, -1].exp().cumsum(-1)
        last = (final <= uniform[:, -1:] * final[:, -1:]).sum(-1).clamp_max(K - 1)
        return scan.follow(pointers, last)

    return _safely(p, attempt)  # type: ignore[return-value]
