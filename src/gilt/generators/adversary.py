"""The training of the GAN: generator against discriminator, both seeing images through differentiable augmentation.

Non-saturating loss with an R1 penalty at photographs (Mescheder et al. 2018, arXiv:1801.04406), every LAZY-th step. All that
the discriminator sees, real or made, is changed at random in colour, place and by a hole, and the generator learns through the
change: so a few thousand photographs are not learnt by heart (Zhao et al. 2020, arXiv:2006.10738).

Shapes: B batch, K channels, H W pixels; images in [-1, 1].
"""
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from gilt.engine.average import Average
from gilt.generators.config import GeneratorConfig
from gilt.generators.draws import Draws
from gilt.generators.gan import Critic, Painter

LAZY = 16  # steps from one penalty to the next, which is so many times stronger
SHIFT, HOLE = 1 / 8, 1 / 2  # of the side: how far an image is moved at most; the hole's side


class Adversary:
    """A painter and its critic in training; `average` is the running mean of the painter's weights."""

    def __init__(self, config: GeneratorConfig, *, classes: int, channels: int, device: torch.device,
                 precision: torch.dtype) -> None:
        self.config, self.device, self.precision = config, device, precision
        shape = {"classes": classes, "channels": channels}
        self.network = Painter(config, **shape).to(device, memory_format=torch.channels_last)
        self.critic = Critic(config, **shape).to(device, memory_format=torch.channels_last)
        self.average = Average(self.network, config.ema)
        # the penalty of every LAZY-th step counts as a part of a step: StyleGAN2's correction of Adam's rate and memory
        part = LAZY / (LAZY + 1) if config.r1 else 1.0
        self.optimizers = (torch.optim.Adam(self.network.parameters(), config.rate, betas=(0.0, 0.99)),
                           torch.optim.Adam(self.critic.parameters(), config.rate * part, betas=(0.0, 0.99 ** part)))

    def step(self, images_BKHW: torch.Tensor, labels_B: torch.Tensor, draws: Draws, step: int) -> dict[str, torch.Tensor]:
        """Let the critic, then the painter, learn from a batch; return {"loss": the painter's, "critic_loss": ...}."""
        made = self._made(draws, labels_B)
        judged = [self._judged(images, labels_B, draws) for images in (made.detach(), images_BKHW)]
        critic_loss = F.softplus(judged[0]).mean() + F.softplus(-judged[1]).mean()
        penalty = self._penalty(images_BKHW, labels_B, draws) if self.config.r1 and step % LAZY == 0 else 0.0
        self._learn(1, critic_loss + penalty)
        self.critic.requires_grad_(False)
        loss = F.softplus(-self._judged(made, labels_B, draws)).mean()
        self._learn(0, loss)
        self.critic.requires_grad_(True)
        self.average.update()
        return {"loss": loss.detach(), "critic_loss": critic_loss.detach()}

    def _made(self, draws: Draws, labels_B: torch.Tensor) -> torch.Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == torch.bfloat16):
            return self.network(draws.normal(len(labels_B), self.config.latent), labels_B)

    def _judged(self, images_BKHW: torch.Tensor, labels_B: torch.Tensor, draws: Draws) -> torch.Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == torch.bfloat16):
            return self.critic(changed(images_BKHW, self.config.augment, draws), labels_B)

    def _penalty(self, images_BKHW: torch.Tensor, labels_B: torch.Tensor, draws: Draws) -> torch.Tensor:
        """Return R1: the squared gradient of the verdict at photographs, in float32."""
        images_BKHW = images_BKHW.detach().requires_grad_(True)
        verdict = self.critic(changed(images_BKHW, self.config.augment, draws), labels_B)
        slope, = torch.autograd.grad(verdict.sum(), images_BKHW, create_graph=True)
        return slope.square().sum((1, 2, 3)).mean() * self.config.r1 / 2 * LAZY

    def _learn(self, part: int, loss: torch.Tensor) -> None:
        optimizer, network = self.optimizers[part], (self.network, self.critic)[part]
        optimizer.zero_grad()
        loss.backward()
        if self.config.clip is not None:
            nn.utils.clip_grad_norm_(network.parameters(), self.config.clip)
        optimizer.step()

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"network": self.network.state_dict(), "critic": self.critic.state_dict(), "average": self.average.state(),
                "optimizers": [optimizer.state_dict() for optimizer in self.optimizers]}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        self.network.load_state_dict(state["network"])
        self.critic.load_state_dict(state["critic"])
        self.average.restore(state["average"])
        for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)


@torch.inference_mode()
def paint(network: nn.Module, noise_BZ: torch.Tensor, labels_B: torch.Tensor, precision: torch.dtype) -> torch.Tensor:
    """Return images (B, K, H, W) in [-1, 1] for latent numbers and classes."""
    with torch.autocast(noise_BZ.device.type, torch.bfloat16, enabled=precision == torch.bfloat16):
        return network(noise_BZ, labels_B).float().clamp(-1, 1)


def changed(images_BKHW: torch.Tensor, names: Sequence[str], draws: Draws) -> torch.Tensor:
    """Return the images after the named changes, each image drawing its own; gradients pass through."""
    for name in names:
        images_BKHW = CHANGED[name](images_BKHW, draws)
    return images_BKHW


def _colour(x: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Change light by up to a quarter of the range, saturation to 0 to 2 times, contrast to 0.5 to 1.5 times."""
    light, saturation, contrast = draws.uniform(3, len(x), 1, 1, 1)
    x = x + light - 0.5
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * 2 * saturation
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + (x - mean) * (contrast + 0.5)


def _translation(x: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Move each image by up to an eighth of its side; what comes in is grey."""
    side = x.shape[-1]
    most = round(side * SHIFT)
    rows, columns = (draws.whole(2 * most + 1, len(x), 1) + torch.arange(side, device=x.device) for _ in range(2))
    x = F.pad(x, (most,) * 4)
    x = x.gather(2, rows[:, None, :, None].expand(-1, x.shape[1], -1, x.shape[3]))
    return x.gather(3, columns[:, None, None, :].expand(-1, x.shape[1], side, -1))


def _cutout(x: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Lay a grey square of half the side on each image; it may hang over the border."""
    side, hole = x.shape[-1], round(x.shape[-1] * HOLE)
    place = torch.arange(side, device=x.device)
    first = draws.whole(side + 1, 2, len(x), 1) - hole // 2
    rows, columns = (place >= first) & (place < first + hole)
    return x.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)


CHANGED = {"colour": _colour, "translation": _translation, "cutout": _cutout}
