"""Networks of timm, torchvision and open_clip by name."""
import sys

import pytest
import torch

import gilt
from gilt.models.features import head_of
from gilt.models.libraries import open_clip_tag
from gilt.models.zoo import create, find, matching, parameters

EACH = pytest.mark.parametrize("name, larger", [
    ("timm:vit_tiny_patch16_224", 48), ("timm:convnext_atto", 40), ("timm:resnet10t", 64),
    ("timm:swin_tiny_patch4_window7_224", 256), ("timm:mobilenetv3_small_050", 40), ("torchvision:resnet18", 64),
    ("torchvision:vit_b_32", 64), ("torchvision:swin_t", 64), ("torchvision:convnext_tiny", 64),
    ("torchvision:mobilenet_v3_small", 40), ("open_clip:RN50", 96), ("open_clip:ViT-S-32-alt", 64)])


@EACH
def test_a_network_of_another_library_takes_other_sizes_and_ends_in_its_new_head(name, larger):
    pytest.importorskip("timm")
    pytest.importorskip("open_clip")
    network, seen = create(name, outputs=3, input_size=larger).eval(), []
    head_of(network)[1].register_forward_hook(lambda layer, inputs, out: seen.append(out))
    images = torch.rand(2, 3, larger, larger).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        out = network(images)
        torch.testing.assert_close(out[:1], network(images[:1]), rtol=1e-3, atol=1e-4)
    assert out.shape == (2, 3)
    assert seen[0] is out


@pytest.mark.parametrize("ours, theirs", [("swin_s", "timm:swin_small_patch4_window7_224"),
                                          ("convnext_t", "timm:convnext_tiny"),
                                          ("resnet50", "timm:resnet50"), ("resnet18", "torchvision:resnet18"),
                                          ("mobilenet_v2", "torchvision:mobilenet_v2")])
def test_both_libraries_versions_of_a_network_are_as_large(ours, theirs):
    pytest.importorskip("timm")
    with torch.device("meta"):
        assert parameters(create(ours, outputs=1000)) == parameters(create(theirs, outputs=1000))


def test_a_librarys_own_normalisation_and_size_are_taken():
    pytest.importorskip("timm")
    pytest.importorskip("open_clip")
    siglip, clip = find("open_clip:ViT-B-16-SigLIP2"), find("open_clip:ViT-B-32")
    assert (siglip.input_size, clip.input_size, find("timm:vit_base_patch14_dinov2").input_size) == (224, 224, 518)
    assert find("torchvision:efficientnet_b3").input_size == 300
    with torch.device("meta"):
        assert create("timm:resnet50").body.fc.out_features == 1
    for name, mean in (("timm:vit_tiny_patch16_224", 0.5), ("timm:resnet10t", 0.485), ("open_clip:ViT-S-32-alt", 0.48145466)):
        size = 32 if "resnet" in name else 64
        network = create(name, outputs=2, input_size=size)
        assert network.normalise.mean[0].item() == pytest.approx(mean)
        assert not network.normalise(torch.full((1, 3, 2, 2), mean))[:, 0].abs().max() > 1e-6


def test_open_clips_weights_are_those_that_fit_the_networks_activation():
    open_clip = pytest.importorskip("open_clip")
    assert open_clip.get_pretrained_cfg("ViT-B-32", "openai")["quick_gelu"]
    assert not open_clip.get_pretrained_cfg("ViT-B-32", open_clip_tag("ViT-B-32")).get("quick_gelu", False)
    assert open_clip_tag("ViT-L-14-quickgelu")
    assert open_clip_tag("ViT-S-32-alt") == ""  # published without weights


def test_dropout_reaches_timm():
    pytest.importorskip("timm")
    network = create("timm:vit_tiny_patch16_224", dropout=0.4, input_size=32)
    assert network.body.head_drop.p == 0.4


@pytest.mark.parametrize("name, message", [
    ("timm:convnex_tiny", r"no network 'timm:convnex_tiny': timm has 1,\d+ others.*Did you mean 'convnext_tiny'"),
    ("timm:resnet50.foo", r"no weights 'foo' of 'timm:resnet50' \(there are: a1_in1k"),
    ("torchvision:resnet1", "Did you mean 'resnet18'"),
    ("torchvision:fasterrcnn_resnet50_fpn", "no network 'torchvision:fasterrcnn_resnet50_fpn'"),
    ("open_clip:VIT-B-32", "Did you mean 'ViT-B-32'"),
    ("timm:hf-hub:someone/something", "no network 'timm:hf-hub:someone/something'"),
    ("timm:local-dir:/tmp", "no network 'timm:local-dir:/tmp'")])
def test_an_unknown_name_is_told_the_near_one(name, message):
    pytest.importorskip("timm")
    pytest.importorskip("open_clip")
    with pytest.raises(gilt.ModelError, match=message) as error:
        create(name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name, size", [("torchvision:vit_b_16", 100), ("torchvision:vgg11", 16), ("timm:vgg11", 8)])
def test_a_size_that_the_library_cannot_take_is_refused_at_once(name, size):
    pytest.importorskip("timm")
    with pytest.raises(gilt.ModelError, match=f"'{name}' cannot take {size}x{size} images: ."), torch.device("meta"):
        create(name, input_size=size)


def test_patterns_find_the_names_of_a_library():
    pytest.importorskip("timm")
    assert "timm:convnext_tiny" in matching("timm:*convnext_t*")
    assert matching("torchvision:swin_?") == ["torchvision:swin_b", "torchvision:swin_s", "torchvision:swin_t"]


def test_a_library_that_is_not_installed_is_named_with_its_extra(monkeypatch):
    from gilt.models import libraries

    for package, extra in (("timm", "timm"), ("open_clip", "open_clip_torch")):
        monkeypatch.setitem(sys.modules, package, None)
        getattr(libraries, f"_{package}_names").cache_clear()
        with pytest.raises(gilt.MissingExtraError, match=rf"{extra} is not installed: pip install 'gilt\[backbones\]'"):
            find(f"{package}:anything")


def test_the_zoo_loads_no_library_before_it_is_asked():
    import subprocess

    code = "import sys, gilt.models.zoo; print({'timm', 'open_clip', 'torchvision'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
