"""Recurrent networks: an image read row by row.

Shapes: B batch, C channels, H W pixels, D values of a row.
"""
from collections import OrderedDict

import torch
from torch import nn

from gilt.models.competition import KERNEL_L2, SOURCE, Penalty
from gilt.models.layers import keras_start, variance_scaling
from gilt.models.registry import register

UNITS = (64, 128, 128, 256, 256)


class Rows(nn.Module):
    """Turn an image into its rows, (B, C, H, W) to (B, H, W*C): the order of Keras, free of copies for channels-last images."""

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        return images_BCHW.permute(0, 2, 3, 1).flatten(2)


class Lstm(nn.LSTM):
    """An LSTM layer that gives its state after each row, (B, H, units), or after the last one only, (B, units)."""

    def __init__(self, inputs: int, units: int, *, last: bool) -> None:
        super().__init__(inputs, units, batch_first=True)
        self.last = last

    def forward(self, rows_BHD: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        out, _ = super().forward(rows_BHD)
        return out[:, -1] if self.last else out


@register("competition_lstm", input_size=64, outputs=100, family="competition", source=f"{SOURCE}: LSTM, section 4.2")
def competition_lstm(outputs: int, input_size: int, dropout: float = 0.2, l2: Penalty = KERNEL_L2) -> nn.Module:
    """Rows of width x 3 values through LSTM layers of 64, 128, 128, 256 and 256 units, dropout after each; dense 256.

    The dense layer starts from VarianceScaling, with `l2` on its weights (the report gives no number; Keras's example).
    Trainable parameters at 64x64 for 100 classes, with one bias a gate as in Keras: 1,307,236.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(rows=Rows())
    inputs = input_size * 3
    for i, units in enumerate(UNITS, 1):
        layers[f"lstm{i}"] = Lstm(inputs, units, last=i == len(UNITS))
        layers[f"dropout{i}"] = nn.Dropout(dropout)
        inputs = units
    layers["dense1"] = nn.Linear(inputs, 256)
    layers["relu"] = nn.ReLU()
    layers["dropout"] = nn.Dropout(dropout)
    layers["dense2"] = nn.Linear(256, outputs)
    network = keras_start(nn.Sequential(layers))
    variance_scaling(network.dense1)
    network.l2 = {"dense1": l2}  # type: ignore[assignment]
    return network
