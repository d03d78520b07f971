"""What is drawn by chance: in training by (seed, step), of a made image by (seed, class, number); never by what came before.

A training that was killed draws what the whole one would, and an image is the same whichever others are made with it.
"""
import hashlib
from collections.abc import Sequence

import numpy as np
import torch


class Draws:
    """The draws of one training step, on the device: rows, noise, coins."""

    def __init__(self, seed: int, step: int, device: torch.device) -> None:
        self.device = device
        self.generator = torch.Generator(device).manual_seed((seed * 1_000_003 + step) % 2**32)

    def normal(self, *shape: int) -> torch.Tensor:
        """Return float32 from a standard normal."""
        return torch.randn(shape, generator=self.generator, device=self.device)

    def uniform(self, *shape: int) -> torch.Tensor:
        """Return float32 in [0, 1)."""
        return torch.rand(shape, generator=self.generator, device=self.device)

    def whole(self, below: int, *shape: int) -> torch.Tensor:
        """Return int64 in [0, below)."""
        return torch.randint(below, shape, generator=self.generator, device=self.device)


def noise_of(seed: int, images: Sequence[tuple[str, int]], size: int) -> torch.Tensor:
    """Return float32 (B, size) from a standard normal: image by image of (class name, number), alike on every device."""
    return torch.from_numpy(np.stack([_one(seed, name, number, size) for name, number in images]))


def _one(seed: int, name: str, number: int, size: int) -> np.ndarray:
    words = np.frombuffer(hashlib.sha256(f"{seed}\0{number}\0{name}".encode()).digest(), np.uint32)
    return np.random.default_rng(words).standard_normal(size, np.float32)
