"""Diffusion by flow matching: a U-Net learns which way leads from noise to an image, and a solver goes it.

The flow of Lipman et al. 2023 (arXiv:2210.02747): x(t) = (1 - t) image + t noise, and the network is told x(t), t and the class
and says noise - image. The class is left out by chance, so that the same network knows the way to any image: sampling goes
further along what the class adds (classifier-free guidance, Ho & Salimans 2022, arXiv:2207.12598).

Shapes: B batch, K channels (3, or 1 for grey), H W pixels; folded images have K * patch^2 channels on a side patch times
smaller.
"""
import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from gilt.engine.average import Average
from gilt.errors import MissingExtraError
from gilt.generators.config import GeneratorConfig, SampleConfig
from gilt.generators.draws import Draws

Way = Callable[[torch.Tensor, float], torch.Tensor]  # (x, t) -> velocity
Start = tuple[torch.Tensor, float]  # images (B, K, H, W) in [-1, 1], and how far they go to noise, in (0, 1]


def unet(config: GeneratorConfig, *, classes: int, channels: int) -> nn.Module:
    """Return diffusers' U-Net for resolved settings: attention where the side is 16 or less, one more class for "any".

    Raises MissingExtraError without diffusers.
    """
    try:
        from diffusers import UNet2DModel
    except ImportError:
        raise MissingExtraError("diffusers", "generate") from None
    side, levels = _padded(config) // config.patch, config.levels
    sees = [side >> level <= 16 and level > 0 for level in range(levels)]  # the widest side is the dearest to attend over
    folded = channels * config.patch ** 2
    return UNet2DModel(
        sample_size=side, in_channels=folded, out_channels=folded, layers_per_block=1 if config.width < 128 else 2,
        block_out_channels=tuple(config.width * (1 if level == 0 else 2) for level in range(levels)),
        down_block_types=tuple("AttnDownBlock2D" if see else "DownBlock2D" for see in sees),
        up_block_types=tuple("AttnUpBlock2D" if see else "UpBlock2D" for see in reversed(sees)),
        num_class_embeds=classes + 1, norm_num_groups=8, attention_head_dim=32)


class Diffusion:
    """A U-Net in training. `network` is what learns, `average` the running mean of its weights, `parts` what has a rate."""

    def __init__(self, config: GeneratorConfig, *, classes: int, channels: int, device: torch.device,
                 precision: torch.dtype) -> None:
        self.config, self.no_class, self.device, self.precision = config, classes, device, precision
        self.network = unet(config, classes=classes, channels=channels).to(device, memory_format=torch.channels_last)
        self.average = Average(self.network, config.ema)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), config.rate, weight_decay=0.01)
        self.optimizers = (self.optimizer,)

    def step(self, images_BKHW: torch.Tensor, labels_B: torch.Tensor, draws: Draws, step: int) -> dict[str, torch.Tensor]:
        """Learn from a batch of images in [-1, 1]; return what the step came to, {"loss": mean squared error}."""
        x = fold(images_BKHW, self.config)
        labels_B = torch.where(draws.uniform(len(x)) < self.config.unconditional, self.no_class, labels_B)
        noise = draws.normal(*x.shape)
        t = torch.sigmoid(draws.normal(len(x)))  # most often in the middle, where the way is hardest to tell (SD 3)
        now = torch.lerp(x, noise, t[:, None, None, None])
        said = velocity(self.network, now, t, labels_B, self.precision)
        loss = (said - (noise - x)).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        if self.config.clip is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip)
        self.optimizer.step()
        self.average.update()
        return {"loss": loss.detach()}

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"network": self.network.state_dict(), "average": self.average.state(), "optimizer": self.optimizer.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        self.network.load_state_dict(state["network"])
        self.average.restore(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])


def velocity(network: nn.Module, x: torch.Tensor, t_B: torch.Tensor, labels_B: torch.Tensor,
             precision: torch.dtype) -> torch.Tensor:
    """Return what the network says of the way at x: float32, the shape of x."""
    x = x.contiguous(memory_format=torch.channels_last)
    with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == torch.bfloat16):
        return network(x, t_B * 1000, labels_B).sample.float()


@torch.inference_mode()
def paint(network: nn.Module, noise_BN: torch.Tensor, labels_B: torch.Tensor, config: GeneratorConfig, sample: SampleConfig,
          precision: torch.dtype, *, start: Start | None = None) -> torch.Tensor:
    """Return images (B, K, H, W) in [-1, 1] for noise (B, `noise_size`) and classes.

    With `start`, the way begins at those images, so far along towards the noise (SDEdit, Meng and others 2022,
    arXiv:2108.01073).
    """
    channels = noise_BN.shape[1] // _padded(config) ** 2
    x, begin = fold(noise_BN.view(-1, channels, _padded(config), _padded(config)), config), 1.0
    if start is not None:
        images_BKHW, begin = start
        x = torch.lerp(fold(images_BKHW, config), x, begin)
    nobody = torch.full_like(labels_B, network.config.num_class_embeds - 1)

    def way(x: torch.Tensor, t: float) -> torch.Tensor:
        if sample.guidance == 1:
            return velocity(network, x, torch.full((len(x),), t, device=x.device), labels_B, precision)
        both = velocity(network, torch.cat([x, x]), torch.full((2 * len(x),), t, device=x.device),
                        torch.cat([labels_B, nobody]), precision)
        with_class, without = both.chunk(2)
        return torch.lerp(without, with_class, sample.guidance)

    return unfold(SOLVERS[sample.sampler](way, x, sample.steps, begin), config).clamp(-1, 1)


def noise_size(config: GeneratorConfig, channels: int) -> int:
    """Return how many numbers an image is drawn from."""
    return channels * _padded(config) ** 2


def fold(images_BKHW: torch.Tensor, config: GeneratorConfig) -> torch.Tensor:
    """Return images with patch x patch pixels as channels; sides that the network's levels do not divide are mirrored on."""
    more = _padded(config) - images_BKHW.shape[-1]
    if more:
        images_BKHW = F.pad(images_BKHW, (more // 2, more - more // 2) * 2, mode="reflect")
    return F.pixel_unshuffle(images_BKHW, config.patch)


def unfold(x: torch.Tensor, config: GeneratorConfig) -> torch.Tensor:
    """Return what `fold` folded, without the rows and columns that it added."""
    images, first = F.pixel_shuffle(x, config.patch), (_padded(config) - config.size) // 2
    return images[..., first:first + config.size, first:first + config.size]


def _padded(config: GeneratorConfig) -> int:
    """Return the side that patches and levels divide, pixels."""
    unit = config.patch * 2 ** (config.levels - 1)
    return math.ceil(config.size / unit) * unit


def euler(way: Way, x: torch.Tensor, steps: int, start: float = 1.0) -> torch.Tensor:
    """Go straight on from each point: one evaluation a step."""
    for now, then in _times(steps, start):
        x = x + (then - now) * way(x, now)
    return x


def heun(way: Way, x: torch.Tensor, steps: int, start: float = 1.0) -> torch.Tensor:
    """Go by the mean of the slopes at both ends of a step: two evaluations, but one for the last."""
    for now, then in _times((steps + 1) // 2, start):
        slope = way(x, now)
        guess = x + (then - now) * slope
        x = guess if then == 0 else x + (then - now) * (slope + way(guess, then)) / 2
    return x


def adams(way: Way, x: torch.Tensor, steps: int, start: float = 1.0) -> torch.Tensor:
    """Go by the slope here and the one before (Adams-Bashforth): second order with one evaluation a step."""
    before = None
    for now, then in _times(steps, start):
        slope = way(x, now)
        x = x + (then - now) * (slope if before is None else 1.5 * slope - 0.5 * before)
        before = slope
    return x


SOLVERS: dict[str, Callable[[Way, torch.Tensor, int, float], torch.Tensor]] = {"euler": euler, "heun": heun, "adams": adams}


def _times(steps: int, start: float) -> list[tuple[float, float]]:
    """Return (from, to) of each step from noise (1), or where else it starts, to the image (0)."""
    return list(itertools.pairwise([start * (1 - i / steps) for i in range(steps + 1)]))
