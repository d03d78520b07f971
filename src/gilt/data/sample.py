"""The embedded sample: real Fashion-MNIST photographs and generated images of the same ten classes.

3,000 training, 500 validation and 1,500 test photographs (Zalando, MIT licence), and 3,000 images from a small
flow-matching generator that saw the training photographs and nothing else. `scripts/make_sample.py` makes it.
"""
import shutil
import tempfile
import zipfile
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from gilt.errors import StoreError
from gilt.files import writing

STUDY = """\
# Do generated clothes help a small network that has 20 photographs a class? 24 trials, some three minutes on 2 cores.
# The generator saw 3,000 training photographs; every arm here may use 200 of them. Tested on 1,500 others.
name = "demo"
description = "200 Fashion-MNIST photographs, and images from a generator trained on 3,000"
seeds = [0, 1, 2, 3, 4, 5]
benchmark = "real"

[base]
table = "sample.parquet"
target = "class"

[base.mix]
max_real = 200

[base.train]
model = "lenet5"
steps = 400
batch_size = 50

[arms.real]

[arms.ai]
mix.share = 1.0
mix.total = 200

[arms.aug-50-50]
mix.mode = "add"
mix.generated = 200

[arms.aug-91-9]
mix.mode = "add"
mix.generated = 2000
"""


def unpack_sample(folder: Path | str) -> Path:
    """Unpack the sample's PNG files under `folder`, unless they are there, and return it.

    Layout: real/{split}/{class}/ and flow-unet/{class}/.
    """
    folder = Path(folder)
    if folder.is_dir():
        return folder
    packed = _packed()
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        try:
            with packed.open("rb") as file, zipfile.ZipFile(file) as archive:
                archive.extractall(partial)
            partial.chmod(0o755)
            partial.replace(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return folder


def sample_image(name: str) -> bytes:
    """Return one PNG file of the sample, such as `real/train/Shirt/000.png`."""
    with _packed().open("rb") as file, zipfile.ZipFile(file) as archive:
        return archive.read(name)


def _packed() -> Traversable:
    packed = resources.files("gilt") / "sample" / "sample.zip"
    if not packed.is_file():
        raise StoreError("this copy of gilt lacks its sample (gilt/sample/sample.zip): install it again, or make it "
                         "with scripts/make_sample.py")
    return packed
