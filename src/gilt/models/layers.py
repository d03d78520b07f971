"""Layers and starting weights that several families share.

Shapes: B batch, C channels, H W pixels, D values.
"""
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's red, green and blue in [0, 1]
TRUNCATED = 0.87962566103423978  # standard deviation of a normal distribution that is cut off at 2


class Normalise(nn.Module):
    """Subtract a mean and divide by a deviation, colour by colour; ImageNet's, which most published weights expect."""

    def __init__(self, mean: tuple[float, ...] = MEAN, deviation: tuple[float, ...] = DEVIATION) -> None:
        super().__init__()
        for name, values in (("mean", mean), ("deviation", deviation)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        return (images_BCHW - self.mean) / self.deviation


class PoolRelu(nn.Module):
    """Max-pool 2x2, then ReLU: the same function as ReLU, then pool (both are monotone), on a quarter of the values."""

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        return F.relu(F.max_pool2d(images_BCHW, 2))


class FlattenHWC(nn.Module):
    """Flatten (B, C, H, W) to (B, H*W*C): the order of Keras, and free of copies for channels-last images."""

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        return images_BCHW.permute(0, 2, 3, 1).flatten(1)


class GlobalPool(nn.Module):
    """The mean, or the largest value, of each channel: (B, C, H, W) to (B, C)."""

    def __init__(self, kind: str = "avg") -> None:
        super().__init__()
        self.kind = kind

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        return images_BCHW.mean((2, 3)) if self.kind == "avg" else images_BCHW.amax((2, 3))

    def extra_repr(self) -> str:
        return self.kind


class Activity(nn.Module):
    """Hand values on, and ask for small ones: `penalty` is strength * sum(x^2) / B, as Keras's activity regularisation."""

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength = strength
        self.penalty: torch.Tensor | None = None

    def forward(self, values_BD: torch.Tensor) -> torch.Tensor:
        self.penalty = self.strength * values_BD.float().square().sum() / len(values_BD) if self.training else None
        return values_BD

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "penalty": None}  # a tensor with a history cannot be copied

    def extra_repr(self) -> str:
        return f"{self.strength:g}"


def same_conv(channels: int, filters: int, kernel: int, stride: int = 1) -> nn.Module:
    """Return a convolution with Keras's padding "same": ceil(pixels / stride) come out, whatever the kernel."""
    if kernel % 2:
        return nn.Conv2d(channels, filters, kernel, stride, padding=kernel // 2)
    less, more = (kernel - 1) // 2, kernel // 2
    return nn.Sequential(nn.ZeroPad2d((less, more, less, more)), nn.Conv2d(channels, filters, kernel, stride))


def keras_start(network: nn.Module) -> nn.Module:
    """Give every convolution, dense and LSTM layer Keras's starting weights; return the network.

    Glorot uniform and zero bias; an LSTM's recurrent weights are orthogonal and its forget gate's bias is one. Keras's LSTM
    has one bias, torch's has two: the second stays zero.
    """
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.LSTM):
            nn.init.xavier_uniform_(layer.weight_ih_l0)
            nn.init.orthogonal_(layer.weight_hh_l0)
            nn.init.zeros_(layer.bias_ih_l0)
            nn.init.ones_(layer.bias_ih_l0[layer.hidden_size:2 * layer.hidden_size])  # gates: input, forget, cell, output
            nn.init.zeros_(layer.bias_hh_l0).requires_grad_(False)
    return network


def variance_scaling(layer: nn.Linear | nn.Conv2d, scale: float = 1.0) -> None:
    """Draw a layer's weights as Keras's VarianceScaling does: a cut-off normal of variance scale / inputs; 2 is HeNormal."""
    inputs = layer.weight[0].numel()
    deviation = (scale / inputs) ** 0.5 / TRUNCATED
    nn.init.trunc_normal_(layer.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
