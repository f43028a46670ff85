"""The networks of a GAN: generator, critic, and the encoder that is trained afterwards.

    generator  (z, y, g) ↦ x    numbers as they come; of choices the largest of logits + g, g ~ Gumbel(0, 1)
    critic     (x, y, seen) ↦ D, a number
    encoder    (x, y, seen) ↦ (μ, log σ²),   q(z | x, y) = N(μ, diag σ²)

A choice is one-hot to the critic, and has the gradient of softmax((logits + g)/τ): the straight-through
estimator (Jang, Gu & Poole 2017, Categorical reparameterization with Gumbel-softmax, ICLR,
https://arxiv.org/abs/1611.01144). No layer normalises over a batch: rows are independent, and averaged
weights need no running moments.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, one_hot

from ppl_models.models.gan.coding import Coding

TEMPERATURE = 0.5
"""τ of the gradient of a choice."""

SLOPE = 0.2
"""Of the activations, below zero."""

CHANNELS, CRITIC = (32, 64), (16, 32)
"""Of images halved once and twice: in the generator, and in critic and encoder, which see more of them."""


class Dense(nn.Module):
    """(B, I) ↦ (B, H): layers with a skip around each that keeps the size, and a label beside the first."""

    def __init__(self, inputs: int, hidden: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, hidden[0])
        self.label = nn.Linear(classes, hidden[0], bias=False) if classes else None
        self.rest = nn.ModuleList(nn.Linear(a, b) for a, b in zip(hidden, hidden[1:], strict=False))
        self.outputs = hidden[-1]

    def forward(self, x: Tensor, label: Tensor | None) -> Tensor:
        """After the last activation; `label` (B, C) is one-hot, all zeros where it is not known."""
        h = self.first(x)
        if self.label is not None and label is not None:
            h = h + self.label(label)
        h = leaky_relu(h, SLOPE)
        for layer in self.rest:
            new = leaky_relu(layer(h), SLOPE)
            h = (h + new) / math.sqrt(2) if new.shape == h.shape else new
        return h


class Lift(nn.Module):
    """What the critic and the encoder see of a row: its cells, listed numbers also as numbers, the mask."""

    def __init__(self, coding: Coding) -> None:
        super().__init__()
        ladder = getattr(coding, "ladder", torch.zeros(0, 0))
        self.register_buffer("ladder", ladder, persistent=False)
        self.register_buffer("owner", coding.owner, persistent=False)
        self.start, self.masked = coding.width - sum(coding.choices), coding.masked
        self.outputs = coding.width + ladder.shape[1] + coding.masked * len(coding.order)

    ladder: Tensor
    owner: Tensor

    def hide(self, x: Tensor, seen: Tensor | None) -> Tensor:
        """The row with 0 where cells are missing."""
        return x if seen is None else x * seen.index_select(1, self.owner)

    def forward(self, x: Tensor, seen: Tensor | None) -> Tensor:
        """(B, O)."""
        x = self.hide(x, seen)
        found = [x]
        if self.ladder.shape[1]:
            found.append(x[:, self.start :] @ self.ladder)
        if self.masked:
            every = x.new_ones(len(x), int(self.owner.max()) + 1)
            found.append(every if seen is None else seen.to(x.dtype))
        return torch.cat(found, 1) if len(found) > 1 else x


class TableBody(nn.Module):
    """Rows of a table ↦ features (B, H), for critic and encoder."""

    def __init__(self, coding: Coding, hidden: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.lift = Lift(coding)
        self.layers = Dense(self.lift.outputs, hidden, classes)
        self.outputs = self.layers.outputs

    def forward(self, x: Tensor, label: Tensor | None, seen: Tensor | None) -> Tensor:
        """(B, H)."""
        return self.layers(self.lift(x, seen), label)


class TableGenerator(nn.Module):
    """(z, y, g) ↦ rows of a table."""

    def __init__(self, coding: Coding, latent: int, hidden: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.choices = coding.choices
        self.numbers = coding.width - sum(coding.choices)
        self.apart, self.none = [*coding.apart], [*coding.apart.values()]
        self.layers = Dense(latent, hidden, classes)
        self.last = nn.Linear(self.layers.outputs, coding.width)

    def forward(self, z: Tensor, label: Tensor | None, noise: Tensor | None) -> Tensor:
        """(B, I); without noise choices are probabilities."""
        out = self.last(self.layers(z, label))
        found, start = [out[:, : self.numbers]], self.numbers
        for size in self.choices:
            logits = out[:, start : start + size]
            if noise is None:
                found.append(logits.softmax(1))
            else:
                at = start - self.numbers
                logits = logits + noise[:, at : at + size]
                soft = (logits / TEMPERATURE).softmax(1)
                hard = one_hot(logits.argmax(1), size).to(soft.dtype)
                found.append(hard + soft - soft.detach())
            start += size
        if not self.apart:
            return torch.cat(found, 1)
        chosen = torch.cat(found[1:], 1)
        there = torch.ones_like(found[0])
        there[:, self.apart] = chosen[:, [at - self.numbers for at in self.none]]
        return torch.cat([found[0] * there, chosen], 1)


def _halves(size: int) -> tuple[int, int, int]:
    return size, size // 2, size // 2 // 2


class ImageBody(nn.Module):
    """Images ↦ features (B, H): two convolutions that halve them, then a dense layer."""

    def __init__(self, shape: tuple[int, int, int], masked: bool, hidden: int, classes: int) -> None:
        super().__init__()
        h, w, c = shape
        self.shape, self.masked = shape, masked
        a, b = CRITIC
        self.layers = nn.Sequential(
            nn.Conv2d(c * (1 + masked), a, 4, 2, 1), nn.LeakyReLU(SLOPE),
            nn.Conv2d(a, b, 4, 2, 1), nn.LeakyReLU(SLOPE), nn.Flatten(),
        )  # fmt: skip
        self.dense = Dense(b * _halves(h)[2] * _halves(w)[2], (hidden,), classes)
        self.outputs = hidden

    def forward(self, x: Tensor, label: Tensor | None, seen: Tensor | None) -> Tensor:
        """(B, H)."""
        h, w, c = self.shape
        parts = [x if seen is None else x * seen]
        if self.masked:
            parts.append(torch.ones_like(x) if seen is None else seen.to(x.dtype))
        images = torch.cat([p.reshape(-1, h, w, c).permute(0, 3, 1, 2) for p in parts], 1)
        return self.dense(self.layers(images), label)


class ImageGenerator(nn.Module):
    """(z, y) ↦ pixels between −1 and 1: a dense layer, and two transposed convolutions to the exact size."""

    def __init__(self, shape: tuple[int, int, int], latent: int, hidden: int, classes: int) -> None:
        super().__init__()
        h, w, c = shape
        (_, h1, self.h), (_, w1, self.w) = _halves(h), _halves(w)
        a, b = CHANNELS
        self.dense = Dense(latent, (hidden,), classes)
        self.spread = nn.Linear(hidden, b * self.h * self.w)
        even = (h1 - 2 * self.h, w1 - 2 * self.w), (h - 2 * h1, w - 2 * w1)
        self.layers = nn.Sequential(
            nn.LeakyReLU(SLOPE),
            nn.ConvTranspose2d(b, a, 4, 2, 1, output_padding=even[0]), nn.LeakyReLU(SLOPE),
            nn.ConvTranspose2d(a, c, 4, 2, 1, output_padding=even[1]), nn.Tanh(),
        )  # fmt: skip

    def forward(self, z: Tensor, label: Tensor | None, noise: Tensor | None) -> Tensor:
        """(B, I) in the order of the columns; there are no choices, and no noise."""
        h = self.spread(self.dense(z, label)).reshape(-1, CHANNELS[1], self.h, self.w)
        return self.layers(h).permute(0, 2, 3, 1).flatten(1)


class Players(nn.Module):
    """Everything that a GAN learns.

    Args:
        coding: what a row is.
        latent: dimensions of z.
        hidden: sizes of the hidden layers; of images the last is that of their dense layers.
        classes: number of classes of the target; 0 for none.
        image: height, width and channels for convolutions; None for dense layers.
    """

    def __init__(
        self,
        coding: Coding,
        latent: int,
        hidden: tuple[int, ...],
        classes: int = 0,
        image: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__()
        self.latent, self.classes, self.chosen = latent, classes, sum(coding.choices)

        def body() -> nn.Module:
            if image is None:
                return TableBody(coding, hidden, classes)
            return ImageBody(image, coding.masked, hidden[-1], classes)

        self.generator: nn.Module = (
            TableGenerator(coding, latent, hidden, classes)
            if image is None
            else ImageGenerator(image, latent, hidden[-1], classes)
        )
        self.critic = nn.ModuleDict({"body": body(), "last": nn.Linear(hidden[-1], 1)})
        self.encoder = nn.ModuleDict({"body": body(), "last": nn.Linear(hidden[-1], 2 * latent)})
        self.class_logits = nn.Parameter(torch.zeros(classes), requires_grad=False) if classes else None

    def generate(self, z: Tensor, y: Tensor | None, noise: Tensor | None) -> Tensor:
        """Rows (B, I); expected ones without the noise (B, ΣK) of choices."""
        return self.generator(z, self.one_hot(y), noise)

    def criticise(self, x: Tensor, y: Tensor | None, seen: Tensor | None) -> Tensor:
        """D, (B,)."""
        return self.critic["last"](self.critic["body"](x, self.one_hot(y), seen)).squeeze(1)

    def posterior(self, x: Tensor, y: Tensor | None, seen: Tensor | None) -> tuple[Tensor, Tensor]:
        """μ and log σ² of q(z | x, y), (B, L) each."""
        mean, log_var = self.encoder["last"](self.encoder["body"](x, self.one_hot(y), seen)).chunk(2, 1)
        return mean, log_var.clamp(-12.0, 2.0)

    def draw(self, number: int, y: Tensor | None) -> tuple[Tensor, Tensor]:
        """Latents z (B, L) and the noise g (B, ΣK) of choices, by torch's global generator."""
        device = next(self.generator.parameters()).device
        z = torch.randn(number, self.latent).to(device)
        uniform = torch.rand(number, self.chosen).clamp(1e-10, 1 - 1e-7)
        return z, -(-uniform.log()).log().to(device)

    def labels(self, number: int) -> Tensor | None:
        """Codes of the target drawn by the shares of its classes in the fit; None without a target."""
        if self.class_logits is None:
            return None
        return torch.multinomial(self.class_logits.softmax(0), number, replacement=True)

    def likeliest(self) -> Tensor:
        """The code of the class that most rows of the fit have."""
        assert self.class_logits is not None
        return self.class_logits.argmax()

    def one_hot(self, y: Tensor | None) -> Tensor | None:
        """Codes as labels for the networks, (B, C): all zeros of −1."""
        if y is None or not self.classes:
            return None
        return one_hot(y + 1, self.classes + 1)[:, 1:].to(next(self.generator.parameters()).dtype)
