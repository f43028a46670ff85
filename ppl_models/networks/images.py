"""Images and signals as networks take them: convolutions with pooling in between, then dense layers.

    block    two 3 × 3 convolutions with ReLU, the second around a skip, then the largest of each 2 × 2
    top      dense layers whose members share their weights (`ppl_models.networks.tabular`)

A signal is an image of height one, whose convolutions are 1 × 5. There is no normalisation of batches:
weights that are averaged over steps would not fit its running moments. Weights start as He, Zhang, Ren & Sun
(2015, Delving deep into rectifiers, ICCV, https://arxiv.org/abs/1502.01852) have them.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ppl_models.networks.tabular import MemberLayers

CHANNELS = (16, 32, 64)
"""Channels of the blocks, the last for all further ones."""

SMALL = 8
"""Blocks are added until no side is longer than this."""

DENSE = 128
"""Units of the dense layer."""


@dataclass(frozen=True, eq=False)
class Images:
    """Pixels in standard units, (n, c, h, w) float32; where cells are missing 0, with masks as channels."""

    x: Tensor

    block: ClassVar[int] = 512

    def __len__(self) -> int:
        return len(self.x)

    def at(self, index: Tensor) -> "Images":
        """Some of them, by indices (B,) int64."""
        return Images(self.x.index_select(0, index))

    def to(self, device: torch.device | str) -> "Images":
        """The images on a device."""
        return Images(self.x.to(device))


class Shifts:
    """Moves every image of a batch by up to so many pixels, the edges filled with their own last pixels."""

    def __init__(self, most: int) -> None:
        self.most = most

    def __call__(self, images: Images) -> Images:
        """By torch's global generator of the CPU; a signal only along its length."""
        (B, _, h, w), device = images.x.shape, images.x.device
        dy, dx = min(self.most, h - 1), min(self.most, w - 1)
        rows = (torch.arange(h) + torch.randint(-dy, dy + 1, (B, 1))).clamp(0, h - 1)
        columns = (torch.arange(w) + torch.randint(-dx, dx + 1, (B, 1))).clamp(0, w - 1)
        each = torch.arange(B, device=device)[:, None, None]
        rows, columns = rows.to(device)[:, :, None], columns.to(device)[:, None, :]
        moved = images.x.permute(0, 2, 3, 1)[each, rows, columns]
        return Images(moved.permute(0, 3, 1, 2).contiguous())


class Block(nn.Module):
    """Two convolutions, the second around a skip, and pooling."""

    def __init__(self, inputs: int, outputs: int, flat: bool) -> None:
        super().__init__()
        kernel = (1, 5) if flat else (3, 3)
        padding = (0, 2) if flat else (1, 1)
        self.first = nn.Conv2d(inputs, outputs, kernel, padding=padding)
        self.second = nn.Conv2d(outputs, outputs, kernel, padding=padding)
        for layer in (self.first, self.second):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        self.second.weight.data.mul_(0.5)
        self.pool = (1, 2) if flat else (2, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Half as high and wide."""
        x = nn.functional.relu(self.first(x), inplace=True)
        x = nn.functional.relu(x + self.second(x), inplace=True)
        return nn.functional.max_pool2d(x, self.pool)


class Convolutional(nn.Module):
    """`Images` ↦ (B, M, F).

    Args:
        shape: channels, height and width.
        features: F.
        members: M, of the dense layers.
        dropout: of their units, while training.
    """

    def __init__(self, shape: tuple[int, int, int], features: int, members: int, dropout: float) -> None:
        super().__init__()
        c, h, w = shape
        flat, blocks = h == 1, []
        while not blocks or (max(h, w) > SMALL and min(h if not flat else w, w) >= 2):
            size = CHANNELS[min(len(blocks), len(CHANNELS) - 1)]
            blocks.append(Block(c, size, flat))
            c, h, w = size, h if flat else h // 2, w // 2
        self.blocks = nn.Sequential(*blocks)
        self.blocks.to(memory_format=torch.channels_last)  # type: ignore  # twice as fast on a CPU
        self.layers = MemberLayers(c * h * w, (DENSE,), features, members, dropout)

    def forward(self, images: Images) -> Tensor:
        """Features of every member."""
        return self.layers(self.blocks(images.x.contiguous(memory_format=torch.channels_last)).flatten(1))
