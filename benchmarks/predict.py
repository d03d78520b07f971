"""`gilt predict` beside a loop that takes one image at a time, on photographs from disk, as one JSON line.

    python benchmarks/predict.py [--model resnet20] [--size 64] [--images 400] [--rounds 5] [--stable] [--photographs FOLDER]

In turn, `--rounds` times, on the same files: the loop (Pillow opens and decodes, the preprocessing, the network on a batch of
one), the same loop with torch on one thread (quicker for small networks, and on a busy machine), `gilt.engine.stream`, which
`gilt predict` runs on, and decoding alone on as many threads. Loops and stream share network, preprocessing and every pixel;
`largest_difference` is that of their probabilities, `largest_logit_difference` that of their logits, as a part of the largest
logit. `share_of_decoding` is the stream's speed as a part of that of decoding alone. The network's weights are random: no
quality is measured. Times are of a warm page cache.
"""
import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from scipy.special import softmax

import gilt
from gilt.data.pixels import decode
from gilt.engine.batches import to_images
from gilt.engine.predict import image_paths
from gilt.engine.stream import Look, stream
from gilt.models.classifier import Classifier
from gilt.models.device import keep_freed_memory, machine, threads
from gilt.models.zoo import parameters

HOME = Path(__file__).resolve().parents[1]
PHOTOGRAPHS = HOME.parent / "shared" / "data" / "grocery" / "real"


def one_at_a_time(classifier: Classifier, paths: list[str]) -> np.ndarray:
    """Return logits (N, C), as a script without gilt would come by them."""
    rows, known = [], classifier.preprocessing
    for path in paths:
        with Image.open(path) as image:
            image = ImageOps.exif_transpose(image).convert("RGB")
        image = image.resize((known.size, known.size), Image.Resampling[known.resample.upper()])
        rows.append(classifier.logits(to_images(torch.from_numpy(np.array(image))[None])))
    return torch.cat(rows).numpy()


def streamed(classifier: Classifier, paths: list[str], look: Look) -> np.ndarray:
    rows = [seen.logits[0] for seen in stream(classifier, paths, look, expected=len(paths))]
    return np.stack(rows)


def decoded(classifier: Classifier, paths: list[str]) -> None:
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for _ in pool.map(lambda path: decode(Path(path), classifier.preprocessing).shape, paths):
            pass


def timed(work: Callable[[], object]) -> tuple[float, object]:
    start = time.perf_counter()
    found = work()
    return time.perf_counter() - start, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--stable", action="store_true", help="the stream tries each verdict on five changes too")
    parser.add_argument("--photographs", type=Path, default=PHOTOGRAPHS)
    args = parser.parse_args()
    if not args.photographs.is_dir():
        sys.exit(f"no photographs: {args.photographs} is not there")
    paths = image_paths([args.photographs])[:args.images]
    keep_freed_memory()
    torch.manual_seed(0)
    network = gilt.create(args.model, outputs=1, input_size=args.size).to(memory_format=torch.channels_last).eval()
    classifier = Classifier(network, args.model, ("real", "generated"), "origin", gilt.Preprocessing(size=args.size), 1)
    look = Look(stable=args.stable)
    one_at_a_time(classifier, paths[:20]), streamed(classifier, paths[:20], look), decoded(classifier, paths)  # warm
    seconds: dict[str, list[float]] = {"loop": [], "loop_on_one_thread": [], "gilt": [], "decoding": []}
    for _ in range(args.rounds):
        taken, one = timed(lambda: one_at_a_time(classifier, paths))
        seconds["loop"].append(taken)
        with threads(1):
            seconds["loop_on_one_thread"].append(timed(lambda: one_at_a_time(classifier, paths))[0])
        taken, many = timed(lambda: streamed(classifier, paths, look))
        seconds["gilt"].append(taken)
        seconds["decoding"].append(timed(lambda: decoded(classifier, paths))[0])
    times = {f"times_the_{name}": spread([slow / own for slow, own in zip(seconds[name], seconds["gilt"], strict=True)])
             for name in ("loop", "loop_on_one_thread")}
    shares = spread([alone / own for alone, own in zip(seconds["decoding"], seconds["gilt"], strict=True)])
    apart = float(np.abs(one - many).max() / np.abs(one).max())
    furthest = float(np.abs(softmax(one, 1) - softmax(many, 1)).max())
    said = {f"{name}_images_per_second": round(len(paths) / statistics.median(values), 1) for name, values in seconds.items()}
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HOME, capture_output=True, text=True).stdout.strip()
    print(json.dumps({
        "benchmark": "predict", "model": args.model, "parameters": parameters(network), "size": args.size, "n": len(paths),
        "rounds": args.rounds, "stable": args.stable, **said, **times, "share_of_decoding": shares,
        "largest_difference": furthest, "largest_logit_difference": apart,
        "commit": commit, "machine": machine(torch.device("cpu"), torch.float32)}))


def spread(values: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 2), "low": round(min(values), 2), "high": round(max(values), 2)}


if __name__ == "__main__":
    main()
