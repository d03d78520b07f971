"""The command gilt generate images: text to image by a pipeline on this machine, or by an endpoint."""
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gilt.cli.generate import MadeLine, counts_of
from gilt.cli.show import SEED, print_table, say, settings_option, warnings_shown

if TYPE_CHECKING:
    from gilt.data.table import ImageTable
    from gilt.generators.orders import Order
    from gilt.generators.prompts import Prompts

SHOWN = 40  # prompts that --list prints
_OF_BOTH = ("save_size", "resample")  # settings of a file of prompts that an endpoint's images take too


def _show_presets(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    """Print the shipped prompts' names with what they say of themselves, and leave."""
    if not wanted:
        return
    from gilt.generators.prompts import prompt_presets

    for name, what in prompt_presets().items():
        click.echo(f"{name}: {what}")
    context.exit()


@click.command("images", epilog="""\b
Example:
  gilt generate images --preset cifake --pipeline models/stable-diffusion-v1-4 --count 6000 -o made/sd14
  gilt generate images dealt.parquet --pipeline models/sd --from-photographs --strength 0.5 --count 200 -o made/near
  gilt generate images --classes wren,robin --preset photographs --count 3 --list""")
@click.argument("table", type=click.Path(path_type=Path), required=False)
@click.option("--classes", multiple=True, metavar="A,B", help="The classes to make.  [default: TABLE's, else the prompts']")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The folder for the images.")
@click.option("--pipeline", metavar="PATH|hf:OWNER/NAME", help="A text-to-image model in diffusers' format.")
@click.option("--preset", metavar="NAME", help="Prompts and settings that come with gilt (--presets lists them).")
@click.option("--presets", "show", is_flag=True, is_eager=True, expose_value=False, callback=_show_presets,
              help="List the presets, and leave.")
@click.option("--prompts", "file", type=click.Path(path_type=Path), help="A TOML file of prompts, over the preset's if both.")
@click.option("--count", "counts", multiple=True, default=("100",), show_default=True, metavar="N|CLASS=N",
              help="Images of each class, or of one class. May be repeated.")
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option("--origin", help="The generator's name in tables.  [default: the model's name]")
@click.option("--lora", "loras", multiple=True, metavar="FILE[:WEIGHT]", help="LoRA weights (safetensors). May be repeated.")
@click.option("--from-photographs", is_flag=True, help="Image to image, from TABLE's training photographs.")
@click.option("--strength", type=float, help="Image to image: how much of a photograph is made anew.  [default: 0.6]")
@click.option("--batch", type=int, help="Images at a time.  [default: 4]")
@click.option("--saw", type=click.Path(path_type=Path), help="A list of the SHA-256 of images that the model was trained on, "
                                                             "one a line, such as those of a LoRA of your own.")
@click.option("--endpoint", metavar="URL", help="Ask an image endpoint of OpenAI's form in place of a pipeline.")
@click.option("--model", help="Endpoint: the model's name there.")
@click.option("--key-from", metavar="VARIABLE", help="Endpoint: the environment variable that holds the key.")
@click.option("--yes", is_flag=True, help="Endpoint: ask, though it may cost money.")
@click.option("--list", "listing", is_flag=True, help="Print what would be asked for, and make nothing.")
@click.option("--root", type=click.Path(path_type=Path), help="Where the table's images are now, if they moved.")
@settings_option
def images(table: Path | None, output: Path | None, **given: Any) -> None:
    """Make images from words: a folder that gilt scan reads, with class, origin, source and prompt.

    Settings: steps, guidance, size, save_size, resample, scheduler, strength, batch, precision, device; for an endpoint size
    ("1024x1024"), save_size, resample, answer, send, further, parallel, timeout, tries, wait. An image depends on the seed, its
    class and its number only; run again to go on after a kill, or with a larger --count to add images.
    """
    from gilt.data.table import ImageTable
    from gilt.generators.orders import make_images, orders, training_photographs
    from gilt.generators.prompts import load_prompts

    prompts = load_prompts(given["preset"], given["file"])
    with warnings_shown():
        rows = ImageTable.load(table, root=given["root"]) if table else None
        counts = _wanted(rows, prompts, given["classes"], given["counts"])
        if given["from_photographs"] and rows is None:
            raise click.UsageError("--from-photographs makes images from a TABLE's training photographs: name the table")
        photographs = training_photographs(rows, counts) if rows and given["from_photographs"] else None
        wanted = orders(prompts, counts, seed=given["seed"], photographs=photographs)
        if given["listing"]:
            _list(wanted)
            return
        if output is None:
            raise click.UsageError("name the folder for the images: -o FOLDER (or --list, to see the prompts only)")
        if photographs is not None:
            photographs.check_files()
        seen = _seen(given["saw"])
        painter, origin = _endpoint(output, wanted, prompts, given) if given["endpoint"] else _pipeline(prompts, given)
        album = make_images(painter, output, wanted, origin=given["origin"] or origin, seen=seen, progress=MadeLine())
    say(f"{output} holds {len(album.rows):,} images of {album.origin} and its manifest; next: gilt scan {output} -o "
        f"{output.name}.parquet")


def _wanted(rows: "ImageTable | None", prompts: "Prompts", classes: Sequence[str], counts: tuple[str, ...]
            ) -> Mapping[str, int]:
    """Return class -> number of images. Raises ConfigError for a class that is not among the given ones."""
    from gilt.errors import ConfigError, listed, near

    known = [name.strip() for text in classes for name in text.split(",") if name.strip()]
    table = rows.usable.classes if rows else []
    for name in known if rows else ():
        if name not in table:
            raise ConfigError(f"no class {name!r} in the table (has: {listed(table)}).{near(name, table)}")
    known = list(dict.fromkeys(known)) or table or list(prompts.classes)
    count = counts_of(counts)
    if isinstance(count, int):
        return dict.fromkeys(known, count)
    for name in count:
        if known and name not in known:
            raise ConfigError(f"--count names the class {name!r}, which is not among those to make ({listed(known)})."
                              f"{near(name, known)}")
    return count


def _pipeline(prompts: "Prompts", given: Mapping[str, Any]) -> tuple[Any, str]:
    """Return the pipeline as a painter, and its name."""
    from gilt.generators.text_to_image import ImageConfig, TextToImage
    from gilt.settings import override, parse

    place = given["pipeline"] or prompts.pipeline
    if not place:
        raise click.UsageError("name the model: --pipeline PATH or hf:OWNER/NAME (or --endpoint URL)")
    for name in ("model", "key_from"):
        if given[name]:
            raise click.UsageError(f"--{name.replace('_', '-')} belongs to --endpoint")
    chosen = {name: given[name] for name in ("batch", "strength") if given[name] is not None}
    config = parse(ImageConfig, override(prompts.settings | chosen, given["settings"]), where="--set")
    say(f"loading {place}")
    painter = TextToImage(place, config, loras=given["loras"], from_photographs=given["from_photographs"])
    name = place.split("/")[1].split("@")[0] if place.startswith("hf:") else Path(place).resolve().name
    name = prompts.origin if prompts.origin and place == prompts.pipeline else name
    return painter, "+".join([name, *(lora.split(":")[0] for lora in str(painter.facts["lora"]).split())])


def _endpoint(output: Path, wanted: Sequence["Order"], prompts: "Prompts", given: Mapping[str, Any]) -> tuple[Any, str]:
    """Return the endpoint as a painter, and its model's name. Raises UsageError unless the user says yes to the number."""
    from gilt.errors import counted
    from gilt.generators.endpoint import Endpoint, EndpointConfig
    from gilt.settings import override, parse

    for name in ("pipeline", "loras", "from_photographs", "strength", "batch"):
        if given[name]:
            option = {"loras": "lora"}.get(name, name.replace("_", "-"))
            raise click.UsageError(f"--{option} belongs to a pipeline, not to --endpoint")
    chosen = {name: value for name, value in prompts.settings.items() if name in _OF_BOTH}
    chosen |= {"model": given["model"]} if given["model"] else {}
    painter = Endpoint(given["endpoint"], parse(EndpointConfig, override(chosen, given["settings"]), where="--set"),
                       key_from=given["key_from"])
    missing = sum(not (output / order.class_name / f"{order.number:06d}.png").exists() for order in wanted)
    asks = f"{counted(missing, 'image')} of {painter.config.model} will be asked of {painter.host}"
    if not given["yes"]:
        raise click.UsageError(f"{asks}, which may cost money, and the prompts go there: add --yes to go on")
    say(asks)
    return painter, painter.config.model.rpartition("/")[2]


def _seen(path: Path | None) -> frozenset[str]:
    from gilt.data.seen import hashes_in

    return hashes_in(path) if path else frozenset()


def _list(wanted: Sequence["Order"]) -> None:
    """Print the first orders, and how many there are of each prompt in all."""
    rows = [[f"{order.class_name}/{order.number:06d}.png", str(order.seed), order.prompt,
             order.negative or None, order.photograph and order.photograph.name] for order in wanted[:SHOWN]]
    keep = [i for i in range(5) if i < 3 or any(row[i] for row in rows)]
    names = ["path", "seed", "prompt", "negative prompt", "photograph"]
    print_table([names[i] for i in keep], [[row[i] for i in keep] for row in rows])
    say(f"{len(wanted):,} images, {len({order.prompt for order in wanted}):,} different prompts"
        f"{f'; the first {SHOWN} are shown' if len(wanted) > SHOWN else ''}")
