"""Write a classifier as ONNX, for programs without torch; its card goes along, so gilt predicts from the file as from its own.

The file takes images_BCHW float32 in [0, 1], of any batch, and gives the network's logits (B, C), one for two classes behind a
sigmoid. It is tried before it is kept.
"""
import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gilt.errors import MissingExtraError, ModelError
from gilt.files import write_bytes
from gilt.models.classifier import Classifier, pairs
from gilt.models.metadata import Metadata
from gilt.models.onnx_file import check
from gilt.models.onnx_network import ONNX, OnnxNetwork, OnnxSettings, filled

INPUT, OUTPUT = "images", "logits"
TRIED = 8  # images that both must agree on
ALIKE = 1e-3  # the most that a probability may differ by


@dataclass(frozen=True)
class Exported:
    """What was written: where, how large, and the most that a probability differed by on `tried` random images."""

    path: Path
    bytes: int
    difference: float
    tried: int = TRIED


def export(classifier: Classifier, to: Path | str) -> Exported:
    """Write `classifier` to `to` as ONNX, preprocessing, classes and threshold in its metadata.

    Raises ModelError where the network cannot be written as a graph, or where what was written says something else than the
    network, and MissingExtraError without onnx, onnxscript and onnxruntime.
    """
    if isinstance(classifier.network, Metadata):
        raise ModelError("the network 'metadata' sees no pixel, only what a file says of itself: there is nothing to export")
    if isinstance(classifier.network, OnnxNetwork):
        raise ModelError(f"this classifier is an ONNX graph already ({classifier.provenance.get('weights_from', 'exported')})")
    model = _graph(classifier)
    check(model, Path(to).name)
    card = classifier.card | {"model": ONNX, "arguments": {}, "head": {}, "dropout": None, "provenance": {
        **classifier.provenance, "exported_from": classifier.model, "exported_arguments": classifier.arguments,
        **({"exported_head": classifier.head} if classifier.head else {})}}
    model.metadata_props.add(key="gilt", value=json.dumps(card))
    data = model.SerializeToString()
    difference = _difference(classifier, data)
    if not difference <= ALIKE:
        raise ModelError(f"the exported graph does not say what the network {classifier.model!r} says: a probability differs "
                         f"by {difference:.2g} on random images. Nothing was written")
    write_bytes(to, data)
    return Exported(Path(to), len(data), difference)


def _graph(classifier: Classifier) -> Any:
    """Return a network as a ModelProto, its batch free."""
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(error.name or "onnx", "onnx") from None
    network, size = classifier.network.eval(), classifier.preprocessing.size
    images = torch.rand(2, 3, size, size, device=next(_tensors(network)).device)
    with _quiet():
        try:
            program = torch.onnx.export(network, (images,), dynamo=True, verbose=False, input_names=[INPUT],
                                        output_names=[OUTPUT], dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
        except (torch.onnx.OnnxExporterError, RuntimeError, TypeError, ValueError) as error:
            head = f" with a head {classifier.head['kind']!r}" if classifier.head else ""
            raise ModelError(f"the network {classifier.model!r}{head} cannot be written as ONNX: {_first(error)}") from None
    return program.model_proto


def _tensors(network: nn.Module) -> Iterator[torch.Tensor]:
    yield from network.parameters()
    yield from network.buffers()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter from writing to the terminal: what goes wrong is raised."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _difference(classifier: Classifier, data: bytes) -> float:
    """Return the most that a probability of the graph differs from the network's, on images that differ in brightness."""
    size = classifier.preprocessing.size
    images = torch.rand(TRIED, 3, size, size, generator=torch.Generator().manual_seed(0))
    images *= torch.linspace(0.1, 1, TRIED)[:, None, None, None]
    written = filled(OnnxSettings(), data, outputs=classifier.outputs, size=size)
    wanted = classifier.logits(images.to(next(_tensors(classifier.network)).device)).cpu()
    return float((pairs(written(images)).softmax(1) - wanted.softmax(1)).abs().max())


def _first(error: BaseException) -> str:
    """Return the innermost reason that an exporter gives, as one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (next((line.strip() for line in str(error).splitlines() if line.strip()), "") or type(error).__name__)[:200]
