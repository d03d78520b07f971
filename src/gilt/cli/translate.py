"""The command gilt generate translate: images of other collections in the look of the one that a generator learnt."""
from pathlib import Path
from typing import Any

import click

from gilt.cli.generate import DIFFUSION, MadeLine, counts_of, sampling_options
from gilt.cli.show import say, settings_option, warnings_shown


@click.command("translate", epilog="""\b
Example:
  gilt generate translate flow.safetensors others.parquet -o made/translated --strength 0.5
  gilt generate translate flow.safetensors dealt.parquet -o made/near --from sd35 --strength 0.3 --count 60 --origin sd35-near
  gilt generate translate flow.safetensors others.parquet -o made/cars --set 'classes={car = ["taxi", "van"]}'""")
@click.argument("generator", type=click.Path(path_type=Path))
@click.argument("table", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The folder for the images.")
@click.option("--strength", type=float, help="How much is made anew: above 0 (as it was) to 1 (all).  [default: 0.5]")
@click.option("--from", "origins", multiple=True, metavar="ORIGIN", help="Translate images of this origin only: real, or a "
                                                                         "generator's name. May be repeated.  [default: all]")
@click.option("--count", "counts", multiple=True, metavar="N|CLASS=N",
              help="Images of each class, or of one class; more than there are rows: several of a row. May be repeated.  "
                   "[default: one of each row]")
@sampling_options("The images' origin in tables.  [default: the generator's file's name, with -translated]")
@click.option("--root", type=click.Path(path_type=Path), help="Where the table's images are now, if they moved.")
@settings_option
def translate(generator: Path, table: Path, output: Path, **given: Any) -> None:
    """Translate a table's training images into the look of what a diffusion generator learnt.

    Each image goes part of the way to noise, and the generator leads it back under the image's class: a folder that gilt scan
    reads, with class, origin, source and what was seen. Val and test rows are never translated. Settings: classes, to pick or
    rename the rows' classes. Run again to go on after a kill, or with a larger --count to add images.
    """
    from gilt.data.table import ImageTable
    from gilt.generators.config import SampleConfig, TranslateConfig
    from gilt.generators.generator import load_generator
    from gilt.generators.translation import translate as run
    from gilt.settings import override, parse

    sample = {name: given[name] for name in DIFFUSION if given[name] is not None}
    parse(SampleConfig, sample, where="gilt generate translate")  # before the generator is read, which takes a while
    chosen = {"strength": given["strength"], "origins": given["origins"] or None,
              "count": counts_of(given["counts"]) if given["counts"] else None}
    config = parse(TranslateConfig, override({name: value for name, value in chosen.items() if value is not None},
                                             given["settings"]), where="gilt generate translate")
    with warnings_shown():
        known = load_generator(generator, device=given["device"])
        rows = ImageTable.load(table, root=given["root"])
        usual = (config.sample or known.config.sample).model_dump()
        chosen = {**dict(config), "sample": SampleConfig(**{**usual, **sample})}
        album = run(known, rows, output, seed=given["seed"], origin=given["origin"] or f"{generator.stem}-translated",
                    progress=MadeLine(), **chosen)
    say(f"{output} holds {len(album.rows):,} images of {album.origin}, its manifest and the list of what was seen; next: gilt "
        "scan a folder that holds it, the photographs and the images that were translated")
