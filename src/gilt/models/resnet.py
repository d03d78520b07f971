"""Residual networks for small images, after He et al. 2016, arXiv:1512.03385, section 4.2.

Shapes: B batch, C channels, H W pixels.
"""
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from gilt.models.layers import Normalise, variance_scaling
from gilt.models.registry import register

WIDTHS, BLOCKS = (16, 32, 64), 3


class Block(nn.Module):
    """Two 3x3 convolutions with batch norm, added to what came in; ReLU.

    Where it halves the image, what came in is made to fit: `conv` by a 1x1 convolution with batch norm, `pad` by every second
    pixel and channels of zeros (He et al.'s option A, which has no parameters).
    """

    def __init__(self, channels: int, width: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.padding = (width - channels) // 2
        fits = stride == 1 and channels == width
        self.shortcut = None if fits or shortcut == "pad" else nn.Sequential(
            nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        out = F.relu(self.bn1(self.conv1(images_BCHW)), inplace=True)
        out = self.bn2(self.conv2(out))
        if self.shortcut is not None:
            images_BCHW = self.shortcut(images_BCHW)
        elif self.padding:
            images_BCHW = F.pad(images_BCHW[:, :, ::2, ::2], (0, 0, 0, 0, self.padding, self.padding))
        return F.relu(out + images_BCHW, inplace=True)


class ResNet20(nn.Module):
    """A 3x3 convolution, three stages of three blocks, the mean of each channel, a dense layer.

    Layers are called as in the published weights for CIFAR-10 (github.com/akamaster/pytorch_resnet_cifar10).
    """

    def __init__(self, outputs: int, shortcut: str, normalise: str) -> None:
        super().__init__()
        self.normalise = Normalise() if normalise == "imagenet" else nn.Identity()
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        channels = WIDTHS[0]
        for number, width in enumerate(WIDTHS, 1):
            strides = [1 if number == 1 else 2] + [1] * (BLOCKS - 1)
            inputs = [channels] + [width] * (BLOCKS - 1)
            self.add_module(f"layer{number}", nn.Sequential(
                *(Block(come, width, stride, shortcut) for come, stride in zip(inputs, strides, strict=True))))
            channels = width
        self.linear = nn.Linear(channels, outputs)

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        out = F.relu(self.bn1(self.conv1(self.normalise(images_BCHW))), inplace=True)
        out = self.layer3(self.layer2(self.layer1(out)))
        return self.linear(out.mean((2, 3)))


@register("resnet20", input_size=64, outputs=100, smallest=4, family="competition",
          source="Dory 2024, competition entry: ResNet-20 (He et al. 2016)")
def resnet20(outputs: int, input_size: int, shortcut: Literal["conv", "pad"] = "conv",
             normalise: Literal["none", "imagenet"] = "none") -> nn.Module:
    """ResNet-20: three stages of three blocks of 16, 32 and 64 filters; starts from HeNormal. Any input size.

    The competition entry halves with a 1x1 convolution and batch norm (`shortcut="conv"`): 278,324 parameters for 100 classes.
    The published weights for CIFAR-10 fit `shortcut="pad"` (269,722 parameters for 10 classes) and want
    `normalise="imagenet"`: images less ImageNet's mean, divided by its deviation.
    """
    network = ResNet20(outputs, shortcut, normalise)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            variance_scaling(layer, 2.0)
    nn.init.xavier_uniform_(network.linear.weight)
    nn.init.zeros_(network.linear.bias)
    return network
