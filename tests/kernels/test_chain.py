"""Inference in a chain against enumeration of all its paths, on both implementations."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats as ss
import torch

from ppl_models.errors import DataError
from ppl_models.kernels import chain, chain_steps, scan, workspace
from ppl_models.kernels.rows import Rows, whole
from ppl_models.kernels.workspace import Workspace

LENGTHS = np.array([4, 1, 3, 1, 5])


class Elsewhere(torch.Tensor):
    """A tensor in main memory that says it is not, so that the code for other devices runs on it."""

    @property
    def device(self):
        return SimpleNamespace(type="elsewhere")


class _Torch:
    """The module torch, but that it makes tensors for `Elsewhere` in main memory."""

    def __getattr__(self, name):
        function = getattr(torch, name)
        if name not in ("arange", "as_tensor", "empty", "eye", "full", "ones", "tensor", "zeros"):
            return function
        return lambda *args, device=None, **options: function(*args, **options)


BACKENDS = ["kernels", "scans"] + ["cuda"] * torch.cuda.is_available()


@pytest.fixture(params=BACKENDS)
def place(request, monkeypatch):
    """Puts tensors where the compiled kernels, the torch scans, or the scans on a GPU will work on them."""
    if request.param == "kernels":
        return lambda x: x
    if request.param == "cuda":
        return lambda x: x.cuda()
    for module in (chain, chain_steps, scan, workspace):
        monkeypatch.setattr(module, "torch", _Torch())
    return lambda x: x.as_subclass(Elsewhere)


def host(x):
    """The plain tensor in main memory."""
    return x.as_subclass(torch.Tensor).cpu()


def given(log_b):
    return lambda at, out: out.copy_(log_b[:, at])


def random_chain(R, n, K, seed, spread=2.0):
    """Log densities, and parameters that need not be normalised."""
    g = torch.Generator().manual_seed(seed)
    log_b = torch.randn(R, n, K, generator=g, dtype=torch.float64) * spread
    start = torch.randn(R, K, generator=g, dtype=torch.float64).log_softmax(-1) + 0.1
    A = torch.randn(R, K, K, generator=g, dtype=torch.float64).log_softmax(-1) - 0.1
    return log_b, start, A


class Enumerated:
    """One chain (no batch) by summing over every path, sequence by sequence."""

    def __init__(self, log_b, start, A, lengths):
        n, K = log_b.shape
        self.gamma, self.filtered = np.zeros((n, K)), np.zeros((n, K))
        self.start, self.transition = np.zeros(K), np.zeros((K, K))
        self.log_c, self.path, self.gap, self.paths = np.zeros(n), [], np.inf, []
        with np.errstate(divide="ignore"):
            start, A = start.numpy(), A.numpy()
        lo = 0
        for length in lengths:
            b = log_b[lo : lo + length].numpy()
            z = np.array(list(itertools.product(range(K), repeat=int(length))))
            w = start[z[:, 0]] + b[0, z[:, 0]]
            before = 0.0
            for t in range(length):
                if t:
                    w = w + A[z[:, t - 1], z[:, t]] + b[t, z[:, t]]
                shorter = z[:, t + 1 :].sum(1) == 0  # each path up to t once
                total = np.logaddexp.reduce(w[shorter])
                self.log_c[lo + t], before = total - before, total
                p = np.exp(w - total) * shorter
                self.filtered[lo + t] = [p[z[:, t] == k].sum() for k in range(K)]
            p = np.exp(w - before)
            for k in range(K):
                self.start[k] += p[z[:, 0] == k].sum()
                self.gamma[lo : lo + length, k] = ((z == k) * p[:, None]).sum(0)
                for j in range(K):
                    self.transition[k, j] += (p[:, None] * (z[:, :-1] == k) * (z[:, 1:] == j)).sum()
            best = np.sort(w)[::-1]
            self.gap = min(self.gap, best[0] - best[1]) if len(best) > 1 else self.gap
            self.path += z[w.argmax()].tolist()
            self.paths.append((z, p))
            lo += length
        self.log_evidence = self.log_c.sum()


def compare(place, log_b, start, A, lengths, chunk=None, tolerance=1e-9, monkeypatch=None):
    """Everything but draws, of all batch entries, against enumeration."""
    rows = whole(lengths)
    R, n, K = log_b.shape
    gamma, seen = torch.zeros(R, n, K, dtype=torch.float64), torch.zeros(n)

    def consume(at, part):
        if at is None:
            gamma.zero_(), seen.zero_()
            return
        gamma[:, at] += host(part)
        seen[at] += 1

    before = log_b.clone()
    at, to = place(start), place(A)
    e = chain.Expectation(*map(host, chain.expect(given(log_b), at, to, rows, consume, chunk=chunk)))
    if chunk is not None:
        monkeypatch.setattr(chain, "_chunk_size", lambda p: chunk)
    m = chain.Marginals(*map(host, chain.marginals(given(log_b), at, to, rows)))
    log_c, ends = map(host, chain.log_predictive(given(log_b), at, to, rows))
    path = host(chain.viterbi(given(log_b), at, to, rows))
    assert torch.equal(log_b, before)
    assert (seen == 1).all()
    final = np.cumsum(lengths) - 1
    for r in range(R):
        exact = Enumerated(log_b[r], start[r], A[r], lengths)
        scale = max(1.0, abs(exact.log_evidence))
        assert float(e.log_evidence[r]) == pytest.approx(exact.log_evidence, abs=tolerance * scale)
        for found, wanted in (
            (gamma[r], exact.gamma),
            (e.start[r], exact.start),
            (e.transition[r], exact.transition),
            (m.smoothed[r], exact.gamma),
            (m.filtered[r], exact.filtered),
            (ends[r], exact.filtered[final]),
        ):
            np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance)
        np.testing.assert_allclose(log_c[r], exact.log_c, rtol=1e-12, atol=tolerance * scale)
        if exact.gap > 1e-6:
            assert path[r].tolist() == exact.path


@pytest.mark.parametrize("chunk", [None, 1, 2, 3, 5, 13])
@pytest.mark.parametrize("log", [False, True], ids=["scaled", "log"])
def test_enumeration(place, log, chunk, monkeypatch):
    if log:
        monkeypatch.setattr(chain, "_safely", lambda p, attempt: attempt(True))
    compare(place, *random_chain(2, 14, 3, seed=1), LENGTHS, chunk, monkeypatch=monkeypatch)


@pytest.mark.parametrize("K", [1, 2, 4])
def test_enumeration_by_number_of_states(place, K):
    compare(place, *random_chain(3, 7, K, seed=K), np.array([1, 4, 2]))


@pytest.mark.parametrize("missing", [0.0, 0.3], ids=["complete", "missing"])
def test_enumeration_with_every_emission(place, family, missing):
    K = 2
    e = family.build(K)
    x = family.rows(int(LENGTHS.sum()), seed=2, missing=missing)
    features = e.features(x, Workspace(), "f")
    gamma = torch.rand(2, len(x), K, dtype=torch.float64)
    natural = e.expected_natural(e.statistics(features, gamma, e.natural(e.draw(e.zeros(2)))))
    log_b = torch.empty(2, len(x), K, dtype=torch.float64)
    e.log_density(features, natural, log_b, False)
    _, start, A = random_chain(2, 1, K, seed=3)
    compare(place, log_b, start, A, LENGTHS)


def sparse(entry, seed, K=3):
    """A chain some of whose transitions have a probability of `entry`, never all out of a state."""
    g = np.random.default_rng(seed)
    A = g.dirichlet(np.ones(K), (1, K))
    tiny = g.random((1, K, K)) < 0.5
    tiny[0, np.arange(K), g.integers(K, size=K)] = False
    A = np.where(tiny, entry, A)
    with np.errstate(divide="ignore"):
        return torch.as_tensor(np.log(A / A.sum(-1, keepdims=True)))


@pytest.mark.parametrize("chunk", [None, pytest.param(1, marks=pytest.mark.slow), 3])
@pytest.mark.parametrize("spread", [2.0, 300.0])
@pytest.mark.parametrize("entry", [0.0, 1e-300, 1e-120])
def test_forbidden_and_nearly_forbidden_transitions(place, entry, spread, chunk, monkeypatch):
    for seed in range(6):
        log_b, start, _ = random_chain(1, 14, 3, seed, spread)
        compare(place, log_b, start, sparse(entry, seed), LENGTHS, chunk, 1e-7, monkeypatch)


def test_two_chains_that_never_meet(place):
    """A = 1: what scaled probabilities have lost to underflow must not be lost for good."""
    log_b = torch.tensor([[[0.0, -1000.0], [-400.0, 0.0], [-400.0, 0.0], [-400.0, 0.0]]], dtype=torch.float64)
    start = torch.tensor([[0.5, 0.5]], dtype=torch.float64).log()
    A = torch.eye(2, dtype=torch.float64).log()[None]
    compare(place, log_b, start, A, [4])


@pytest.mark.parametrize("winner", [0, 1])
def test_a_forbidden_path_is_never_drawn(place, winner):
    log_b = torch.tensor([[[0.0, -1000.0], [-400.0, 0.0], [-800.0, 0.0]]], dtype=torch.float64)
    log_b = log_b if winner else log_b.flip(-1)
    start = torch.tensor([[0.5, 0.5]], dtype=torch.float64).log()
    A = torch.eye(2, dtype=torch.float64).log()[None]
    uniform = torch.rand(1, 3, dtype=torch.float64)
    path = chain.sample_paths(given(log_b), place(start), place(A), whole([3]), place(uniform))
    assert path.tolist() == [[winner] * 3]


@pytest.mark.parametrize("entry", [None, 1e-250, 0.0])
def test_extreme_densities(place, entry):
    log_b, start, A = random_chain(1, 14, 3, seed=9, spread=1e4)
    compare(place, log_b, start, A if entry is None else sparse(entry, 2), LENGTHS, tolerance=1e-8)


def test_densities_of_zero(place):
    """A row that only one state can have."""
    log_b, start, A = random_chain(1, 14, 3, seed=4)
    log_b[0, 2, :2] = log_b[0, 4, 1:] = log_b[0, 9, 1] = -torch.inf
    compare(place, log_b, start, A, LENGTHS)


def test_a_row_of_probability_zero_is_an_error(place):
    log_b, start, A = random_chain(1, 14, 3, seed=4)
    log_b[0, 6] = -torch.inf
    for call in (chain.expect, chain.marginals, chain.log_predictive):
        with pytest.raises(DataError, match="row 7 "):
            call(given(log_b), place(start), place(A), whole(LENGTHS))


def test_a_chain_that_cannot_go_on_is_an_error(place):
    log_b, start, _ = random_chain(1, 4, 2, seed=4)
    log_b[0, 0, 1] = log_b[0, 2, 0] = -torch.inf
    with pytest.raises(DataError, match="row 3 "):
        chain.expect(
            given(log_b), place(start), place(torch.eye(2, dtype=torch.float64).log()[None]), whole([4])
        )


# Paths drawn


def check_frequencies(place, log_b, start, A, lengths, number):
    """Each sequence's paths occur as often as their posterior probabilities say."""
    exact = Enumerated(log_b[0], start[0], A[0], lengths)
    uniform = torch.rand(number, int(sum(lengths)), dtype=torch.float64)
    wide = [place(x.expand(number, *x.shape[1:]).contiguous()) for x in (start, A, uniform)]
    path = host(chain.sample_paths(given(log_b), wide[0], wide[1], whole(lengths), wide[2])).numpy()
    lo = 0
    for length, (z, p) in zip(lengths, exact.paths, strict=True):
        code = path[:, lo : lo + length] @ (log_b.shape[2] ** np.arange(length)[::-1])
        count = np.bincount(code, minlength=len(z))
        assert count[p < 1e-30].sum() == 0
        likely = p * number > 5
        rest = number - count[likely].sum(), number * (1 - p[likely].sum())
        found = np.append(count[likely], rest[0])
        wanted = np.append(number * p[likely], max(rest[1], 1e-6))
        if rest[1] < 5:
            assert rest[0] < 30  # at most 5 are expected: a Poisson tail of 1e-13
            found, wanted = found[:-1], wanted[:-1] * found[:-1].sum() / wanted[:-1].sum()
        if len(found) > 1:
            statistic = ((found - wanted) ** 2 / wanted).sum()
            assert ss.chi2(len(found) - 1).sf(statistic) > 1e-5  # the failure rate of one sequence
        lo += length


@pytest.mark.parametrize("log", [False, True], ids=["scaled", "log"])
def test_paths_are_drawn_with_their_probabilities(place, log, monkeypatch):
    if log:
        monkeypatch.setattr(chain, "_safely", lambda p, attempt: attempt(True))
    log_b, start, A = random_chain(1, 9, 3, seed=11, spread=0.7)
    check_frequencies(place, log_b, start, A, [4, 1, 1, 3], 20_000)


@pytest.mark.parametrize("entry", [0.0, 1e-300])
def test_paths_through_a_sparse_chain(place, entry):
    log_b, start, _ = random_chain(1, 9, 3, seed=12, spread=0.7)
    check_frequencies(place, log_b, start, sparse(entry, 5), [4, 1, 4], 20_000)


# The parts of the scans


@pytest.mark.parametrize("n", [1, 2, 3, 4, 10, 17])
@pytest.mark.parametrize("ring", ["LINEAR", "LOG", "MAX"])
def test_prefix_is_a_loop(ring, n):
    semiring = getattr(scan, ring)
    matrices = torch.rand(2, n, 3, 3, dtype=torch.float64) + 0.1
    first = torch.rand(2, 3, dtype=torch.float64)
    if ring != "LINEAR":
        matrices, first = matrices.log(), first.log()
    found, scale = scan.prefix(first, matrices, semiring)
    vector, total = first, torch.zeros(2, dtype=torch.float64)
    for t in range(n):
        if ring == "LINEAR":
            vector = torch.einsum("rk,rkj->rj", vector, matrices[:, t])
            norm = vector.sum(-1)
            vector = vector / norm[:, None]
            norm = norm.log()
        else:
            terms = vector[:, :, None] + matrices[:, t]
            vector = terms.logsumexp(1) if ring == "LOG" else terms.amax(1)
            norm = vector.logsumexp(-1) if ring == "LOG" else vector.amax(-1)
            vector = vector - norm[:, None]
        total = total + norm
        torch.testing.assert_close(found[:, t], vector)
        if t:  # the first scale depends on that of `first`
            torch.testing.assert_close(scale[:, t], norm)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 10, 17])
def test_follow_is_a_loop(n):
    pointers = torch.randint(4, (3, n, 4))
    last = torch.randint(4, (3,))
    path = scan.follow(pointers, last)
    assert path.shape == (3, n)
    for r in range(3):
        state = int(last[r])
        for t in range(n - 1, -1, -1):
            assert int(path[r, t]) == state
            state = int(pointers[r, t, state])


# Long sequences


def everything(place, log_b, start, A, lengths, chunk=None, weight=None, entered=None):
    """All results as plain tensors, by name."""
    rows = Rows(np.asarray(lengths, np.int64), entered, weight)
    R, n, K = log_b.shape
    gamma = torch.zeros(R, n, K, dtype=torch.float64)

    def consume(at, part):
        if at is not None:
            gamma[:, at] = host(part)

    at, to = place(start), place(A)
    e = chain.expect(given(log_b), at, to, rows, consume, chunk=chunk)
    m = chain.marginals(given(log_b), at, to, rows)
    log_c, ends = chain.log_predictive(given(log_b), at, to, rows)
    path = chain.viterbi(given(log_b), at, to, rows)
    named = {**e._asdict(), **m._asdict(), "log_c": log_c, "ends": ends, "path": path}
    return {name: host(value) for name, value in named.items()} | {"gamma": gamma}


def same(found, wanted, tolerance=1e-9):
    for name, value in wanted.items():
        scale = max(1.0, float(value.double().abs().max()))
        torch.testing.assert_close(
            found[name], value, rtol=0, atol=tolerance * scale, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("K", [2, 5, pytest.param(40, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["mixing", "sticky", "sparse", "extreme"])
def test_kernels_equal_scans_on_long_sequences(K, kind, place):
    lengths = [2500, 1, 1499] if K < 40 else [120, 1, 79]
    log_b, start, A = random_chain(1, sum(lengths), K, seed=K, spread=1e3 if kind == "extreme" else 2.0)
    if kind == "sticky":
        A = (torch.eye(K, dtype=torch.float64) + 1e-6).log()[None].log_softmax(-1)
    if kind == "sparse":
        A = sparse(0.0, 3, K)
    wanted = everything(lambda x: x, log_b, start, A, lengths)
    same(everything(place, log_b, start, A, lengths), wanted)
    same(everything(place, log_b, start, A, lengths, chunk=sum(lengths) // 5), wanted)


def test_pieces_with_weights_and_buffers(place):
    """A piece that is entered begins in the stationary distribution; rows of weight 0 count for nothing."""
    K, lengths, entered = 3, [5, 4], np.array([False, True])
    log_b, start, A = random_chain(2, 9, K, seed=21)
    A = A.log_softmax(-1)
    weight = np.array([1.0, 1, 1, 0, 0, 0, 1, 1, 0])
    stationary = torch.linalg.matrix_power(A.exp(), 1000)[:, 0]
    for chunk in (None, 1, 2, 4):
        found = everything(place, log_b, start, A, lengths, chunk, weight, entered)
        for r in range(2):
            first = Enumerated(log_b[r, :5], start[r], A[r], [5])
            second = Enumerated(log_b[r, 5:], stationary[r].log(), A[r], [4])
            gamma = np.concatenate([first.gamma, second.gamma]) * weight[:, None]
            np.testing.assert_allclose(found["gamma"][r], gamma, atol=1e-9)
            np.testing.assert_allclose(found["start"][r], first.gamma[0], atol=1e-9)
            log_c = np.concatenate([first.log_c, second.log_c]) @ weight
            assert float(found["log_evidence"][r]) == pytest.approx(log_c, abs=1e-9)
            pairs = np.zeros((K, K))
            for part, lo, length in ((first, 0, 5), (second, 5, 4)):
                z, p = part.paths[0]
                for t in range(1, length):
                    np.add.at(pairs, (z[:, t - 1], z[:, t]), p * weight[lo + t])
            np.testing.assert_allclose(found["transition"][r], pairs, atol=1e-9)


def test_threads_change_nothing():
    lengths = [700] * 8
    arguments = random_chain(3, sum(lengths), 3, seed=5)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = everything(lambda x: x, *arguments, lengths)
        torch.set_num_threads(4)
        together = everything(lambda x: x, *arguments, lengths)
    finally:
        torch.set_num_threads(before)
    same(together, alone, 1e-13)


def test_a_million_steps_do_not_underflow():
    n, K = 1_000_000, 2
    log_b, start, A = random_chain(1, n, K, seed=8, spread=3.0)
    log_b -= 50.0
    one = chain.expect(given(log_b), start, A, whole([n]))
    assert torch.isfinite(one.log_evidence).all()
    assert float(one.start.sum()) == pytest.approx(1.0, abs=1e-9)
    assert float(one.transition.sum()) == pytest.approx(n - 1, rel=1e-9)
    # Cut into sequences, the evidence is the sum of its parts.
    cut = 400_000
    split = chain.expect(given(log_b), start, A, whole([cut, n - cut]))
    parts = log_b[:, :cut], log_b[:, cut:]
    alone = [chain.expect(given(b), start, A, whole([b.shape[1]])) for b in parts]
    assert float(split.log_evidence) == pytest.approx(sum(float(a.log_evidence) for a in alone), rel=1e-12)
    torch.testing.assert_close(split.transition, alone[0].transition + alone[1].transition)
    log_c, _ = chain.log_predictive(given(log_b), start, A, whole([n]))
    assert float(log_c.sum()) == pytest.approx(float(one.log_evidence), rel=1e-12)
    path = chain.viterbi(given(log_b), start, A, whole([n]))
    z = path[0]
    value = start[0, z[0]] + A[0, z[:-1], z[1:]].sum() + log_b[0, torch.arange(n), z].sum()
    greedy = log_b[0].argmax(-1)
    other = (
        start[0, greedy[0]] + A[0, greedy[:-1], greedy[1:]].sum() + log_b[0, torch.arange(n), greedy].sum()
    )
    assert value > other  # better than state by state
    assert value < float(one.log_evidence)
