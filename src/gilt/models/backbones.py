"""Backbones: large networks whose weights others have trained, through torchvision. They start untrained: `train.weights`
names the file, which gilt never downloads.

They take images in [0, 1] as every network here; ImageNet's mean and deviation are part of the network, so a saved
classifier needs nothing else. Any input size of 32 pixels or more. Parameters with 1,000 logits: mobilenet_v2 3,504,872,
resnet18 11,689,512, resnet50 25,557,032.
"""
from collections import OrderedDict

import torch
from torch import nn

from gilt.models.registry import register

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's red, green and blue in [0, 1]
SMALLEST = 32  # pixels: five halvings leave one


class Normalise(nn.Module):
    """Subtract ImageNet's mean and divide by its deviation, colour by colour: what the published weights expect."""

    def __init__(self) -> None:
        super().__init__()
        for name, values in (("mean", MEAN), ("deviation", DEVIATION)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        return (images_BCHW - self.mean) / self.deviation


@register("mobilenet_v2", input_size=224, outputs=1000, source="Sandler et al. 2018, arXiv:1801.04381, by torchvision")
def mobilenet_v2(outputs: int, input_size: int, dropout: float = 0.2) -> nn.Module:
    """MobileNetV2: 17 inverted residual blocks, 1,280 features, dropout before the last layer."""
    from torchvision import models  # takes a second or two: only where a backbone is wanted

    return _normalised(models.mobilenet_v2(num_classes=outputs, dropout=dropout), input_size)


@register("resnet18", input_size=224, outputs=1000, source="He et al. 2016, arXiv:1512.03385, by torchvision")
def resnet18(outputs: int, input_size: int) -> nn.Module:
    """ResNet-18: 8 blocks of two 3x3 convolutions, 512 features."""
    from torchvision import models

    return _normalised(models.resnet18(num_classes=outputs), input_size)


@register("resnet50", input_size=224, outputs=1000, source="He et al. 2016, arXiv:1512.03385, by torchvision")
def resnet50(outputs: int, input_size: int) -> nn.Module:
    """ResNet-50: 16 bottleneck blocks, 2,048 features; halves in the 3x3 convolutions, as torchvision's weights expect."""
    from torchvision import models

    return _normalised(models.resnet50(num_classes=outputs), input_size)


def _normalised(network: nn.Module, input_size: int) -> nn.Module:
    if input_size < SMALLEST:
        raise ValueError(f"it halves five times, so it needs {SMALLEST} pixels or more")
    return nn.Sequential(OrderedDict(normalise=Normalise(), body=network))
