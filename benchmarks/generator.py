"""Our own generators: images a second of training and of making, as JSON lines.

    python benchmarks/generator.py [--device cpu|cuda] [--size 32 64] [--kind gan diffusion] [--set width=64] [--seconds 20]

Each line is one generator at one size, with the settings that 3,000 colour images bring (`--set` changes them): the median of
the images a second of training over blocks of steps that together take about --seconds, and of making images. The pixels are
noise: what is learnt does not matter for the time. Loading diffusers and torch is not counted. No quality is measured here.
"""
import argparse
import json
import statistics
import subprocess
import time

import torch

from gilt.generators.config import GeneratorConfig
from gilt.generators.draws import Draws
from gilt.generators.generator import AT_ONCE, Generator
from gilt.generators.training import KINDS
from gilt.models.device import keep_freed_memory, machine, pick_device, pick_precision
from gilt.settings import override, parse

BLOCK = 16  # steps a block: one penalty of the GAN in each


def wait(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def trained(config: GeneratorConfig, device: torch.device, seconds: float) -> tuple[list[float], Generator]:
    """Return images a second, block by block, and the generator."""
    precision = pick_precision(config.precision, device)
    learner = KINDS[config.kind](config, classes=10, channels=3, device=device, precision=precision)
    images = torch.rand(config.batch_size, 3, config.size, config.size, device=device) * 2 - 1
    labels = torch.arange(config.batch_size, device=device) % 10
    speeds, step, begin = [], 0, wait(device)
    while len(speeds) < 3 or time.perf_counter() - begin < seconds:
        start = wait(device)
        for _ in range(BLOCK):
            learner.step(images, labels, Draws(0, step, device), step)
            step += 1
        speeds.append(BLOCK * config.batch_size / (wait(device) - start))
    names = tuple(str(i) for i in range(10))
    return speeds[1:], Generator(learner.average.network.eval(), config, names, "RGB", {}, ())


def made(generator: Generator, device: torch.device, seconds: float) -> list[float]:
    """Return images a second, call by call; the first is left out."""
    speeds, count, begin = [], AT_ONCE[device.type], time.perf_counter()
    while len(speeds) < 4 or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        generator.images([(str(i % 10), i) for i in range(count)])
        speeds.append(count / (time.perf_counter() - start))
    return speeds[1:]


def spread(speeds: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(speeds), 1), "low": round(min(speeds), 1), "high": round(max(speeds), 1),
            "n": len(speeds)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--size", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--kind", nargs="+", default=["gan", "diffusion"], choices=list(KINDS))
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--seconds", type=float, default=20)
    args = parser.parse_args()
    device = pick_device(args.device)
    if device.type == "cpu":
        keep_freed_memory()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    for kind in args.kind:
        for size in args.size:
            given = parse(GeneratorConfig, override({"kind": kind, "size": size}, args.set), where="--set")
            config = given.resolved(images=3000, side=size)
            torch.manual_seed(0)
            training, generator = trained(config, device, args.seconds)
            print(json.dumps({
                "benchmark": "generator", "kind": kind, "size": size, "width": config.width, "patch": config.patch,
                "batch_size": config.batch_size, "sample": config.sample.model_dump() if kind == "diffusion" else None,
                "parameters": sum(value.numel() for value in generator.network.parameters()),
                "training_images_per_second": spread(training),
                "made_images_per_second": spread(made(generator, device, args.seconds / 2)),
                "commit": commit, "machine": machine(device, pick_precision(config.precision, device))}), flush=True)


if __name__ == "__main__":
    main()
