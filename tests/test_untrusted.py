"""Files that nobody vouches for: whatever is in them, loading one runs nothing, opens nothing else, and ends in one line."""
import json
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import gilt
from gilt.models.adopt import Design, adopt
from gilt.models.outside import adopt_detector

onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
TOML = 'about = "x"\nclasses = ["real", "generated"]\n[network]\nonnx = "net.onnx"\n[input]\nsize = 8\n'


class Bomb:
    """What a pickle can do on being read: here it makes a folder, elsewhere it could be anything."""

    def __init__(self, place: Path) -> None:
        self.place = str(place)

    def __reduce__(self):
        return os.mkdir, (self.place,)


@pytest.fixture
def mark(tmp_path):
    return tmp_path / "executed"


def test_the_bomb_would_go_off_where_a_pickle_is_trusted(mark):
    pickle.loads(pickle.dumps(Bomb(mark)))
    assert mark.is_dir()


@pytest.mark.parametrize("name", ["d.safetensors", "d.onnx", "d.pt"])
def test_a_pickle_under_another_name_is_refused_and_not_run(tmp_path, mark, name):
    path = tmp_path / name
    path.write_bytes(pickle.dumps(Bomb(mark)))
    for load in (gilt.load_classifier, gilt.load_generator):
        with pytest.raises(gilt.ModelError) as error:
            load(path)
        assert "\n" not in str(error.value)
    assert not mark.exists()


def test_a_torch_file_with_a_payload_is_refused_and_not_run(tmp_path, mark):
    network = gilt.create("lenet5", outputs=1)
    torch.save({"state_dict": network.state_dict(), "more": Bomb(mark)}, tmp_path / "w.pt")
    with pytest.raises(gilt.ModelError, match="weights_only=True"):
        adopt(Design("lenet5"), tmp_path / "w.pt", ["real", "generated"], target="origin")
    assert not mark.exists()
    torch.save({"weight": Bomb(mark), "bias": torch.zeros(1)}, tmp_path / "head.pth")
    onnx.save(graph(), tmp_path / "net.onnx")
    (tmp_path / "d.toml").write_text(TOML + '[output]\nkind = "embedding"\nhead = "head.pth"\n')
    with pytest.raises(gilt.ModelError, match="weights_only=True"):
        adopt_detector(tmp_path / "d.toml")
    assert not mark.exists()


@pytest.mark.parametrize("length", [2**63 - 1, 2**40, 10_000])
def test_a_header_that_claims_more_than_the_file_holds_is_refused(tmp_path, length):
    (tmp_path / "d.safetensors").write_bytes(struct.pack("<Q", length) + b'{"a":{"dtype":"F32"}}')
    with pytest.raises(gilt.ModelError, match="not a safetensors file"):
        gilt.load_classifier(tmp_path / "d.safetensors")


@pytest.mark.parametrize("change, message", [
    ({"model": "os.system"}, "no network 'os.system'"), ({"format": "gilt classifier 9"}, "no classifier of gilt's"),
    ({"surprise": 1}, "unknown key 'surprise'"), ({"preprocessing": {"size": 0}}, "preprocessing.size"),
    ({"model": "onnx"}, "holds no ONNX graph")])
def test_a_card_that_says_something_else_is_refused(tmp_path, change, message):
    network = gilt.create("lenet5", outputs=1)
    card = {"format": "gilt classifier 1", "model": "lenet5", "classes": ["real", "generated"], "target": "origin",
            "preprocessing": {"size": 32}, "dropout": None, "outputs": 1, "history": [], "provenance": {}}
    tensors = network.state_dict()
    save_file(tensors, tmp_path / "good.safetensors", metadata={"gilt": json.dumps(card)})
    assert gilt.load_classifier(tmp_path / "good.safetensors").target == "origin"
    save_file(tensors, tmp_path / "d.safetensors", metadata={"gilt": json.dumps(card | change)})
    with pytest.raises(gilt.ModelError, match=message):
        gilt.load_classifier(tmp_path / "d.safetensors")


# -- ONNX


def graph(*, location="", node=("ReduceMean", "")) -> "onnx.ModelProto":
    """A graph of one mean; its unused weight lies in another file where `location` names one."""
    make, float_ = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    weight = onnx.numpy_helper.from_array(np.ones(4, np.float32), "weight")
    if location:
        weight.ClearField("raw_data")
        weight.data_location = onnx.TensorProto.EXTERNAL
        weight.external_data.add(key="location", value=location)
        weight.external_data.add(key="length", value="16")
    nodes = [onnx.helper.make_node(node[0], ["images", "axes"], ["mean"], keepdims=0, domain=node[1]),
             onnx.helper.make_node("MatMul", ["mean", "three"], ["out"]),
             onnx.helper.make_node("Identity", ["weight"], ["unused"])]
    return onnx.helper.make_model(onnx.helper.make_graph(
        nodes, "g", [make("images", float_, ["b", 3, 8, 8])], [make("out", float_, ["b", 1])],
        [weight, onnx.numpy_helper.from_array(np.array([2, 3], np.int64), "axes"),
         onnx.numpy_helper.from_array(np.ones((3, 1), np.float32), "three")]),
        opset_imports=[onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("evil", 1)], ir_version=10)


def described(folder: Path, model: "onnx.ModelProto") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    (folder / "d.toml").write_text(TOML)
    return folder / "d.toml"


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/hostname", "a/../../secret.bin", "C:\\secret.bin",
                                      "..\\secret.bin", "link"])
def test_a_graph_that_points_outside_its_folder_is_refused(tmp_path, location):
    (tmp_path / "secret.bin").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    path = described(tmp_path / "box", graph(location=location))
    (tmp_path / "box" / "link").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(gilt.ModelError, match="outside its own folder"):
        adopt_detector(path)


def test_data_that_lies_beside_a_graph_is_put_in(tmp_path):
    path = described(tmp_path / "box", graph(location="net.onnx.data"))
    with pytest.raises(gilt.ModelError, match=r"needs the file 'net\.onnx\.data' beside it"):
        adopt_detector(path)
    (tmp_path / "box" / "net.onnx.data").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    detector = adopt_detector(path)
    (tmp_path / "box" / "net.onnx.data").unlink()
    detector.save(tmp_path / "d.safetensors")
    assert gilt.load_classifier(tmp_path / "d.safetensors").logits(torch.ones(1, 3, 8, 8))[0, 1] == 3


def test_a_saved_detector_cannot_smuggle_such_a_graph_in(tmp_path):
    (tmp_path / "secret.bin").write_bytes(bytes(16))
    detector = adopt_detector(described(tmp_path / "box", graph()))
    bad = torch.frombuffer(bytearray(graph(location="../secret.bin").SerializeToString()), dtype=torch.uint8)
    save_file({"graph": bad}, tmp_path / "bad.safetensors", metadata={"gilt": json.dumps(detector.card)})
    loaded = gilt.load_classifier(tmp_path / "bad.safetensors")
    with pytest.raises(gilt.ModelError, match="data in other files"):
        loaded.logits(torch.ones(1, 3, 8, 8))


@pytest.mark.parametrize("node, message", [(("Run", "evil"), "operators of 'evil'"),
                                           (("EPContext", "com.microsoft"), "EPContext")])
def test_operators_that_would_need_code_or_files_are_refused(tmp_path, node, message):
    with pytest.raises(gilt.ModelError, match=message):
        adopt_detector(described(tmp_path / "box", graph(node=node)))


@pytest.mark.parametrize("data", [b"", b"not a graph", b"\x00" * 1000, b"\x80\x04\x95"])
def test_what_is_no_graph_is_refused(tmp_path, data):
    path = described(tmp_path / "box", graph())
    (tmp_path / "box" / "net.onnx").write_bytes(data)
    with pytest.raises(gilt.ModelError, match="no ONNX file"):
        adopt_detector(path)


def test_onnx_without_a_word_of_gilts_is_told_the_way(tmp_path):
    onnx.save(graph(), tmp_path / "net.onnx")
    with pytest.raises(gilt.ModelError, match=r"gilt adopt FILE\.toml"):
        gilt.load_classifier(tmp_path / "net.onnx")
