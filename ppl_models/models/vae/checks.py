"""Checks on a variational autoencoder: are its latents used, does it generalise, how close is its guide.

- A latent is active if Var_n(E_q[z | x_n]) > 0.01 (Burda, Grosse & Salakhutdinov 2016, Importance weighted
  autoencoders, ICLR, https://arxiv.org/abs/1509.00519). Where none is, the posterior has collapsed onto the
  prior: the decoder ignores z, and the model is one of independent columns (Lucas, Tucker, Grosse & Norouzi
  2019, Don't blame the ELBO!, NeurIPS, https://arxiv.org/abs/1911.02469).
- The ELBO of the rows that training saw against that of those held out.
- log p̂(x) − ELBO, with p̂ by importance sampling: what the guide gives away, E_q KL(q(z | x) ‖ p(z | x)).
- Pareto k̂ of the importance weights of single rows (Vehtari et al. 2024, JMLR 25).
"""

import numpy as np
import torch

from ppl_models import misfit
from ppl_models.checks import GOOD_K, Check, classified
from ppl_models.models.vae.elbo import terms
from ppl_models.models.vae.importance import particles
from ppl_models.models.vae.latents import ACTIVE, latents
from ppl_models.models.vae.objective import VAETarget

ROWS, SOME, DRAWS = 4_096, 100, 500
"""Rows that are looked at; rows whose importance weights are, and with how many draws."""

GAP = 0.25
"""Share of the KL divergence up to which the gap between the bounds is small."""

WORSE = 0.02
"""Nats a cell up to which held-out rows may be worse."""

ROUGH = 0.5
"""Share of rows with a high k̂ from which densities and imputations are called rough."""


def checks(target: VAETarget, seed: int) -> list[Check]:
    """Everything that is looked at beside convergence.

    Args:
        target: the objective of the fit, with the networks that were learned.
        seed: of the rows and draws that are looked at.
    """
    some = _sample(target.train, ROWS, seed)
    means, _, kl = latents(target.module, target.data.at(some))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed + 20)
        found = [active(means), divergences(kl)]
        if len(target.held):
            held = _sample(target.held, ROWS, seed)
            found.append(_overfitting(target, some, held))
            found += classes(target, held)
            if target.schema.shape is None:
                found += against_data(target, held[: misfit.ROWS], seed)
        return found + _guide(target, some[:SOME], float(kl.sum(1).mean()))


def active(means: np.ndarray) -> Check:
    """Active latents, from the posterior means of rows, (n, L)."""
    variance = means.var(0)
    number, of = int((variance > ACTIVE).sum()), len(variance)
    name, value = "active latents", variance.round(4).tolist()
    if not number:
        reason = (
            f"posterior collapse: none of {of} latents depends on the rows, so the decoder ignores them; "
            "raise --warm-up, lower --beta, or train longer"
        )
        return Check(name, value, "fail", reason)
    if number <= of // 2 and of > 2:
        said = f"only {number} of {of} latents depend on the rows, the others are noise"
        reason = f"{said}; --latent {number} would do"
        return Check(name, value, "warn", reason)
    return Check(name, value, "ok", f"{number} of {of} latents depend on the rows")


def divergences(kl: np.ndarray) -> Check:
    """KL(q ‖ p) of each latent, from those of rows, (n, L)."""
    each = kl.mean(0)
    reason = f"{each.sum():.1f} nats a row, {each.min():.2f} to {each.max():.2f} a latent"
    return Check("KL divergence", each.round(3).tolist(), "ok", reason)


def _sample(index: torch.Tensor, most: int, seed: int) -> torch.Tensor:
    order = np.random.default_rng(seed).permutation(len(index))[:most]
    return index[torch.from_numpy(order).to(index.device)]


def _overfitting(target: VAETarget, train: torch.Tensor, held: torch.Tensor) -> Check:
    seen, unseen = (_elbo(target, rows) for rows in (train, held))
    error = float(np.hypot(*(each.std() / max(len(each), 1) ** 0.5 for each in (seen, unseen))))
    gap = float(seen.mean() - unseen.mean())
    said = (
        f"ELBO a row {seen.mean():.2f} of training rows, {unseen.mean():.2f} of {len(unseen)} held-out rows"
    )
    if gap > 3 * error and gap > WORSE * target.module.likelihood.width:
        reason = f"{said}: it fits the rows more than what they share; use smaller --hidden or fewer --latent"
        return Check("held-out rows", gap, "warn", reason, "predictions")
    return Check("held-out rows", gap, "ok", said, "predictions")


def _elbo(target: VAETarget, index: torch.Tensor) -> np.ndarray:
    found = (terms(target.module, target.data.at(part)) for part in index.split(1_024))
    return torch.cat([(t.fit - t.divergence).double() for t in found]).cpu().numpy()


def _guide(target: VAETarget, index: torch.Tensor, kl: float) -> list[Check]:
    """The gap between the two bounds, and k̂ of single rows."""
    gaps, k_hat = [], []
    for p in particles(target.module, target.data.at(index), DRAWS):
        gaps.append((p.log_density - p.elbo).cpu().numpy())
        k_hat.append(p.k_hat())
    gap, k = float(np.concatenate(gaps).mean()), np.concatenate(k_hat)
    high = float((k > GOOD_K).mean())
    said = f"{gap:.2f} nats a row between the ELBO and the density by {DRAWS} importance draws"
    if gap > max(GAP * kl, 1.0):
        far = "the guide is far from the posterior; use larger --hidden"
        reason = f"{said}, against a KL divergence of {kl:.1f}: {far}"
        first = Check("ELBO gap", gap, "warn", reason, "both")
    else:
        first = Check("ELBO gap", gap, "ok", said, "both")
    said = f"{100 * high:.0f} % of {len(k)} rows have k-hat over {GOOD_K}"
    if high > ROUGH:
        reason = f"{said}: densities and imputed cells by importance sampling are rough; give them more draws"
        return [first, Check("k-hat of rows", high, "warn", reason, "both")]
    return [first, Check("k-hat of rows", high, "ok", said, "both")]


def classes(target: VAETarget, held: torch.Tensor) -> list[Check]:
    """Of rows with a label that training did not see: how many are classified right, how confidently."""
    rows = target.data.at(held)
    if rows.y is None or int((rows.y >= 0).sum()) < misfit.LEAST:
        return []
    known = rows.y >= 0
    log_p = target.module.log_q_y(target.module.likelihood.features(rows.x, rows.seen))[known]
    return [classified(log_p.double().exp().cpu().numpy(), rows.y[known].cpu().numpy(), "held out")]


def against_data(target: VAETarget, held: torch.Tensor, seed: int) -> list[Check]:
    """Whether numbers of held-out rows look like those of their latents, drawn from p(z | x).

    Of images nothing is said: pixels are of no family that is right for all of them. Latents are drawn by
    importance weights from `DRAWS` draws of the guide.
    """
    from ppl_models.families.choose import having, instead
    from ppl_models.families.cumulative import cumulative

    net, rows = target.module, target.data.at(held)
    if rows.weight is not None:
        return []
    parts: list[list[misfit.Cells]] = []
    for p in particles(net, rows, DRAWS):
        out = p.decode(net, *p.resample(misfit.DRAWS))
        cells, at = [], 0
        for f, o, u, seen in net.likelihood.parts(out, p.rows.x, p.rows.seen):
            columns = [target.schema.columns[i] for i in net.likelihood.order[at : at + f.width]]
            at += f.width
            if any(c.labelled for c in columns):
                continue
            d, x = f.distribution(o), f.observed(u)
            x = x if seen is None else torch.where(seen.bool(), x, torch.nan)
            cumulated = cumulative(d, x.cpu().numpy())
            if cumulated is None:
                continue
            whole = bool((cumulated.below < cumulated.upto).any())
            zero = d.log_prob(torch.zeros_like(o[..., : f.width]).double()).exp() if whole else None
            for j, column in enumerate(columns):
                given = (
                    part[..., j] for part in (*cumulated, d.mean.cpu().numpy(), d.variance.cpu().numpy())
                )
                none = None if zero is None else zero[..., j].cpu().numpy()
                advice = instead("likelihood", column.name, having("likelihood")[f.name])
                own = x[:, j].cpu().numpy()
                cells.append(misfit.Cells(column.name, f.name, own, *given, none, False, advice))
        parts.append(cells)
    cells = [misfit.joined(each) for each in zip(*parts, strict=True)]
    found = misfit.misfits(cells, seed=seed + 6, within=" given their latents")
    return misfit.checks(found, len(cells), len(held), better=misfit.apart(found, cells))
