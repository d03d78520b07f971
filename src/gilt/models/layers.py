"""Layers and starting weights that several families share.

Shapes: B batch, C channels, H W pixels.
"""
import torch
from torch import nn
from torch.nn import functional as F


class PoolRelu(nn.Module):
    """Max-pool 2x2, then ReLU: the same function as ReLU, then pool (both are monotone), on a quarter of the values."""

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        return F.relu(F.max_pool2d(images_BCHW, 2))


class FlattenHWC(nn.Module):
    """Flatten (B, C, H, W) to (B, H*W*C): the order of Keras, and free of copies for channels-last images."""

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        return images_BCHW.permute(0, 2, 3, 1).flatten(1)


def keras_start(network: nn.Module) -> nn.Module:
    """Give every convolution and dense layer Keras's starting weights (Glorot uniform, zero bias); return the network."""
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return network

