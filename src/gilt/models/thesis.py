"""The four networks of A. Yasser, "Studying the effect of Generative Image datasets on Deep Learning algorithms
performance", bachelor thesis, German University in Cairo, 2024, section 3.3, Figures 3.22 to 3.25.

All take 256x256 RGB images and end in one sigmoid output; "valid" 3x3 convolutions, ReLU, 2x2 max-pooling. Parameters
at that size: models 1 and 2 3,696,625; models 3 and 4 15,783,873. Starting weights are Keras's.
"""
from collections import OrderedDict

from torch import nn

from gilt.models.layers import FlattenHWC, PoolRelu, keras_start
from gilt.models.registry import register

SOURCE = "Yasser 2024, thesis, section 3.3"


@register("thesis1", input_size=256, smallest=22, family="thesis", source=f"{SOURCE}.1, Figure 3.22")
def thesis1(outputs: int, input_size: int) -> nn.Module:
    """Convolutions 16, 32, 16; dense 256. No regularisation."""
    return _network(outputs, input_size, filters=(16, 32, 16), dense=256)


@register("thesis2", input_size=256, smallest=22, family="thesis", source=f"{SOURCE}.2, Figure 3.23")
def thesis2(outputs: int, input_size: int, dropout: float = 0.5) -> nn.Module:
    """Model 1 with L2 0.01 on the second and third convolution and dropout before the last layer: the thesis's best."""
    return _network(outputs, input_size, filters=(16, 32, 16), dense=256, dropout=dropout,
                    l2={"conv2": 0.01, "conv3": 0.01})


@register("thesis3", input_size=256, smallest=10, family="thesis", source=f"{SOURCE}.3, Figure 3.24")
def thesis3(outputs: int, input_size: int, dropout: float = 0.2) -> nn.Module:
    """Convolutions 64, 64; dense 64; dropout before the last layer."""
    return _network(outputs, input_size, filters=(64, 64), dense=64, dropout=dropout)


@register("thesis4", input_size=256, smallest=10, family="thesis", source=f"{SOURCE}.4, Figure 3.25")
def thesis4(outputs: int, input_size: int, dropout: float = 0.2) -> nn.Module:
    """Model 3 with L2 0.01 on the convolutions. (The text says three; the figure and the parameter count have two.)"""
    return _network(outputs, input_size, filters=(64, 64), dense=64, dropout=dropout, l2={"conv1": 0.01, "conv2": 0.01})


def _network(outputs: int, input_size: int, *, filters: tuple[int, ...], dense: int, dropout: float | None = None,
             l2: dict[str, float] | None = None) -> nn.Module:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    size, channels = input_size, 3
    for i, width in enumerate(filters, 1):
        layers[f"conv{i}"] = nn.Conv2d(channels, width, 3)
        layers[f"pool{i}"] = PoolRelu()
        size, channels = (size - 2) // 2, width
    layers["flatten"] = FlattenHWC()
    layers["dense1"] = nn.Linear(size * size * channels, dense)
    layers["relu"] = nn.ReLU()
    if dropout is not None:
        layers["dropout"] = nn.Dropout(dropout)
    layers["dense2"] = nn.Linear(dense, outputs)
    network = keras_start(nn.Sequential(layers))
    network.l2 = l2 or {}  # type: ignore[assignment]
    return network
