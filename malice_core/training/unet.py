"""The spatial-spectral encoder: a U-Net that sees each date alone.

Source: U-BARN (doi 10.1109/JSTARS.2024.3358066) as used by ALISE (arXiv 2407.08448) and MALICE. Module names give the
tensor names of the published checkpoints below ``hss_encoding.my_model``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH = 64


def conv_bn_relu(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    """Convolution, batch norm, ReLU; 3x3 kernels pad one pixel by reflection, so sides are kept."""
    padding = 1 if kernel == 3 else 0
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, padding_mode="reflect")
    # In place: nothing else needs the batch norm's output, and activations are what fills the memory in training.
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


class ConvLayer(nn.Module):
    """One or more conv-bn-relu in a row."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.conv = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H', W')"""
        return self.conv(x)  # type: ignore[no-any-return]


class ConvBlock(nn.Module):
    """A ConvLayer one module deeper, as the published in and out convolutions are."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.conv = ConvLayer(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H, W)"""
        return self.conv(x)  # type: ignore[no-any-return]


class DownBlock(nn.Module):
    """Halves the sides: (N, 64, H, W) -> (N, outputs, H/2, W/2)."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.down = ConvLayer(*conv_bn_relu(WIDTH, WIDTH, 2, stride=2))
        self.conv1 = ConvLayer(*conv_bn_relu(WIDTH, outputs, 3))
        self.conv2 = ConvLayer(*conv_bn_relu(outputs, outputs, 3))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 64, H, W) -> (N, outputs, H/2, W/2)"""
        x = self.conv1(self.down(x))
        return x + self.conv2(x)  # type: ignore[no-any-return]


class UpBlock(nn.Module):
    """Doubles the sides and joins the skip map: (N, inputs, H, W), (N, 64, 2H, 2W) -> (N, outputs, 2H, 2W)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.up = nn.Sequential(
            nn.ConvTranspose2d(inputs, outputs, 2, 2), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
        )
        self.skip_conv = nn.Sequential(*conv_bn_relu(WIDTH, WIDTH, 1))
        self.conv1 = ConvLayer(*conv_bn_relu(outputs + WIDTH, outputs, 3))
        self.conv2 = ConvLayer(*conv_bn_relu(outputs, outputs, 3))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(N, inputs, H, W), (N, 64, 2H, 2W) -> (N, outputs, 2H, 2W)"""
        x = self.conv1(torch.cat([self.up(x), self.skip_conv(skip)], dim=1))
        return x + self.conv2(x)  # type: ignore[no-any-return]


class UNet(nn.Module):
    """Three scales down and up: (N, C, H, W) -> (N, 64, H, W), H and W multiples of 8 and at least 16.

    One output pixel depends on inputs up to 52 pixels away, and the network is shift-equivariant by 8 pixels.

    Args:
        channels: C of the input images.
        constants: K further input channels, each one number over an image, after the others.
    """

    def __init__(self, channels: int, constants: int = 0) -> None:
        super().__init__()
        self.in_conv = ConvBlock(*conv_bn_relu(channels + constants, WIDTH, 3), *conv_bn_relu(WIDTH, WIDTH, 3))
        self.down_blocks = nn.ModuleList([DownBlock(64), DownBlock(64), DownBlock(128)])
        self.up_blocks = nn.ModuleList([UpBlock(128, 64), UpBlock(64, 32), UpBlock(32, 32)])
        self.out_conv = ConvBlock(*conv_bn_relu(32, WIDTH, 3))

    def forward(self, x: Tensor, constants: Tensor | None = None) -> Tensor:
        """(N, C, H, W), (N, K) -> (N, 64, H, W)"""
        x = self.in_conv(x) if constants is None else self._begin(x, constants)
        skips = []
        for down in self.down_blocks:
            skips.append(x)
            x = down(x)
        for up in self.up_blocks:
            x = up(x, skips.pop())
        return self.out_conv(x)  # type: ignore[no-any-return]

    def _begin(self, x: Tensor, constants: Tensor) -> Tensor:
        """``in_conv`` of images and constants, without their maps.

        A constant stays one under padding by reflection, so its share of the first convolution is a number for each
        image and output: the sum of the kernel times the constant.
        """
        first, *others = self.in_conv.conv.conv
        assert isinstance(first, nn.Conv2d)
        images, folded = torch.split(first.weight, [x.shape[1], constants.shape[1]], dim=1)
        x = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), images, first.bias)
        x = x + F.linear(constants, folded.sum((2, 3)))[:, :, None, None]
        for layer in others:
            x = layer(x)
        return x
