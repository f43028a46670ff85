"""The state of a gradient fit as tensors and numbers, and back: to go on as if it had never been stopped.

The order of the rows follows from the seed, the pass and the batch, so that what there is to keep is small:
the weights, Adam's moments, the averages, what the policy remembers, and the generator of random numbers.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ppl_models.errors import RunError
from ppl_models.inference.gradient import GradientState, StochasticTarget, put, weights

NUMBERS = ("step", "epoch", "position", "shrink", "failures", "micro", "looked")
MOMENTS = ("step", "exp_avg", "exp_avg_sq", "momentum")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Where a fit was.

    Attributes:
        tensors: by name: `now.*` the weights, `average.*`, `good.*`, `adam.*`, `policy.*`, `rng`.
        numbers: of the state, `best`, and `policy.*`.
    """

    tensors: dict[str, Tensor]
    numbers: dict[str, float]


def capture(state: GradientState, target: StochasticTarget) -> Checkpoint:
    """A copy of all that the next step depends on."""
    own = weights(target.module)
    tensors = {f"now.{name}": value for name, value in own.items()}
    tensors |= {f"average.{name}": value for name, value in state.average.items()}
    tensors |= {f"good.{name}": value for name, value in state.good.items()}
    tensors |= {f"policy.{name}": value for name, value in state.tensors.items()}
    for name, parameter in target.module.named_parameters():
        for moment in MOMENTS:
            value = state.optimiser.state.get(parameter, {}).get(moment)
            if value is not None:
                tensors[f"adam.{moment}.{name}"] = value
    tensors["rng"] = torch.get_rng_state()
    device = next(iter(own.values())).device
    if device.type == "cuda":
        tensors["rng.cuda"] = torch.cuda.get_rng_state(device)
    numbers = {name: float(getattr(state, name)) for name in NUMBERS}
    numbers |= {"best": float(state.best)} | {f"policy.{k}": float(v) for k, v in state.numbers.items()}
    return Checkpoint({name: value.detach().cpu().clone() for name, value in tensors.items()}, numbers)


def restore(checkpoint: Checkpoint, state: GradientState, target: StochasticTarget) -> None:
    """Put a fresh state, the module and torch's generator where they were.

    Raises:
        RunError: if the checkpoint is of another network.
    """
    found, numbers = checkpoint.tensors, checkpoint.numbers
    own = weights(target.module)
    device = next(iter(own.values())).device

    def part(prefix: str) -> dict[str, Tensor]:
        values = {k.removeprefix(prefix): v.to(device) for k, v in found.items() if k.startswith(prefix)}
        return {name: _laid(value, own.get(name)) for name, value in values.items()}

    now = part("now.")
    if {k: v.shape for k, v in now.items()} != {k: v.shape for k, v in own.items()}:
        raise RunError("the checkpoint is of a model with other weights; fit it again")
    put(target.module, now)
    for name, parameter in target.module.named_parameters():
        moments = {m: found[f"adam.{m}.{name}"] for m in MOMENTS if f"adam.{m}.{name}" in found}
        if moments:
            # the count stays where torch wants it, the moments lie beside the weights
            state.optimiser.state[parameter] = {
                m: v.clone()
                if m == "step" and device.type == "cpu"
                else _laid(v.to(device).clone(), parameter)
                for m, v in moments.items()
            }
    state.average, state.good, state.tensors = part("average."), part("good."), part("policy.")
    values: dict[str, Any] = {name: int(numbers[name]) for name in NUMBERS if name != "shrink"}
    for name, value in values.items():
        setattr(state, name, value)
    state.shrink = numbers["shrink"]
    state.best = torch.tensor([numbers["best"]], dtype=torch.float64)
    state.numbers = {k.removeprefix("policy."): v for k, v in numbers.items() if k.startswith("policy.")}
    torch.set_rng_state(found["rng"])
    if device.type == "cuda" and "rng.cuda" in found:
        torch.cuda.set_rng_state(found["rng.cuda"], device)


def _laid(value: Tensor, weight: Tensor | None) -> Tensor:
    """A value in the memory format of its weight, such as channels last, by which sums are rounded."""
    if weight is None or value.shape != weight.shape:
        return value
    return torch.empty_like(weight, dtype=value.dtype).copy_(value)
