"""A small class-conditional GAN: a generator whose layers are scaled by a style, a discriminator that projects on the class.

The parts are those of StyleGAN2 (Karras et al. 2020, arXiv:1912.04958), without its noise and style mixing: weights whose rate
is evened out, modulated convolutions (here the input is scaled and the output normalised, which is the same and quicker for a
batch), images summed over the sides, and in the discriminator the spread of a group of images. No layer looks at other images
of the batch when it makes one. The class enters by projection (Miyato & Koyama 2018, arXiv:1802.05637).

Layers work on patches of pixels (`config.patch`). Shapes: B batch, K channels of an image, Z latent numbers, S style, N M
inputs and outputs of a layer.
"""
import itertools
import math

import torch
from torch import nn
from torch.nn import functional as F

from gilt.generators.config import GeneratorConfig

SLOPE = 0.2  # of the leaky ReLU below 0
GROUP = 4  # images whose spread the discriminator is told


class Linear(nn.Module):
    """A linear layer (B, N) to (B, M) whose weights are scaled as they are used, so that one rate suits all layers."""

    def __init__(self, inputs: int, outputs: int, *, bias: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs))
        self.bias = nn.Parameter(torch.full((outputs,), float(bias)))
        self.scale = 1 / math.sqrt(inputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (B, M)."""
        return F.linear(x, self.weight * self.scale, self.bias)


class Conv(nn.Module):
    """A convolution (B, N, H, W) to (B, M, H, W) with scaled weights; with a style (B, S) a modulated one."""

    def __init__(self, inputs: int, outputs: int, side: int = 3, *, style: int = 0, plain: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, side, side))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.scale, self.side = 1 / math.sqrt(inputs * side ** 2), side
        self.style = Linear(style, inputs, bias=1.0) if style else None
        self.plain = plain  # a picture's colours are not normalised

    def forward(self, x: torch.Tensor, style_BS: torch.Tensor | None = None) -> torch.Tensor:
        """Return the convolved x."""
        weight = self.weight * self.scale
        if self.style is None or style_BS is None:
            return F.conv2d(x, weight, self.bias, padding=self.side // 2)
        scales_BN = self.style(style_BS)
        y = F.conv2d(x * scales_BN[:, :, None, None], weight, padding=self.side // 2)
        if not self.plain:
            squares_MN = weight.float().square().sum((2, 3))
            y = y * torch.rsqrt(scales_BN.float().square() @ squares_MN.T + 1e-8)[:, :, None, None]
        return y + self.bias[:, None, None]


class Painter(nn.Module):
    """Latent numbers and a class to an image in about [-1, 1]."""

    def __init__(self, config: GeneratorConfig, *, classes: int, channels: int) -> None:
        super().__init__()
        self.size, self.patch = config.size, config.patch
        doublings, first = sides(config)
        widths = [width_at(config, first << level) for level in range(doublings + 1)]
        style = 2 * config.latent
        self.classes = nn.Embedding(classes, config.latent)
        self.style = nn.ModuleList([Linear(style, style), Linear(style, style)])
        self.start, self.first = Linear(style, widths[0] * first ** 2), first
        self.convs = nn.ModuleList(Conv(inputs, outputs, style=style) for inputs, outputs in _pairs(widths))
        self.colours = nn.ModuleList(Conv(width, channels * config.patch ** 2, 1, style=style, plain=True) for width in widths)

    def forward(self, latent_BZ: torch.Tensor, labels_B: torch.Tensor) -> torch.Tensor:
        """Return images (B, K, H, W)."""
        style = torch.cat([_even(latent_BZ), _even(self.classes(labels_B))], 1)
        x = self.start(style).view(len(style), -1, self.first, self.first).contiguous(memory_format=torch.channels_last)
        for layer in self.style:
            style = _bend(layer(style))
        image = None
        for level, colour in enumerate(self.colours):
            if level:
                x, image = _double(x), _double(image)
                x = _bend(self.convs[2 * level - 1](x, style))
            x = _bend(self.convs[2 * level](x, style))
            drawn = colour(x, style).float()
            image = drawn if image is None else image + drawn
        image = F.pixel_shuffle(image, self.patch)
        first = (image.shape[-1] - self.size) // 2
        return image[..., first:first + self.size, first:first + self.size]


class Critic(nn.Module):
    """An image and a class to one number: how real it looks."""

    def __init__(self, config: GeneratorConfig, *, classes: int, channels: int) -> None:
        super().__init__()
        halvings, first = sides(config)
        self.patch, self.more = config.patch, -config.size % config.patch
        widths = [width_at(config, first << level) for level in range(halvings, -1, -1)]
        self.colours = Conv(channels * config.patch ** 2, widths[0], 1)
        self.blocks = nn.ModuleList(
            nn.ModuleList([Conv(inputs, inputs), Conv(inputs, outputs), Conv(inputs, outputs, 1)])
            for inputs, outputs in itertools.pairwise(widths))
        self.last = Conv(widths[-1] + 1, widths[-1])
        self.features = Linear(widths[-1] * ((config.size + self.more) // config.patch >> halvings) ** 2, widths[-1])
        self.verdict = Linear(widths[-1], 1)
        self.classes = nn.Embedding(classes, widths[-1])

    def forward(self, images_BKHW: torch.Tensor, labels_B: torch.Tensor) -> torch.Tensor:
        """Return float32 (B,). Groups are of one class as far as may be: a class's own variety is what may collapse."""
        order = labels_B.argsort(stable=True)
        images_BKHW, labels_B = images_BKHW[order], labels_B[order]
        x = F.pixel_unshuffle(F.pad(images_BKHW, (0, self.more) * 2), self.patch)
        x = _bend(self.colours(x.contiguous(memory_format=torch.channels_last)))
        for first, second, beside in self.blocks:
            passed = F.avg_pool2d(beside(x), 2)
            x = (F.avg_pool2d(_bend(second(_bend(first(x)))), 2) + passed) / math.sqrt(2)
        x = _bend(self.last(torch.cat([x, _spread(x)], 1)))
        features = _bend(self.features(x.flatten(1))).float()
        own = (self.classes(labels_B) * features).sum(1) / math.sqrt(features.shape[1])
        return (self.verdict(features)[:, 0].float() + own)[order.argsort()]


def sides(config: GeneratorConfig) -> tuple[int, int]:
    """Return (doublings, first side): how a side of 3 to 6 patches becomes at least the image's."""
    side = math.ceil(config.size / config.patch)
    doublings = round(math.log2(side / 4))
    return doublings, math.ceil(side / 2 ** doublings)


def width_at(config: GeneratorConfig, side: int) -> int:
    """Return the channels of a layer on so many patches: `width` at 16, more below, less above."""
    return int(config.width * min(4, max(0.5, 16 / side)) // 8 * 8)


def _pairs(widths: list[int]) -> list[tuple[int, int]]:
    """Return (inputs, outputs) of each convolution: one on the first side, two on each further one."""
    found = [(widths[0], widths[0])]
    for before, width in itertools.pairwise(widths):
        found += [(before, width), (width, width)]
    return found


def _bend(x: torch.Tensor) -> torch.Tensor:
    return F.leaky_relu(x, SLOPE) * math.sqrt(2)


def _even(x_BZ: torch.Tensor) -> torch.Tensor:
    return x_BZ * torch.rsqrt(x_BZ.square().mean(1, keepdim=True) + 1e-8)


def _double(x: torch.Tensor) -> torch.Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def _spread(x: torch.Tensor) -> torch.Tensor:
    """Return (B, 1, H, W): the mean standard deviation within each group of neighbours (Karras et al. 2018, 1710.10196)."""
    group = GROUP if len(x) % GROUP == 0 else len(x)
    grouped = x.float().view(-1, group, *x.shape[1:])
    spread = ((grouped - grouped.mean(1, keepdim=True)).square().mean(1) + 1e-8).sqrt().mean((1, 2, 3))
    return spread.repeat_interleave(group).view(-1, 1, 1, 1).expand(-1, 1, *x.shape[2:]).to(x.dtype)
