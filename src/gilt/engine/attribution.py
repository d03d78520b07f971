"""Maps of single images: the class-activation methods of the grad-cam package, and occlusion, our own small loop.

A map says how much each place speaks for one class. The score that it explains is the log of that class's odds: its logit
less the log-sum-exp of the others', so with two classes "real" and "generated" are each other's opposite.

Shapes: B batch, C classes, H W pixels.
"""
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from gilt.engine.degrade import blur
from gilt.engine.frozen import device_of
from gilt.errors import ConfigError, MissingExtraError, ModelError
from gilt.evaluation.explanation import SPOKEN, ExplainConfig
from gilt.models.classifier import Classifier, pairs
from gilt.models.fitted import SvmHead
from gilt.models.maps import MapLayer, map_layers
from gilt.models.metadata import Metadata

CELLS = 8  # occlusion's patches along a side
LOCAL = "the gradient of an SVM's bells is local: for images far from its edge it says little, and often nothing"
BLUR = 16  # the image's side over this is the deviation, in pixels, of a blur that leaves no detail


class Mapper:
    """Draws maps of a classifier's images by one method. `note` says where the method is not the one asked for, and why.

    `layer` is the layer read, None for occlusion; `grid` how many places a map has before it is stretched over the image.
    Raises ModelError (a network without pixels, a layer that has no map, a method that it does not allow), ConfigError (a patch
    larger than the image) and MissingExtraError (the grad-cam package).
    """

    def __init__(self, classifier: Classifier, settings: ExplainConfig) -> None:
        if isinstance(classifier.network, Metadata):
            raise ModelError("the network 'metadata' sees no pixels: there is no place in an image that it could look at")
        self.classifier, self.settings = classifier, settings
        self.size = classifier.preprocessing.size
        self.note = ""
        self.layer: MapLayer | None = None
        self.method = self._chosen()
        self.patch = settings.patch or math.ceil(self.size / CELLS)
        if self.patch > self.size:
            raise ConfigError(f"patch={self.patch} is larger than the images ({self.size} pixels)")
        starts = len(_starts(self.size, self.patch))
        self.grid = self.layer.grid if self.layer else (starts, starts)

    def _chosen(self) -> str:
        """Return the method to use; picks the layer on the way."""
        method, named = self.settings.method, self.settings.layer
        if method == "occlusion":
            if named:
                raise ConfigError(f"occlusion reads no layer: leave out the layer {named!r}, or choose another method")
            return method
        layers = map_layers(self.classifier.network, self.size, device_of(self.classifier.network))
        why = layers.why_none or ("" if method == "eigencam" else layers.why_flat)
        weak = LOCAL if any(isinstance(layer, SvmHead) for layer in self.classifier.network.modules()) else ""
        if (why or weak) and method == "auto" and not named:
            self.note = f"occlusion in place of Grad-CAM: {why or weak}"
            return "occlusion"
        if why and not layers.why_none:
            raise ModelError(f"{why}, and {SPOKEN['gradcam' if method == 'auto' else method]} needs one: choose the method "
                             "'occlusion' or 'eigencam'")
        self.layer = layers.pick(named)
        _package()
        return "gradcam" if method == "auto" else method

    def maps(self, images_BCHW: torch.Tensor, places_B: np.ndarray) -> np.ndarray:
        """Return maps float32 (B, H, W), the largest value of each 1 (0 of an empty one), of the classes at `places_B`."""
        if self.layer is None:
            maps = torch.stack([self._occluded(image, int(place)) for image, place in zip(images_BCHW, places_B, strict=True)])
            return _scaled(maps.cpu().numpy())
        return _scaled(self._cam(images_BCHW, places_B))

    def _cam(self, images_BCHW: torch.Tensor, places_B: np.ndarray) -> np.ndarray:
        network = _Paired(self.classifier.network).eval()
        kind = _kinds()[self.method]
        cam = kind(network, [self.layer.module], reshape_transform=self.layer.arranged)
        targets = [_odds(int(place)) for place in places_B]
        try:
            with torch.enable_grad(), np.errstate(all="ignore"):
                return cam(images_BCHW.detach().clone().requires_grad_(), targets)
        finally:
            cam.activations_and_grads.release()
            network.zero_grad(set_to_none=True)

    @torch.inference_mode()
    def _occluded(self, image_CHW: torch.Tensor, place: int) -> torch.Tensor:
        """Return (H, W): by how much the score falls, on the mean, when a patch over the place is hidden; 0 where it rises."""
        fill_CHW = _filled(image_CHW, self.settings.fill)
        starts = _starts(self.size, self.patch)
        corners = [(top, left) for top in starts for left in starts]
        odds = _odds(place)
        whole = odds(self.classifier.logits(image_CHW[None])[0])
        falls = image_CHW.new_zeros(self.size, self.size)
        covered = torch.zeros_like(falls)
        for first in range(0, len(corners), 4 * self.settings.batch):
            piece = corners[first:first + 4 * self.settings.batch]
            batch = image_CHW.repeat(len(piece), 1, 1, 1)
            for hidden, (top, left) in zip(batch, piece, strict=True):
                hidden[:, top:top + self.patch, left:left + self.patch] = \
                    fill_CHW[:, top:top + self.patch, left:left + self.patch]
            scores = odds(self.classifier.logits(batch.contiguous(memory_format=torch.channels_last)).T)
            for (top, left), score in zip(piece, scores, strict=True):
                falls[top:top + self.patch, left:left + self.patch] += whole - score
                covered[top:top + self.patch, left:left + self.patch] += 1
        return (falls / covered).clamp_(min=0)


class _Paired(nn.Module):
    """A network whose single sigmoid output z stands as the pair (0, z)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        return pairs(self.network(images_BCHW).float())


def _odds(place: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return what takes logits (C, ...) to the log of the odds of the class at `place`."""
    def score(logits: torch.Tensor) -> torch.Tensor:
        others = torch.cat([logits[:place], logits[place + 1:]])
        return logits[place] - others.logsumexp(0)
    return score


def _starts(size: int, patch: int) -> list[int]:
    """Return where patches begin along a side: half a patch apart, the last one at the end."""
    return sorted({*range(0, size - patch, max(1, math.ceil(patch / 2))), size - patch})


def _filled(image_CHW: torch.Tensor, fill: str) -> torch.Tensor:
    if fill == "grey":
        return image_CHW.mean((1, 2), keepdim=True).expand_as(image_CHW)
    return blurred(image_CHW[None])[0]


def blurred(images_BCHW: torch.Tensor) -> torch.Tensor:
    """Return images without detail: a blur whose deviation is a sixteenth of the side."""
    return blur(images_BCHW, torch.full((len(images_BCHW),), images_BCHW.shape[-1] / BLUR))


def _scaled(maps_BHW: np.ndarray) -> np.ndarray:
    """Return maps without what is no number, the largest value of each 1."""
    maps = np.clip(np.nan_to_num(maps_BHW.astype(np.float32), posinf=0, neginf=0), 0, None)
    top = maps.max((1, 2), keepdims=True)
    return maps / np.where(top > 0, top, 1)


def stretched(maps_Bhw: np.ndarray, size: int) -> np.ndarray:
    """Return maps (B, h, w) stretched over (B, size, size), as those of a layer are."""
    tensor = torch.from_numpy(np.asarray(maps_Bhw, np.float32))[:, None]
    return F.interpolate(tensor, (size, size), mode="bilinear", align_corners=False)[:, 0].numpy()


def _package() -> Any:
    try:
        import pytorch_grad_cam
    except ImportError:
        raise MissingExtraError("grad-cam (needed for every method but 'occlusion')", "explain") from None
    return pytorch_grad_cam


def _kinds() -> dict[str, Any]:
    """Return the package's classes by the method's name."""
    package = _package()
    from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection_with_sign_correction

    class Eigen(package.EigenCAM):
        """EigenCAM whose component points to what stands out: its sign alone is arbitrary (Chung and Ying 2025)."""

        def get_cam_image(self, _images, _layer, _targets, activations, *_rest) -> np.ndarray:
            return get_2d_projection_with_sign_correction(activations)

    return {"gradcam": package.GradCAM, "gradcam++": package.GradCAMPlusPlus, "hirescam": package.HiResCAM, "eigencam": Eigen}
