"""Classic networks, as the reference systems used them."""
from collections import OrderedDict

from torch import nn

from gilt.models.layers import PoolRelu
from gilt.models.registry import register


@register("lenet5", input_size=32, source="LeCun et al. 1998, with batch norm and ReLU as in the detector project")
def lenet5(outputs: int, input_size: int) -> nn.Module:
    """LeNet-5 for RGB: 5x5 convolutions of 6 and 16 filters, each with batch norm, ReLU and pooling; dense 120, 84.

    Parameters at 32x32: 61,285 with one logit, 62,050 for 10 classes.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    size, channels = input_size, 3
    for i, width in enumerate((6, 16), 1):
        layers[f"conv{i}"] = nn.Conv2d(channels, width, 5)
        layers[f"norm{i}"] = nn.BatchNorm2d(width)
        layers[f"pool{i}"] = PoolRelu()
        size, channels = (size - 4) // 2, width
    if size < 1:
        raise ValueError(f"two 5x5 convolutions with pooling leave nothing of {input_size} pixels")
    layers["flatten"] = nn.Flatten()
    features = size * size * channels
    for i, width in enumerate((120, 84), 1):
        layers[f"dense{i}"] = nn.Linear(features, width)
        layers[f"relu{i}"] = nn.ReLU()
        features = width
    layers["dense3"] = nn.Linear(features, outputs)
    return nn.Sequential(layers)
