"""Which solver, how many evaluations, how much guidance: KID of made images to the val photographs, and what an image costs.

    gilt train dealt.parquet --set train.model=lenet5 --set train.epochs=12 -o judge.safetensors
    python benchmarks/samplers.py flow.safetensors dealt.parquet --model lenet5 --weights judge.safetensors [--count 40]

Prints one JSON line a setting: KID to the *val* rows (no test row is read) in the features of a classifier that was trained on
the table's training photographs, the part of the made images that it names as they were asked for, and the floor: the KID of
the training photographs to the val ones. Features are scaled to unit variance. `count` images a class.
"""
import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

import gilt
from gilt.config import FeaturesConfig
from gilt.engine.embed import embed
from gilt.evaluation.similarity_measures import kid
from gilt.generators.config import SampleConfig
from gilt.generators.generator import load_generator
from gilt.generators.sampling import generate

SETTINGS = [("euler", 12, 1.5), *((name, steps, 1.5) for steps in (8, 12, 20) for name in ("heun", "adams")),
            *(("adams", 12, guidance) for guidance in (1.0, 2.0, 3.0))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("generator", type=Path)
    parser.add_argument("table", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    table, generator = gilt.ImageTable.load(args.table).usable.real, load_generator(args.generator)
    judge, features = gilt.load_classifier(args.weights), FeaturesConfig(model=args.model, weights=str(args.weights))
    real = {part: embed(table.where(split=part), features).values_ND for part in ("train", "val")}
    scale = real["val"].std()
    floor = kid(real["train"] / scale, real["val"] / scale)
    for sampler, steps, guidance in SETTINGS if generator.config.kind == "diffusion" else [(None, None, None)]:
        sample = SampleConfig(sampler=sampler, steps=steps, guidance=guidance) if sampler else None
        with tempfile.TemporaryDirectory() as folder:
            start = time.process_time()
            generate(generator, folder, count=args.count, seed=args.seed, sample=sample)
            seconds = time.process_time() - start
            made = gilt.scan(folder)
            own = gilt.predict(judge, made).frame
            close = kid(embed(made, features).values_ND / scale, real["val"] / scale)
        named = float(np.mean(own["label"].to_numpy() == made.frame["class"].to_numpy()))
        print(json.dumps({
            "benchmark": "samplers", "generator": args.generator.name, "sampler": sampler, "steps": steps, "guidance": guidance,
            "n": len(made), "kid_to_val": round(close, 4), "floor": round(floor, 4), "named_as_asked": round(named, 3),
            "cpu_ms_an_image": round(1000 * seconds / len(made), 1)}), flush=True)


if __name__ == "__main__":
    main()
