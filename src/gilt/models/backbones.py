"""Backbones: large networks whose weights others have trained, by torchvision. They start untrained: `train.weights` names a
file, or says `pretrained`.

They take images in [0, 1] as every network here; ImageNet's mean and deviation are part of the network, so a saved
classifier needs nothing else. Parameters with 1,000 logits: alexnet 61,100,840, mobilenet_v2 3,504,872, resnet18 11,689,512,
resnet50 25,557,032, swin_s 49,606,258, convnext_t 28,589,128.
"""
from collections import OrderedDict
from typing import Any

from torch import nn

from gilt.models.layers import Normalise
from gilt.models.registry import register

SMALLEST = 32  # pixels: five halvings leave one
COMPARISON = "LeNet-AlexNet-ResNet comparison"
CONTAMINATION = "Hataya et al. 2023, contamination study"
IMAGENET = {"input_size": 224, "outputs": 1000, "family": "backbone"}


@register("alexnet", **IMAGENET, smallest=63, published="torchvision:alexnet",
          source=f"Krizhevsky 2014, arXiv:1404.5997; {COMPARISON}")
def alexnet(outputs: int, input_size: int, dropout: float = 0.5) -> nn.Module:
    """AlexNet: five convolutions, the mean over 6x6 fields, dense 4096, 4096 with dropout before each."""
    return _torchvision("alexnet", outputs, dropout=dropout)


@register("mobilenet_v2", **IMAGENET, smallest=SMALLEST, published="torchvision:mobilenet_v2",
          source="Sandler et al. 2018, arXiv:1801.04381")
def mobilenet_v2(outputs: int, input_size: int, dropout: float = 0.2) -> nn.Module:
    """MobileNetV2: 17 inverted residual blocks, 1,280 features, dropout before the last layer."""
    return _torchvision("mobilenet_v2", outputs, dropout=dropout)


@register("resnet18", **IMAGENET, smallest=SMALLEST, published="torchvision:resnet18",
          source="He et al. 2016, arXiv:1512.03385; detector project's features")
def resnet18(outputs: int, input_size: int) -> nn.Module:
    """ResNet-18: 8 blocks of two 3x3 convolutions, 512 features: those that the detector project gave to its SVM."""
    return _torchvision("resnet18", outputs)


@register("resnet50", **IMAGENET, smallest=SMALLEST, published="torchvision:resnet50",
          source=f"He et al. 2016, arXiv:1512.03385; {COMPARISON}, contamination study")
def resnet50(outputs: int, input_size: int) -> nn.Module:
    """ResNet-50: 16 bottleneck blocks, 2,048 features; halves in the 3x3 convolutions, as torchvision's weights expect."""
    return _torchvision("resnet50", outputs)


@register("swin_s", **IMAGENET, smallest=SMALLEST, published="torchvision:swin_s",
          source=f"Liu et al. 2021, arXiv:2103.14030; {CONTAMINATION}")
def swin_s(outputs: int, input_size: int, dropout: float = 0.0) -> nn.Module:
    """Swin-S: 24 blocks of attention in shifted 7x7 windows, 768 features. timm's: `timm:swin_small_patch4_window7_224`."""
    return _torchvision("swin_s", outputs, dropout=dropout)


@register("convnext_t", **IMAGENET, smallest=SMALLEST, published="torchvision:convnext_tiny",
          source=f"Liu et al. 2022, arXiv:2201.03545; {CONTAMINATION}")
def convnext_t(outputs: int, input_size: int) -> nn.Module:
    """ConvNeXt-T: 18 blocks with 7x7 convolutions by channel, 768 features. timm's: `timm:convnext_tiny`."""
    return _torchvision("convnext_tiny", outputs)


def _torchvision(name: str, outputs: int, **settings: Any) -> nn.Module:
    from torchvision import models  # takes a second or two: only where a backbone is wanted

    body = models.get_model(name, weights=None, num_classes=outputs, **settings)
    return nn.Sequential(OrderedDict(normalise=Normalise(), body=body))
