"""Pipelines: text-to-image models in diffusers' format, from a folder or Hugging Face, with scheduler and LoRA weights.

Loading executes nothing that comes with a model: weights are safetensors only, and a model that brings code of its own is
refused.
"""
import contextlib
import hashlib
import json
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from gilt.errors import ConfigError, MissingExtraError, ModelError, listed
from gilt.models.hub import REMEDY, from_huggingface

SCHEDULERS = {
    "ddim": "DDIMScheduler", "ddpm": "DDPMScheduler", "dpm": "DPMSolverMultistepScheduler",
    "dpm_single": "DPMSolverSinglestepScheduler", "euler": "EulerDiscreteScheduler",
    "euler_ancestral": "EulerAncestralDiscreteScheduler", "flow": "FlowMatchEulerDiscreteScheduler",
    "heun": "HeunDiscreteScheduler", "lcm": "LCMScheduler", "lms": "LMSDiscreteScheduler",
    "pndm": "PNDMScheduler", "unipc": "UniPCMultistepScheduler"}
_HF = re.compile(r"hf:(?P<name>[\w.-]+/[\w.-]+)(?:@(?P<revision>refs/\w+/[\w.-]+|[^/@]+))?(?:/(?P<file>[^@]+))?")
_BROKEN = (OSError, ValueError, KeyError, AttributeError, TypeError, RuntimeError, ImportError, SafetensorError)
_LORA_FILES = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")
ENDS = 1 << 20  # bytes at either end of a file of weights that its fingerprint looks at


def load_pipeline(place: str, *, precision: torch.dtype, from_photographs: bool = False) -> tuple[Any, Path]:
    """Return (diffusers' pipeline on the CPU, the folder that it lies in) for a folder, or hf:OWNER/NAME[@REVISION].

    `from_photographs` asks for the image-to-image form. Raises ModelError where there is none, where the weights are no
    safetensors, or where the model brings code of its own; MissingExtraError without diffusers.
    """
    with quiet():
        try:
            from diffusers import AutoPipelineForImage2Image, AutoPipelineForText2Image
            from diffusers.utils import deprecation_utils
        except ImportError:
            raise MissingExtraError("diffusers", "generate") from None
    folder = _located(place)
    _check_index(folder, place)
    kind = AutoPipelineForImage2Image if from_photographs else AutoPipelineForText2Image
    dtype = "dtype" if hasattr(deprecation_utils, "_resolve_dtype") else "torch_dtype"  # renamed in diffusers 0.4x
    with quiet():
        try:
            pipe = kind.from_pretrained(str(folder), use_safetensors=True, trust_remote_code=False, local_files_only=True,
                                        **{dtype: precision})
        except _BROKEN as error:
            what = "image-to-image" if from_photographs else "text-to-image"
            remedy = (". Other weights than safetensors are not read, for they may hold code: load them where you trust them, "
                      "and write them with diffusers' save_pretrained") if "safetensors" in str(error) else ""
            raise ModelError(f"{place} cannot be loaded as a {what} pipeline: {_first(error).rstrip('.')}{remedy}") from None
        pipe.set_progress_bar_config(disable=True)
    return pipe, folder


def set_scheduler(pipe: Any, name: str) -> None:
    """Give a pipeline another scheduler, by its short name. Raises ConfigError where the pipeline cannot use it."""
    import diffusers

    kind = getattr(diffusers, SCHEDULERS[name])
    fit = {known.__name__ for known in pipe.scheduler.compatibles}
    if kind.__name__ not in fit:
        raise ConfigError(f"scheduler {name!r} does not fit this pipeline (it takes: "
                          f"{listed(short for short, full in SCHEDULERS.items() if full in fit) or 'its own only'})")
    with quiet():
        pipe.scheduler = kind.from_config(pipe.scheduler.config)


def add_loras(pipe: Any, loras: Sequence[str]) -> list[str]:
    """Lay LoRA weights over a pipeline, each FILE.safetensors[:WEIGHT] or hf:OWNER/NAME[/FILE][:WEIGHT]; return their names.

    A name is `FILE's stem:WEIGHT:fingerprint`. Raises ModelError for a file that is missing, is no safetensors, or does not
    fit; MissingExtraError without peft.
    """
    if not loras:
        return []
    if not hasattr(pipe, "load_lora_weights"):
        raise ModelError(f"{type(pipe).__name__} takes no LoRA weights")
    try:
        import peft  # noqa: F401
    except ImportError:
        raise MissingExtraError("peft", "generate") from None
    names, weights, said = [], [], []
    for i, text in enumerate(loras):
        path, weight = _lora(text)
        try:
            with quiet():
                pipe.load_lora_weights(str(path.parent), weight_name=path.name, adapter_name=f"lora{i}", local_files_only=True)
        except _BROKEN as error:
            raise ModelError(f"LoRA weights {path} do not fit this pipeline: {_first(error)}") from None
        if f"lora{i}" not in {name for held in pipe.get_list_adapters().values() for name in held}:
            raise ModelError(f"LoRA weights {path} change nothing in this pipeline: they belong to another model")
        names.append(f"lora{i}")
        weights.append(weight)
        said.append(f"{path.stem}:{weight:g}:{fingerprint(path)}")
    with quiet():
        pipe.set_adapters(names, weights)
    return said


def fingerprint(place: Path) -> str:
    """Return 16 hexadecimal digits that name a file, or a folder's configuration and weights, by their sizes and ends."""
    digest = hashlib.sha256()
    files = [place] if place.is_file() else sorted(
        path for ending in ("json", "txt", "safetensors", "model") for path in place.rglob(f"*.{ending}"))
    for path in files:
        size = path.stat().st_size
        with path.open("rb") as file:
            digest.update(f"{path.name if place.is_file() else path.relative_to(place)}\0{size}\0".encode())
            digest.update(file.read(ENDS))
            file.seek(max(0, size - ENDS))
            digest.update(file.read(ENDS))
    return digest.hexdigest()[:16]


@contextlib.contextmanager
def quiet(*, bars: bool = False) -> Iterator[None]:
    """Keep what diffusers and transformers say of themselves off the screen for a while, and unless `bars` their progress."""
    with warnings.catch_warnings(), contextlib.ExitStack() as stack:
        warnings.simplefilter("ignore")
        for package in ("diffusers", "transformers"):
            with contextlib.suppress(ImportError):
                logging = __import__(f"{package}.utils.logging", fromlist=["logging"])
                stack.callback(logging.set_verbosity, logging.get_verbosity())
                logging.set_verbosity(logging.CRITICAL)  # what fails is raised too
                if not bars:
                    stack.callback(logging.enable_progress_bar)
                    logging.disable_progress_bar()
        yield


def _located(place: str) -> Path:
    """Return the folder that `place` stands for; what the cache holds is taken as it is."""
    if not place.startswith("hf:"):
        return Path(place)
    match = _HF.fullmatch(place)
    if match is None or match["file"]:
        raise ModelError(f"pipeline {place} is not written as hf:OWNER/NAME or hf:OWNER/NAME@REVISION")
    from diffusers import DiffusionPipeline

    try:
        with quiet(bars=True):  # of the download
            return Path(DiffusionPipeline.download(match["name"], revision=match["revision"], use_safetensors=True,
                                                   trust_remote_code=False))
    except _BROKEN as error:
        text, name = str(error), match["name"]
        if "not fully cached" in text or "couldn't connect" in text.lower() or "offline" in text.lower():
            revision = f" --revision {match['revision']}" if match["revision"] else ""
            raise ModelError(f"{place} is not in the cache, and Hugging Face cannot be reached. Where there is a network: hf "
                             f"download {name}{revision} --exclude '*.bin' --exclude '*.ckpt' --local-dir "
                             f"{name.split('/')[1]}; then bring that folder here and give it: --pipeline "
                             f"{name.split('/')[1]}") from None
        raise ModelError(f"{place} cannot be fetched: {_first(error)}") from None


def _check_index(folder: Path, place: str) -> None:
    """Raise ModelError where a folder holds no pipeline, or one with code of its own."""
    if folder.is_file():
        raise ModelError(f"{place} is a file: a pipeline is a folder with a model_index.json, as hf download or diffusers' "
                         "save_pretrained write it")
    if not folder.is_dir():
        raise ModelError(f"pipeline {place} does not exist: give a folder in diffusers' format, or hf:OWNER/NAME")
    try:
        index = json.loads((folder / "model_index.json").read_text())
    except FileNotFoundError:
        raise ModelError(f"{place} holds no model_index.json, so it is no pipeline in diffusers' format") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{place}/model_index.json cannot be read: {error}") from None
    parts = {name: part for name, part in index.items() if isinstance(part, list)} if isinstance(index, dict) else {}
    if not parts or not isinstance(index.get("_class_name"), str):
        raise ModelError(f"{place} brings code of its own, or names no class of diffusers': gilt runs no code that comes with "
                         "a model")
    for name, part in parts.items():
        if any((folder / name / f"{module}.py").exists() or (folder / f"{module}.py").exists() for module in part if module):
            raise ModelError(f"{place} brings code of its own for {name}: gilt runs no code that comes with a model")


def _lora(text: str) -> tuple[Path, float]:
    """Return (file, weight) of FILE[:WEIGHT]. Raises ModelError where there is no such file, or it is no safetensors."""
    place, colon, number = text.rpartition(":")
    try:
        weight = float(number) if colon else 1.0
    except ValueError:
        place, weight = text, 1.0
    place = place if colon else text
    if not torch.isfinite(torch.tensor(weight)):
        raise ConfigError(f"--lora {text}: a weight is a number, as in --lora wrens.safetensors:0.8")
    if place.startswith("hf:"):
        match = _HF.fullmatch(place)
        if match is None:
            raise ModelError(f"LoRA weights {place} are not written as hf:OWNER/NAME or hf:OWNER/NAME/FILE")
        files = [match["file"]] if match["file"] else _LORA_FILES
        try:
            path = from_huggingface(match["name"], files, match["revision"], what=f"the LoRA weights {place!r}")
        except ModelError as error:
            raise ModelError(str(error).replace(REMEDY, "Or download the file elsewhere and give it: --lora FILE")) from None
    else:
        path = Path(place)
    if not path.is_file():
        raise ModelError(f"LoRA weights {place} {'are a folder: name its file' if path.is_dir() else 'do not exist'}")
    try:
        with safe_open(path, "pt"):
            pass
    except (SafetensorError, OSError):
        raise ModelError(f"LoRA weights {place} are no safetensors file; others are not read, for they may hold code") from None
    return path, weight


def _first(error: BaseException) -> str:
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return (text or type(error).__name__)[:240]
