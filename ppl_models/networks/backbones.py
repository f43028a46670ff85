"""Layers that models with networks are built of: dense ones, and convolutions for images."""

from torch import Tensor, nn

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
