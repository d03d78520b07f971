"""Text to image, and image to image, by a pipeline of diffusers: Stable Diffusion and its like.

Each image has its own generator of numbers, on the CPU: neither the device nor the other images of a batch change what is
drawn.
"""
import inspect
import logging
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from PIL import Image
from pydantic import Field

from gilt.config import Preprocessing
from gilt.data.pixels import decode
from gilt.errors import ConfigError, ModelError
from gilt.generators.orders import Filter, Order
from gilt.generators.pipelines import SCHEDULERS, add_loras, fingerprint, load_pipeline, quiet, set_scheduler
from gilt.models.device import pick_device
from gilt.settings import Config, Size

log = logging.getLogger(__name__)
PRECISIONS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class ImageConfig(Config):
    """How a pipeline makes an image.

    `steps` of the scheduler, `guidance` how far the prompt pulls (1: no pull), `size` of the square that is made (None: the
    pipeline's own), `save_size` of the square that is kept, by `resample`, which averages over the area. `scheduler`: None is
    the pipeline's own. `strength`: image to image, how much of the photograph is made anew. `batch` images at a time.
    `precision`: auto is float16 on a GPU, else float32.
    """

    steps: Annotated[int, Field(ge=1, le=1000)] = 50
    guidance: Annotated[float, Field(ge=0, le=50)] = 7.5
    size: Annotated[int, Field(ge=16, le=4096, multiple_of=8)] | None = None
    save_size: Annotated[int, Field(ge=8, le=4096)] | None = None
    resample: Filter = "bilinear"
    scheduler: Literal[tuple(SCHEDULERS)] | None = None  # type: ignore[valid-type]
    strength: Annotated[float, Field(gt=0, le=1)] = 0.6
    batch: Size = 4
    precision: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"


class TextToImage:
    """A pipeline with its settings, as `make_images` takes it; `from_photographs` makes images from photographs."""

    refusal = ("they came out black, by the model's safety checker, or by numbers too large for float16 "
               "(--set precision=float32)")
    untold: frozenset[str] = frozenset()

    def __init__(self, place: str, config: ImageConfig, *, loras: Sequence[str] = (), from_photographs: bool = False) -> None:
        self.config, self.from_photographs, self.at_once = config, from_photographs, config.batch
        if from_photographs and int(config.steps * config.strength) < 1:
            raise ConfigError(f"steps={config.steps} at strength={config.strength:g} leave no step to take: raise one of them")
        self.device = _device(config.device)
        precision = config.precision if config.precision != "auto" else "float32" if self.device.type == "cpu" else "float16"
        pipe, folder = load_pipeline(place, precision=PRECISIONS[precision], from_photographs=from_photographs)
        if config.scheduler:
            set_scheduler(pipe, config.scheduler)
        named = add_loras(pipe, loras)
        self.pipe = pipe.to(self.device)
        if hasattr(getattr(pipe, "vae", None), "enable_slicing"):
            pipe.vae.enable_slicing()  # a batch's pixels one image at a time: the largest part of the memory
        name = place if place.startswith("hf:") else folder.resolve().name
        self.facts = {"pipeline": name, "generator": fingerprint(folder), "lora": " ".join(named), "steps": config.steps,
                      "guidance": config.guidance, "scheduler": type(pipe.scheduler).__name__, "size": self.size,
                      "save_size": config.save_size, "resample": config.resample if config.save_size else None,
                      "strength": config.strength if from_photographs else None, "precision": precision}
        self.warned = False

    @property
    def size(self) -> int:
        """Pixels of the side of what is made."""
        if self.config.size:
            return self.config.size
        body = getattr(self.pipe, "unet", None) or getattr(self.pipe, "transformer", None)
        side = getattr(self.pipe, "default_sample_size", None) or getattr(getattr(body, "config", None), "sample_size", 64)
        return (side if isinstance(side, int) else side[0]) * getattr(self.pipe, "vae_scale_factor", 8)

    def paint(self, orders: Sequence[Order]) -> Iterator[tuple[Order, Image.Image | None]]:
        """Yield each order with its image, or None where it came out black. Raises ModelError where memory does not do.

        A batch is always full, the last order repeated: so an image does not depend on how many were left to make.
        """
        self._warn_of_long(orders)
        full = [*orders, *[orders[-1]] * (self.at_once - len(orders))]
        try:
            with torch.inference_mode(), quiet():
                made = self.pipe(**self._arguments(full))
        except torch.OutOfMemoryError:
            raise ModelError(f"{self.at_once} images of {self.size} px at a time do not fit into the device's memory: make "
                             "the batch smaller (--batch 1), or the images (--set size=...)") from None
        flags = getattr(made, "nsfw_content_detected", None) or [False] * len(full)
        for order, image, flag in zip(orders, made.images, flags, strict=False):
            image = image.convert("RGB")
            yield order, None if flag or not np.asarray(image).any() else self._kept(image)

    def _arguments(self, orders: Sequence[Order]) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "prompt": [order.prompt for order in orders], "num_inference_steps": self.config.steps, "output_type": "pil",
            "guidance_scale": self.config.guidance,
            "generator": [torch.Generator("cpu").manual_seed(order.seed) for order in orders]}
        if any(order.negative for order in orders):
            arguments["negative_prompt"] = [order.negative for order in orders]
        if self.from_photographs:
            shape = Preprocessing(size=self.size, resample="bicubic")
            arguments |= {"strength": self.config.strength,
                          "image": [Image.fromarray(decode(order.photograph, shape)) for order in orders if order.photograph]}
        else:
            arguments |= {"height": self.size, "width": self.size}
        takes = _parameters(self.pipe)
        if "negative_prompt" in arguments and "negative_prompt" not in takes:
            raise ConfigError(f"{type(self.pipe).__name__} takes no negative prompt: leave it out of the prompts")
        return {name: value for name, value in arguments.items() if name in takes}

    def _kept(self, image: Image.Image) -> Image.Image:
        size = self.config.save_size
        return image if not size else image.resize((size, size), Image.Resampling[self.config.resample.upper()])

    def _warn_of_long(self, orders: Sequence[Order]) -> None:
        tokenizer = getattr(self.pipe, "tokenizer", None)
        most = getattr(tokenizer, "model_max_length", None)
        if self.warned or not most or most > 10_000:
            return
        with quiet():
            long = [order.prompt for order in orders if len(tokenizer(order.prompt).input_ids) > most]
        if long:
            self.warned = True
            log.warning("prompts of more than %d tokens are cut by this pipeline: what stands last says nothing, as in %r",
                        most, long[0][:300])


def _parameters(pipe: Any) -> set[str]:
    return set(inspect.signature(type(pipe).__call__).parameters)


def _device(name: str) -> torch.device:
    """Return the device called `name`; auto is CUDA, then Apple's GPU, then the CPU. Raises ConfigError where it is missing."""
    has_mps = torch.backends.mps.is_available()
    if name == "mps" and not has_mps:
        raise ConfigError("device='mps', but this machine has no such device that torch can use: choose 'cpu' or 'auto'")
    if name == "mps" or (name == "auto" and has_mps and not torch.cuda.is_available()):
        return torch.device("mps")
    return pick_device(name)
