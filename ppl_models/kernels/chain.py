"""Inference in a hidden Markov chain: evidence, marginals, the best path, paths drawn.

    p(x_{1:T}, z_{1:T}) = π_{z_1} Π_{t>1} A_{z_{t−1} z_t} Π_t p(x_t | z_t)

Everything is batched over R chains that share the rows (restarts, posterior draws). Parameters and
densities come in logs and need not be normalised: with the exponentials of expected logs, `expect`
gives the optimal q(z) of variational EM and its log normaliser (Beal 2003, ch. 3). On a CPU the
compiled kernels run, elsewhere the blocked scans; both fall back to log space by themselves where
the scaled recursion would underflow. Rows are worked through in chunks, so that memory stays bounded:
one pass forward that keeps only the message at each chunk's end, and one back over the chunks.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ppl_models.importing import lazy
from ppl_models.kernels import scan
from ppl_models.kernels.chain_steps import (
    CompiledSteps,
    Filtered,
    Parameters,
    ScannedSteps,
    Underflow,
    each_share,
    steps_on,
)
from ppl_models.kernels.latents import SAFE, Consume, Latents, LogDensity, Marginals
from ppl_models.kernels.rows import BEGINS, Chunk, Rows
from ppl_models.kernels.workspace import Workspace

if TYPE_CHECKING:
    from ppl_models.kernels import forward_backward
else:
    forward_backward = lazy("ppl_models.kernels.forward_backward")  # Numba takes half a second to load

WORKSPACE = 24 * 2**20
"""Bytes that the messages of one chunk may take."""

FEW, FEW_NUMBERS = 16, 2_000_000
"""Rows, and numbers in their transitions, up to which nothing compiled is needed to look at them."""


class Expectation(NamedTuple):
    """What the posterior of the paths says: log evidence (R,) and expected counts."""

    log_evidence: Float[Tensor, " r"]
    start: Float[Tensor, "r k"]
    transition: Float[Tensor, "r k k"]


def _chunk_size(p: Parameters) -> int:
    R, K = p.log_enter.shape[0], p.log_enter.shape[-1]
    return max(1024, WORKSPACE // (8 * R * (3 * K + 4)))


def _forward(
    steps: CompiledSteps | ScannedSteps,
    density: LogDensity,
    p: Parameters,
    chunk: Chunk,
    carry: Tensor | None,
    log: bool,
    work: Workspace,
) -> Filtered:
    log_b = work.take("log_b", (p.A.shape[0], chunk.hi - chunk.lo, p.A.shape[-1]), p.A)
    density(slice(chunk.lo, chunk.hi), log_b)
    return steps.forward(p, log_b, chunk, carry, log)


def _forward_chunks(
    density: LogDensity, p: Parameters, rows: Rows, log: bool, size: int | None = None, scans: bool = False
) -> Iterator[tuple[Chunk, Filtered]]:
    steps, carry = steps_on(p.A.device, work := Workspace(), scans), None
    for chunk in rows.chunks(size or _chunk_size(p)):
        filtered = _forward(steps, density, p, chunk, carry, log, work)
        carry = filtered.alpha[:, -1].clone()
        yield chunk, filtered


def _safely(p: Parameters, attempt: Callable[[bool], object]) -> object:
    """In scaled space where that is exact, else in log space."""
    if float(p.log_A.min()) >= SAFE:
        try:
            return attempt(False)
        except Underflow:
            pass
    return attempt(True)


def expect(
    density: LogDensity,
    log_start: Float[Tensor, "r k"],
    log_transition: Float[Tensor, "r k k"],
    rows: Rows,
    consume: Consume | None = None,
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
    steps = steps_on(p.A.device, memory)

    def attempt(log: bool) -> Expectation:
        if log and consume is not None:
            consume(None, None)
        chunks = list(rows.chunks(size))
        carries: list[Tensor | None] = [None] * len(chunks)
        for i, now in enumerate(chunks[:-1]):  # only the messages at the ends of chunks are kept
            if not chunks[i + 1].continues:
                continue
            filtered = _forward(steps, density, p, now, carries[i], log, memory)
            carries[i + 1] = filtered.alpha[:, -1].clone()
        evidence, start = log_start.new_zeros(R), log_start.new_zeros(R, K)
        transition, message = log_start.new_zeros(R, K, K), None
        for now, carry in zip(reversed(chunks), reversed(carries), strict=True):
            filtered = _forward(steps, density, p, now, carry, log, memory)
            log_c = filtered.log_c
            gamma, pairs, message = steps.backward(p, filtered, now, message)
            begins = torch.as_tensor(now.bounds[:-1][now.kind == BEGINS], device=gamma.device)
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


def marginals(
    density: LogDensity, log_start: Tensor, log_transition: Tensor, rows: Rows, scans: bool = False
) -> Marginals:
    """Filtered and smoothed probabilities of the states; by scans in torch in main memory too, if told so."""
    p = Parameters.of(log_start, log_transition)
    R, K = log_start.shape
    steps = steps_on(p.A.device, memory := Workspace(), scans)

    def attempt(log: bool) -> Marginals:
        chunks = list(rows.chunks(_chunk_size(p)))
        filtered = log_start.new_empty(R, rows.steps, K)
        for now, f in _forward_chunks(density, p, rows, log, scans=scans):
            filtered[:, now.lo : now.hi] = f.alpha.exp() if log else f.alpha
        smoothed, message = torch.empty_like(filtered), None
        for i, now in reversed(list(enumerate(chunks))):
            carry = filtered[:, now.lo - 1] if i else None
            if log and carry is not None:
                carry = carry.log()
            f = _forward(steps, density, p, now, carry, log, memory)
            gamma, _, message = steps.backward(p, f, now, message)
            smoothed[:, now.lo : now.hi] = gamma
        return Marginals(filtered, smoothed)

    return _safely(p, attempt)  # type: ignore[return-value]


def log_predictive(
    density: LogDensity, log_start: Tensor, log_transition: Tensor, rows: Rows, scans: bool = False
) -> tuple[Float[Tensor, "r n"], Float[Tensor, "r s k"]]:
    """Log p(x_t | x_{1:t−1}) of each row, and p(z_T | x_{1:T}) at the end of each sequence."""
    p = Parameters.of(log_start, log_transition)

    def attempt(log: bool) -> tuple[Tensor, Tensor]:
        log_c, ends = [], []
        for now, f in _forward_chunks(density, p, rows, log, scans=scans):
            log_c.append(f.log_c.clone())
            final = torch.as_tensor(now.bounds[1:][now.ends] - 1, device=f.alpha.device)
            ends.append(f.alpha[:, final].exp() if log else f.alpha[:, final])
        return torch.cat(log_c, 1), torch.cat(ends, 1)

    return _safely(p, attempt)  # type: ignore[return-value]


def viterbi(
    density: LogDensity, log_start: Tensor, log_transition: Tensor, rows: Rows, scans: bool = False
) -> Int[Tensor, "r n"]:
    """The most probable path argmax_z p(z | x) of each sequence (Viterbi 1967)."""
    p = Parameters.of(log_start, log_transition)
    R, K = log_start.shape
    log_b = log_start.new_empty(R, rows.steps, K)
    density(slice(0, rows.steps), log_b)
    if p.A.device.type == "cpu" and not scans:
        path = torch.empty(R, rows.steps, dtype=torch.int64)
        args = [x.numpy() for x in (log_b, p.log_enter, p.log_A)]
        tasks = rows.chunk.tasks(R)
        each_share(lambda part, _: forward_backward.viterbi(*args, part, path.numpy()), tasks)  # type: ignore[call-arg]
        return path
    matrices = ScannedSteps(Workspace()).matrices(p, log_b, rows.chunk, log=True)
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
            each_share(
                lambda part, _: forward_backward.sample_paths(*arrays, part, u, path.numpy()),
                rows.chunk.tasks(R),
            )
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


def _few(natural: Mapping[str, Tensor], rows: Rows) -> bool:
    """Whether rows are so few that scans are done sooner than Numba is loaded."""
    return rows.steps <= FEW and rows.steps * natural["transition"].numel() <= FEW_NUMBERS


class MarkovChain(Latents):
    """z_1 ~ π, z_t ~ A_{z_{t−1}}; natural parameters: their logs, `start` (R, K), `transition` (R, K, K)."""

    exchangeable = False

    def expect(
        self,
        density: LogDensity,
        natural: Mapping[str, Tensor],
        rows: Rows,
        consume: Consume,
        work: Workspace,
        chunk: int | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Expected starts and transitions, by forward–backward."""
        e = expect(density, natural["start"], natural["transition"], rows, consume, chunk=chunk, work=work)
        return e.log_evidence, {"start": e.start, "transition": e.transition}

    def marginals(self, density: LogDensity, natural: Mapping[str, Tensor], rows: Rows) -> Marginals:
        """Filtered and smoothed state probabilities."""
        return marginals(density, natural["start"], natural["transition"], rows, _few(natural, rows))

    def path(self, density: LogDensity, natural: Mapping[str, Tensor], rows: Rows) -> Tensor:
        """The most probable states (R, n)."""
        return viterbi(density, natural["start"], natural["transition"], rows, _few(natural, rows))

    def draw_paths(self, density: LogDensity, natural: Mapping[str, Tensor], rows: Rows) -> Tensor:
        """States drawn from their posterior (R, n)."""
        start = natural["start"]
        uniform = torch.rand(start.shape[0], rows.steps, dtype=start.dtype, device=start.device)
        return sample_paths(density, start, natural["transition"], rows, uniform)

    def log_predictive(
        self, density: LogDensity, natural: Mapping[str, Tensor], rows: Rows
    ) -> tuple[Tensor, Tensor]:
        """Log p(x_t | x_{1:t−1}) (R, n) and the last filtered probabilities of each sequence (R, S, K)."""
        few = _few(natural, rows)
        return log_predictive(density, natural["start"], natural["transition"], rows, few)
