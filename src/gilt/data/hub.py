"""Hub: collections on Hugging Face and Kaggle, fetched into those libraries' own caches and read from there.

`hf:owner/name[@revision][/folder]` and `kaggle:owner/name`. What is in the cache already is read without a network.
"""
import logging
import os
import re
from pathlib import Path

from gilt.data.containers import PARQUETS, TARS, ZIPS
from gilt.data.tree import SHEETS, SUFFIXES
from gilt.errors import MissingExtraError, TableError

log = logging.getLogger(__name__)
_HF = re.compile(r"hf:(?P<name>[\w.-]+/[\w.-]+)(?:@(?P<revision>refs/\w+/[\w.-]+|[^/@]+))?(?:/(?P<folder>[^@]+))?")
_KAGGLE = re.compile(r"kaggle:(?P<owner>[\w.-]+)/(?P<name>[\w.-]+)(?:/versions/(?P<version>\d+))?")


def fetched(place: Path | str) -> Path:
    """Return `place` as a local path; `hf:` and `kaggle:` are fetched first, unless they are in the cache.

    Raises TableError for a misspelt place, one that does not exist, or one that neither network nor cache can give, and
    MissingExtraError where the library is not installed (pip install 'gilt[hub]').
    """
    text = os.fspath(place)
    if Path(text).exists() or not text.startswith(("hf:", "kaggle:")):
        return Path(place)
    return _from_huggingface(text) if text.startswith("hf:") else _from_kaggle(text)


def _from_huggingface(place: str) -> Path:
    match = _HF.fullmatch(place.rstrip("/"))
    misspelt = f"{place} is not written as hf:owner/name, hf:owner/name@revision or hf:owner/name/folder"
    if match is None:
        raise TableError(misspelt)
    try:
        from huggingface_hub import errors as problems
        from huggingface_hub import snapshot_download
    except ImportError:
        raise MissingExtraError("huggingface_hub", "hub") from None
    folder = (match["folder"] or "").strip("/")
    before = f"{folder}/*" if folder else "*"
    endings = [*SUFFIXES, *(ending.upper() for ending in SUFFIXES), *SHEETS, *ZIPS, *TARS, *PARQUETS]
    try:
        root = Path(snapshot_download(match["name"], repo_type="dataset", revision=match["revision"],
                                      allow_patterns=[before + ending for ending in sorted(endings)]))
    except problems.HFValidationError:
        raise TableError(misspelt) from None
    except problems.GatedRepoError:
        raise TableError(f"{place} asks for consent: accept its terms on huggingface.co, then hf auth login") from None
    except problems.RevisionNotFoundError:
        raise TableError(f"{place}: the data set has no revision {match['revision']!r}") from None
    except problems.RepositoryNotFoundError:
        raise TableError(f"{place}: there is no such data set on Hugging Face, or it is private (hf auth login)") from None
    except (OSError, getattr(problems, "HTTPError", OSError)) as error:
        raise TableError(_unreachable(place, error)) from None
    if folder and not (root / folder).exists():
        inside = sorted(item.name for item in root.iterdir() if item.is_dir())
        raise TableError(f"{place}: no folder {folder!r} in the data set (in the cache: {', '.join(inside) or 'none'})")
    log.info("%s is in %s", place, root / folder)
    return root / folder


def _from_kaggle(place: str) -> Path:
    match = _KAGGLE.fullmatch(place.rstrip("/"))
    if match is None:
        raise TableError(f"{place} is not written as kaggle:owner/name or kaggle:owner/name/versions/1")
    try:
        import kagglehub
        from kagglehub import exceptions as problems
    except ImportError:
        raise MissingExtraError("kagglehub", "hub") from None
    handle = place.removeprefix("kaggle:").rstrip("/")
    try:
        root = Path(kagglehub.dataset_download(handle))
    except (problems.KaggleApiHTTPError, problems.NotFoundError, problems.BackendError, problems.CredentialError,
            problems.UnauthenticatedError, problems.DataCorruptionError) as error:
        raise TableError(f"{place}: Kaggle refuses it ({str(error).splitlines()[0]}). Is the name right? Does the data set "
                         "need a login (kagglehub.login)?") from None
    except (OSError, ValueError) as error:
        version = None if match["version"] else _newest_cached(match["owner"], match["name"])
        if version is None:
            raise TableError(_unreachable(place, error)) from None
        log.warning("Kaggle cannot be reached: version %d of %s, from the cache", version, handle)
        root = Path(kagglehub.dataset_download(f"{handle}/versions/{version}"))
    log.info("%s is in %s", place, root)
    return root


def _newest_cached(owner: str, name: str) -> int | None:
    """Return the newest version of a Kaggle data set that is wholly in kagglehub's cache, or None."""
    home = os.environ.get("KAGGLEHUB_CACHE") or Path.home() / ".cache" / "kagglehub"
    marks = (Path(home) / "datasets" / owner / name).glob("*.complete")
    return max((int(mark.stem) for mark in marks if mark.stem.isdigit()), default=None)


def _unreachable(place: str, error: BaseException) -> str:
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return (f"{place} cannot be fetched and is not in the local cache ({reason[:160]}). Connect to the network and run the "
            "same command again, or download the data set elsewhere and scan its folder")
