"""Make a sample of groceries: real photographs at 48 pixels, and images of a generator that learnt from them alone.

    python scripts/make_groceries.py photographs GROCERIES   # build/groceries/images/real/{split}/{class}/
    gilt scan build/groceries/images --layout '{origin}/{split}/{class}' -o build/groceries/photographs.parquet
    gilt generate train build/groceries/photographs.parquet --config scripts/groceries-flow.toml \\
        -o build/groceries/flow.safetensors
    gilt generate sample build/groceries/flow.safetensors -o build/groceries/made --count 100 --origin flow --guidance 3
    python scripts/make_groceries.py add                                        # as JPEG, into build/groceries/images/flow
    gilt scan build/groceries/images --layout '{origin}/{split}/{class}' --layout '{origin}/{class}' \\
        -o build/groceries/groceries-48.parquet

GROCERIES is the folder of the data set that holds train, val and test. Guidance 3 was chosen on the val photographs, by

    gilt train build/groceries/photographs.parquet --set train.model=mobilenet_v2 --set train.weights=WEIGHTS \\
        --set train.frozen=true --set train.image_size=96 --set train.steps=600 --set train.batch_size=100 \\
        -o build/groceries/judge.safetensors
    python benchmarks/samplers.py build/groceries/flow.safetensors build/groceries/photographs.parquet \\
        --model mobilenet_v2 --weights build/groceries/judge.safetensors --count 20

Then the bar of docs/sample.md, with W for MobileNetV2's features at 96 pixels as in benchmarks/RESULTS.md:

    gilt similarity build/groceries/groceries-48.parquet W
    gilt study run scripts/groceries-bar.toml --data build/groceries/groceries-48.parquet --store build/groceries/bar
    gilt study compare build/groceries/bar --part val

The photographs are those of the Grocery Store data set (Klasson, Zhang, Kjellström 2019; MIT licence), of its ten classes with
the most training photographs, in its own split. Every image is cut to a square, made 48 pixels small and written with the same
JPEG encoder, the generated ones as well: the files give nothing away but what they show.
"""
import argparse
import csv
import shutil
from pathlib import Path

from PIL import Image

CLASSES = ("Apple", "Juice", "Melon", "Milk", "Pear", "Pepper", "Potato", "Satsumas", "Tomato", "Yoghurt")
MOST = {"train": 150, "val": 30, "test": 60}  # photographs a class; where there are more, every so-manieth is taken
SIDE, QUALITY = 48, 85
GENERATOR = "flow"
HERE = Path(__file__).resolve().parent.parent


def small(path: Path) -> Image.Image:
    """Return the middle square of an image, SIDE pixels wide."""
    with Image.open(path) as image:
        image = image.convert("RGB")
    edge = min(image.size)
    left, top = (image.width - edge) // 2, (image.height - edge) // 2
    return image.resize((SIDE, SIDE), Image.Resampling.LANCZOS, box=(left, top, left + edge, top + edge))


def write(image: Image.Image, path: Path) -> None:
    """Write a JPEG file, without anything but pixels in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, "JPEG", quality=QUALITY)


def photographs(source: Path, to: Path) -> None:
    """Write the photographs of CLASSES as `to`/real/{split}/{class}/{name}.jpg."""
    for split, most in MOST.items():
        for name in CLASSES:
            files = sorted((source / split / name).glob("*.jpg"))
            step = max(1.0, len(files) / most)
            for i in range(min(most, len(files))):
                file = files[int(i * step)]
                write(small(file), to / "real" / split / name / file.name)


def add(made: Path, to: Path) -> None:
    """Write the generated images as JPEG files, with their manifest and the list of what the generator saw."""
    shutil.rmtree(to / GENERATOR, ignore_errors=True)
    with (made / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        with Image.open(made / row["path"]) as image:
            row["path"] = str(Path(row["path"]).with_suffix(".jpg"))
            write(image.convert("RGB"), to / GENERATOR / row["path"])
    with (to / GENERATOR / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    shutil.copy(made / "saw.txt", to / GENERATOR / "saw.txt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=["photographs", "add"])
    parser.add_argument("source", type=Path, nargs="?", help="photographs: the data set's folder with train, val and test")
    parser.add_argument("--work", type=Path, default=HERE / "build" / "groceries")
    args = parser.parse_args()
    if args.stage == "photographs":
        photographs(args.source, args.work / "images")
    else:
        add(args.work / "made", args.work / "images")


if __name__ == "__main__":
    main()
