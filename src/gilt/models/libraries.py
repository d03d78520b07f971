"""Networks of other libraries by name: `timm:NAME`, `torchvision:NAME`, `open_clip:NAME`. A library loads when it is asked for.

Each network becomes `normalise` (its library's mean and deviation for it, so it takes images in [0, 1] as every network
here), then `body`, whose layers have the library's names; `open_clip:` is a model's visual tower, then `head`, a new dense
layer. All start untrained; `train.weights = "pretrained"` fills them.

Shapes: B batch, C channels, H W pixels, D features.
"""
import contextlib
import fnmatch
import functools
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from gilt.errors import MissingExtraError, ModelError, near
from gilt.models.layers import DEVIATION, MEAN, Normalise
from gilt.models.registry import ModelEntry

Colours = tuple[float, float, float]
CLIP_MEAN, CLIP_DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Library:
    """A library of networks: `make` returns the entry of one, `list_names` all names."""

    name: str
    make: Callable[[str], ModelEntry]
    list_names: Callable[[], list[str]]

    def entry(self, name: str) -> ModelEntry:
        """Return the entry of the library's network `name`. Raises ModelError with the near name where there is none."""
        known = self.list_names()
        if name.partition(".")[0] not in known and name not in known:
            raise ModelError(f"no network {f'{self.name}:{name}'!r}: {self.name} has {len(known):,} others. List them with "
                             f"gilt models '{self.name}:*'.{near(name, known)}")
        return self.make(name)


def names_in(library: str, pattern: str) -> list[str]:
    """Return the names in a library that fit a pattern such as `*convnext*`, sorted."""
    return sorted(fnmatch.filter(LIBRARIES[library].list_names(), pattern))


# -- torchvision


def _torchvision_names() -> list[str]:
    import torchvision

    return torchvision.models.list_models(module=torchvision.models)


@functools.cache
def _torchvision_entry(name: str) -> ModelEntry:
    from torchvision import models

    try:
        weights = models.get_model_weights(name).DEFAULT.transforms()
    except (ValueError, AttributeError) as error:
        raise ModelError(f"no network 'torchvision:{name}': {error}") from None
    own, mean, deviation = weights.crop_size[0], tuple(weights.mean), tuple(weights.std)

    def build(outputs: int, input_size: int) -> nn.Module:
        settings: dict[str, Any] = {"weights": None, "num_classes": outputs}
        if name.startswith("vit_"):
            settings["image_size"] = input_size
        elif name == "maxvit_t":
            settings["input_size"] = (input_size, input_size)
        elif name in ("googlenet", "inception_v3"):  # whose other outputs would need losses of their own
            settings |= {"aux_logits": False, "init_weights": False}
        with _sizes_refused():
            body = models.get_model(name, **settings)
        return _checked(_network(body, mean, deviation), input_size, own)

    return ModelEntry(f"torchvision:{name}", build, own, 1000, f"torchvision, {name}", family="torchvision",
                      published=f"torchvision:{name}")


# -- timm


def _timm() -> Any:
    try:
        import timm
    except ImportError:
        raise MissingExtraError("timm", "backbones") from None
    return timm


@functools.cache
def _timm_names() -> list[str]:
    return _timm().list_models()


@functools.cache
def _timm_entry(name: str) -> ModelEntry:
    timm = _timm()
    try:
        config = timm.models.get_pretrained_cfg(name)
    except RuntimeError:
        tags = [full.partition(".")[2] for full in timm.list_models(f"{name.partition('.')[0]}.*", pretrained=True)]
        raise ModelError(f"no weights {name.partition('.')[2]!r} of 'timm:{name.partition('.')[0]}' "
                         f"(there are: {', '.join(tags) or 'none'})") from None
    own = config.input_size[1] if config else 224
    mean, deviation = (config.mean, config.std) if config else (MEAN, DEVIATION)

    def build(outputs: int, input_size: int, dropout: float | None = None, mean: Colours = mean,
              deviation: Colours = deviation) -> nn.Module:
        settings = {"num_classes": outputs, "drop_rate": dropout or 0.0}
        with _sizes_refused():
            try:
                body = timm.create_model(name, img_size=None if input_size == own else input_size, **settings)
            except TypeError:  # a network that takes any size, and no such argument
                body = timm.create_model(name, **settings)
        return _checked(_network(body, mean, deviation), input_size, own)

    return ModelEntry(f"timm:{name}", build, own, (config.num_classes if config else 0) or 1, f"timm, {name}", family="timm",
                      published=f"timm:{name}")


# -- open_clip


def _open_clip() -> Any:
    try:
        import open_clip
    except ImportError:
        raise MissingExtraError("open_clip_torch", "backbones") from None
    return open_clip


@functools.cache
def _open_clip_names() -> list[str]:
    return _open_clip().list_models()


def open_clip_tags(name: str) -> list[str]:
    """Return the names of the weights that fit an open_clip model, as the library lists them.

    Some lists hold weights for the activation that OpenAI's used, under a model that has another: those do not fit.
    """
    open_clip = _open_clip()
    quick = open_clip.get_model_config(name).get("quick_gelu", False)
    return [tag for tag in open_clip.list_pretrained_tags_by_model(name)
            if open_clip.get_pretrained_cfg(name, tag).get("quick_gelu", False) == quick]


def open_clip_tag(name: str) -> str:
    """Return the weights that stand for an open_clip model where none are named: the last of those that fit it, or ""."""
    fit = open_clip_tags(name)
    return fit[-1] if fit else ""


class Tower(nn.Module):
    """A visual tower and a dense layer behind it; of towers that give more than the image's embedding, that one is taken."""

    def __init__(self, body: nn.Module, features: int, outputs: int, normalise: Normalise) -> None:
        super().__init__()
        self.normalise, self.body = normalise, body
        self.head = nn.Linear(features, outputs)

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        out = self.body(self.normalise(images_BCHW))
        return self.head(out[0] if isinstance(out, tuple) else out)


@functools.cache
def _open_clip_entry(name: str) -> ModelEntry:
    open_clip = _open_clip()
    config = open_clip.get_model_config(name)
    known = open_clip.get_pretrained_cfg(name, open_clip_tag(name))
    vision = config["vision_cfg"]
    own = vision.get("image_size", 224)
    own = own if isinstance(own, int) else own[0]

    def build(outputs: int, input_size: int) -> nn.Module:
        # create_model would also make the text tower, which is as large
        from open_clip.model import _build_vision_tower

        with _sizes_refused():
            settings = {**vision, "image_size": input_size, "timm_model_pretrained": False}
            body = _build_vision_tower(config["embed_dim"], settings, config.get("quick_gelu", False))
        normalise = Normalise(known.get("mean", CLIP_MEAN), known.get("std", CLIP_DEVIATION))
        return _checked(Tower(body, config["embed_dim"], outputs, normalise), input_size, own)

    return ModelEntry(f"open_clip:{name}", build, own, 1, f"open_clip, visual tower of {name}", family="open_clip",
                      published=f"open_clip:{name}")


# -- what they share


def _network(body: nn.Module, mean: tuple[float, ...], deviation: tuple[float, ...]) -> nn.Module:
    return nn.Sequential(OrderedDict(normalise=Normalise(mean, deviation), body=body))


@contextlib.contextmanager
def _sizes_refused() -> Iterator[None]:
    """Turn what libraries raise for a size that they cannot take into the ValueError that `zoo.create` words."""
    try:
        yield
    except (AssertionError, RuntimeError) as error:
        raise ValueError(next(iter(str(error).splitlines()), "") or type(error).__name__) from None


def _checked(network: nn.Module, size: int, own: int) -> nn.Module:
    """Return the network, once an image of another size than its own has gone through it."""
    if size != own:
        with torch.inference_mode(), _sizes_refused():
            training = network.training
            network.eval()(torch.zeros(1, 3, size, size))
            network.train(training)
    return network


LIBRARIES = {library.name: library for library in (
    Library("timm", _timm_entry, _timm_names),
    Library("torchvision", _torchvision_entry, _torchvision_names),
    Library("open_clip", _open_clip_entry, _open_clip_names))}
