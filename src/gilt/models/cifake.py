"""The topologies of the CIFAKE study: J. J. Bird and A. Lotfi, "CIFAKE: Image Classification and Explainable Identification
of AI-Generated Synthetic Images", arXiv:2303.14126, whose text the reference document repeats.

Its grid has 36: filters {16, 32, 64, 128} x convolution layers {1, 2, 3}, flattened before the sigmoid; then {1, 2, 3} dense
layers of {32, 64 ... 4096} units behind the feature extractor of the lowest loss, which has two layers of 32 filters.
"""
from collections import OrderedDict
from typing import Annotated

from pydantic import Field
from torch import nn

from gilt.models.layers import FlattenHWC, PoolRelu, keras_start
from gilt.models.registry import register
from gilt.settings import Size

Layers = Annotated[int, Field(ge=1, le=6)]
Dense = Annotated[int, Field(ge=0, le=6)]


@register("cifake", input_size=32, family="CIFAKE", source="Bird and Lotfi 2023, arXiv:2303.14126: its grid of CNNs")
def cifake(outputs: int, input_size: int, filters: Size = 32, layers: Layers = 2, dense: Dense = 0, units: Size = 64,
           pooling: bool = True) -> nn.Module:
    """`layers` 3x3 convolutions of `filters`, ReLU, 2x2 max-pooling after each; flattened; `dense` layers of `units`, ReLU.

    The document says neither kernel, padding nor pooling: they are Keras's usual ones ("valid" convolutions); `pooling=false`
    leaves the pooling out. Starting weights are Keras's. Parameters at 32x32 with one logit: 11,297 with two layers of 32
    filters, 155,777 with two layers of 128.
    """
    body: OrderedDict[str, nn.Module] = OrderedDict()
    size, channels = input_size, 3
    for i in range(1, layers + 1):
        body[f"conv{i}"] = nn.Conv2d(channels, filters, 3)
        body[f"pool{i}" if pooling else f"relu{i}"] = PoolRelu() if pooling else nn.ReLU()
        size, channels = (size - 2) // (2 if pooling else 1), filters
    if size < 1:
        raise ValueError(f"{layers} convolutions{' with pooling' if pooling else ''} leave nothing of them")
    body["flatten"] = FlattenHWC()
    features = size * size * channels
    for i in range(1, dense + 1):
        body[f"dense{i}"] = nn.Linear(features, units)
        body[f"dense{i}_relu"] = nn.ReLU()
        features = units
    body["output"] = nn.Linear(features, outputs)
    return keras_start(nn.Sequential(body))
