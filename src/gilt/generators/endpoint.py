"""An image endpoint of OpenAI's form as a painter: POST /v1/images/generations, answered by base64 or by an address.

Off unless asked for by address. Answers are verified as images, and kept as new PNG files without what else they carried.
"""
import base64
import binascii
import json
import re
import urllib.parse
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, Literal

import numpy as np
from PIL import Image
from pydantic import Field

from gilt.data.pixels import UNREADABLE, open_image, why
from gilt.errors import ConfigError, ModelError
from gilt.generators.orders import Filter, Order
from gilt.generators.wire import RefusedError, Wire, key_of
from gilt.settings import Above0, Config, Several


class EndpointConfig(Config):
    """What an endpoint is asked for, and how patiently.

    `model` by the endpoint's name; `size` as it takes it ("1024x1024"; None: its own choice). `save_size` in pixels of the
    square that is kept, by `resample`. `answer`: ask for base64 or an address; None: do not say. `send`: what this endpoint
    understands beyond OpenAI's form. `further`: more fields of the question, as in {"quality": "low"}.
    `parallel` questions at a time, `timeout` in seconds for one, `tries` in all where it is busy or fails, `wait` seconds after
    the first, doubling.
    """

    model: str = ""
    size: str | None = None
    save_size: Annotated[int, Field(ge=8, le=4096)] | None = None
    resample: Filter = "bilinear"
    answer: Literal["b64_json", "url"] | None = None
    send: Annotated[tuple[Literal["seed", "negative_prompt"], ...], Several] = ()
    further: dict[str, Any] = {}
    parallel: Annotated[int, Field(ge=1, le=32)] = 1
    timeout: Above0 = 180.0
    tries: Annotated[int, Field(ge=1, le=20)] = 6
    wait: Above0 = 2.0


class Endpoint:
    """An endpoint with its settings, as `make_images` takes it. `key_from` names the environment variable of its key.

    Raises ConfigError for an address that is none or that a key may not be sent to, and for a variable that is not set.
    """

    refusal = "the endpoint's rules refused their prompts"

    def __init__(self, url: str, config: EndpointConfig, *, key_from: str | None = None) -> None:
        if not config.model:
            raise ConfigError("an endpoint is asked for a model by name: --model NAME")
        self.url, self.config, self.at_once = _address(url), config, config.parallel
        self.host = urllib.parse.urlsplit(self.url).netloc
        self.wire = Wire(self.host, key_of(key_from, self.url), timeout=config.timeout, tries=config.tries, wait=config.wait)
        self.untold = frozenset({"seed", "negative_prompt"} - set(config.send))
        self.facts = {"endpoint": self.host, "model": config.model, "size": config.size, "save_size": config.save_size,
                      "resample": config.resample if config.save_size else None,
                      "further": json.dumps(config.further, sort_keys=True) if config.further else None}

    def paint(self, orders: Sequence[Order]) -> Iterator[tuple[Order, Image.Image | None]]:
        """Yield each order with its image, or None where the endpoint's rules refuse the prompt.

        What came is yielded before an error is raised, for it may have been paid for. Raises ModelError where the endpoint
        refuses the key or the question, fails again and again, or answers with something else than an image.
        """
        failed: ModelError | None = None
        with ThreadPoolExecutor(self.at_once) as pool:
            asked = [(order, pool.submit(self._image, order)) for order in orders]
            for order, answer in asked:
                try:
                    image = answer.result()
                except ModelError as error:
                    failed = failed or error
                else:
                    yield order, image
        if failed:
            raise failed

    def _image(self, order: Order) -> Image.Image | None:
        question = {"model": self.config.model, "prompt": order.prompt, "n": 1, **self.config.further}
        question |= {name: value for name, value in (("size", self.config.size), ("response_format", self.config.answer))
                     if value}
        question |= {name: value for name, value in (("seed", order.seed), ("negative_prompt", order.negative))
                     if name in self.config.send and value != ""}
        try:
            answer = self.wire.ask(self.url, question)
        except RefusedError:
            return None
        try:
            first = json.loads(answer)["data"][0]
            encoded, place = first.get("b64_json"), first.get("url")
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise ModelError(f"{self.host} answers with something else than data: [{{b64_json or url}}]: "
                             f"{self.wire.safe(answer[:200].decode(errors='replace'))}") from None
        return self._read(self._bytes(encoded, place))

    def _bytes(self, encoded: object, place: object) -> bytes:
        """Return the picture's file, from base64 or from its address."""
        if isinstance(encoded, str):
            try:
                encoded = encoded.partition("base64,")[2] if encoded.startswith("data:") else encoded
                return base64.b64decode(encoded, validate=True)
            except (binascii.Error, ValueError):
                raise ModelError(f"{self.host} answers with base64 that is none") from None
        if not isinstance(place, str):
            raise ModelError(f"{self.host} answers with neither b64_json nor url: --set answer=b64_json asks for one")
        target = urllib.parse.urlsplit(place)
        # an answer may not send us to other services of this machine or its network
        if target.scheme != "https" and not (target.scheme == "http" and target.netloc == self.host):
            raise ModelError(f"{self.host} answers with an address that is neither https nor its own: "
                             f"{self.wire.safe(place[:120])!r}")
        return self.wire.fetch(place)

    def _read(self, data: bytes) -> Image.Image:
        """Return the picture as RGB, with nothing that its file said beside. Raises ModelError where it is none."""
        try:
            with open_image(data) as image:
                image = Image.fromarray(np.asarray(image.convert("RGB")))
        except UNREADABLE as error:
            raise ModelError(f"{self.host} answers with something else than an image: {why(error)}") from None
        size = self.config.save_size
        return image if not size else image.resize((size, size), Image.Resampling[self.config.resample.upper()])


def _address(url: str) -> str:
    """Return the full address of an endpoint's image generations. Raises ConfigError for what is no address."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"--endpoint {url!r} is no address: write it as https://HOST, https://HOST/v1, or in full")
    if parts.username or parts.password:
        raise ConfigError("--endpoint holds a name or password: keys come from an environment variable (--key-from NAME)")
    path = parts.path.rstrip("/")
    if not path.endswith("/images/generations"):
        path += "/images/generations" if re.search(r"/v\d+$", path) else "/v1/images/generations"
    return urllib.parse.urlunsplit(parts._replace(path=path, fragment=""))
