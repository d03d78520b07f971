"""Make the embedded sample: real Fashion-MNIST photographs and images from a generator trained on them.

    python scripts/make_sample.py train    # about an hour on 2 cores; resumes after a kill
    python scripts/make_sample.py sample   # about 6 minutes
    python scripts/make_sample.py pack     # writes src/gilt/sample/sample.zip

Needs `pip install -e '.[generate]'` and the four Fashion-MNIST files (MIT licence), which Debian's package
`dataset-fashion-mnist` puts under /usr/share/datasets/fashion-mnist (another folder: --source).

The generator is a class-conditional flow-matching U-Net (Lipman et al. 2023, arXiv:2210.02747) with
classifier-free guidance (Ho & Salimans 2022, arXiv:2207.12598), on diffusers' `UNet2DModel`, over images folded
from 1x28x28 to 4x14x14. It sees the sample's *training* rows and nothing else: 300 photographs a class. Validation
rows are later rows of the same file; test rows come from the set's own test file. Seed 0 everywhere.

Shapes: B batch; images_B1HW float32 in [-1, 1].
"""
import argparse
import gzip
import io
import time
import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np

CLASSES = ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle-boot")
ROWS = {"train": 300, "val": 50, "test": 150}  # photographs a class
GENERATED = 300  # images a class
GENERATOR = "flow-unet"
STEPS, BATCH, RATE, SEED = 6000, 64, 1e-3, 0
SCHEDULE = 8000  # steps of the one-cycle schedule; training ends before the learning rate does
SAMPLER_STEPS, GUIDANCE = 12, 1.5
NO_CLASS = len(CLASSES)  # the label that stands for "any class" (classifier-free guidance)
SHOES = (5, 7, 9)  # they all point left: never flipped
HERE = Path(__file__).resolve().parent.parent


def read_idx(path: Path) -> np.ndarray:
    """Return the array in a gzipped IDX file: uint8 (N, 28, 28) images or (N,) labels."""
    raw = gzip.decompress(path.read_bytes())
    shape = [int.from_bytes(raw[4 + 4 * i: 8 + 4 * i], "big") for i in range(raw[3])]
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape)


def photographs(source: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return split -> (images uint8 (N, 28, 28), labels (N,)): the first rows of each class, in file order."""
    def read(part):
        return read_idx(source / f"{part}-images-idx3-ubyte.gz"), read_idx(source / f"{part}-labels-idx1-ubyte.gz")

    files = {"train": read("train"), "test": read("t10k")}
    places = {"train": ("train", 0), "val": ("train", ROWS["train"]), "test": ("test", 0)}
    splits = {}
    for split, (file, first) in places.items():
        images, labels = files[file]
        rows = np.concatenate([np.flatnonzero(labels == c)[first:first + ROWS[split]] for c in range(len(CLASSES))])
        splits[split] = (images[rows], labels[rows])
    return splits


def network():
    from diffusers import UNet2DModel

    return UNet2DModel(
        sample_size=14, in_channels=4, out_channels=4, block_out_channels=(64, 128), layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        num_class_embeds=len(CLASSES) + 1, norm_num_groups=8, attention_head_dim=32)


def train(source: Path, work: Path) -> None:
    """Train the generator on the training photographs; keep an exponential average of its weights in `work`."""
    import torch
    from torch.nn.functional import pixel_unshuffle

    torch.manual_seed(SEED)
    images, labels = photographs(source)["train"]
    images_B1HW = torch.from_numpy(images.copy()).float()[:, None] / 127.5 - 1
    labels_B = torch.from_numpy(labels.astype(np.int64))
    flippable_B = ~torch.isin(labels_B, torch.tensor(SHOES))
    net = network().to(memory_format=torch.channels_last)
    average = torch.optim.swa_utils.AveragedModel(net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.999))
    optimizer = torch.optim.AdamW(net.parameters(), RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=SCHEDULE, pct_start=0.05)
    saved, first = work / "generator.pt", 0
    if saved.exists():
        state = torch.load(saved, weights_only=True)
        for part, key in ((net, "net"), (average, "average"), (optimizer, "optimizer"), (schedule, "schedule")):
            part.load_state_dict(state[key])
        first = state["step"]
    start, losses = time.time(), []
    for step in range(first, STEPS):
        rng = torch.Generator().manual_seed(SEED * 1_000_003 + step)  # a resumed run draws what the whole run would
        rows = torch.randint(len(labels_B), (BATCH,), generator=rng)
        x, y = images_B1HW[rows], labels_B[rows].clone()
        flip = (torch.rand(BATCH, generator=rng) < 0.5) & flippable_B[rows]
        x = pixel_unshuffle(torch.where(flip[:, None, None, None], x.flip(3), x), 2)
        y[torch.rand(BATCH, generator=rng) < 0.1] = NO_CLASS
        noise = torch.randn(x.shape, generator=rng)
        t = torch.sigmoid(torch.randn(BATCH, generator=rng))[:, None, None, None]
        with torch.autocast("cpu", torch.bfloat16):
            velocity = net(((1 - t) * x + t * noise).to(memory_format=torch.channels_last), t.flatten() * 1000, y).sample
        loss = (velocity.float() - (noise - x)).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        average.update_parameters(net)
        losses.append(loss.item())
        if (step + 1) % 100 == 0:
            speed = (step + 1 - first) * BATCH / (time.time() - start)
            print(f"step {step + 1}/{STEPS}  loss {np.mean(losses[-100:]):.4f}  {speed:.0f} img/s", flush=True)
        if (step + 1) % 500 == 0:
            torch.save({"net": net.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict(),
                        "schedule": schedule.state_dict(), "step": step + 1}, work / "generator.tmp")
            (work / "generator.tmp").replace(saved)


def sample(work: Path, *, a_class: int = GENERATED) -> None:
    """Draw `a_class` images of each class with Heun's method and save them as uint8 (N, 28, 28) in `work`."""
    import torch
    from torch.nn.functional import pixel_shuffle

    net = network()
    average = torch.optim.swa_utils.AveragedModel(net)
    average.load_state_dict(torch.load(work / "generator.pt", weights_only=True)["average"])
    net = average.module.eval().to(memory_format=torch.channels_last)
    rng = torch.Generator().manual_seed(SEED)
    labels = torch.arange(len(CLASSES)).repeat_interleave(a_class)
    times = torch.linspace(1, 0, SAMPLER_STEPS + 1)

    @torch.inference_mode()
    def velocity(x, t, y):
        both = torch.cat([x, x]).to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            out = net(both, torch.full((len(both),), float(t) * 1000), torch.cat([y, torch.full_like(y, NO_CLASS)])).sample
        with_class, without = out.float().chunk(2)
        return without + GUIDANCE * (with_class - without)

    made = []
    for y in labels.split(100):
        x = torch.randn(len(y), 4, 14, 14, generator=rng)
        for now, then in pairwise(times):
            slope = velocity(x, now, y)
            guess = x + (then - now) * slope
            x = guess if then == 0 else x + (then - now) * (slope + velocity(guess, then, y)) / 2
        made.append(((pixel_shuffle(x, 2)[:, 0].clamp(-1, 1) + 1) * 127.5).round().byte().numpy())
        print(f"{sum(map(len, made))}/{len(labels)} images", flush=True)
    np.savez(work / "generated.npz", images=np.concatenate(made), labels=labels.numpy())


def pack(source: Path, work: Path, to: Path) -> None:
    """Write the sample as PNG files in one zip: real/{split}/{class}/ and {generator}/{class}/."""
    from PIL import Image

    to.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(to, "w") as archive:
        def add(name, image):
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "PNG", optimize=True)
            archive.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), buffer.getvalue())

        for split, (images, labels) in photographs(source).items():
            for i, (image, label) in enumerate(zip(images, labels, strict=True)):
                add(f"real/{split}/{CLASSES[label]}/{i % ROWS[split]:03d}.png", image)
        generated = np.load(work / "generated.npz")
        for i, (image, label) in enumerate(zip(generated["images"], generated["labels"], strict=True)):
            add(f"{GENERATOR}/{CLASSES[label]}/g{i % GENERATED:03d}.png", image)
    print(f"{to}: {to.stat().st_size / 1e6:.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=["train", "sample", "pack"])
    parser.add_argument("--source", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--work", type=Path, default=HERE / "build" / "sample")
    parser.add_argument("--to", type=Path, default=HERE / "src" / "gilt" / "sample" / "sample.zip")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    if args.stage == "train":
        train(args.source, args.work)
    elif args.stage == "sample":
        sample(args.work)
    else:
        pack(args.source, args.work, args.to)


if __name__ == "__main__":
    main()
