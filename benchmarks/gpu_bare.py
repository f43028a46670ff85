"""What `benchmarks/gpu.py` puts beside this project: the same in PyTorch alone, as one would write it."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Mixture(NamedTuple):
    """log π (K,), μ (K, D) and the roots of the precisions (K, D, D), Λ_k = L_k L_kᵀ."""

    log_weight: Tensor
    mean: Tensor
    root: Tensor


def em_pass(x: Tensor, own: Mixture, chunk: int = 1 << 18) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A pass of EM over rows (n, D): log likelihood, Σ_n γ_nk, Σ_n γ_nk x_n, Σ_n γ_nk x_n x_nᵀ, in float64.

    Densities are in the precision of the rows, and sums over a chunk are added up in double precision.
    """
    K, D = own.mean.shape
    wide: dict[str, torch.dtype] = {"dtype": torch.float64}
    total = torch.zeros((), device=x.device, **wide)
    N = torch.zeros(K, device=x.device, **wide)
    S1 = torch.zeros(K, D, device=x.device, **wide)
    S2 = torch.zeros(K, D, D, device=x.device, **wide)
    log_det = own.root.diagonal(dim1=-2, dim2=-1).log().sum(-1) - 0.5 * D * math.log(2 * math.pi)
    shift = torch.einsum("kd,kde->ke", own.mean, own.root)
    for part in x.split(chunk):
        y = torch.einsum("nd,kde->kne", part, own.root) - shift[:, None]
        log_p = (own.log_weight + log_det)[:, None] - 0.5 * y.square().sum(-1)  # (K, n)
        evidence = log_p.logsumexp(0)
        gamma = (log_p - evidence).exp()
        total += evidence.sum(**wide)
        N += gamma.sum(1, **wide)
        S1 += gamma @ part
        S2 += torch.stack([(part * each[:, None]).T @ part for each in gamma])
    return total, N, S1, S2


def random_mixture(K: int, D: int, device: str, dtype: torch.dtype) -> Mixture:
    """Somewhere to start."""
    draw = torch.Generator().manual_seed(0)
    mean = torch.randn(K, D, generator=draw, dtype=torch.float64)
    root = torch.eye(D, dtype=torch.float64) + 0.1 * torch.randn(K, D, D, generator=draw, dtype=torch.float64)
    parts = torch.full((K,), -math.log(K)), mean, root.tril()
    return Mixture(*(part.to(device, dtype) for part in parts))


def chain_pass(log_b: Tensor, log_A: Tensor) -> tuple[Tensor, Tensor]:
    """Forwards and backwards over sequences (S, T, K), step by step: log evidence and γ (S, T, K)."""
    S, T, K = log_b.shape
    A = log_A.exp()
    b = (log_b - log_b.amax(-1, keepdim=True)).exp()
    alpha, scale = torch.empty_like(b), b.new_empty(S, T)
    a = b[:, 0] / K
    for t in range(T):
        a = a if t == 0 else (a @ A) * b[:, t]
        scale[:, t] = a.sum(-1)
        a = a / scale[:, t, None]
        alpha[:, t] = a
    beta, found = b.new_ones(S, K), torch.empty_like(b)
    found[:, -1] = 1.0
    for t in range(T - 1, 0, -1):
        beta = ((beta * b[:, t]) @ A.T) / scale[:, t, None]
        found[:, t - 1] = beta
    return (scale.log().sum() + log_b.amax(-1).sum()), alpha * found


def _products(M: Tensor, log: Tensor) -> tuple[Tensor, Tensor]:
    """Products M_1 … M_t of matrices (T, K, K), scaled, and the logs of their scales (T,): log₂ T rounds."""
    step = 1
    while step < len(M):
        more = M[:-step] @ M[step:]
        size = more.amax((-2, -1))
        M = torch.cat([M[:step], more / size[:, None, None]])
        log = torch.cat([log[:step], log[:-step] + log[step:] + size.log()])
        step *= 2
    return M, log


def scan_pass(log_b: Tensor, log_A: Tensor) -> tuple[Tensor, Tensor]:
    """The same for one long sequence (1, T, K), by scans."""
    top = log_b[0].amax(-1)
    M = log_A.exp() * (log_b[0] - top[:, None]).exp()[:, None, :]  # (T, K, K)
    M[0] = (log_b[0, 0] - top[0]).exp() / log_A.shape[0]  # every row: the start
    before, log = _products(M, top)
    alpha = before[:, 0]
    after, _ = _products(M[1:].flip(0).mT, torch.zeros_like(top[1:]))  # M_T, then M_{T−1} M_T, …, transposed
    beta = torch.cat([after.mT.sum(-1).flip(0), torch.ones_like(alpha[:1])])
    gamma = alpha * beta
    return log[-1] + alpha[-1].sum().log(), (gamma / gamma.sum(-1, keepdim=True))[None]


class Block(nn.Module):
    """Of nanoGPT, without biases."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.one, self.two = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, W)."""
        B, T, W = x.shape
        q, k, v = self.qkv(self.one(x)).view(B, T, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(B, T, W)
        x = x + self.out(y)
        return x + self.down(F.gelu(self.up(self.two(x))))


class GPT(nn.Module):
    """Of bytes."""

    def __init__(self, width: int, layers: int, heads: int, context: int) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(256, width), nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.token.weight, std=0.02)
        nn.init.normal_(self.place.weight, std=0.02)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss, nats a byte, of bytes y after x, (B, T)."""
        h = self.norm(self.blocks(self.token(x) + self.place.weight[: x.shape[1]]))
        return F.cross_entropy((h @ self.token.weight.T).flatten(0, 1), y.flatten())


class Convolutional(nn.Module):
    """As `ppl.CNN` has it for 28 × 28 pixels: two blocks of two convolutions, dense layers of M members."""

    def __init__(self, members: int = 4, features: int = 16, classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i, o in ((1, 16), (16, 32)):
            layers += [nn.Conv2d(i, o, 3, padding=1), nn.ReLU(), nn.Conv2d(o, o, 3, padding=1), nn.ReLU()]
            layers += [nn.MaxPool2d(2)]
        self.body = nn.Sequential(*layers, nn.Flatten())
        self.r = nn.Parameter(torch.ones(members, 32 * 49))
        self.dense, self.last = nn.Linear(32 * 49, 128), nn.Linear(128, features)
        self.head = nn.Linear(features, classes)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Mean cross entropy of the members."""
        h = self.body(x)[:, None] * self.r
        z = self.head(self.last(F.relu(self.dense(h))))
        return F.cross_entropy(z.flatten(0, 1), y.repeat_interleave(len(self.r)))
