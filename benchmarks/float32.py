"""How accurate a pass of a mixture is in single precision, with sums in double.

    python benchmarks/float32.py [--rows 500000]

Rows of a mixture of ten components with full covariances over 16 columns, a pass of EM at their parameters.
Densities are worked out in float32 and sums over chunks of rows added up in float64, beside pure float64:

    whitened   ‖L_kᵀ(x − μ_k)‖², as one would write it (`gpu_bare.em_pass`)
    linear     ⟨t(x), η_k⟩ with t(x) = (x, x xᵀ), one product of matrices, as the passes of this project

of columns that are standardised, as models have them, and of columns ten sds away from zero. Errors are
relative: of the log likelihood, and of Σ γ, Σ γ x and Σ γ x xᵀ in units of the largest of each.
"""

import argparse
import math

import gpu_bare
import numpy as np
import torch
from torch import Tensor

K, D = 10, 16


def linear_pass(x: Tensor, own: gpu_bare.Mixture, chunk: int) -> tuple[Tensor, ...]:
    """As `gpu_bare.em_pass`, by features that are linear in the natural parameters."""
    wide = own.root.double() @ own.root.double().mT
    h = torch.einsum("kde,ke->kd", wide, own.mean.double())
    c = own.log_weight.double() + own.root.double().diagonal(dim1=-2, dim2=-1).log().sum(-1)
    c = (c - 0.5 * D * math.log(2 * math.pi) - 0.5 * (h * own.mean).sum(-1)).to(x)
    W = torch.cat([h, -0.5 * wide.flatten(1)], 1).to(x)
    total, sums, count = torch.zeros((), dtype=torch.float64), torch.zeros(K, D + D * D).double(), 0.0
    for part in x.split(chunk):
        t = torch.cat([part, (part[:, :, None] * part[:, None, :]).flatten(1)], 1)
        log_p = t @ W.T + c
        evidence = log_p.logsumexp(1)
        gamma = (log_p - evidence[:, None]).exp()
        total += evidence.sum(dtype=torch.float64)
        count = count + gamma.sum(0, dtype=torch.float64)
        sums += gamma.T @ t
    return total, count, sums[:, :D], sums[:, D:].reshape(K, D, D)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=500_000)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    mean = rng.normal(size=(K, D))
    A = rng.normal(size=(K, D, D)) / np.sqrt(D)
    covariance = 0.5 * (A @ A.transpose(0, 2, 1) + 0.3 * np.eye(D))
    z = rng.integers(K, size=options.rows)
    noise = rng.normal(size=(options.rows, D))
    X = mean[z] + np.einsum("nde,ne->nd", np.linalg.cholesky(covariance)[z], noise)
    scale = X.std(0)
    print(f"{options.rows:,} rows; torch {torch.__version__}\n")
    print("| columns | form | rows of a chunk | log likelihood | Σ γ | Σ γ x | Σ γ x xᵀ |")
    print("|---|---|---|---|---|---|---|")
    for where, shift in (("standardised", 0.0), ("ten sds from 0", 10.0)):
        x = torch.from_numpy(X / scale + shift)
        root = np.linalg.cholesky(np.linalg.inv(covariance / np.outer(scale, scale)))
        own = gpu_bare.Mixture(
            torch.full((K,), -math.log(K)).double(),
            torch.from_numpy(mean / scale + shift),
            torch.from_numpy(root),
        )
        exact = gpu_bare.em_pass(x, own)
        single = gpu_bare.Mixture(*(part.float() for part in own))
        for name, work in (("whitened", gpu_bare.em_pass), ("linear", linear_pass)):
            for chunk in (1 << 12, 1 << 18):
                found = work(x.float(), single, chunk)
                errors = [
                    float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, exact, strict=True)
                ]
                print(
                    f"| {where} | {name} | {chunk:,} | " + " | ".join(f"{e:.1e}" for e in errors) + " |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
