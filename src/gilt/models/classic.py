"""Classic networks and the detector project's own, as the reference systems used them.

The detector project: M. Sidiropoulos, "AI Generated vs Real Images Classification", MSc Artificial Intelligence, NCSR
Demokritos. The comparison: "Can we accurately create a model to distinguish between real and fake images?", LeNet, AlexNet
and ResNet-50 on CIFAKE; AlexNet and ResNet-50 are in `backbones.py`.
"""
from collections import OrderedDict
from typing import Literal

from torch import nn

from gilt.models.layers import FlattenHWC, PoolRelu
from gilt.models.registry import register

DETECTOR = "Sidiropoulos, detector project"
DEEP = ((32, 7), (64, 5), (128, 5), (256, 3), (362, 3), (512, 1), (724, 1), (1024, 1))  # filters, kernel
POOLED = {1, 3, 5, 8}  # the layers of `deepcnn8` that pool


@register("lenet5", input_size=32, outputs=2, smallest=16, family="detector project",
          source=f"{DETECTOR}: LeNet-5 (LeCun et al. 1998) with batch norm, ReLU")
def lenet5(outputs: int, input_size: int) -> nn.Module:
    """LeNet-5 for RGB: 5x5 convolutions of 6 and 16 filters, each with batch norm, ReLU and pooling; dense 120, 84.

    Parameters at 32x32: 61,285 with one logit, 62,050 for 10 classes. The document names 32x32 and 256x256 as its input
    size; its dense layer of 16x5x5 inputs is that of 32x32.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    size, channels = input_size, 3
    for i, width in enumerate((6, 16), 1):
        layers[f"conv{i}"] = nn.Conv2d(channels, width, 5)
        layers[f"norm{i}"] = nn.BatchNorm2d(width)
        layers[f"pool{i}"] = PoolRelu()
        size, channels = (size - 4) // 2, width
    layers["flatten"] = nn.Flatten()
    features = size * size * channels
    for i, width in enumerate((120, 84), 1):
        layers[f"dense{i}"] = nn.Linear(features, width)
        layers[f"relu{i}"] = nn.ReLU()
        features = width
    layers["dense3"] = nn.Linear(features, outputs)
    return nn.Sequential(layers)


@register("deepcnn8", input_size=256, outputs=2, smallest=16, family="detector project", source=f"{DETECTOR}: its own CNN")
def deepcnn8(outputs: int, input_size: int, dropout: float = 0.5) -> nn.Module:
    """Eight convolutions, 7x7 to 1x1, of 32 to 1,024 filters, each with batch norm and ReLU; four poolings; dense 724, 516.

    Parameters at 256x256 with two logits: 192,864,492, nearly all in the first dense layer.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = 3
    for i, (width, kernel) in enumerate(DEEP, 1):
        layers[f"conv{i}"] = nn.Conv2d(channels, width, kernel, padding=kernel // 2)
        layers[f"norm{i}"] = nn.BatchNorm2d(width)
        layers[f"pool{i}" if i in POOLED else f"relu{i}"] = PoolRelu() if i in POOLED else nn.ReLU(inplace=True)
        channels = width
    layers["flatten"] = FlattenHWC()
    features = (input_size // 2 ** len(POOLED)) ** 2 * channels
    for i, width in enumerate((724, 516), 9):
        layers[f"dense{i}"] = nn.Linear(features, width)
        layers[f"relu{i}"] = nn.ReLU()
        layers[f"dropout{i}"] = nn.Dropout(dropout)
        features = width
    layers["dense11"] = nn.Linear(features, outputs)
    return nn.Sequential(layers)


@register("lenet", input_size=32, smallest=32, family="comparison",
          source="LeNet-AlexNet-ResNet comparison: LeNet (LeCun et al. 1998)")
def lenet(outputs: int, input_size: int, activation: Literal["tanh", "relu", "sigmoid"] = "tanh",
          pooling: Literal["avg", "max"] = "avg") -> nn.Module:
    """LeNet for RGB: 5x5 convolutions of 6, 16 and 120 filters, two poolings; dense 84.

    The document says "3 convolutional layers and 2 pooling layers" and no more: the rest is LeCun's of 1998 (its pooling
    without weights). Parameters at 32x32: 61,241 with one logit. Larger images leave more of the last convolution to the
    dense layer.
    """
    bend = {"tanh": nn.Tanh, "relu": nn.ReLU, "sigmoid": nn.Sigmoid}[activation]
    pool = {"avg": nn.AvgPool2d, "max": nn.MaxPool2d}[pooling]
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    size, channels = input_size, 3
    for i, width in enumerate((6, 16, 120), 1):
        layers[f"conv{i}"] = nn.Conv2d(channels, width, 5)
        layers[f"{activation}{i}"] = bend()
        size, channels = size - 4, width
        if i < 3:
            layers[f"pool{i}"] = pool(2)
            size //= 2
    layers["flatten"] = FlattenHWC()
    layers["dense1"] = nn.Linear(size * size * channels, 84)
    layers[f"{activation}4"] = bend()
    layers["dense2"] = nn.Linear(84, outputs)
    return nn.Sequential(layers)
