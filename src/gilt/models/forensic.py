"""Small networks that look at traces instead of contents, and the colour histogram, a baseline for bias.

Traces live in single pixels: resizing weakens them, so give these networks images at their own size where you can.

Shapes: B batch, C channels, H W pixels, K bins.
"""
from collections import OrderedDict
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional as F

from gilt.models.layers import GlobalPool, Normalise, PoolRelu
from gilt.models.registry import register

Width = Annotated[int, Field(ge=4, le=512)]
Bins = Annotated[int, Field(ge=2, le=256)]
FAMILY = "forensic"


class Residual(nn.Module):
    """What a pixel has beyond the top left one of its 2x2 square: the neighbouring-pixel residual, times 2/3."""

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        height, width = (2 * (n // 2) for n in images_BCHW.shape[2:])
        images_BCHW = images_BCHW[:, :, :height, :width]
        return (images_BCHW - F.interpolate(images_BCHW[:, :, ::2, ::2], scale_factor=2, mode="nearest")) * (2 / 3)


@register("npr", input_size=224, smallest=32, family=FAMILY,
          source="Tan et al. 2024, CVPR, arXiv:2312.10461: neighbouring-pixel residual")
def npr(outputs: int, input_size: int) -> nn.Module:
    """NPR: the residual of nearest up-sampling, into the first two stages of a ResNet-50.

    Generators end in up-sampling, which ties neighbouring pixels to each other in a way that photographs are not. Parameters
    with one logit: 1,437,761 (the paper: 1.44 million). Layers are called as in the paper's published weights.
    """
    from torchvision.models.resnet import Bottleneck, ResNet

    whole = ResNet(Bottleneck, [3, 4, 1, 1])  # only its stages 1 and 2 are kept
    body = nn.Sequential(OrderedDict(
        conv1=nn.Conv2d(3, 64, 3, 2, 1, bias=False), bn1=nn.BatchNorm2d(64), relu=nn.ReLU(inplace=True),
        maxpool=nn.MaxPool2d(3, 2, 1), layer1=whole.layer1, layer2=whole.layer2, pool=GlobalPool(),
        fc1=nn.Linear(512, outputs)))
    nn.init.kaiming_normal_(body.conv1.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(OrderedDict(normalise=Normalise(), residual=Residual(), body=body))


SRM = (  # (kernel, divisor): second order, its 3x3 square, and KV, as in Zhou et al. 2018
    (((0, 0, 0, 0, 0), (0, 0, 0, 0, 0), (0, 1, -2, 1, 0), (0, 0, 0, 0, 0), (0, 0, 0, 0, 0)), 2),
    (((0, 0, 0, 0, 0), (0, -1, 2, -1, 0), (0, 2, -4, 2, 0), (0, -1, 2, -1, 0), (0, 0, 0, 0, 0)), 4),
    (((-1, 2, -2, 2, -1), (2, -6, 8, -6, 2), (-2, 8, -12, 8, -2), (2, -6, 8, -6, 2), (-1, 2, -2, 2, -1)), 12))
CUT = 3.0  # grey levels: residuals beyond are contents, not traces


class Srm(nn.Module):
    """Three fixed high-pass kernels on each colour, cut off at 3 grey levels and brought to [-1, 1]: (B, 9, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        kernels = torch.stack([torch.tensor(kernel, dtype=torch.float32) / divisor for kernel, divisor in SRM])
        self.register_buffer("kernels", kernels[:, None].repeat(3, 1, 1, 1), persistent=False)

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        residuals = F.conv2d(images_BCHW * 255, self.kernels.to(images_BCHW.dtype), padding=2, groups=3)
        return residuals.clamp(-CUT, CUT) / CUT


class Bayar(nn.Module):
    """Nine learnt 5x5 kernels that can only predict the middle pixel from the others, whose weights add up to 1."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(9, 3, 24) / 24)

    def kernels(self) -> torch.Tensor:
        """Return (9, 3, 5, 5): what is learnt, made to add up to 1, around a middle of -1."""
        total = self.weight.sum(2, keepdim=True)
        # a sum near zero would make weights without bounds
        others = self.weight / torch.where(total.abs() < 1e-3, torch.full_like(total, 1e-3), total)
        middle = -torch.ones_like(total)
        return torch.cat([others[..., :12], middle, others[..., 12:]], 2).unflatten(2, (5, 5))

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        return F.conv2d(images_BCHW * 255, self.kernels(), padding=2) / CUT


@register("high_pass", input_size=128, smallest=16, family=FAMILY,
          source="SRM kernels (Fridrich and Kodovsky 2012), or Bayar and Stamm 2016, + CNN")
def high_pass(outputs: int, input_size: int, kernels: Literal["srm", "bayar"] = "srm", width: Width = 32) -> nn.Module:
    """High-pass residuals into four 3x3 convolutions with batch norm, pooling and a global mean.

    `srm`: three fixed kernels of the steganalysis rich model on each colour. `bayar`: nine learnt ones under Bayar and Stamm's
    constraint. Contents are mostly smooth, so what is left is noise: the camera's, or the generator's. Parameters of `srm`
    with one logit: 104,609; of `bayar`: 105,257.
    """
    first = Srm() if kernels == "srm" else Bayar()
    return nn.Sequential(OrderedDict(residual=first, **_small_cnn(9, width), output=nn.Linear(4 * width, outputs)))


class Spectrum(nn.Module):
    """The logarithm of the magnitude of each colour's 2-D Fourier transform, low frequencies in the middle: (B, 3, H, W).

    Each image's spectrum has mean 0 and deviation 1, so neither brightness nor contrast is left in it.
    """

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        images = images_BCHW.float().contiguous()  # the transform knows neither bfloat16 nor channels-last
        power = torch.fft.fftshift(torch.fft.fft2(images, norm="ortho").abs(), dim=(2, 3))
        spectrum = (power + 1e-4).log()
        mean, deviation = spectrum.mean((2, 3), keepdim=True), spectrum.std((2, 3), keepdim=True)
        return (spectrum - mean) / (deviation + 1e-6)


class Radial(nn.Module):
    """The mean of a spectrum (B, 3, H, W) over rings around its middle: (B, 3 * K), from low to high frequencies."""

    def __init__(self, size: int, bins: int) -> None:
        super().__init__()
        ring = _rings(size, bins)
        self.bins = bins
        self.register_buffer("ring", ring, persistent=False)
        self.register_buffer("counts", torch.zeros(bins).index_add_(0, ring, torch.ones(len(ring))).clamp(min=1),
                             persistent=False)

    def forward(self, spectrum_BCHW: torch.Tensor) -> torch.Tensor:
        flat = spectrum_BCHW.flatten(2)
        sums = flat.new_zeros(*flat.shape[:2], self.bins).index_add_(2, self.ring, flat)
        return (sums / self.counts).flatten(1)


def _rings(size: int, bins: int) -> torch.Tensor:
    """Return the ring of each pixel, int64 (size * size,): corners beyond half the size belong to the last one."""
    offset = torch.arange(size) - size // 2
    radius = (offset[:, None] ** 2 + offset[None] ** 2).sqrt() / (size / 2)
    return (radius * bins).long().clamp(max=bins - 1).flatten()


@register("frequency", input_size=128, smallest=16, family=FAMILY,
          source="Fourier spectrum (Durall et al. 2020, Zhang et al. 2019) + CNN")
def frequency(outputs: int, input_size: int, profile: Literal["image", "radial"] = "image", width: Width = 32,
              bins: Bins = 64) -> nn.Module:
    """The logarithm of the Fourier spectrum, into a small CNN (`image`) or, averaged over rings, into a dense layer (`radial`).

    Up-sampling leaves peaks and a wrong fall-off at high frequencies. `radial` is the baseline of Durall et al. 2020
    (arXiv:2003.01826): 3 x `bins` numbers. Parameters with one logit: 102,881, or 193 (`radial`, 64 bins).
    """
    if profile == "radial":
        return nn.Sequential(OrderedDict(spectrum=Spectrum(), rings=Radial(input_size, bins),
                                         output=nn.Linear(3 * bins, outputs)))
    return nn.Sequential(OrderedDict(spectrum=Spectrum(), **_small_cnn(3, width), output=nn.Linear(4 * width, outputs)))


def _small_cnn(channels: int, width: int) -> dict[str, nn.Module]:
    """Return four 3x3 convolutions of width, width, 2 and 4 times width, each with batch norm, ReLU and pooling; the mean."""
    layers: dict[str, nn.Module] = {}
    for i, filters in enumerate((width, width, 2 * width, 4 * width), 1):
        layers[f"conv{i}"] = nn.Conv2d(channels, filters, 3, padding=1, bias=False)
        layers[f"norm{i}"] = nn.BatchNorm2d(filters)
        layers[f"pool{i}"] = PoolRelu()
        channels = filters
    return layers | {"mean": GlobalPool()}


class Histogram(nn.Module):
    """How much of an image has each brightness, colour by colour: (B, 3 * K), with 1 for an equal share of all bins.

    A value between two bins' middles counts for both, by its distance: noise of one grey level moves nothing by a jump.
    """

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.bins = bins

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        place = images_BCHW.float().clamp(0, 1).flatten(2) * (self.bins - 1)
        low = place.floor().clamp(max=self.bins - 2)
        part = place - low
        sums = place.new_zeros(*place.shape[:2], self.bins)
        sums.scatter_add_(2, low.long(), 1 - part).scatter_add_(2, low.long() + 1, part)
        return (sums * self.bins / place.shape[2]).flatten(1)


@register("colour_histogram", input_size=64, family="baseline", source="bias baseline: colours alone, no shapes")
def colour_histogram(outputs: int, input_size: int, bins: Bins = 16) -> nn.Module:
    """A histogram of each colour into one dense layer: what colours alone give away.

    A detector that does hardly better has learnt the colours of its collection. Parameters with one logit: 49 (16 bins).
    """
    dense = nn.Linear(3 * bins, outputs)
    nn.init.zeros_(dense.weight)  # a linear model: it need not break any symmetry
    nn.init.zeros_(dense.bias)
    return nn.Sequential(OrderedDict(histogram=Histogram(bins), output=dense))
