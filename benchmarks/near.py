"""Near-duplicates: which changes of a photograph the search still sees through.

    python benchmarks/near.py --data ../shared/data/grocery

Takes every ninth training photograph, at most 290, changes it in one way, and prints one JSON line a change: the part that the
hash proposes among the originals, and the part whose details agree.
"""
import argparse
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from gilt.data import near
from gilt.data.facts import LUMA, measure, reduced, small


def crop(left, top, right, bottom):
    return lambda p: p.crop((int(left * p.width), int(top * p.height),
                             int((1 - right) * p.width), int((1 - bottom) * p.height)))


CHANGES = {
    "quality 30": lambda p: p, "half the size": lambda p: p.resize((p.width // 2, p.height // 2)),
    "stretched to a square": lambda p: p.resize((256, 256)),
    "mirrored": lambda p: p.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "darker": lambda p: p.point(lambda v: v * 0.6), "gamma 0.6": lambda p: p.point(lambda v: 255 * (v / 255) ** 0.6),
    "3 % off each side": crop(.03, .03, .03, .03), "5 % off each side": crop(.05, .05, .05, .05),
    "8 % off the bottom": crop(0, 0, 0, .08), "10 % off left and bottom": crop(.1, 0, 0, .1),
    "10 % off each side": crop(.1, .1, .1, .1)}


def seen(picture: Image.Image, quality: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the hash, as a unit vector, and the thumbnail of a picture saved as JPEG."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    values = np.frombuffer(bytes.fromhex(measure(buffer.getvalue())["phash"]), np.int8).astype(float)
    luma = np.asarray(reduced(Image.open(buffer), 2 * near.SIDE), np.float32) @ LUMA
    return values / np.linalg.norm(values), np.round(small(luma, near.SIDE)).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    paths = sorted((parser.parse_args().data / "real" / "train").glob("*/*.jpg"))[::9][:290]
    pictures = [Image.open(path).convert("RGB") for path in paths]
    originals = [seen(picture, 75) for picture in pictures]
    count, hashes = len(pictures), np.stack([vector for vector, _ in originals])
    for name, change in CHANGES.items():
        changed = [seen(change(picture), 30 if name == "quality 30" else 75) for picture in pictures]
        mirrored = name == "mirrored"
        like = np.stack([vector for vector, _ in changed]) * (near._MIRROR if mirrored else 1) @ hashes.T
        own = np.diag(like)
        proposed = (own >= near.LIKE) & ((like > own[:, None]).sum(1) < near.MOST)
        thumbs = np.stack([thumb for _, thumb in originals + changed])
        agree = near.agreement(thumbs, np.stack([np.arange(count), count + np.arange(count)], 1), np.full(count, mirrored))
        print(json.dumps({"change": name, "n": count, "proposed": round(float(proposed.mean()), 3),
                          "agree": round(float((agree >= near.SAME).mean()), 3)}))


if __name__ == "__main__":
    main()
