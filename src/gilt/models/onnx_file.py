"""ONNX files: read as data, checked before anything computes with them, and made one piece. Nothing here runs a graph.

A graph is computation: it may be slow or want much memory. What it must not do is name other files or code. So data outside the
file is taken only from beside it, and operators that open files or call Python are refused.
"""
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from gilt.errors import MissingExtraError, ModelError, listed

MOST_BYTES = 2**31 - 1  # what a protobuf message may have
REFUSED = {"EPContext", "PythonOp", "PythonOpGrad"}  # open files, or call what is no operator
DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc", "pkg.onnxscript.torch_lib"}
DYNAMIC = {"DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"}  # whose scales come from the whole batch


def onnx() -> Any:
    """Return the package onnx. Raises MissingExtraError where it is not installed."""
    try:
        import onnx
    except ImportError:
        raise MissingExtraError("onnx", "onnx") from None
    return onnx


def read_onnx(path: Path | str) -> bytes:
    """Return an ONNX file as one piece, the data that lies beside it put in.

    Raises ModelError where the file is missing, is no ONNX, names data outside its own folder or an operator that is refused.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"ONNX file {path} " + ("is a folder, not a file" if path.is_dir() else "does not exist"))
    if path.stat().st_size > MOST_BYTES:
        raise ModelError(f"ONNX file {path} has more than 2 GB, which one message cannot hold")
    graph = parsed(path.read_bytes(), path)
    outside = [tensor for tensor in _tensors(graph) if tensor.data_location == onnx().TensorProto.EXTERNAL]
    for tensor in outside:
        _check_beside(path, tensor)
    if outside:
        _put_in(graph, path)
    check(graph, path)
    return graph.SerializeToString()


def parsed(data: bytes, name: Path | str) -> Any:
    """Return the bytes of an ONNX file as a ModelProto. Raises ModelError where they are none."""
    from google.protobuf.message import DecodeError

    model = onnx().ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise ModelError(f"{name} is no ONNX file: {' '.join(str(error).split())[:160]}") from None
    if not model.graph.node or not model.graph.output:
        raise ModelError(f"{name} is no ONNX file: it holds no graph")
    return model


def check(model: Any, name: Path | str) -> None:
    """Raise ModelError where a graph names data in other files, or operators that could reach beyond it."""
    outside = [t.name for t in _tensors(model) if t.data_location == onnx().TensorProto.EXTERNAL]
    if outside:
        raise ModelError(f"{name} names data in other files ({listed(outside, most=3)}): only a graph in one piece is taken")
    nodes = list(_nodes(model))
    bad = sorted({node.op_type for node in nodes if node.op_type in REFUSED})
    own = {function.domain for function in model.functions}
    foreign = sorted({node.domain for node in nodes} - DOMAINS - own)
    if bad or foreign:
        what = f"the operator {bad[0]}" if bad else f"operators of {foreign[0]!r}"
        raise ModelError(f"{name} uses {what}, which would need other files or code: it is refused. Export the network with "
                         "standard ONNX operators")


def scales_by_batch(model: Any) -> bool:
    """Tell whether what a graph says of an image depends on the others of its batch: dynamic quantisation."""
    return any(node.op_type in DYNAMIC for node in _nodes(model))


def _check_beside(path: Path, tensor: Any) -> None:
    """Raise ModelError unless a tensor's data lies in the folder of the ONNX file, followed through links."""
    place = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    parts = {*PurePosixPath(place).parts, *PureWindowsPath(place).parts}
    absolute = PurePosixPath(place).is_absolute() or PureWindowsPath(place).is_absolute() or PureWindowsPath(place).drive
    if not place or absolute or ".." in parts:
        raise ModelError(f"{path} names the data of {tensor.name!r} as {place!r}, outside its own folder: it is refused")
    file = path.parent / place
    if not file.resolve().is_relative_to(path.parent.resolve()):
        raise ModelError(f"{path} names the data of {tensor.name!r} as {place!r}, a link that leads outside its own folder: "
                         "it is refused")
    if not file.is_file():
        raise ModelError(f"{path} needs the file {place!r} beside it, and there is none: fetch that too")


def _put_in(model: Any, path: Path) -> None:
    from onnx.external_data_helper import load_external_data_for_tensor

    size = sum(int(entry.value) for tensor in _tensors(model) for entry in tensor.external_data
               if entry.key == "length" and entry.value.isdecimal())
    if size + path.stat().st_size > MOST_BYTES:
        raise ModelError(f"{path} and the data beside it have more than 2 GB, which one message cannot hold")
    for tensor in _tensors(model):
        if tensor.data_location == onnx().TensorProto.EXTERNAL:
            try:
                load_external_data_for_tensor(tensor, str(path.parent))
            except (OSError, ValueError, onnx().checker.ValidationError) as error:
                raise ModelError(f"{path}: the data of {tensor.name!r} cannot be read: {str(error).splitlines()[0]}") from None
            tensor.data_location = onnx().TensorProto.DEFAULT
            del tensor.external_data[:]


def _graphs(model: Any) -> Iterator[Any]:
    """Yield every list of nodes: the graph, those inside its nodes, and the bodies of functions."""
    waiting = [model.graph, *model.functions]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                waiting += [attribute.g] * attribute.HasField("g") + list(attribute.graphs)


def _nodes(model: Any) -> Iterator[Any]:
    for graph in _graphs(model):
        yield from graph.node


def _tensors(model: Any) -> Iterator[Any]:
    """Yield every tensor of a model: initial values, sparse ones, and those in attributes."""
    for graph in _graphs(model):
        yield from getattr(graph, "initializer", ())
        for sparse in getattr(graph, "sparse_initializer", ()):
            yield from (sparse.values, sparse.indices)
        for node in graph.node:
            for attribute in node.attribute:
                yield from [attribute.t] * attribute.HasField("t")
                yield from attribute.tensors
                for sparse in [attribute.sparse_tensor] * attribute.HasField("sparse_tensor") + list(attribute.sparse_tensors):
                    yield from (sparse.values, sparse.indices)
    for info in model.training_info:
        yield from (*info.initialization.initializer, *info.algorithm.initializer)
