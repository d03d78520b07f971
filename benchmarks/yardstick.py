"""One trial of the thesis's best network, timed against its own stack (Keras on TensorFlow): same folders, same hour.

    python benchmarks/yardstick.py --data ../shared/data/grocery --peer ../shared/peers --peer-python PYTHON

Runs, one after the other on an otherwise idle machine, each in a fresh process that starts from files:
  gilt            the arm `real` of examples/groceries.toml, one seed
  keras           the peer as the thesis ran it (float32, decoded anew each epoch)
  keras best      the peer's best flags (--cache --bf16)
Prints one JSON line: seconds for decoding and training (validation after each epoch included), images/s, test accuracy
with its 95 % interval over images, and the ratios. PYTHON has tensorflow-cpu; --peer holds keras_trial.py and
grocery_folders.py. `--only gilt` leaves the peer out.
"""
import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from gilt.evaluation.uncertainty import wilson
from gilt.studies.store import Store

HERE = Path(__file__).resolve().parent.parent
LAYOUTS = ("--layout", "{origin}/{split}/{class}", "--layout", "{origin}/{class}", "--source", "stem:train")


def gilt_trial(data: Path, home: Path, seed: int, epochs: int) -> dict:
    """Scan the photographs, run one trial in an empty store, and return what it took."""
    gilt = [sys.executable, "-m", "gilt"]
    subprocess.run([*gilt, "scan", str(data), *LAYOUTS, "-o", str(home / "groceries.parquet")], check=True,
                   capture_output=True)
    text = (HERE / "examples" / "groceries.toml").read_text().replace("seeds = [0, 1, 2]", f"seeds = [{seed}]")
    study = home / "real.toml"
    study.write_text(text[:text.index("[arms.ai]")])
    start = time.perf_counter()
    subprocess.run([*gilt, "study", "run", str(study), "--store", str(home / "store"), "--set", f"train.epochs={epochs}"],
                   check=True, capture_output=True)
    wall = time.perf_counter() - start
    record = Store(home / "store").records()[0]
    accuracy = record.test["metrics"]["accuracy"]
    return {"train_seconds": record.seconds["train"], "process_seconds": round(wall, 1),
            "images_per_second": round(record.n_real * epochs / record.seconds["train"], 1),
            "test_accuracy": round(accuracy["value"], 4), "low": round(accuracy["low"], 4),
            "high": round(accuracy["high"], 4), "n_test": accuracy["n"], "machine": record.machine}


def keras_trial(python: str, peer: Path, folders: Path, seed: int, epochs: int, flags: list[str]) -> dict:
    """Run the peer once and return what it printed, with an interval for its accuracy."""
    start = time.perf_counter()
    out = subprocess.run([python, str(peer / "keras_trial.py"), "--data", str(folders), "--seed", str(seed), "--epochs",
                          str(epochs), *flags], check=True, capture_output=True, text=True).stdout
    found = json.loads(out.splitlines()[-1])
    n = sum(1 for path in (folders / "test").glob("*/*"))
    low, high = wilson(round(found["test_accuracy"] * n), n)
    return found | {"process_seconds": round(time.perf_counter() - start, 1), "low": round(low, 4), "high": round(high, 4),
                    "n_test": n}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--peer", type=Path, required=True)
    parser.add_argument("--peer-python", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--only", choices=["gilt", "keras", "keras best"])
    args = parser.parse_args()
    results: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        folders = home / "folders"
        subprocess.run([args.peer_python, str(args.peer / "grocery_folders.py"), str(folders)], check=True)
        if args.only in (None, "gilt"):
            results["gilt"] = gilt_trial(args.data, home, args.seed, args.epochs)
        for kind, flags in (("keras", []), ("keras best", ["--cache", "--bf16"])):
            if args.only in (None, kind):
                results[kind] = keras_trial(args.peer_python, args.peer, folders, args.seed, args.epochs, flags)
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True).stdout.strip()
    ratios = {f"gilt / {kind}": round(results["gilt"]["train_seconds"] / results[kind]["train_seconds"], 3)
              for kind in ("keras", "keras best") if "gilt" in results and kind in results}
    print(json.dumps({"benchmark": "yardstick", "date": datetime.now(UTC).isoformat(timespec="seconds"), "commit": commit,
                      "system": platform.platform(), "seed": args.seed, "epochs": args.epochs, "ratios": ratios, **results}))


if __name__ == "__main__":
    main()
