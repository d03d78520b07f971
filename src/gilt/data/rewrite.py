"""Rewrite: many images through their recipes into one folder, in parallel, so that a killed run goes on where it was.

    FOLDER/clean.json      whose folder this is: settings, the table it came from
    FOLDER/images/         the new files, each written whole or not at all
    FOLDER/images.jsonl    one line a finished image: what it came from and the facts of its new files
    FOLDER/table.parquet   the new table
    FOLDER/log.jsonl       one line a row that changed
"""
import json
import logging
import os
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock, Timeout
from PIL import Image

from gilt.data.containers import read_image
from gilt.data.facts import measure
from gilt.data.reencode import ENDINGS, Recipe, Remade, remake
from gilt.data.table import ImageTable
from gilt.errors import ImageError, StoreError
from gilt.files import fingerprint, sha256, write_bytes, write_json, writing

MARK, IMAGES, JOURNAL, TABLE, LOG, LOCK = "clean.json", "images", "images.jsonl", "table.parquet", "log.jsonl", ".lock"
OURS, MADE_BY = {MARK, IMAGES, JOURNAL, TABLE, LOG, LOCK}, "gilt clean"
log = logging.getLogger(__name__)
_VERSION = 1  # of what a recipe makes: a change makes every image anew


@dataclass(frozen=True)
class Job:
    """One image to make anew: its `path` under the root, its hash as scanned, its recipe, and its new name's stem."""

    path: str
    sha256: str | None
    recipe: Recipe
    stem: str

    @property
    def key(self) -> str:
        """Name what comes of the job: the same for the same content, recipe and name."""
        return fingerprint([_VERSION, self.path, self.sha256, self.stem, repr(self.recipe)])


@dataclass(frozen=True)
class Outcome:
    """What came of one image: `files` (facts, with their `path` under images/) and what was `done`, or why not."""

    files: tuple[dict[str, Any], ...] = ()
    done: tuple[str, ...] = ()
    refused: str | None = None


@contextmanager
def claimed(folder: Path, table: ImageTable, settings: Mapping[str, Any]) -> Iterator[Path]:
    """Yield `folder`, made and marked as a clean's own, and held against a second run.

    Raises StoreError as `check_folder` does, and where another run is writing it.
    """
    folder = check_folder(folder, table)
    lock = FileLock(folder / LOCK)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise StoreError(f"another gilt clean is writing {folder}: wait for it, or choose another folder") from None
    try:
        write_json(folder / MARK, {"made_by": MADE_BY, "table": table.fingerprint, "root": str(table.root),
                                   "settings": dict(settings), "state": "running"})
        yield folder
    finally:
        lock.release()


def check_folder(folder: Path, table: ImageTable) -> Path:
    """Return `folder` without links. Raises StoreError where it lies in the table's root, holds the table's images, or
    anything that no clean wrote.
    """
    folder, root = Path(os.path.realpath(folder)), Path(os.path.realpath(table.root))
    _check_apart(folder, root, table)
    _check_ours(folder)
    return folder


def finish(folder: Path, result: Mapping[str, Any]) -> None:
    """Write into a claimed folder's mark that all is done, and what came of it."""
    write_json(folder / MARK, {**json.loads((folder / MARK).read_text()), "state": "finished", **result})


def _check_apart(folder: Path, root: Path, table: ImageTable) -> None:
    """Raise where writing into `folder` could touch the table's own images."""
    if folder == root or root in folder.parents:
        raise StoreError(f"{folder} lies in {root}, among the table's own images, which are never changed. Choose a folder "
                         "outside it")
    astray = table.frame["path"][table.frame["path"].str.startswith(("../", "/"))]
    inside = f"{folder}{os.sep}"
    own = f"{root}{os.sep}".startswith(f"{folder / IMAGES}{os.sep}")
    if own or (folder / IMAGES).is_symlink() or any(os.path.normpath(root / path).startswith(inside) for path in astray):
        raise StoreError(f"{folder} holds images of this table, which are never changed. Choose another folder")


def _check_ours(folder: Path) -> None:
    """Raise where `folder` is there already and holds what no clean wrote."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise StoreError(f"{folder} is a file: choose a folder")
    names = sorted(path.name for path in folder.iterdir() if path.name != LOCK)
    strangers = [name for name in names if name not in OURS and not re.fullmatch(r"\..+\.tmp", name)]
    if strangers or (names and not _marked(folder)):
        raise StoreError(f"{folder} holds what no clean wrote, such as {(strangers or names)[0]}. Choose a new folder, or "
                         "that of an earlier clean")


def _marked(folder: Path) -> bool:
    try:
        return json.loads((folder / MARK).read_text()).get("made_by") == MADE_BY
    except (OSError, ValueError, AttributeError):
        return False


def rewrite(jobs: Sequence[Job], root: Path, folder: Path, *, progress: Callable[[int, int], None] | None = None,
            threads: int | None = None) -> list[Outcome]:
    """Make each job's image anew under folder/images and return what came of it, job by job.

    An image that cannot be made is an outcome with the reason. What an earlier run finished is taken over, where its
    files are still whole. Raises StoreError where the disk is full; nothing finished is lost.
    """
    known = _journal(folder / JOURNAL)
    outcomes: list[Outcome] = []
    made = 0
    with writing(folder), open(folder / JOURNAL, "a", encoding="utf-8") as journal:
        journal.write("\n")  # ends a line that a kill cut short
        for job, outcome, new in _run(jobs, lambda job: _make(job, root, folder / IMAGES, known), threads):
            outcomes.append(outcome)
            if new:
                made += 1
                journal.write(_line(job, outcome))
                journal.flush()
            if progress:
                progress(len(outcomes), len(jobs))
    taken_over = sum(bool(outcome.files) for outcome in outcomes) - made
    if taken_over:
        log.info("%d images were finished by an earlier run", taken_over)
    _tidy(folder, jobs, outcomes, known)
    return outcomes


def _run(jobs: Sequence[Job], work: Callable[[Job], tuple[Outcome, bool]],
         threads: int | None) -> Iterator[tuple[Job, Outcome, bool]]:
    """Yield every job with its outcome, in order, a few at a time in parallel: memory holds no more than those."""
    threads = threads or min(16, os.cpu_count() or 1)
    waiting = iter(jobs)
    with ThreadPoolExecutor(threads) as pool:
        try:
            queue = deque((job, pool.submit(work, job)) for job in islice(waiting, 4 * threads))
            while queue:
                job, future = queue.popleft()
                yield (job, *future.result())
                queue.extend((job, pool.submit(work, job)) for job in islice(waiting, 1))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _make(job: Job, root: Path, images: Path, known: Mapping[str, Outcome]) -> tuple[Outcome, bool]:
    """Return what comes of one job, and whether it was made now."""
    earlier = known.get(job.key)
    if earlier and job.sha256 and all(_whole(images / file["path"], file) for file in earlier.files):
        return earlier, False
    try:
        data = read_image(root / job.path)
        if job.sha256 and sha256(data) != job.sha256:
            raise ImageError("unreadable: has changed since it was scanned; scan again")
        remade = remake(data, job.recipe)
    except ImageError as error:
        text = str(error)
        known_kind = text.split(":")[0] in ("unreadable", "crop", "grid", "equalise")
        return Outcome(refused=text if known_kind else f"unreadable: {text}"), False
    except OSError as error:
        return Outcome(refused=f"unreadable: {error.strerror or error}"), False
    if remade is None:
        return Outcome(), False
    many = len(remade.parts) > 1
    files = []
    for i, part in enumerate(remade.parts, start=1):
        name = f"{job.stem}{f'_{i}' if many else ''}{_ending(job.path, remade)}"
        write_bytes(images / name, part)
        files.append({"path": name, **measure(part), "modified": (images / name).stat().st_mtime_ns})
    return Outcome(tuple(files), remade.done), True


def _ending(path: str, made: Remade) -> str:
    """Return the file's own ending where it is a copy or of the same format, else the format's."""
    formats = Image.registered_extensions()
    own = PurePosixPath(path).suffix
    fits = own.lower() in formats if "copied" in made.done else formats.get(own.lower()) == made.format
    return own if fits and "equalised" not in made.done else ENDINGS.get(made.format, f".{made.format.lower()}")


def _whole(path: Path, file: Mapping[str, Any]) -> bool:
    try:
        return path.stat().st_size == file["bytes"] and sha256(path.read_bytes()) == file["sha256"]
    except OSError:
        return False


def _line(job: Job, outcome: Outcome) -> str:
    return json.dumps({"key": job.key, "from": job.path, "done": outcome.done, "files": outcome.files}) + "\n"


def _journal(path: Path) -> dict[str, Outcome]:
    """Return key -> outcome of what earlier runs finished; a line that a kill cut short counts as unwritten."""
    known: dict[str, Outcome] = {}
    with suppress(FileNotFoundError), open(path, encoding="utf-8") as lines:
        for line in lines:
            with suppress(ValueError, KeyError, TypeError):
                entry = json.loads(line)
                known[entry["key"]] = Outcome(tuple(entry["files"]), tuple(entry["done"]))
    return known


def _tidy(folder: Path, jobs: Sequence[Job], outcomes: Sequence[Outcome], known: Mapping[str, Outcome]) -> None:
    """Remove what earlier runs wrote and this one did not, and say in the journal only what is there."""
    made = [(job, outcome) for job, outcome in zip(jobs, outcomes, strict=True) if outcome.files]
    now = {file["path"] for _, outcome in made for file in outcome.files}
    before = {file["path"] for outcome in known.values() for file in outcome.files}
    for name in before - now:
        if ".." not in Path(name).parts and not Path(name).is_absolute():  # a journal is a file like any other
            (folder / IMAGES / name).unlink(missing_ok=True)
            with suppress(OSError):  # a folder that still holds something stays
                for above in Path(name).parents:
                    (folder / IMAGES / above).rmdir()
    for left in (folder / IMAGES).rglob(".*.tmp"):  # of a killed run
        left.unlink(missing_ok=True)
    write_bytes(folder / JOURNAL, "".join(_line(job, outcome) for job, outcome in made).encode())
