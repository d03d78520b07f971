"""`Generator`: a trained generator with all that its images depend on, in one safetensors file.

Loading executes nothing: the file holds tensors and JSON. It also holds the SHA-256 of every image the generator was trained
on, so that a study can refuse to be judged on them.

Shapes: B images, S pixels of the side, K channels, N images seen.
"""
import functools
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from pydantic import model_validator
from safetensors.torch import save_file
from torch import nn

from gilt.errors import ConfigError, ModelError, listed, near
from gilt.files import atomic_path
from gilt.generators import adversary, diffusion
from gilt.generators.config import GeneratorConfig, SampleConfig
from gilt.generators.draws import noise_of
from gilt.generators.gan import Painter
from gilt.models.card import read_card
from gilt.models.device import pick_device, pick_precision
from gilt.settings import Config, parse

FORMAT = "gilt generator 1"
AT_ONCE = {"cpu": 32, "cuda": 256}  # images a call, always as many: so a pixel does not depend on how many are asked for
_SEEN, _NETWORK = "seen", "network."


class _Card(Config):
    """What a file says of its network, beside the tensors."""

    format: str
    config: GeneratorConfig
    classes: list[str]
    mode: Literal["L", "RGB"]
    counts: dict[str, int]
    history: list[dict[str, Any]]
    provenance: dict[str, Any]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not self.classes or len(set(self.classes)) < len(self.classes):
            raise ValueError("classes must be one or more different names")
        if None in (self.config.size, self.config.width, self.config.patch):
            raise ValueError("config lacks the size, width or patch of its network")
        return self


@dataclass
class Generator:
    """A network that makes images of `classes`; `mode` is Pillow's ("L" for grey ones, else "RGB").

    `config` is resolved, `counts` class -> images learnt from, `history` one dict a look, `seen` the SHA-256 of every image
    seen, sorted; `provenance` says what it was trained on and with.
    """

    network: nn.Module
    config: GeneratorConfig
    classes: Sequence[str]
    mode: str
    counts: Mapping[str, int]
    seen: Sequence[str]
    history: list[dict[str, Any]] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        size = sum(value.numel() for value in self.network.parameters())
        return (f"<Generator {self.config.kind} {self.config.size}x{self.config.size} {self.mode}, {size:,} parameters, "
                f"saw {len(self.seen):,} images of {listed(self.classes)}>")

    @property
    def channels(self) -> int:
        """1 for grey images, 3 for colour."""
        return 1 if self.mode == "L" else 3

    @functools.cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that name the weights."""
        digest = hashlib.sha256()
        for name, value in sorted(self.network.state_dict().items()):
            digest.update(name.encode() + value.detach().float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def images(self, wanted: Sequence[tuple[str, int]], *, seed: int = 0, sample: SampleConfig | None = None) -> np.ndarray:
        """Return uint8 (B, S, S, K): one image for each (class, number).

        On one machine, its pixels depend on the generator, `seed`, the class, the number and `sample` only: not on the other
        images. Raises ConfigError for an unknown class.
        """
        return self._made(wanted, None, seed, sample)

    def translated(self, wanted: Sequence[tuple[str, int]], images_BSSK: np.ndarray, *, strength: float, seed: int = 0,
                   sample: SampleConfig | None = None) -> np.ndarray:
        """Return uint8 (B, S, S, K): each image taken `strength` (0 to 1] of the way to noise, and back as (class, number).

        Near 0 the image stays as it is; at 1 it counts for nothing, and what comes is what `images` makes. On one machine, the
        pixels depend on what those of `images` do, on the image and on `strength`. Raises ConfigError for an unknown class, a
        GAN, a strength or a shape that does not fit.
        """
        self.check_translates()
        shape = (len(wanted), self.config.size, self.config.size, self.channels)
        if images_BSSK.shape != shape or images_BSSK.dtype != np.uint8:
            raise ConfigError(f"the images to translate are {images_BSSK.dtype} {images_BSSK.shape}, not uint8 {shape}")
        if not 0 < strength <= 1:
            raise ConfigError(f"strength is {strength}: above 0 (as it was), and 1 (all anew) at most")
        return self._made(wanted, (images_BSSK, strength), seed, sample)

    def check_translates(self) -> None:
        """Raise ConfigError for a GAN."""
        if self.config.kind != "diffusion":
            raise ConfigError("a GAN makes an image at one go, from noise only: it cannot start at an image. Train a generator "
                              "that can: gilt generate train --kind diffusion")

    @property
    def at_once(self) -> int:
        """How many images a call of the network makes, on the device where it is."""
        return AT_ONCE.get(next(self.network.parameters()).device.type, 32)

    def _made(self, wanted: Sequence[tuple[str, int]], start: tuple[np.ndarray, float] | None, seed: int,
              sample: SampleConfig | None) -> np.ndarray:
        self.check_classes(name for name, _ in wanted)
        device, made, most = next(self.network.parameters()).device, [], self.at_once
        for first in range(0, len(wanted), most):
            part = list(wanted[first:first + most])
            full = part + part[-1:] * (most - len(part))
            noise = noise_of(seed, full, self._numbers).to(device)
            labels = torch.tensor([self.classes.index(name) for name, _ in full], device=device)
            begin = None
            if start is not None:
                places = np.minimum(np.arange(first, first + most), len(wanted) - 1)
                begin = (_signed(start[0][places]).to(device), start[1])
            made.append(_pixels(self._paint(noise, labels, sample or self.config.sample, begin))[:len(part)])
        return np.concatenate(made) if made else np.zeros((0, self.config.size, self.config.size, self.channels), np.uint8)

    def check_classes(self, names: Iterable[str]) -> None:
        """Raise ConfigError for a class that the generator has not learnt."""
        for name in names:
            if name not in self.classes:
                raise ConfigError(f"this generator knows no class {name!r} (has: {listed(self.classes)})."
                                  f"{near(name, self.classes)}")

    @property
    def _numbers(self) -> int:
        return diffusion.noise_size(self.config, self.channels) if self.config.kind == "diffusion" else self.config.latent

    def _paint(self, noise: torch.Tensor, labels: torch.Tensor, sample: SampleConfig,
               start: diffusion.Start | None) -> torch.Tensor:
        precision = pick_precision(self.config.precision, noise.device)
        if self.config.kind == "diffusion":
            return diffusion.paint(self.network, noise, labels, self.config, sample, precision, start=start)
        return adversary.paint(self.network, noise, labels, precision)

    def save(self, path: Path | str) -> None:
        """Write the generator to `path` (safetensors), atomically."""
        card = {"format": FORMAT, "config": self.config.model_dump(mode="json"), "classes": list(self.classes),
                "mode": self.mode, "counts": dict(self.counts), "history": self.history, "provenance": self.provenance}
        tensors = {_NETWORK + name: value.detach().cpu().contiguous() for name, value in self.network.state_dict().items()}
        tensors[_SEEN] = torch.tensor([list(bytes.fromhex(digest)) for digest in self.seen], dtype=torch.uint8).view(-1, 32)
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, metadata={"gilt": json.dumps(card)})


def load_generator(path: Path | str, *, device: str = "auto") -> Generator:
    """Return the generator in `path`, ready to make images on `device` (auto, cpu, cuda).

    Raises ModelError where the file is missing, is no generator of gilt's, or holds weights that do not fit.
    """
    card, tensors = read_card(path, FORMAT, kind="generator", make="gilt generate train")
    place = pick_device(device)
    try:
        known = parse(_Card, card, where="its card")
        seen = [bytes(row).hex() for row in tensors.pop(_SEEN).view(-1, 32).numpy()]
        network = network_of(known.config, classes=len(known.classes), channels=1 if known.mode == "L" else 3)
        network.load_state_dict({name.removeprefix(_NETWORK): value for name, value in tensors.items()})
    except (KeyError, RuntimeError, ValueError, TypeError, ConfigError) as error:
        raise ModelError(f"{path} does not fit the generator it names: {str(error).splitlines()[0]}") from None
    network = network.to(place, memory_format=torch.channels_last).eval().requires_grad_(False)
    return Generator(network, known.config, tuple(known.classes), known.mode, known.counts, tuple(seen), known.history,
                     known.provenance)


def network_of(config: GeneratorConfig, *, classes: int, channels: int) -> nn.Module:
    """Return the network that makes the images, its weights drawn at random."""
    build = diffusion.unet if config.kind == "diffusion" else Painter
    return build(config, classes=classes, channels=channels)


def _signed(images_BHWK: np.ndarray) -> torch.Tensor:
    """Return uint8 (B, H, W, K) as float32 (B, K, H, W) in [-1, 1]."""
    return torch.from_numpy(images_BHWK).permute(0, 3, 1, 2).float() / 127.5 - 1


def _pixels(images_BKHW: torch.Tensor) -> np.ndarray:
    """Return images in [-1, 1] as uint8 (B, H, W, K)."""
    return ((images_BKHW + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
