"""The E step of a chain on a CPU, eight pieces of the sequences at a time.

A recursion over time waits for its own last result, which leaves most of a CPU idle. But a hidden Markov
chain forgets: the filter at a row hardly depends on what came a hundred rows before. So the rows, all
sequences end to end, are cut into 8·g blocks of equal length; the eight blocks of a group run side by side
in the lanes of a register, groups in threads. Each block starts from a guess of the message it should
receive: a run over some rows before it (after it, for β). When all have run, each guess is compared with
what its neighbour has really sent. Where an entry differs by more than a part in 1e11 the pass is repeated
with the messages sent, which is exact as soon as they agree; if they do not after a few passes, the chain
does not forget and `DoesNotForget` hands it to the plain recursion. Results are exact, not approximate.

Emissions enter as log p(x_t | k) = c_k + Σ_f W_kf T_tf with features T, so that the same kernel serves
every family that is linear in its features, and returns their weighted sums. The scaled recursion is that
of `ppl_models.kernels.forward_backward`, with b_t = exp(log p − max) computed on the way. Where a sequence
begins (`begins` = 1) π takes the place of α A, and β before it is 1.

Rows that pad the last block are sequences of one row without features: what they add is known and taken off.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from ppl_models.kernels.latents import SAFE
from ppl_models.kernels.pool import pool
from ppl_models.kernels.rows import Chunk, Rows
from ppl_models.kernels.simd import WIDTH
from ppl_models.kernels.simd_forward_backward import kernels
from ppl_models.kernels.workspace import Workspace

WARM_UP = 64, 256
"""Rows of the run-up to a guess: a sixteenth of a block within these bounds."""

TOLERANCE = 1e-11
"""What an entry of a guess may differ from what was sent, as a part of it. Statistics are then wrong by no
larger part, in the rows near a block's edge."""

SMALLEST = 1e-290
"""And as a number: beneath it, entries are lost to underflow in either."""

UNDERFLOW = 1e-30
"""The least that a row may leave of the scaled message: kernels take the logarithm of eight rows' product at
a time, which must not vanish."""

SPECIALISE = 65_536
"""Rows × parameter sets from which compiling for exactly K states and F features pays."""

THREADED = 10_000_000
"""Multiply–adds, about two milliseconds, from which waking other threads pays."""

UNROLLED = 32
"""States or features up to which it does."""

PASSES = 4
"""Attempts before a chain is said not to forget. The plain recursion takes about twice as long as one, so
that more would not pay."""

LEAST = 2_048
"""A quarter of the least rows of a chunk."""


class DoesNotForget(ArithmeticError):
    """The chain does not forget, or underflows: use the plain recursion."""


class Block(NamedTuple):
    """Rows in lanes: features (g, n, F, 8), where sequences begin (g, n, 8), and whether any does (g, n)."""

    features: np.ndarray
    begins: np.ndarray
    some: np.ndarray


@dataclass(frozen=True, eq=False)
class Layout:
    """Rows of a chunk laid out in lanes, with the rows before and after each block for its warm-up.

    Attributes:
        main: the rows.
        before: the last rows of the block before each.
        after: the first rows of the block after each.
        padding: rows added at the end.
        opens: whether the first row begins a sequence.
        closes: whether the last row ends one.
    """

    main: Block
    before: Block
    after: Block
    padding: int
    opens: bool
    closes: bool

    @classmethod
    def of(
        cls, features: np.ndarray, starts: np.ndarray, closes: bool, groups: int, lead: int = 0
    ) -> "Layout":
        """Lay out rows.

        Args:
            features: (lead + m, F).
            starts: (lead + m,) whether a sequence begins at each row.
            closes: whether a sequence ends with the last row.
            groups: g, at least 1.
            lead: rows in front that belong to the chunk before, for the first block's run-up.
        """
        ahead, features = features[:lead], features[lead:]
        flags_ahead, starts = starts[:lead], starts[lead:]
        m, F = features.shape
        blocks = WIDTH * groups
        n = -(-m // blocks)
        padding = n * blocks - m
        if padding and not closes:
            raise ValueError(f"{m} rows that go on do not fill {blocks} blocks: see even()")
        if padding:
            features = np.concatenate([features, np.zeros((padding, F))])
        flags = np.concatenate([starts.astype(np.float64), np.ones(padding)])
        rows, flags = features.reshape(blocks, n, F), flags.reshape(blocks, n)
        warm = min(max(WARM_UP[0], min(WARM_UP[1], n // 16)), n)

        def lay(x: np.ndarray, begins: np.ndarray) -> Block:
            grouped = torch.from_numpy(x).reshape(groups, WIDTH, -1, F).permute(0, 2, 3, 1).contiguous()
            begins = np.ascontiguousarray(begins.reshape(groups, WIDTH, -1).transpose(0, 2, 1))
            return Block(grouped.numpy(), begins, np.asarray(begins.any(-1)))

        last, last_flags = np.roll(rows[:, n - warm :], 1, 0), np.roll(flags[:, n - warm :], 1, 0)
        if lead >= warm:
            last[0], last_flags[0] = ahead[lead - warm :], flags_ahead[lead - warm :]
        before = lay(last, last_flags)
        after = lay(np.roll(rows[:, :warm], -1, 0), np.roll(flags[:, :warm], -1, 0))
        return cls(lay(rows, flags), before, after, padding, bool(starts[0]), closes or padding > 0)


class Sums(NamedTuple):
    """What an E step over a chunk adds up, with R parameter sets.

    `evidence` (R,), `start` and `count` (R, K), `transition` (R, K, K), `features` (R, K, F); and the
    messages to the neighbouring chunks: α after the last row and β before the first, (R, K). `used` (R, K)
    is the α before the first row that was used, which is a guess where none was given.
    """

    evidence: np.ndarray
    start: np.ndarray
    count: np.ndarray
    transition: np.ndarray
    features: np.ndarray
    alpha: np.ndarray
    beta: np.ndarray
    used: np.ndarray


def expect(
    layout: Layout,
    weights: np.ndarray,
    constant: np.ndarray,
    log_start: np.ndarray,
    log_transition: np.ndarray,
    work: Workspace,
    alpha: np.ndarray | None = None,
    beta: np.ndarray | None = None,
    smooth: bool = True,
) -> Sums:
    """The E step over a chunk.

    Args:
        layout: the rows.
        weights: W (R, K, F), or (R, K, 2F) where the squares of all features are features as well.
        constant: c (R, K).
        log_start: log π (R, K).
        log_transition: log A (R, K, K).
        work: memory.
        alpha: message from the rows before, (R, K); guessed if not given, unless the chunk opens a sequence.
        beta: message from the rows after, unless it closes one, (R, K).
        smooth: whether to go back as well.

    Raises:
        DoesNotForget: if messages do not agree, or the recursion underflows.
    """
    if log_transition.min() < SAFE:  # scaled probabilities would be lost: see `latents`
        raise DoesNotForget
    sweep = _Sweep(layout, weights, constant, np.exp(log_start), np.exp(log_transition), work)
    found = sweep.filter(alpha)
    if smooth:
        found = sweep.smooth(found, beta)
    return _without_padding(found, layout.padding, constant, log_start) if layout.padding else found


class _Sweep:
    """One pass forward over the blocks of a chunk, and one back.

    1. `filter`: every block guesses its α by a run-up over the last rows of the block before, runs forward,
       and hands its last α to the block after. Guesses are compared with what was handed on; blocks run again
       with the latter until they agree, `PASSES` times at most.
    2. `smooth`: the same for β from the first rows of the block after, backwards, adding up statistics. These
       are set to zero at the beginning of every attempt.

    Forward first, as smoothing multiplies the α that filtering leaves in memory. An attempt is repeated as a
    whole: the lanes of a group run together, and a block that was right need not be once its neighbour has
    sent something else.

    Arrays are (R, groups, ..., 8): parameter set, group of blocks, and lane. Block number 8 g + l is lane l
    of group g, so that the neighbour of a group's last lane is the first lane of the next group.
    """

    def __init__(
        self,
        layout: Layout,
        weights: np.ndarray,
        constant: np.ndarray,
        pi: np.ndarray,
        A: np.ndarray,
        work: Workspace,
    ) -> None:
        self.layout, self.weights, self.constant, self.pi, self.A = layout, weights, constant, pi, A
        groups, n, F, _ = layout.main.features.shape
        R, K = constant.shape
        self.shape = R, groups, n, K
        like = torch.empty(0, dtype=torch.float64)
        self.alpha = work.take("blocks alpha", (R, groups, n + 1, K, WIDTH), like).numpy()
        self.b = work.take("blocks b", (R, groups, n, K, WIDTH), like).numpy()
        warm = layout.before.features.shape[1]
        self.spare = work.take("blocks spare", (R, groups, 2, warm + 1, K, WIDTH), like).numpy()
        self.tasks = [(r, g) for r in range(R) for g in range(groups)]
        large = R * groups * n * WIDTH >= SPECIALISE and max(K, F) <= UNROLLED
        squares = weights.shape[2] == 2 * F
        self.run = kernels(K, F, squares) if large else kernels(0, 0, squares)
        self.work = R * groups * n * WIDTH * K * (K + weights.shape[2])

    def each(self, function: Callable[[int, int], None]) -> None:
        """Call `function(r, g)` for all parameter sets and groups."""
        threads = min(len(self.tasks), torch.get_num_threads()) if self.work >= THREADED else 1
        shares = [self.tasks[i::threads] for i in range(threads)]

        def work_off(share: list[tuple[int, int]]) -> None:
            for task in share:
                function(*task)

        others = [pool().submit(work_off, share) for share in shares[1:]]
        work_off(shares[0])  # this thread is awake already
        for other in others:
            other.result()

    def filter(self, message: np.ndarray | None) -> Sums:
        """The evidence and the last α, from a message (R, K) or a guess; statistics are left empty."""
        R, groups, n, K = self.shape
        layout, weights, constant, A, pi, alpha = (
            self.layout, self.weights, self.constant, self.A, self.pi, self.alpha,
        )  # fmt: skip
        evidence, lowest = np.empty((R, groups, WIDTH)), np.ones((R, groups))
        first = pi if layout.opens else message

        def forward(r: int, g: int) -> None:
            B = layout.main
            if g == 0 and first is not None:  # what is known takes the place of a guess
                alpha[r, 0, 0, :, 0] = first[r]
            lowest[r, g] = self.run.forward(
                B.features[g], B.begins[g], B.some[g], weights[r], constant[r], A[r], pi[r],
                alpha[r, g], self.b[r, g], evidence[r, g],
            )  # fmt: skip

        def guess_and_forward(r: int, g: int) -> None:
            B, run_up = layout.before, self.spare[r, g, 0]
            run_up[0] = 1.0 / K
            self.run.forward(
                B.features[g], B.begins[g], B.some[g], weights[r], constant[r], A[r], pi[r],
                run_up, self.spare[r, g, 1], evidence[r, g],
            )  # fmt: skip
            alpha[r, g, 0] = run_up[-1]
            forward(r, g)

        for attempt in range(PASSES):
            self.each(forward if attempt else guess_and_forward)
            if not lowest.min() > UNDERFLOW:  # also when it is NaN
                raise DoesNotForget
            sent = np.roll(_by_block(alpha[:, :, n]), 1, 1)
            sent[:, 0] = alpha[:, 0, 0, :, 0]  # nobody in this chunk sends to the first block
            sent = _by_lane(sent, groups)
            if _agree(sent, alpha[:, :, 0]):
                break
            if attempt == PASSES - 1:
                raise DoesNotForget
            alpha[:, :, 0] = sent
        last, used = alpha[:, -1, n, :, -1].copy(), alpha[:, 0, 0, :, 0].copy()
        nothing = np.zeros((R, K))
        return Sums(evidence.sum((1, 2)), nothing, nothing, A, weights, last, nothing, used)

    def smooth(self, filtered: Sums, message: np.ndarray | None) -> Sums:
        """What `filter` found with statistics and β before the first row, from a message (R, K), or 1."""
        R, groups, _, K = self.shape
        layout, weights, A = self.layout, self.weights, self.A
        G, count = np.zeros((R, groups, K, weights.shape[2], WIDTH)), np.zeros((R, groups, K, WIDTH))
        start, U = np.zeros_like(count), np.zeros((R, groups, K, K, WIDTH))
        received, used = np.ones((R, groups, K, WIDTH)), np.empty((R, groups, K, WIDTH))
        before = np.empty((R, groups, K, WIDTH))
        final = np.ones((R, K)) if message is None or layout.closes else message

        def backward(r: int, g: int) -> None:
            B = layout.main
            if g == groups - 1:
                received[r, g, :, -1] = final[r]
            for total in (G, count, start, U):
                total[r, g] = 0.0
            used[r, g] = received[r, g]  # the kernel scales it, and what was received is compared below
            self.run.backward(
                B.features[g], B.begins[g], B.some[g], A[r], self.alpha[r, g], self.b[r, g], used[r, g],
                G[r, g], count[r, g], start[r, g], U[r, g], before[r, g],
            )  # fmt: skip

        def guess_and_backward(r: int, g: int) -> None:
            B = layout.after
            self.run.approach(
                B.features[g], B.begins[g], B.some[g], weights[r], self.constant[r], A[r], received[r, g]
            )
            backward(r, g)

        for attempt in range(PASSES):
            self.each(backward if attempt else guess_and_backward)
            sent = np.roll(_by_block(before), -1, 1)
            sent[:, -1] = final
            sent = _by_lane(sent, groups)
            # A β is known up to its scale only.
            if _agree(sent / sent.sum(2, keepdims=True), received / received.sum(2, keepdims=True)):
                break
            if attempt == PASSES - 1 or not np.isfinite(sent).all():
                raise DoesNotForget
            received[:] = sent
        return filtered._replace(
            start=start.sum((1, 3)),
            count=count.sum((1, 3)),
            transition=U.sum((1, 4)) * A,  # ξ = A ∘ Σ α ⊗ v
            features=G.sum((1, 4)),
            beta=before[:, 0, :, 0],
        )


def _by_block(messages: np.ndarray) -> np.ndarray:
    """Messages in lanes (R, groups, K, 8) in the order of blocks (R, 8 groups, K)."""
    R, _, K, _ = messages.shape
    return messages.transpose(0, 1, 3, 2).reshape(R, -1, K)


def _by_lane(messages: np.ndarray, groups: int) -> np.ndarray:
    """The way back."""
    R, _, K = messages.shape
    return messages.reshape(R, groups, WIDTH, K).transpose(0, 1, 3, 2)


def _agree(sent: np.ndarray, used: np.ndarray) -> bool:
    """Whether messages are the same, entry by entry: what is small now may be all that is left later."""
    return bool((np.abs(sent - used) <= TOLERANCE * sent + SMALLEST).all())


def _without_padding(sums: Sums, rows: int, constant: np.ndarray, log_start: np.ndarray) -> Sums:
    """Take off sequences of one row without features: log Z = log Σ π exp c, γ ∝ π exp c."""
    log_p = log_start + constant
    top = log_p.max(1, keepdims=True)
    log_z = np.log(np.exp(log_p - top).sum(1)) + top[:, 0]
    gamma = np.exp(log_p - log_z[:, None])
    return sums._replace(
        evidence=sums.evidence - rows * log_z,
        start=sums.start - rows * gamma,
        count=sums.count - rows * gamma,
    )


def even(rows: int) -> int:
    """The nearest smaller number of rows that fills blocks of equal length."""
    return rows - rows % (WIDTH * groups_for(rows))


def groups_for(rows: int) -> int:
    """How many groups of eight blocks: one for each thread, if that leaves blocks of some length."""
    return max(1, min(torch.get_num_threads(), rows // (WIDTH * 128)))


def expect_all(
    layout: Callable[[Chunk], Layout],
    rows: Rows,
    size: int,
    weights: np.ndarray,
    constant: np.ndarray,
    log_start: np.ndarray,
    log_transition: np.ndarray,
    work: Workspace,
    smooth: bool = True,
) -> Sums:
    """The E step over all rows, in chunks of `size` that `layout` lays out: see `expect`.

    Several chunks are taken from the last to the first, each handing β on to the one before it and guessing
    the α that it should receive from it; should a guess prove wrong, a pass forward finds them all first.
    Without `smooth` only the evidence is found.
    """
    chunks = list(rows.chunks(size))
    alphas: list[np.ndarray | None] = [None] * len(chunks)
    parameters = (weights, constant, log_start, log_transition, work)

    def forward() -> np.ndarray:
        evidence = np.zeros(len(constant))
        for i, chunk in enumerate(chunks):
            found = expect(layout(chunk), *parameters, alpha=alphas[i], smooth=False)
            evidence += found.evidence
            if i + 1 < len(chunks) and chunks[i + 1].continues:
                alphas[i + 1] = found.alpha
        return evidence

    def backward() -> Sums | None:
        total: Sums | None = None
        beta = guess = None
        for chunk, alpha in zip(reversed(chunks), reversed(alphas), strict=True):
            found = expect(layout(chunk), *parameters, alpha=alpha, beta=beta)
            if guess is not None and not _agree(found.alpha, guess):
                return None
            beta, guess = found.beta, found.used if chunk.continues else None
            if total is not None:
                added = [a + b for a, b in zip(total[:5], found[:5], strict=True)]
                found = Sums._make([*added, *found[5:]])
            total = found
        return total

    if not smooth:
        nothing = np.zeros_like(constant)
        return Sums(forward(), nothing, nothing, nothing, nothing, nothing, nothing, nothing)
    found = backward()
    if found is None:
        forward()
        found = backward()
    if found is None:
        raise DoesNotForget
    return found
