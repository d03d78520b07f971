"""Large collections: how long a scan and an audit take, and how much memory.

    python benchmarks/collection.py --data ../shared/data/cifar10 [--million ROWS] [--work FOLDER]

Without --million: `gilt scan` of CIFAR-10's 60,000 images in Parquet, the same scan again (nothing is new), and `gilt audit`,
each a fresh process. With --million ROWS: `gilt audit` of a table of ROWS images of 32 x 32 pixels that are made first, each
the mean of two of CIFAR-10's, with one row in 200 a copy of another (encoded anew at quality 60, a pixel cut off each side,
darker), so that it is known which near-duplicates there are. Their table is made with the images, not scanned: the same
perceptual hash, and statistics that are quick to work out. Prints one JSON line: seconds and peak memory of each command, and
what was found. DATA holds train.parquet and test.parquet.
"""
import argparse
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from gilt.data.facts import LUMA, perceptual_hash
from gilt.data.table import ImageTable
from gilt.files import sha256

HERE = Path(__file__).resolve().parent.parent
SHARD = 20_000  # rows a Parquet file
COPIED = 200  # one row in so many is a copy


def timed(words: list[str]) -> dict:
    """Run gilt with `words` in a fresh process; return its seconds, its output, and the peak memory of it and its workers."""
    start, peak = time.perf_counter(), {}
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen([sys.executable, "-m", "gilt", *words], stdout=out, stderr=subprocess.DEVNULL)
        while process.poll() is None:
            for pid in [process.pid, *children(process.pid)]:
                peak[pid] = max(peak.get(pid, 0), resident(pid))
            time.sleep(0.1)
        if process.returncode:
            raise SystemExit(f"gilt {' '.join(words)} failed: {process.returncode}")
        out.seek(0)
        return {"seconds": round(time.perf_counter() - start, 1), "peak_mib": sum(peak.values()) // 1024,
                "out": out.read().decode()}


def children(pid: int) -> list[int]:
    """Return the processes that a process started."""
    tasks = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in tasks.read_text().split()] if tasks.exists() else []


def resident(pid: int) -> int:
    """Return the most memory that a process has had resident, in KiB."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def decoded(data: Path) -> np.ndarray:
    """Return CIFAR-10 as uint8 (N, 32, 32, 3)."""
    rows = (row["bytes"] for name in ("train", "test") for batch in pq.ParquetFile(data / f"{name}.parquet").iter_batches(
        2000, columns=["image"]) for row in batch.column("image").to_pylist())
    return np.stack([np.asarray(Image.open(io.BytesIO(row)).convert("RGB")) for row in rows])


def encoded(pixels: np.ndarray, quality: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def shard(pixels: np.ndarray, folder: Path, number: int, rows: int) -> pd.DataFrame:
    """Write one Parquet file of `rows` images, the last of each COPIED a copy of the one before it; return their facts."""
    rng = np.random.default_rng(number)
    first, second = rng.integers(0, len(pixels), (2, rows))
    images = ((pixels[first].astype(np.uint16) + pixels[second]) // 2).astype(np.uint8)
    contents = [encoded(image, 90) for image in images]
    for i in range(COPIED - 1, rows, COPIED):
        contents[i] = encoded((images[i - 1][1:-1, 1:-1] * 0.85).astype(np.uint8), 60)
        images[i] = np.asarray(Image.open(io.BytesIO(contents[i])).resize((32, 32)))
    name = f"train-{number:05}.parquet"
    pq.write_table(pa.table({"image": pa.array([{"bytes": c, "path": None} for c in contents])}), folder / name,
                   row_group_size=2000)
    luma = images @ LUMA / 255
    channels = images.mean((1, 2)) / 255
    sharp = np.abs(np.diff(luma, axis=1)).mean((1, 2)) / luma.std((1, 2)).clip(1e-3)
    return pd.DataFrame({
        "path": [f"{name}/{i:07}" for i in range(rows)], "class": rng.choice(list("abcdefghij"), rows), "origin": "real",
        "split": np.where(rng.random(rows) < 0.1, "test", "train"), "width": 32, "height": 32, "format": "JPEG", "mode": "RGB",
        "quality": 90, "bytes": [len(c) for c in contents], "sha256": [sha256(c) for c in contents],
        "phash": [perceptual_hash(picture) for picture in luma], "brightness": luma.mean((1, 2)),
        "contrast": luma.std((1, 2)), "red": channels[:, 0], "green": channels[:, 1], "blue": channels[:, 2],
        "saturation": (images.max(3) - images.min(3)).mean((1, 2)) / 255, "sharpness": sharp, "flat": 0.05, "seam": 0.0})


def made(data: Path, folder: Path, rows: int) -> None:
    """Write ROWS images as Parquet files under `folder`, and their table beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = decoded(data)
    counts = [min(SHARD, rows - first) for first in range(0, rows, SHARD)]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        frames = list(pool.map(shard, [pixels] * len(counts), [folder] * len(counts), range(len(counts)), counts))
    ImageTable(pd.concat(frames, ignore_index=True), folder).save(folder.with_suffix(".table"))


def planted(audit: dict, rows: int) -> dict:
    """Return how many of the planted copies the audit's groups hold together with their original."""
    group = {path: number for finding in audit["findings"] if finding["check"] == "near-duplicates"
             for number, paths in enumerate(finding["groups"]) for path in paths}
    names = [[f"train-{first // SHARD:05}.parquet/{i - first:07}" for i in (copy - 1, copy)]
             for copy in range(COPIED - 1, rows, COPIED) for first in [copy // SHARD * SHARD]]
    found = sum(a in group and group[a] == group.get(b) for a, b in names)
    return {"planted": len(names), "planted_found": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--million", type=int, metavar="ROWS")
    parser.add_argument("--work", type=Path, help="keep the made images and tables here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as spare:
        work = options.work or Path(spare)
        if options.million:
            images = work / f"images-{options.million}"
            table, steps = images.with_suffix(".table"), {}
            if not table.exists():
                made(options.data, images, options.million)
        else:
            table = work / "collection.parquet"
            table.unlink(missing_ok=True)
            scan = ["scan", str(options.data), "--layout", "huggingface", "--constant", "origin=real", "-o", str(table)]
            steps = {"scan": timed(scan), "scan_again": timed(scan)}
        steps["audit"] = timed(["audit", str(table), "--json"])
        audit = json.loads(steps["audit"]["out"])
        findings = {f["check"]: f["details"] for f in audit["findings"] if f["check"] in ("near-duplicates", "leaks")}
        result = {"benchmark": "collection", "rows": audit["n"], "table_mib": table.stat().st_size // 2**20,
                  **{name: {k: v for k, v in step.items() if k != "out"} for name, step in steps.items()},
                  "found": findings, **(planted(audit, options.million) if options.million else {}),
                  "commit": subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True,
                                           text=True).stdout.strip(),
                  "machine": f"{platform.machine()}, {os.cpu_count()} cores", "python": platform.python_version(),
                  "when": datetime.now(UTC).strftime("%Y-%m-%d")}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
