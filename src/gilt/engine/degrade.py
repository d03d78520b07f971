"""What happens to pictures on their way: blur and JPEG, for a whole batch at a time.

Shapes: images_BCHW float in [0, 1]; M blocks of 8x8 pixels, as 64 numbers. A detector that has seen neither takes a
recompressed photograph for something else (Wang et al. 2020, arXiv:1912.11035).
"""
import functools
import math

import torch
from torch.nn import functional as F

REACH = 4  # standard deviations after which a blur's weights are taken for nothing, as in SciPy
# ITU-T T.81, annex K: the quantisation tables that libjpeg, and so Pillow, scales by the quality
LIGHT = (16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51,
         87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101,
         72, 92, 95, 98, 112, 100, 103, 99)
COLOUR = (17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99,
          99, 99, 99, *[99] * 32)
# JFIF: light, and the two differences of colour, of red, green and blue
YCC = ((0.299, 0.587, 0.114), (-0.168735892, -0.331264108, 0.5), (0.5, -0.418687589, -0.081312411))


def blur(images_BCHW: torch.Tensor, deviations_B: torch.Tensor) -> torch.Tensor:
    """Blur each image by a Gaussian with its own standard deviation in pixels; the border is repeated.

    A blur is one matrix a direction, (B, H, H) and (B, W, W), the border included: as quick for a wide one as for a narrow one.
    """
    planes = images_BCHW.contiguous()
    down, across = (_blur_matrices(deviations_B, side).to(images_BCHW.device) for side in images_BCHW.shape[2:])
    planes = (planes.flatten(1, 2) @ across.mT).view_as(planes)
    return (down[:, None] @ planes).clamp_(0, 1).contiguous(memory_format=torch.channels_last)


def _blur_matrices(deviations_B: torch.Tensor, side: int) -> torch.Tensor:
    """Return float32 (B, side, side): row i holds the weights that pixel i of a blurred line takes from the line."""
    deviations = deviations_B.double().clamp(min=1e-3)[:, None]
    reach = math.ceil(REACH * float(deviations.max()) + 0.5)
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (offsets / deviations) ** 2) * (offsets.abs() <= (REACH * deviations + 0.5).floor())
    weights = weights / weights.sum(1, keepdim=True)
    sources = (torch.arange(side)[:, None] + offsets.long()).clamp_(0, side - 1)  # beyond the border: the border
    matrices = torch.zeros(len(deviations), side, side, dtype=torch.float64)
    matrices.scatter_add_(2, sources.expand(len(deviations), -1, -1), weights[:, None].expand(-1, side, -1))
    return matrices.float()


def jpeg(images_BCHW: torch.Tensor, qualities_B: torch.Tensor) -> torch.Tensor:
    """Return each image as it comes back from a JPEG of its own quality (1 to 100), colour at half size (4:2:0).

    All of the format's losses and none of its file: colour, halving, 8x8 cosine transform, quantisation, and back.
    """
    height, width = images_BCHW.shape[2:]
    device = images_BCHW.device
    padded = F.pad(images_BCHW, (0, -width % 16, 0, -height % 16), mode="replicate")
    to_ycc = torch.tensor(YCC, device=device)
    ycc = torch.einsum("kc,bchw->bkhw", to_ycc, (padded * 255).round_()).round_()
    light, colour = ycc[:, :1] - 128, F.avg_pool2d(ycc[:, 1:], 2)
    colour = (colour + torch.tensor((0.25, 0.5), device=device).repeat(colour.shape[3] // 2)).floor_()  # as libjpeg rounds
    light = _through(light, _tables(LIGHT, qualities_B, device))[:, :, :height, :width]
    colour = _through(colour, _tables(COLOUR, qualities_B, device))[:, :, :(height + 1) // 2, :(width + 1) // 2]
    # libjpeg's "fancy upsampling" is bilinear
    colour = F.interpolate(colour, scale_factor=2, mode="bilinear", align_corners=False)[:, :, :height, :width]
    back = torch.einsum("kc,bchw->bkhw", to_ycc.double().inverse().float(), torch.cat((light + 128, colour), 1))
    return back.round_().clamp_(0, 255).div_(255).contiguous(memory_format=torch.channels_last)


def _tables(base: tuple[int, ...], qualities_B: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return float32 (B, 1, 64): what each coefficient is divided by before it is rounded."""
    qualities = qualities_B.double()[:, None]
    scale = torch.where(qualities < 50, (5000 / qualities).floor(), 200 - 2 * qualities)
    tables = ((torch.tensor(base, dtype=torch.float64) * scale + 50) / 100).floor().clamp(1, 255)
    return tables[:, None].float().to(device)


def _through(planes_BKHW: torch.Tensor, tables_B1Q: torch.Tensor) -> torch.Tensor:
    """Return planes (values -128 to 127) after transform, quantisation and the way back."""
    count, kinds, height, width = planes_BKHW.shape
    cosines = _cosines().to(planes_BKHW.device)
    blocks = planes_BKHW.reshape(count, kinds, height // 8, 8, width // 8, 8).transpose(3, 4).reshape(count, -1, 64)
    blocks = ((blocks @ cosines.T / tables_B1Q).round_() * tables_B1Q) @ cosines
    planes = blocks.view(count, kinds, height // 8, width // 8, 8, 8).transpose(3, 4).reshape(planes_BKHW.shape)
    return planes.round_().clamp_(-128, 127)


@functools.cache
def _cosines() -> torch.Tensor:
    """Return float32 (64, 64): the two-dimensional cosine transform of 8x8 pixels as one orthogonal matrix."""
    places, waves = torch.arange(8, dtype=torch.float64), torch.arange(8, dtype=torch.float64)[:, None]
    one = torch.cos((2 * places + 1) * waves * torch.pi / 16) / 2
    one[0] /= 2 ** 0.5
    return torch.kron(one, one).float()
