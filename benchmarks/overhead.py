"""What the machinery of a study costs, and what a second worker brings. One JSON line a measurement.

    python benchmarks/overhead.py            about 20 minutes on two idle cores
    python benchmarks/overhead.py --quick    about 3: short trials; its shares are still of a trial of --seconds

`overhead`: a study of 4 trials of about --seconds each. All that is not training or predicting is counted: dealing and mixing
rows, hashing, writing rows, predictions, heartbeats and records, the bootstrap of the metrics (`trial`, seconds a trial),
loading the table and rehearsing every arm (`study`, once), starting Python with torch (`start`, which any training needs).
`share` is per cent of a trial of --seconds: the trial's own part, and with a twelfth of what is paid once in a study of 12.

`workers`: the same 4 trials, a quarter as long, with 1 worker on all cores and with 2 workers on half of them each, in turns:
trials an hour from the first one's start to the last one's end, and the ratio of the medians of --repeats. CPU seconds stand
beside wall seconds; `load` is the machine's before it began: above 0.5 somebody else is at work, and the ratio is worth little.
Images are noise of two classes, drawn anew; what they hold changes no time.
"""
import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent.parent
STARTED = time.perf_counter(), time.process_time()
KINDS = {"lenet5": (32, 2000, 500), "thesis2": (128, 300, 60)}  # network: pixels, photographs, generated images
TRIALS = 4
STUDY = """
name = "overhead"
seeds = [0, 1]
[base]
table = "{table}"
[base.train]
model = "{model}"
image_size = {size}
epochs = {epochs}
[arms.real]
[arms.aug]
mix.mode = "add"
"""


def draw(folder: Path, model: str) -> Path:
    """Write the images and their table; return the table's file."""
    import gilt

    size, real, generated = KINDS[model]
    rng = np.random.default_rng(0)
    for origin, count in (("real", real), ("painter", generated)):
        for i in range(count):
            path = folder / origin / "ab"[i % 2] / f"{origin}-{i:05}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 200 + 55 * (i % 2), (size, size, 3), dtype=np.uint8)).save(path)
    table = folder / "table.parquet"
    gilt.scan(folder, "{origin}/{class}").save(table)
    return table


def clocks() -> tuple[float, float]:
    """Return seconds of wall and of CPU, of this process and of those that it has waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter(), time.process_time() + children.ru_utime + children.ru_stime


def minus(one: tuple[float, float], other: tuple[float, float]) -> list[float]:
    """Return the difference of two readings of the clocks."""
    return [one[0] - other[0], one[1] - other[1]]


def child(file: Path, store: Path, workers: int) -> None:
    """Run a study, and print what its parts took."""
    import gilt
    from gilt.studies import trial as road
    from gilt.studies.executors import Executor
    from gilt.studies.runner import Watch

    spent = {"train": [0.0, 0.0], "predict": [0.0, 0.0]}

    def timed(name, function):
        def call(*arguments, **named):
            before = clocks()
            try:
                return function(*arguments, **named)
            finally:
                spent[name] = [a + b for a, b in zip(spent[name], minus(clocks(), before), strict=True)]
        return call

    road.train, road.predict = timed("train", road.train), timed("predict", road.predict)
    study, loaded = gilt.Study.load(file), clocks()
    first: list[tuple[float, float]] = []
    last = []
    records = gilt.run_study(study, store, executor=Executor(workers=workers), watch=Watch(
        start=lambda *_: first.append(clocks()), done=lambda _: last.append(clocks())))
    end = clocks()
    print(json.dumps({
        "start": minus(loaded, STARTED), "study": minus(first[0], loaded), "trials": minus(last[-1], first[0]), **spent,
        "cpu": end[1], "seconds": [record.seconds["total"] for record in records], "threads": records[0].machine["threads"],
        "epoch": median(epoch["seconds"] for record in records for epoch in record.history[1:])}))


def run(table: Path, model: str, epochs: int, workers: int) -> dict:
    """Run the study in a fresh process; its store is thrown away, but not the decoded images of a run before."""
    with tempfile.TemporaryDirectory() as name:
        file, store = Path(name) / "study.toml", Path(name) / "store"
        file.write_text(STUDY.format(table=table, model=model, size=KINDS[model][0], epochs=epochs))
        pixels = table.parent / "pixels"
        if pixels.exists():
            store.mkdir()
            (store / "pixels").symlink_to(pixels)
        done = subprocess.run([sys.executable, __file__, "--child", str(file), str(store), str(workers)], capture_output=True,
                              text=True)
        if done.returncode:
            raise SystemExit(done.stderr)
        if not pixels.exists():
            (store / "pixels").rename(pixels)
        return json.loads(done.stdout)


def overhead(table: Path, model: str, epochs: int, seconds: float) -> dict:
    """Return what is paid beside training and predicting, in seconds of wall and of CPU, and as shares of a trial."""
    found = run(table, model, epochs, 1)
    trial = [(found["trials"][i] - found["train"][i] - found["predict"][i]) / TRIALS for i in (0, 1)]
    line = {"epochs": epochs, "trial_seconds": round(sum(found["seconds"]) / TRIALS, 2), "threads": found["threads"]}
    for i, clock in enumerate(("wall", "cpu")):
        parts = {"trial": trial[i], "study": found["study"][i], "start": found["start"][i]}
        line |= {f"{name}_{clock}": round(value, 3) for name, value in parts.items()}
        line[f"share_{clock}"] = round(100 * trial[i] / seconds, 2)
        line[f"share_of_12_{clock}"] = round(100 * (trial[i] + (parts["study"] + parts["start"]) / 12) / seconds, 2)
    return line


def workers(table: Path, model: str, epochs: int, repeats: int) -> dict:
    """Return trials an hour with one worker on all cores and with two on half of them, and CPU seconds a trial."""
    runs: dict[int, list[dict]] = {1: [], 2: []}
    for _ in range(repeats):
        for count in (1, 2):
            runs[count].append(run(table, model, epochs, count))
    hourly = {count: [round(3600 * TRIALS / found["trials"][0]) for found in several] for count, several in runs.items()}
    return {"epochs": epochs, "repeats": repeats, "trials_an_hour": hourly,
            "threads": {count: several[0]["threads"] for count, several in runs.items()},
            "ratio": round(median(hourly[2]) / median(hourly[1]), 2),
            "cpu_seconds": {count: round(median(found["cpu"] for found in several), 1) for count, several in runs.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seconds", type=float, default=60.0, help="a trial's length [60]")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--models", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--only", choices=["overhead", "workers"])
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(Path(args.child[0]), Path(args.child[1]), int(args.child[2]))
        return
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True).stdout.strip()
    for model in args.models:
        with tempfile.TemporaryDirectory() as name:
            table = draw(Path(name), model)
            load = round(os.getloadavg()[0], 1)
            probe = run(table, model, 3, 1)  # decodes, and tells how long an epoch takes
            epochs = max(2, round((10.0 if args.quick else args.seconds) / probe["epoch"]))
            head = {"benchmark": "overhead", "date": datetime.now(UTC).isoformat(timespec="seconds"), "commit": commit,
                    "system": platform.platform(), "cores": os.cpu_count(), "load": load, "model": model,
                    "pixels": KINDS[model][0], "images": sum(KINDS[model][1:])}
            if args.only != "workers":
                print(json.dumps(head | {"part": "overhead", **overhead(table, model, epochs, args.seconds)}), flush=True)
            if args.only != "overhead":
                repeats, short = (1 if args.quick else args.repeats), max(2, epochs // 4)
                print(json.dumps(head | {"part": "workers", **workers(table, model, short, repeats)}), flush=True)


if __name__ == "__main__":
    main()
