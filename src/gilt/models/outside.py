"""Detectors from outside: a description says where the network is, what goes in and what comes out; it becomes a classifier.

A description is a TOML file, or one that gilt brings along (`known_detectors`). The network is one by name with published
weights (on a hub, or in a file), or an ONNX graph. No code of theirs is run.
"""
import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from pydantic import model_validator
from torch import nn

import gilt
from gilt.config import GENERATED, REAL, Preprocessing
from gilt.errors import ModelError, listed, near
from gilt.files import read_toml
from gilt.models.classifier import Classifier
from gilt.models.features import head_of
from gilt.models.onnx_file import read_onnx
from gilt.models.onnx_network import ONNX, Colours, OnnxSettings, Session, filled
from gilt.models.weights import load_weights, read_weights
from gilt.models.zoo import create
from gilt.settings import Above0, Config, Count, Names, Size, parse
from gilt.training import Calibration, named_weights

Head = tuple[np.ndarray, np.ndarray]  # weights (C, D) and bias (C,)


class NetworkSource(Config):
    """Where the network is: `onnx`, a file; or `model`, a network by name, with `weights` (a file, `pretrained`, `hf:...`)."""

    onnx: str = ""
    model: str = ""
    arguments: dict[str, Any] = {}
    weights: str = ""
    batch: Count = 0  # images at a time, of an ONNX graph whose answers hang on that; 0: as many as come

    @model_validator(mode="after")
    def _one(self) -> Self:
        if bool(self.onnx) == bool(self.model):
            raise ValueError("name a file as onnx, or a network as model (gilt models lists them): one of the two")
        if bool(self.model) != bool(self.weights) or (self.onnx and self.arguments) or (self.model and self.batch):
            raise ValueError("weights and arguments belong to model, and a model needs weights; batch belongs to onnx")
        return self


class InputSource(Config):
    """What goes in: `size`, `fit`, `shortest`, `resample` as `Preprocessing` has them; then the numbers, as `OnnxSettings`."""

    size: Size
    fit: Literal["stretch", "crop"] = "stretch"
    shortest: Size | None = None
    resample: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"
    mean: Colours | None = None  # None: the network's own; of an ONNX graph 0 and 1
    deviation: tuple[Above0, Above0, Above0] | None = None
    scale: Above0 = 1.0
    colours: Literal["RGB", "BGR"] = "RGB"
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    name: str = ""

    @property
    def preprocessing(self) -> Preprocessing:
        """How a file becomes pixels."""
        return Preprocessing(size=self.size, resample=self.resample, fit=self.fit, shortest=self.shortest)


class OutputSource(Config):
    """What comes out: logits (one is a sigmoid's), probabilities, or an embedding with a dense layer, in the file `head`."""

    kind: Literal["logits", "probability", "embedding"] = "logits"
    unit: bool = False  # the embedding is brought to length one
    head: str = ""
    name: str = ""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.kind == "embedding") != bool(self.head):
            raise ValueError("an embedding needs the file of a dense layer as head, and nothing else has one")
        return self


class Outside(Config):
    """A detector from outside. `classes` are in the order of the outputs; of a single one, the second is what 1 means."""

    about: str
    source: str = ""
    licence: str = ""
    files: str = ""  # where to get them
    unverified: Names = ()  # what could not be checked against the published code or weights
    classes: Names
    network: NetworkSource
    input: InputSource
    output: OutputSource = OutputSource()
    calibration: Calibration | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(set(self.classes)) != len(self.classes) or len(self.classes) < 2 or REAL not in self.classes:
            raise ValueError(f"classes: {REAL!r}, and {GENERATED!r} or the names of generators, in the order of the outputs")
        plain = InputSource(size=1)
        if self.network.model and (self.output.unit or self.output.kind == "probability" or self.output.name or any(
                getattr(self.input, name) != getattr(plain, name) for name in ("scale", "colours", "layout", "name"))):
            raise ValueError("scale, colours, layout, names, unit and probabilities are said of an ONNX graph; a network by "
                             "name takes images in [0, 1] and gives logits")
        return self


@dataclass(frozen=True)
class Found:
    """A description with its name, and the folder that its files are sought in."""

    name: str
    detector: Outside
    folder: Path

    def path(self, file: str) -> Path:
        """Return where a file that it names is: as it says, or straight in the folder. Raises ModelError where it is not."""
        for path in (self.folder / file, self.folder / Path(file).name):
            if path.is_file():
                return path
        where = f" Get it from {self.detector.files}, and" if self.detector.files else " Fetch it, and"
        raise ModelError(f"detector {self.name!r} needs the file {file}, and {self.folder} has none.{where} name its folder "
                         "with --files")


@functools.cache
def known_detectors() -> dict[str, Outside]:
    """Return the descriptions that gilt brings along, by name."""
    folder = resources.files("gilt").joinpath("models", "detectors")
    texts = {Path(entry.name).stem: entry for entry in folder.iterdir() if entry.name.endswith(".toml")}
    with resources.as_file(folder) as place:
        return {name: parse(Outside, read_toml(place / f"{name}.toml"), where=name) for name in sorted(texts)}


def described(detector: Path | str, files: Path | str | None = None) -> Found:
    """Return a description: a TOML file, or a known one by name; `files` is the folder of its files (default: the TOML's).

    Raises ModelError where there is none of this name, ConfigError where the file does not parse.
    """
    path = Path(detector)
    if path.suffix == ".toml" or path.is_file():
        found = parse(Outside, read_toml(path), where=str(path))
        return Found(path.stem, found, Path(files) if files else path.parent)
    known = known_detectors()
    if str(detector) not in known:
        raise ModelError(f"no detector {str(detector)!r} (there are: {listed(known)}; or a description, FILE.toml)."
                         f"{near(str(detector), known)}")
    return Found(str(detector), known[str(detector)], Path(files) if files else Path())


def adopt_detector(detector: Path | str, *, files: Path | str | None = None, weights: str | None = None) -> Classifier:
    """Return a detector from outside as a classifier: a description (TOML), or one that gilt knows by name.

    `files` is the folder that its files lie in; `weights` replaces where the description takes them from. Weights by name are
    fetched from their hub where no cache has them. Raises ModelError where a file is missing, refused, or does not fit.
    """
    found = described(detector, files)
    make = _from_onnx if found.detector.network.onnx else _from_name
    network, outputs, arguments, sources = make(found, weights)
    if (outputs, len(found.detector.classes)) != (1, 2) and outputs != len(found.detector.classes):
        raise ModelError(f"detector {found.name!r} gives {outputs} numbers an image, and its description names "
                         f"{len(found.detector.classes)} classes: {listed(found.detector.classes)}")
    told = found.detector.model_dump(include={"about", "source", "licence", "unverified"}, exclude_defaults=True)
    provenance = {"gilt": gilt.__version__, "trained": "elsewhere", "detector": found.name,
                  **{key: list(value) if isinstance(value, tuple) else value for key, value in told.items()}, **sources}
    return Classifier(network.eval(), found.detector.network.model or ONNX, tuple(found.detector.classes), "origin",
                      found.detector.input.preprocessing, outputs, arguments=arguments, provenance=provenance,
                      calibration=found.detector.calibration)


def _from_onnx(found: Found, weights: str | None) -> tuple[nn.Module, int, dict[str, Any], dict[str, str]]:
    """Return the network, how many logits it gives, its settings, and the SHA-256 of its files."""
    known = found.detector
    path = Path(weights) if weights else found.path(known.network.onnx)
    graph = read_onnx(path)
    settings = OnnxSettings(
        input=known.input.name, output=known.output.name, layout=known.input.layout, colours=known.input.colours,
        scale=known.input.scale, mean=known.input.mean or (0, 0, 0), deviation=known.input.deviation or (1, 1, 1),
        kind=known.output.kind, unit=known.output.unit, batch=known.network.batch)
    sources = {"weights": hashlib.sha256(graph).hexdigest(), "weights_from": path.name}
    width, head = _width(graph, settings, known.input.size), None
    if known.output.head:
        head, digest = _head(found.path(known.output.head))
        sources |= {"head": digest, "head_from": Path(known.output.head).name}
        if head[0].shape[1] != width:
            raise ModelError(f"the graph {path} gives {width} numbers an image, and the dense layer {known.output.head} takes "
                             f"{head[0].shape[1]}: they do not belong together")
        width = len(head[0])
    network = filled(settings, graph, outputs=width, size=known.input.size, head=head)
    return network, width, network.settings.model_dump(mode="json", exclude_defaults=True), sources


def _width(graph: bytes, settings: OnnxSettings, size: int) -> int:
    """Return how many numbers an image a graph gives: found by trying it on a grey one."""
    session = Session(graph, settings, size)
    shape = (1, 3, size, size) if settings.layout == "NCHW" else (1, size, size, 3)
    return session.run(np.full(shape, 0.5, np.float32)).shape[1]


def _from_name(found: Found, weights: str | None) -> tuple[nn.Module, int, dict[str, Any], dict[str, str]]:
    known, given = found.detector, weights or found.detector.network.weights
    colours = {name: list(value) for name in ("mean", "deviation") if (value := getattr(known.input, name))}
    arguments = {**known.network.arguments, **colours}
    outputs = 1 if len(known.classes) == 2 else len(known.classes)
    network = create(known.network.model, outputs=outputs, input_size=known.input.size, arguments=arguments)
    path = given if named_weights(given) or weights else found.path(given)
    digest = load_weights(network, path, model=known.network.model, whole=not known.output.head)
    sources = {"weights": digest, "weights_from": given if named_weights(given) else Path(path).name}
    if known.output.head:
        (weight, bias), digest = _head(found.path(known.output.head))
        layer = head_of(network)[1]
        if layer.weight.shape != weight.shape:
            raise ModelError(f"the dense layer {known.output.head} has weights {list(weight.shape)}, and the network takes "
                             f"{list(layer.weight.shape)}: they do not belong together")
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(weight))
            layer.bias.copy_(torch.from_numpy(bias))
        sources |= {"head": digest, "head_from": Path(known.output.head).name}
    return network, outputs, arguments, sources


def _head(path: Path) -> tuple[Head, str]:
    """Return the dense layer in a file, and the file's SHA-256: JSON with weights and bias, safetensors, or a state dict."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if path.suffix == ".json":
        try:
            values = json.loads(path.read_text())
        except ValueError as error:
            raise ModelError(f"{path} is not JSON: {error}") from None
    else:
        values = {name.rpartition(".")[2]: tensor.float().numpy() for name, tensor in read_weights(path).items()}
    return _dense(values if isinstance(values, Mapping) else {}, path), digest


def _dense(values: Mapping[str, Any], path: Path) -> Head:
    try:
        held = next(values[name] for name in ("weight", "weights", "coef") if name in values)
        weight = np.atleast_2d(np.asarray(held, float))
        bias = np.atleast_1d(np.asarray(next((values[name] for name in ("bias", "intercept") if name in values), 0.0), float))
        fits = weight.ndim == 2 and bias.shape == (len(weight),) and np.isfinite(weight).all() and np.isfinite(bias).all()
    except (StopIteration, ValueError, TypeError):
        fits = False
    if not fits or not weight.any():
        raise ModelError(f"{path} holds no dense layer: a list `weights` (D numbers, or one list an output) and a `bias`, "
                         "or a state dict with weight and bias, all finite and not all 0")
    return weight.astype(np.float32), bias.astype(np.float32)
