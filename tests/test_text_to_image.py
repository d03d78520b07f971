"""Text to image and image to image through a real pipeline of random weights: prompts, seeds, LoRA, refusals, kills."""
import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import gilt
from conftest import draw
from gilt.cli import gilt as command_group
from gilt.cli import main
from gilt.errors import ConfigError, ModelError, StoreError
from gilt.generators.orders import Order, make_images, orders
from gilt.generators.pipelines import fingerprint
from gilt.generators.prompts import Prompts, load_prompts
from gilt.generators.text_to_image import ImageConfig, TextToImage
from tiny_pipeline import tiny_pipeline

WRENS = {"wren": 5}


@pytest.fixture(scope="module")
def sd(tmp_path_factory) -> Path:
    return tiny_pipeline(tmp_path_factory.mktemp("models") / "tiny-sd")


@pytest.fixture(scope="module")
def lora(sd, tmp_path_factory) -> Path:
    """LoRA weights over the attention of the pipeline's U-Net, made by peft."""
    from diffusers import StableDiffusionPipeline
    from peft import LoraConfig, get_peft_model_state_dict

    pipe = StableDiffusionPipeline.from_pretrained(str(sd))
    torch.manual_seed(1)
    pipe.unet.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_v"]))
    for name, weights in pipe.unet.named_parameters():
        if "lora" in name:
            torch.nn.init.normal_(weights)
    folder = tmp_path_factory.mktemp("lora")
    StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=get_peft_model_state_dict(pipe.unet),
                                              weight_name="feathers.safetensors")
    return folder / "feathers.safetensors"


def painter(place, *, loras=(), from_photographs=False, **settings):
    return TextToImage(str(place), ImageConfig(**{"steps": 3, "batch": 2} | settings), loras=[str(lora) for lora in loras],
                       from_photographs=from_photographs)


def pixels(made, wanted) -> list[np.ndarray]:
    """Return each order's image as int (H, W, 3)."""
    parts = [wanted[i:i + made.at_once] for i in range(0, len(wanted), made.at_once)]
    return [np.asarray(image).astype(int) for part in parts for _, image in made.paint(part)]


def far(a, b) -> float:
    """Return the largest difference of two lists of images."""
    return max(abs(x - y).max() for x, y in zip(a, b, strict=True))


def run(*arguments):
    return CliRunner().invoke(command_group, ["generate", "images", *map(str, arguments)], catch_exceptions=False)


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.png")}


def test_images_lie_in_folders_of_their_class_and_scan_reads_what_they_are(sd, tmp_path):
    prompts = Prompts(template="{a_class} {place}", variations={"place": ["in a tree", "on water"]}, negative="text")
    wanted = orders(prompts, {"wren": 3, "robin": 2})
    album = make_images(painter(sd, save_size=12), tmp_path / "made", wanted, origin="tiny-sd")
    table = gilt.scan(tmp_path / "made")
    assert table.counts("class") == {"robin": 2, "wren": 3}
    assert table.counts("origin") == {"tiny-sd": 5}
    assert set(table.frame["width"]) == {12}
    row = table.frame.set_index("path").loc["wren/000001.png"]
    assert row["prompt"] in ("a wren in a tree", "a wren on water") and row["negative_prompt"] == "text"
    assert (row["steps"], row["guidance"], row["scheduler"], row["pipeline"]) == (3, 7.5, "PNDMScheduler", "tiny-sd")
    assert row["generator"] == fingerprint(sd) == album.rows["robin/000000.png"]["generator"]
    assert len(set(table.frame["sha256"])) == 5


def test_an_image_depends_on_its_seed_and_prompt_and_not_on_its_company(sd):
    wanted, made = orders(load_prompts(), WRENS), painter(sd)
    whole = pixels(made, wanted)
    assert far(pixels(made, [wanted[4], wanted[1]]), [whole[4], whole[1]]) == 0
    assert far(pixels(made, wanted[2:3]), whole[2:3]) == 0
    assert min(far([whole[i]], [whole[j]]) for i in range(5) for j in range(i)) > 20
    other = orders(load_prompts(), WRENS, seed=1)
    assert far(pixels(made, other), whole) > 20


@pytest.mark.parametrize("scheduler", ["euler_ancestral", "ddim", "dpm"])
def test_the_size_of_a_batch_changes_no_more_than_rounding(sd, scheduler):
    wanted = orders(load_prompts(), WRENS)
    assert far(pixels(painter(sd, batch=1, scheduler=scheduler), wanted),
               pixels(painter(sd, batch=4, scheduler=scheduler), wanted)) <= 1


def test_steps_guidance_scheduler_and_prompt_each_change_the_image(sd):
    wanted = orders(load_prompts(), {"wren": 1})
    plain = pixels(painter(sd), wanted)
    for settings in ({"steps": 5}, {"guidance": 1.0}, {"scheduler": "euler_ancestral"}):
        assert far(pixels(painter(sd, **settings), wanted), plain) > 2, settings
    assert far(pixels(painter(sd), orders(Prompts(negative="text"), {"wren": 1})), plain) > 0
    assert far(pixels(painter(sd), orders(Prompts(template="an oil painting of {a_class}"), {"wren": 1})), plain) > 0


def test_what_is_kept_is_the_picture_made_smaller_by_the_named_filter(sd):
    wanted = orders(load_prompts(), {"wren": 1})
    large = pixels(painter(sd, size=32), wanted)[0]
    assert large.shape == (32, 32, 3)
    for name, known in (("bilinear", Image.Resampling.BILINEAR), ("nearest", Image.Resampling.NEAREST)):
        small = Image.fromarray(large.astype(np.uint8)).resize((8, 8), known)
        assert far(pixels(painter(sd, size=32, save_size=8, resample=name), wanted), [np.asarray(small).astype(int)]) == 0


def test_an_image_made_from_a_photograph_keeps_more_of_it_the_lower_the_strength(sd, tmp_path):
    wanted = [Order("wren", 0, 7, "a wren", photograph=draw(tmp_path / f"{name}.png", colour, seed=0, size=40), source=name)
              for name, colour in (("dark", (20, 20, 20)), ("light", (230, 230, 230)))]
    apart = []
    for strength in (0.1, 1.0):
        dark, light = pixels(painter(sd, from_photographs=True, strength=strength, steps=10), wanted)
        apart.append(abs(dark - light).mean())
    assert apart[0] > 2 * apart[1]  # two images of one seed and prompt: only their photographs differ
    assert dark.shape == (16, 16, 3)
    with pytest.raises(ConfigError, match=r"steps=3 at strength=0\.1 leave no step"):
        painter(sd, from_photographs=True, strength=0.1)


def test_images_made_from_photographs_name_them_so_that_splits_hold(sd, bird_folder, tmp_path):
    shutil.copytree(bird_folder / "real", tmp_path / "birds" / "real")
    gilt.split(gilt.scan(tmp_path / "birds"), seed=0).save(tmp_path / "dealt.parquet")
    result = run(tmp_path / "dealt.parquet", "--pipeline", sd, "--from-photographs", "--strength", 0.7, "--count", 3,
                 "--set", "steps=3", "-o", tmp_path / "birds" / "near")
    assert result.exit_code == 0, result.output
    dealt = gilt.ImageTable.load(tmp_path / "dealt.parquet").frame.set_index("path")["split"]
    made = gilt.scan(tmp_path / "birds").where(origin="tiny-sd").frame
    assert len(made) == 6 and made["source"].str.startswith("real/").all()
    assert (dealt[made["source"]] == "train").all()
    assert [path.split("/")[1] for path in made["source"]] == list(made["class"])


def test_lora_weights_change_the_image_as_far_as_they_are_weighted(sd, lora):
    wanted = orders(load_prompts(), {"wren": 1})
    plain = pixels(painter(sd), wanted)
    half, whole = (far(pixels(painter(sd, loras=[f"{lora}:{weight}"]), wanted), plain) for weight in (0.2, 1))
    assert 0 < half < whole
    assert far(pixels(painter(sd, loras=[f"{lora}:0"]), wanted), plain) == 0
    assert painter(sd, loras=[lora]).facts["lora"].startswith("feathers:1:")
    twice = pixels(painter(sd, loras=[f"{lora}:0.5", f"{lora}:0.5"]), wanted)
    assert far(twice, pixels(painter(sd, loras=[lora]), wanted)) <= 2


@pytest.mark.parametrize("text, said", [
    ("nowhere.safetensors", "do not exist"), ("{folder}", "are a folder: name its file"),
    ("{folder}/notes.bin", "no safetensors"), ("{lora}:nan", "a weight is a number"),
    ("hf:feathers", "not written as hf:OWNER/NAME")])
def test_lora_weights_that_cannot_be_read_are_named(sd, lora, tmp_path, text, said):
    (tmp_path / "notes.bin").write_bytes(b"\x80\x04no tensors")
    with pytest.raises((ModelError, ConfigError), match=said):
        painter(sd, loras=[text.format(folder=tmp_path, lora=lora)])


def test_weights_of_another_model_are_refused_as_lora(sd):
    with pytest.raises(ModelError, match="do not fit this pipeline"):
        painter(sd, loras=[sd / "unet" / "diffusion_pytorch_model.safetensors"])


def test_black_images_of_the_safety_checker_are_counted_and_not_kept(tmp_path, caplog):
    strict = tiny_pipeline(tmp_path / "strict", checker=True)
    album = make_images(painter(strict), tmp_path / "made", orders(load_prompts(), WRENS), origin="strict")
    assert album.rows == {} and files_of(tmp_path / "made") == {}
    assert "5 images not kept: they came out black, by the model's safety checker" in caplog.text


def test_weights_that_may_hold_code_are_not_read(tmp_path):
    with pytest.raises(ModelError, match=r"cannot be loaded.*Other weights than safetensors are not read"):
        painter(tiny_pipeline(tmp_path / "pickled", safetensors=False))


@pytest.mark.parametrize("index", ['"_class_name": ["mine", "Mine"]', '"unet": ["mine", "UNet2DConditionModel"]'])
def test_code_that_comes_with_a_model_is_not_run(sd, tmp_path, index):
    shutil.copytree(sd, tmp_path / "odd")
    for folder in ("", "unet/"):
        (tmp_path / "odd" / f"{folder}mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Mine: pass\n")
    text = (tmp_path / "odd" / "model_index.json").read_text()
    key = index.split(":")[0]
    old = text[text.index(key):]
    old = old[:old.index("]") + 1] if old.split(":")[1].strip().startswith("[") else old[:old.index(",")]
    (tmp_path / "odd" / "model_index.json").write_text(text.replace(old, index))
    with pytest.raises(ModelError, match="brings code of its own"):
        painter(tmp_path / "odd")
    assert not (tmp_path / "ran").exists()


def test_a_folder_that_is_no_pipeline_is_named_with_what_one_is(sd, tmp_path):
    for place, said in ((tmp_path / "none", "does not exist: give a folder"), (tmp_path, "holds no model_index.json"),
                        (sd / "model_index.json", "is a file: a pipeline is a folder"),
                        ("hf:tiny", "not written as hf:OWNER/NAME")):
        with pytest.raises(ModelError, match=said):
            painter(place)
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(ModelError, match="names no class of diffusers'"):
        painter(tmp_path)


def test_without_a_network_a_hubs_model_is_told_with_the_command_to_fetch_it(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    result = subprocess.run([sys.executable, "-m", "gilt", "generate", "images", "--classes", "wren", "--count", "1", "-o",
                             "made", "--pipeline", "hf:nobody/nothing"], cwd=tmp_path, capture_output=True, text=True,
                            env={**os.environ, "HF_HOME": str(tmp_path / "hub")})
    assert result.returncode == 2
    assert "hf download nobody/nothing" in result.stderr and "--pipeline nothing" in result.stderr
    assert result.stderr.count("\n") == 2 and not (tmp_path / "made").exists()


def test_a_scheduler_that_does_not_fit_is_refused_with_those_that_do(sd):
    with pytest.raises(ConfigError, match=r"'flow' does not fit this pipeline \(it takes: ddim, ddpm, dpm,"):
        painter(sd, scheduler="flow")


def test_prompts_that_are_cut_are_said_once(sd, caplog):
    long = Prompts(template="a photograph of {a_class} among many other birds")
    pixels(painter(sd), orders(long, {"wren": 4}))
    assert caplog.text.count("prompts of more than 24 tokens are cut") == 1


def test_other_settings_or_prompts_do_not_join_a_folder(sd, lora, tmp_path):
    make_images(painter(sd), tmp_path / "made", orders(load_prompts(), WRENS), origin="sd")
    for made, wanted, said in ((painter(sd, steps=4), orders(load_prompts(), WRENS), "steps '3', and '4' is asked for"),
                               (painter(sd, loras=[lora]), orders(load_prompts(), WRENS), "lora 'nothing', and 'feathers:1:"),
                               (painter(sd), orders(load_prompts(), WRENS, seed=1), "with seed"),
                               (painter(sd), orders(Prompts(negative="text"), WRENS), "negative_prompt 'nothing', and 'text'")):
        with pytest.raises(StoreError, match=f"holds images made with {said}|holds images made {said}"):
            make_images(made, tmp_path / "made", wanted, origin="sd")
    assert len(make_images(painter(sd, batch=1), tmp_path / "made", orders(load_prompts(), {"wren": 7}), origin="sd").rows) == 7


def test_killed_and_run_again_gives_the_same_files(sd, tmp_path):
    arguments = ["generate", "images", "--classes", "wren,robin", "--count", "12", "--pipeline", str(sd), "--set", "steps=20",
                 "--batch", "2", "-o", str(tmp_path / "made")]
    manifest = tmp_path / "made" / "manifest.csv"
    process = subprocess.Popen([sys.executable, "-m", "gilt", *arguments], stderr=subprocess.DEVNULL,
                               env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())})
    while process.poll() is None and (not manifest.exists() or manifest.read_bytes().count(b"\n") < 6):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    there = manifest.read_bytes().count(b"\n") - 1
    assert 5 <= there < 24
    with manifest.open("ab") as file:
        file.write(b"wren/0000")  # as a kill in the midst of a row leaves it
    result = CliRunner().invoke(command_group, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert f"{there} of 24 images are in" in result.output
    whole = make_images(painter(sd, steps=20), tmp_path / "whole", orders(load_prompts(), {"wren": 12, "robin": 12}),
                        origin="tiny-sd")
    assert files_of(tmp_path / "made") == files_of(tmp_path / "whole")
    with manifest.open(newline="") as file:
        assert {row["path"]: row for row in csv.DictReader(file)} == whole.rows


def test_the_command_says_what_it_made_and_what_comes_next(sd, lora, tmp_path):
    (tmp_path / "saw.txt").write_text("ab" * 32 + "\n")
    result = run("--preset", "cifake", "--classes", "cat", "--count", 2, "--pipeline", sd, "--lora", f"{lora}:0.5", "--saw",
                 tmp_path / "saw.txt", "--set", "steps=2", "--set", "size=32", "-o", tmp_path / "made")
    assert result.exit_code == 0, result.output
    assert "made holds 2 images of tiny-sd+feathers and its manifest; next: gilt scan" in result.output
    frame = gilt.scan(tmp_path / "made").frame
    assert set(frame["scheduler"]) == {"EulerAncestralDiscreteScheduler"} and set(frame["width"]) == {32}
    assert set(frame["saw"]) == {"saw.txt"} and frame["prompt"].str.startswith("a photograph of a cat, ").all()


def test_the_list_shows_prompts_and_makes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("--classes", "wren,robin", "--preset", "photographs", "--count", 30, "--list")
    assert result.exit_code == 0 and "60 images" in result.output and "the first 40 are shown" in result.output
    assert "wren/000029.png" in result.output and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments, said", [
    (["--classes", "wren"], "name the folder for the images"),
    (["--classes", "wren", "-o", "made"], "name the model: --pipeline PATH or hf:OWNER/NAME"),
    (["--from-photographs", "--classes", "wren", "-o", "made"], "name the table"),
    (["-o", "made", "--pipeline", "x"], "no class to make images of"),
    (["--classes", "wren", "--count", "robin=3", "-o", "made"], "names the class 'robin', which is not among those"),
    (["--classes", "wren", "--pipeline", "x", "--key-from", "KEY", "-o", "made"], "--key-from belongs to --endpoint"),
    (["--classes", "wren", "--pipeline", "x", "--set", "stepps=3", "-o", "made"], "Did you mean 'steps'"),
    (["--classes", "wren", "--pipeline", "x", "--set", "size=500", "-o", "made"], "size: .*multiple of 8"),
    (["--classes", "wren", "--saw", "nothing.txt", "--pipeline", "x", "-o", "made"], "nothing.txt is gone")])
def test_a_command_that_cannot_run_says_why_in_one_line(tmp_path, arguments, said, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["generate", "images", *arguments])
    error = capsys.readouterr().err.splitlines()[-1]
    assert ended.value.code == 2 and error.startswith("error: ") and re.search(said, error), error
    assert not (tmp_path / "made").exists()
