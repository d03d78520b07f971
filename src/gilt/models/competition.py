"""The convolution networks of M. Dory, "Report Kaggle AI generated images classification", University of Bucharest, 2024:
100 classes, 64x64 RGB. Its ResNet-20 is in `resnet.py`, its LSTM in `recurrent.py`.

What the report does not say is Keras's usual: ReLU after each convolution, starting weights, and for "L2 regularization on the
kernel and activity" the numbers of the example in Keras's documentation of regularisers, 1e-4 and 1e-5.
"""
from collections import OrderedDict
from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from gilt.models.layers import Activity, GlobalPool, PoolRelu, keras_start, same_conv, variance_scaling
from gilt.models.registry import register
from gilt.settings import Config, Part, Size

SOURCE = "Dory 2024, competition entry"
KERNEL_L2, ACTIVITY_L2 = 1e-4, 1e-5
Penalty = Annotated[float, Field(ge=0)]
Kernel = Annotated[int, Field(ge=1, le=11)]
Stride = Annotated[int, Field(ge=1, le=4)]
Padding = Literal["same", "valid"]


@register("competition_cnn", input_size=64, outputs=100, smallest=8, family="competition",
          source=f"{SOURCE}: CNN, section 4.1.1")
def competition_cnn(outputs: int, input_size: int, dropout: float = 0.2, l2: Penalty = KERNEL_L2,
                    activity: Penalty = ACTIVITY_L2) -> nn.Module:
    """Convolutions of 256, 512 and 512 filters, each with pooling and dropout; batch norm; global average; dense 128.

    The dense layer starts from VarianceScaling, with `l2` on its weights and `activity` on what it gives. Parameters for 100
    classes: 3,626,724, at any input size.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = 3
    for i, width in enumerate((256, 512, 512), 1):
        layers[f"conv{i}"] = same_conv(channels, width, 3)
        layers[f"pool{i}"] = PoolRelu()
        layers[f"dropout{i}"] = nn.Dropout(dropout)
        channels = width
    layers["norm"] = nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)  # Keras's
    layers["pool"] = GlobalPool("avg")
    layers["dense1"] = nn.Linear(channels, 128)
    layers["relu"] = nn.ReLU()
    layers["activity"] = Activity(activity)
    layers["dense2"] = nn.Linear(128, outputs)
    network = keras_start(nn.Sequential(layers))
    variance_scaling(network.dense1)
    network.l2 = {"dense1": l2}  # type: ignore[assignment]
    return network


class Tuned(Config):
    """The dimensions of the entry's random search; the values are those of its best trial, number 12 of 15."""

    filters_1: Size = 128
    kernel_1: Kernel = 3
    padding_1: Padding = "same"
    strides_1: Stride = 2
    dropout_1: Part = 0.0
    filters_2: Size = 128
    kernel_2: Kernel = 3
    padding_2: Padding = "same"
    strides_2: Stride = 2
    dropout_2: Part = 0.1
    filters_3: Size = 512
    kernel_3: Kernel = 3
    padding_3: Padding = "same"
    strides_3: Stride = 1
    dropout_3: Part = 0.1
    batch_norm: bool = True  # the search did not vary it
    pooling: Literal["avg", "max"] = "avg"
    dense_sup: bool = False  # one more dense layer, of dense_units_sup
    dense_units_sup: Size = 512
    dropout_sup: Part = 0.3
    dense_final: Size = 128
    dropout_final: Part = 0.3


@register("competition_tuned", input_size=64, outputs=100, family="competition", source=f"{SOURCE}: tuned CNN, section 4.1.3")
def competition_tuned(outputs: int, input_size: int, arguments: Tuned) -> nn.Module:
    """The CNN that the entry's random search ended with; each of the search's dimensions is an argument.

    Three times convolution, ReLU, 2x2 pooling and dropout; batch norm; global pooling; where `dense_sup` says so a dense layer
    with dropout; a dense layer with dropout. Parameters for 100 classes: 821,092.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    size, channels = input_size, 3
    for i in (1, 2, 3):
        width, kernel, stride, padding, dropout = (
            getattr(arguments, f"{name}_{i}") for name in ("filters", "kernel", "strides", "padding", "dropout"))
        layers[f"conv{i}"] = same_conv(channels, width, kernel, stride) if padding == "same" \
            else nn.Conv2d(channels, width, kernel, stride)
        layers[f"pool{i}"] = PoolRelu()
        layers[f"dropout{i}"] = nn.Dropout(dropout)
        size = (-(-size // stride) if padding == "same" else (size - kernel) // stride + 1) // 2
        channels = width
        if size < 1:
            raise ValueError(f"convolution and pooling number {i} leave nothing of them")
    if arguments.batch_norm:
        layers["norm"] = nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)
    layers["pool"] = GlobalPool(arguments.pooling)
    _dense(layers, arguments, channels, outputs)
    return keras_start(nn.Sequential(layers))


def _dense(layers: OrderedDict[str, nn.Module], arguments: Tuned, features: int, outputs: int) -> None:
    extra = [("sup", arguments.dense_units_sup, arguments.dropout_sup)] if arguments.dense_sup else []
    for name, width, dropout in [*extra, ("final", arguments.dense_final, arguments.dropout_final)]:
        layers[f"dense_{name}"] = nn.Linear(features, width)
        layers[f"relu_{name}"] = nn.ReLU()
        layers[f"dropout_{name}"] = nn.Dropout(dropout)
        features = width
    layers["output"] = nn.Linear(features, outputs)
