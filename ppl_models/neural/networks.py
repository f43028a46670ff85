"""The networks of a VAE: encoder q_φ(z | x), decoder of p_θ(x | z), and with classes q_φ(y | x) and p(y).

    encoder      x ↦ h = first(body(x)) + label(y) ↦ (μ, log σ²),   q(z | x, y) = N(μ, diag σ²)
    decoder      z ↦ h = first(z) + label(y) ↦ outputs o of the likelihood
    classifier   x ↦ logits of q(y | x)

Labels enter beside the first layer, which is the same as giving them to the network as one-hot inputs, except
that for all classes at once the first layer, the largest, is computed once. Layers are ReLU networks with
torch's own initial values.
"""

import torch
from torch import Tensor, nn

from ppl_models.neural.product import Product

CHANNELS = (32, 64)
"""Channels of the two convolutions."""


class Network(nn.Module):
    """(..., I) ↦ (..., O) through ReLU layers, with a label beside the first.

    Args:
        inputs: I, after the body.
        hidden: sizes of the hidden layers.
        outputs: O, before the tail.
        classes: number of classes of the label; 0 for none.
        body: what comes before, if anything.
        tail: what comes after.
    """

    def __init__(
        self,
        inputs: int,
        hidden: tuple[int, ...],
        outputs: int,
        classes: int = 0,
        body: nn.Module | None = None,
        tail: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.body, self.tail = body, tail
        self.first = nn.Linear(inputs, hidden[0])
        self.label = nn.Linear(classes, hidden[0], bias=False) if classes else None
        layers: list[nn.Module] = []
        for a, b in zip(hidden, hidden[1:], strict=False):
            layers += [nn.ReLU(), nn.Linear(a, b)]
        self.rest = nn.Sequential(*layers, nn.ReLU(), nn.Linear(hidden[-1], outputs))

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """Outputs; `label` is one-hot and broadcasts against the leading dimensions of x."""
        h = self.first(x if self.body is None else self.body(x))
        if label is not None and self.label is not None:
            h = h + self.label(label)
        out = self.rest(h)
        return out if self.tail is None else self.tail(out)


def _halves(size: int) -> tuple[int, int, int]:
    return size, size // 2, size // 2 // 2


class Convolutions(nn.Module):
    """(..., h·w·c) pixels ↦ (..., features): two convolutions that halve the image."""

    def __init__(self, shape: tuple[int, int, int], masked: bool) -> None:
        super().__init__()
        h, w, c = shape
        self.shape, self.channels = shape, c * (1 + masked)
        self.features = CHANNELS[1] * _halves(h)[2] * _halves(w)[2]
        self.layers = nn.Sequential(
            nn.Conv2d(self.channels, CHANNELS[0], 4, 2, 1), nn.ReLU(),
            nn.Conv2d(CHANNELS[0], CHANNELS[1], 4, 2, 1), nn.ReLU(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Features; the mask, if there is one, follows the pixels and becomes channels of its own."""
        h, w, c = self.shape
        lead = x.shape[:-1]
        images = x.reshape(-1, self.channels // c, h, w, c).permute(0, 1, 4, 2, 3)
        return self.layers(images.reshape(-1, self.channels, h, w)).reshape(*lead, self.features)


class Deconvolutions(nn.Module):
    """(..., features) ↦ (..., h·w·c): the way back, to the exact size of the image."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        h, w, c = shape
        (_, h1, self.h), (_, w1, self.w) = _halves(h), _halves(w)
        self.shape = shape
        self.features = CHANNELS[1] * self.h * self.w
        even = (h1 - 2 * self.h, w1 - 2 * self.w), (h - 2 * h1, w - 2 * w1)
        self.layers = nn.Sequential(
            nn.ReLU(), nn.ConvTranspose2d(CHANNELS[1], CHANNELS[0], 4, 2, 1, output_padding=even[0]),
            nn.ReLU(), nn.ConvTranspose2d(CHANNELS[0], c, 4, 2, 1, output_padding=even[1]),
        )  # fmt: skip

    def forward(self, h: Tensor) -> Tensor:
        """One output for each pixel and channel, in the order of the columns."""
        images = self.layers(h.reshape(-1, CHANNELS[1], self.h, self.w))
        return images.permute(0, 2, 3, 1).reshape(*h.shape[:-1], -1)


class Networks(nn.Module):
    """Everything that a VAE learns.

    Args:
        product: the likelihood of a row.
        latent: dimensions of z.
        hidden: sizes of the hidden layers of the encoder; the decoder has them in reverse.
        classes: number of classes of the target; 0 for none.
        image: height, width and channels for convolutions; None for plain layers.
    """

    def __init__(
        self,
        product: Product,
        latent: int,
        hidden: tuple[int, ...],
        classes: int = 0,
        image: tuple[int, int, int] | None = None,
    ) -> None:
        super().__init__()
        self.likelihood, self.latent, self.classes = product, latent, classes
        back = hidden[::-1]

        def encoder(outputs: int, labels: int) -> Network:
            if image is None:
                return Network(product.inputs, hidden, outputs, labels)
            body = Convolutions(image, product.masked)
            return Network(body.features, hidden, outputs, labels, body=body)

        self.encoder = encoder(2 * latent, classes)
        if image is None:
            self.decoder = Network(latent, back, product.outputs, classes)
        else:
            tail = Deconvolutions(image)
            self.decoder = Network(latent, back, tail.features, classes, tail=tail)
        self.classifier = encoder(classes, 0) if classes else None
        self.class_logits = nn.Parameter(torch.zeros(classes)) if classes else None

    def posterior(self, features: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(z | x, y), (..., B, L) each."""
        mean, log_var = self.encoder(features, label).chunk(2, -1)
        return mean, log_var

    def log_prior_y(self) -> Tensor:
        """Log p(y), (C,)."""
        return _with(self.class_logits, "classes").log_softmax(-1)

    def log_q_y(self, features: Tensor) -> Tensor:
        """Log q(y | x), (B, C)."""
        return _with(self.classifier, "classes")(features).log_softmax(-1)

    def one_hot(self, y: Tensor) -> Tensor:
        """Codes (...) as labels for the networks, (..., C)."""
        return nn.functional.one_hot(y, self.classes).to(self.decoder.first.weight.dtype)

    def every_class(self) -> Tensor:
        """One label for each class, to be broadcast against rows: (C, 1, C)."""
        weight = self.decoder.first.weight
        return torch.eye(self.classes, device=weight.device, dtype=weight.dtype).unsqueeze(1)


def _with(part, what: str):
    if part is None:
        raise RuntimeError(f"these networks have no {what}")
    return part
