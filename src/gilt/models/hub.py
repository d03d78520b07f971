"""Published weights by name: the local file that `pretrained` and `hf:OWNER/NAME` stand for, from a cache or the net.

`pretrained` are the weights that a network was published with: torchvision's, timm's or open_clip's own choice for it;
`pretrained:TAG` is another of theirs (`pretrained:IMAGENET1K_V1`, `pretrained:laion2b_s34b_b79k`). `hf:OWNER/NAME[@REVISION]
[/FILE]` is a repository of the Hugging Face hub. What a cache holds is taken as it is, without a network.
"""
import http.client
import logging
import re
import socket
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlparse

import torch

from gilt.errors import MissingExtraError, ModelError, listed, near
from gilt.models.libraries import open_clip_tag, open_clip_tags
from gilt.models.registry import MODELS
from gilt.models.zoo import find
from gilt.training import PRETRAINED

log = logging.getLogger(__name__)
FILES = ("model.safetensors", "open_clip_model.safetensors", "pytorch_model.bin", "open_clip_pytorch_model.bin")  # best first
_HF = re.compile(r"hf:(?P<name>[\w.-]+/[\w.-]+)(?:@(?P<revision>refs/\w+/[\w.-]+|[^/@]+))?(?:/(?P<file>[^@]+))?")
REMEDY = "Or download the file elsewhere and name it: train.weights=\"PATH\""


def located(weights: str, *, model: str) -> Path:
    """Return the local file that the name `weights` stands for with the network `model`, fetched first where no cache has it.

    Raises ModelError for a network that was published without weights, an unknown tag or repository, and for weights that
    neither cache nor network can give; MissingExtraError where the library that fetches them is not installed.
    """
    if weights.startswith("hf:"):
        match = _HF.fullmatch(weights)
        if match is None:
            raise ModelError(f"weights {weights} are not written as hf:OWNER/NAME, hf:OWNER/NAME@REVISION or "
                             "hf:OWNER/NAME/FILE")
        return from_huggingface(match["name"], [match["file"]] if match["file"] else FILES, match["revision"],
                                what=f"the weights {weights!r}")
    tag = weights.removeprefix(PRETRAINED).lstrip(":")
    library, _, name = find(model).published.partition(":")
    if library not in _LIBRARIES:
        has = [entry.name for entry in MODELS.values() if entry.published]
        raise ModelError(f"network {model!r} was published without weights: train.weights names a file for it, or leave it out "
                         f"('pretrained' is for {listed(has)}, and for torchvision:, timm: and open_clip: networks)")
    path = _LIBRARIES[library](name, tag, f"the weights {weights!r} of {library}'s {name}")
    log.info("weights %r of %s are in %s", weights, model, path)
    return path


def _torchvision(name: str, tag: str, what: str) -> Path:
    from torchvision.models import get_model_weights

    entries = get_model_weights(name)
    if tag and tag not in entries.__members__:
        known = [entry.name for entry in entries]
        raise ModelError(f"torchvision's {name} has no weights {tag!r} (has: {listed(known)}).{near(tag, known)}")
    return from_url((entries[tag] if tag else entries.DEFAULT).url, what=what)


def _timm(name: str, tag: str, what: str) -> Path:
    from timm.models import get_pretrained_cfg, list_pretrained

    plain = name.split(".")[0]
    known = list_pretrained(f"{plain}.*")
    full = f"{plain}.{tag}" if tag else name
    source = get_pretrained_cfg(full, allow_unregistered=False) if full == plain or full in known else None
    if source is None or not source.has_weights:
        raise ModelError(f"timm has no weights {full!r} (has: {listed(known) or f'none for {plain}'}).{near(full, known)}")
    if source.hf_hub_id:
        files = [source.hf_hub_filename] if source.hf_hub_filename else FILES
        repository, _, revision = source.hf_hub_id.partition("@")
        return from_huggingface(repository, files, revision or None, what=what)
    return from_url(source.url, what=what)


def _open_clip(name: str, tag: str, what: str) -> Path:
    from open_clip import get_pretrained_cfg

    tags = open_clip_tags(name)
    if not tags or (tag and tag not in tags):
        raise ModelError(f"open_clip has no weights{f' {tag!r}' * bool(tag)} that fit {name} (has: "
                         f"{listed(tags, most=30) or 'none'}; those for OpenAI's activation belong to {name}-quickgelu, where "
                         f"there is one).{near(tag, tags)}")
    source = get_pretrained_cfg(name, tag or open_clip_tag(name))
    if source.get("hf_hub"):
        repository, _, file = source["hf_hub"].rpartition("/")
        # beside open_clip's file there may be timm's, whose layers have other names
        clip = [name for name in FILES if name.startswith("open_clip")]
        return from_huggingface(repository, [file] if file else [*clip, *FILES], None, what=what)
    return from_url(source["url"], what=what)


_LIBRARIES: dict[str, Callable[[str, str, str], Path]] = {"torchvision": _torchvision, "timm": _timm, "open_clip": _open_clip}


def from_url(url: str, *, what: str) -> Path:
    """Return the file at `url` in torch.hub's cache ($TORCH_HOME/hub/checkpoints), downloaded first where it is not there.

    Raises ModelError, which calls the file `what`, where it cannot be fetched.
    """
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / Path(urlparse(url).path).name
    if not path.is_file():
        log.info("downloading %s", url)
        digits = re.search(r"-([0-9a-f]{8,})\.", path.name)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), digits and digits[1], progress=False)
        except (OSError, RuntimeError, http.client.HTTPException) as error:
            raise ModelError(f"{what} cannot be fetched and are not in the cache: no {path}, and {url} gives "
                             f"{_first_line(error)}. Connect to the network, or put the file there. {REMEDY}") from None
    return path


def from_huggingface(repository: str, files: Sequence[str], revision: str | None, *, what: str) -> Path:
    """Return the first of `files` that a repository of the Hugging Face hub has, from its cache or the net.

    Raises ModelError, which calls the weights `what`, where there is none; MissingExtraError without huggingface_hub.
    """
    try:
        from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
        from huggingface_hub import errors as problems
    except ImportError:
        raise MissingExtraError("huggingface_hub", "hub") from None
    try:
        for file in files:
            held = try_to_load_from_cache(repository, file, revision=revision)
            if isinstance(held, str):
                return Path(held)
        _check_network(constants.ENDPOINT)
        for file in files:
            try:
                return Path(hf_hub_download(repository, file, revision=revision))
            except problems.RemoteEntryNotFoundError:
                continue
    except problems.HFValidationError:
        raise ModelError(f"{what}: {repository!r} is no name of a repository (OWNER/NAME)") from None
    except problems.GatedRepoError:
        raise ModelError(f"{what}: {repository} asks for consent: accept its terms on huggingface.co, then hf auth "
                         "login") from None
    except problems.RevisionNotFoundError:
        raise ModelError(f"{what}: {repository} has no revision {revision!r}") from None
    except problems.RepositoryNotFoundError:
        raise ModelError(f"{what}: there is no {repository} on Hugging Face, or it is private (hf auth login)") from None
    except (OSError, getattr(problems, "HTTPError", OSError)) as error:
        raise ModelError(f"{what} cannot be fetched and are not in the cache: no {repository} ({listed(files)}) in "
                         f"{constants.HF_HUB_CACHE}, and {constants.ENDPOINT} gives {_first_line(error)}. Connect to the "
                         f"network and run the same command again. {REMEDY}") from None
    raise ModelError(f"{what}: {repository} has none of {listed(files)}: name its file, as in hf:{repository}/FILE")


def _check_network(url: str) -> None:
    """Raise OSError at once where a server's name is not known: huggingface_hub would try for half a minute."""
    if not urllib.request.getproxies():  # a proxy looks names up by itself
        socket.getaddrinfo(urlparse(url).hostname, None)


def _first_line(error: BaseException) -> str:
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return (text or type(error).__name__)[:160].rstrip(".")
