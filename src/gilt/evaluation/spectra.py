"""Spectra: how an image's power is spread over frequencies, from slow changes of light to single pixels.

Generators' up-sampling leaves peaks and a wrong fall-off at high frequencies (Durall et al. 2020, arXiv:2003.01826); so do
resizing, JPEG and denoising. A difference here is a reason to look for both.

Shapes: N images, S S pixels, K rings.
"""
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gilt.evaluation.attention import mean_metric
from gilt.evaluation.metrics import Metric
from gilt.evaluation.uncertainty import t_interval

LUMA = (0.299, 0.587, 0.114)
HIGH = 0.25  # cycles a pixel: half of the highest frequency along a row
NYQUIST = 0.5
FAINT = 1e-10  # power that counts as none; an image of one colour has none


@dataclass(frozen=True)
class Spectrum:
    """The mean spectrum of a group of n images.

    `mean`, `low` and `high` (K,) are the mean of the images' log10 power by ring with its 95 % interval over images (nan for
    one image); `plane` (S, S) is the mean log10 power with the frequency 0 in the middle; `share_high` is the mean part of the
    power above 0.25 cycles a pixel.
    """

    name: str
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    plane: np.ndarray
    share_high: Metric
    n: int


def power_of(pixels_SSC: np.ndarray) -> np.ndarray:
    """Return the power (S, S) of a square image's light, uint8 (S, S, 3), frequency 0 in the middle.

    The mean is taken off and a Hann window laid over, so that the image's edges make no cross of their own.
    """
    light = pixels_SSC.astype(np.float64) @ np.array(LUMA) / 255
    size = len(light)
    window = np.hanning(size + 2)[1:-1]
    window_SS = np.outer(window, window)
    light = (light - (light * window_SS).sum() / window_SS.sum()) * window_SS
    return np.abs(np.fft.fftshift(np.fft.fft2(light))) ** 2 / (window_SS ** 2).sum()


def frequencies(size: int) -> np.ndarray:
    """Return the frequency (S, S) of each place of `power_of`, in cycles a pixel: 0 in the middle, 0.5 at the sides."""
    along = np.fft.fftshift(np.fft.fftfreq(size))
    return np.hypot(along[:, None], along[None])


def rings(size: int) -> np.ndarray:
    """Return the middle frequency (K,) of each ring, in cycles a pixel, from 1 / size to 0.5."""
    return np.arange(1, size // 2 + 1) / size


def radial(power_SS: np.ndarray) -> np.ndarray:
    """Return the mean power (K,) on each ring around the middle; corners beyond 0.5 cycles a pixel are left out."""
    size = len(power_SS)
    ring = np.rint(frequencies(size) * size).astype(int).ravel()
    inside = (ring >= 1) & (ring <= size // 2)
    sums = np.bincount(ring[inside], power_SS.ravel()[inside], size // 2 + 1)
    return (sums / np.maximum(np.bincount(ring[inside], minlength=size // 2 + 1), 1))[1:]


def high_share(power_SS: np.ndarray) -> float:
    """Return the part of the power above 0.25 cycles a pixel; NaN for an image of one colour."""
    total = power_SS.sum()
    return float(power_SS[frequencies(len(power_SS)) > HIGH].sum() / total) if total > FAINT else float("nan")


class SpectrumGatherer:
    """Adds the spectra of a group up, one image at a time."""

    def __init__(self, name: str, size: int) -> None:
        self.name, self.plane = name, np.zeros((size, size))
        self.profiles: list[np.ndarray] = []
        self.shares: list[float] = []

    def add(self, pixels_SSC: np.ndarray) -> None:
        """Count one image, uint8 (S, S, 3)."""
        power = power_of(pixels_SSC)
        self.plane += np.log10(power + FAINT)
        self.profiles.append(np.log10(radial(power) + FAINT))
        self.shares.append(high_share(power))

    def result(self) -> Spectrum:
        """Return the mean spectrum. Raises ValueError without an image."""
        if not self.profiles:
            raise ValueError("no image was added")
        columns = np.array([t_interval(values) for values in np.array(self.profiles).T]).T
        return Spectrum(self.name, *columns, self.plane / len(self.profiles), mean_metric(self.shares), len(self.profiles))


def said(found: Mapping[str, Spectrum], real: str = "real") -> list[str]:
    """Return what the high frequencies say of each generator against the photographs, one sentence each."""
    base = found.get(real)
    if base is None or base.share_high.value is None:
        return []
    lines = []
    for name, one in found.items():
        if name == real or one.share_high.value is None or one.share_high.low is None or base.share_high.low is None:
            continue
        apart = one.share_high.low > base.share_high.high or one.share_high.high < base.share_high.low
        word = "less" if one.share_high.value < base.share_high.value else "more"
        numbers = f"{100 * one.share_high.value:.2f} % of their power, against {100 * base.share_high.value:.2f} %"
        lines.append(f"{name}: {word} high frequencies than the real images ({numbers}). That may be the generator, and may be "
                     "how the files were resized or compressed." if apart else
                     f"{name}: no clear difference in high frequencies from the real images ({numbers}).")
    return lines
