"""The InceptionV3 that FID and KID are defined on, as torch-fidelity computes it, from a local file of its weights.

Shapes: B batch, H W pixels, 2048 features.
"""
import io
import os
from pathlib import Path

import torch
from torch import nn

from gilt.errors import MissingExtraError, ModelError
from gilt.models.weights import check_digits, read_weights

NAME = "inception-fid"
SIDE = 299  # pixels that the network resizes every image to, by itself
FEATURES = 2048
PUBLISHED = "weights-inception-2015-12-05-6726825d.pth, of torch-fidelity's releases"


class Inception(nn.Module):
    """images_BCHW in [0, 1] of any size to features (B, 2048), then to one meaningless logit that stands in for a last layer.

    The resizing is TensorFlow 1's, without anti-aliasing: it is part of the definition of FID.
    """

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body, self.head = body, nn.Linear(FEATURES, 1)

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        return self.head(self.body((255 * images_BCHW).round().to(torch.uint8))[0])


def inception(weights: Path | str) -> Inception:
    """Return the network with the weights of a file. The file is read without running any code in it.

    Raises MissingExtraError without torch-fidelity, ModelError where the file is missing, damaged or of another network.
    """
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError:
        raise MissingExtraError("torch-fidelity", "fidelity") from None
    path = Path(weights)
    if not path.is_file():
        raise ModelError(f"weights {path} do not exist: features.weights names {PUBLISHED}")
    state = read_weights(path)
    check_digits(path)
    safe = io.BytesIO()  # torch-fidelity unpickles whatever it is given: it is given tensors that were read safely
    torch.save(state, safe)
    safe.seek(os.SEEK_SET)
    try:
        body = FeatureExtractorInceptionV3("inception-v3-compat", [str(FEATURES)], feature_extractor_weights_path=safe)
    except RuntimeError:
        raise ModelError(f"weights {path} do not fit {NAME}: it takes {PUBLISHED}") from None
    return Inception(body)
