"""`OnnxNetwork`: an ONNX graph as a network of a classifier, so that all that takes a classifier takes it.

The graph is a tensor of bytes among the others of a classifier's file: a detector stays one safetensors file. It computes on
the CPU, by onnxruntime, on as many threads as torch has.

Shapes: B batch, H W pixels, D features, C classes.
"""
import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from gilt.errors import ConfigError, MissingExtraError, ModelError, listed
from gilt.models.onnx_file import check, parsed, read_onnx, scales_by_batch
from gilt.settings import Above0, Config, Count, parse

ONNX = "onnx"  # the name of the network in a classifier's card
LEAST = 1e-7  # what a probability of 0 is taken for: its logarithm is a logit
# what onnxruntime raises; each is an Exception of its own
RAISED = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NotImplemented", "RuntimeException", "NoSuchFile",
          "EPFail", "EngineError", "NoModel", "ModelLoaded", "NotFound", "ModelRequiresCompilation")
Colours = tuple[float, float, float]


class OnnxSettings(Config):
    """How images go into a graph and what comes out.

    A pixel in [0, 1] is multiplied by `scale`, `mean` is subtracted, and it is divided by `deviation`; `colours` and `layout`
    are the order of the numbers. `kind` says what the output (`output`, or the graph's first) is: logits, probabilities, or an
    embedding that a dense layer of `features` inputs turns into logits, brought to length one before where `unit` says so.
    `batch` images at a time (0: as many as come).
    """

    input: str = ""
    output: str = ""
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    colours: Literal["RGB", "BGR"] = "RGB"
    scale: Above0 = 1.0
    mean: Colours = (0.0, 0.0, 0.0)
    deviation: tuple[Above0, Above0, Above0] = (1.0, 1.0, 1.0)
    kind: Literal["logits", "probability", "embedding"] = "logits"
    unit: bool = False
    features: Count = 0
    batch: Count = 0


class OnnxNetwork(nn.Module):
    """An ONNX graph that takes images_BCHW in [0, 1] and returns logits: one for two classes, a sigmoid's, or one a class."""

    def __init__(self, settings: OnnxSettings, outputs: int, size: int, *, length: int) -> None:
        super().__init__()
        self.settings, self.outputs, self.size = settings, outputs, size
        self.register_buffer("graph", torch.zeros(length, dtype=torch.uint8))
        if settings.kind == "embedding":
            self.head = nn.Linear(settings.features, outputs)
        self._session: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_session": None}  # a session cannot be copied; it is made again

    @property
    def session(self) -> "Session":
        """The graph, ready to run. Raises ModelError where onnxruntime refuses it."""
        if self._session is None:
            self._session = Session(self.graph.cpu().numpy().tobytes(), self.settings, self.size)
        return self._session

    @torch.no_grad()
    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        out = torch.from_numpy(self.session.run(self._pixels(images_BCHW))).to(images_BCHW.device)
        if self.settings.kind == "embedding":
            return self.head(F.normalize(out, dim=1) if self.settings.unit else out)
        if out.shape[1] != self.outputs:
            raise ModelError(f"the graph's output has {out.shape[1]} numbers an image, not {self.outputs}: its description "
                             "names other classes, or another output")
        if self.settings.kind == "probability":
            out = out.clamp(LEAST, 1 - LEAST)
            return torch.logit(out) if self.outputs == 1 else out.log()
        return out

    def _pixels(self, images_BCHW: torch.Tensor) -> np.ndarray:
        known = self.settings
        mean, deviation = (torch.tensor(values, device=images_BCHW.device)[:, None, None]
                           for values in (known.mean, known.deviation))
        pixels = (images_BCHW.float() * known.scale - mean) / deviation
        pixels = pixels.flip(1) if known.colours == "BGR" else pixels
        return (pixels.permute(0, 2, 3, 1) if known.layout == "NHWC" else pixels).contiguous().cpu().numpy()


class Session:
    """A checked graph in onnxruntime, fed in batches of the size that it takes."""

    def __init__(self, graph: bytes, settings: OnnxSettings, size: int) -> None:
        runtime = _runtime()
        model = parsed(graph, "the graph")
        check(model, "the graph")
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
        options.log_severity_level = 4  # what goes wrong is raised, in words of ours
        with _worded("onnxruntime cannot take the graph"):
            self.session = runtime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        inputs, outputs = self.session.get_inputs(), [one.name for one in self.session.get_outputs()]
        self.input = _named(settings.input, [one.name for one in inputs], "input", "takes")
        self.output = _named(settings.output, outputs, "output", "gives")
        taken = next(one for one in inputs if one.name == self.input)
        self.kind = {"tensor(float)": np.float32, "tensor(float16)": np.float16}.get(taken.type)
        shape = (0, 3, size, size) if settings.layout == "NCHW" else (0, size, size, 3)
        if self.kind is None or len(taken.shape) != 4 or any(
                isinstance(own, int) and own != wanted for own, wanted in zip(taken.shape[1:], shape[1:], strict=False)):
            raise ModelError(f"the graph takes {taken.type} of the shape {taken.shape}, not floats of {list(shape[1:])} an "
                             "image: the input's size or layout in its description is another's")
        fixed = taken.shape[0] if isinstance(taken.shape[0], int) else 0
        # where the numbers' scale is taken from the whole batch, an image alone is the only one that always says the same
        self.batch, self.fixed = fixed or settings.batch or int(scales_by_batch(model)), fixed

    def run(self, pixels: np.ndarray) -> np.ndarray:
        """Return float32 (B, D): the graph's output for pixels of B images."""
        step, parts = self.batch or max(1, len(pixels)), []
        for first in range(0, len(pixels), step):
            part = pixels[first:first + step].astype(self.kind)
            real = len(part)
            if self.fixed > real:
                part = np.concatenate([part, np.zeros((self.fixed - real, *part.shape[1:]), part.dtype)])
            with _worded("the graph cannot be run"):
                out = np.asarray(self.session.run([self.output], {self.input: part})[0], np.float32)
            if out.ndim == 0 or len(out) != len(part):
                raise ModelError(f"the graph's output {self.output!r} has the shape {list(out.shape)} for {len(part)} images: "
                                 "it is no row an image")
            parts.append(out[:real].reshape(real, -1))
        return np.concatenate(parts)


@contextlib.contextmanager
def _worded(what: str) -> Iterator[None]:
    """Turn what onnxruntime raises into a ModelError of one line."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    kinds = tuple(getattr(state, name) for name in RAISED if hasattr(state, name))
    try:
        yield
    except (*kinds, ValueError, RuntimeError) as error:
        raise ModelError(f"{what}: {' '.join(str(error).split())[:240]}") from None


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtraError("onnxruntime", "onnx") from None
    return onnxruntime


def _named(wanted: str, names: list[str], what: str, does: str) -> str:
    if wanted and wanted not in names:
        raise ModelError(f"the graph has no {what} {wanted!r} ({does}: {listed(names)})")
    if not wanted and what == "input" and len(names) != 1:
        raise ModelError(f"the graph takes {len(names)} inputs ({listed(names)}): only those of images alone are taken")
    return wanted or names[0]


def onnx_network(arguments: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], *, outputs: int, size: int) -> OnnxNetwork:
    """Return the empty network that a card describes, as long as the file's graph. Raises ModelError where they do not fit."""
    graph = tensors.get("graph")
    if graph is None or graph.dtype != torch.uint8 or graph.ndim != 1:
        raise ModelError("it holds no ONNX graph")
    try:
        settings = parse(OnnxSettings, dict(arguments), where="the ONNX graph's settings")
    except ConfigError as error:
        raise ModelError(str(error)) from None
    head = tensors.get("head.weight")
    if settings.kind == "embedding" and (head is None or tuple(head.shape) != (outputs, settings.features)):
        raise ModelError("the dense layer behind its embedding is missing, or of another size than its card says")
    return OnnxNetwork(settings, outputs, size, length=len(graph))


def read_exported(path: Path | str, format_: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return the card and the tensors of an ONNX file that `gilt export` wrote. Raises ModelError for any other file."""
    graph = read_onnx(path)
    said = {entry.key: entry.value for entry in parsed(graph, path).metadata_props}
    try:
        card = json.loads(said.get("gilt", "null"))
    except ValueError:
        card = None
    if not isinstance(card, dict) or card.get("format") != format_ or card.get("model") != ONNX:
        raise ModelError(f"{path} is ONNX without a word of gilt's on what goes in and what comes out: write that into a "
                         "description, FILE.toml, and make a detector of it with gilt adopt FILE.toml -o FILE.safetensors")
    return card, {"graph": bytes_of(graph)}


def bytes_of(graph: bytes) -> torch.Tensor:
    """Return a graph as a tensor uint8 (n,)."""
    return torch.frombuffer(bytearray(graph), dtype=torch.uint8)


def filled(settings: OnnxSettings, graph: bytes, *, outputs: int, size: int,
           head: tuple[np.ndarray, np.ndarray] | None = None) -> OnnxNetwork:
    """Return a network with a graph in it; `head` is the weights (outputs, D) and the bias (outputs,) behind an embedding."""
    if settings.kind == "embedding":
        if head is None:
            raise ModelError("an embedding needs the file of a dense layer behind it: name one as output.head")
        settings = settings.model_copy(update={"features": int(head[0].shape[1])})
    network = OnnxNetwork(settings, outputs, size, length=len(graph))
    network.graph.copy_(bytes_of(graph))
    if settings.kind == "embedding":
        weight, bias = (torch.from_numpy(np.array(values, np.float32)) for values in head)
        if weight.shape != network.head.weight.shape or bias.shape != network.head.bias.shape:
            raise ModelError(f"the dense layer behind the embedding has weights {list(weight.shape)} and bias "
                             f"{list(bias.shape)}, not [{outputs}, D] and [{outputs}]")
        with torch.no_grad():
            network.head.weight.copy_(weight)
            network.head.bias.copy_(bias)
    return network.eval()
