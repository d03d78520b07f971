"""The pages of the defects: one a check, with the numbers that the code has and commands that gilt understands."""
import re
import shlex
from pathlib import Path

import click
import numpy as np
import pytest
from PIL import Image

from conftest import draw
from gilt import config, settings
from gilt.cli import gilt
from gilt.data import checks, near, oddities, shortcuts
from gilt.data.audit import CHECKS, audit
from gilt.data.findings import SEVERITIES
from gilt.data.scan import scan

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES = sorted((DOCS / "defects").glob("*.md"))
PARTS = ("Why it spoils results", "How gilt finds it", "How it can be wrong", "What to do")
SETTINGS = {"clean": config.CleanConfig, "split": config.SplitConfig, "mix": config.MixConfig}
COMMANDS = [(page.stem, line) for page in PAGES for block in re.findall(r"^```text\n(.*?)^```", page.read_text(), re.M | re.S)
            for line in block.splitlines()]
QUOTED = {  # page -> what it must say, from the code
    "near-duplicates": (f"cosine of at least {near.LIKE},", f"at most {near.MOST} a row", f"Up to {near.EXACT_ROWS:,} rows",
                        f"its {near.NEAREST_CELLS} nearest cells", f"{near.SIDE} x {near.SIDE} grey",
                        f"({near.TEMPLATE} x {near.TEMPLATE})", f"at least {near.SAME} ",
                        "sizes, {} to {}, ".format(*(end(across for sizes, _, _ in near.ROUNDS for across, _ in sizes)
                                                     for end in (min, max)))),
    "shortcuts": (f"at most {shortcuts.ROWS:,} rows", f"{shortcuts.FOLDS}-fold", f"({shortcuts.TREES} trees)",
                  f"fewer than {2 * shortcuts.FOLDS} different pictures"),
    "pixel-shortcuts": (f"at most {shortcuts.DECODED // 2:,} photographs and",
                        f"{shortcuts.CROP} x {shortcuts.CROP} pixels"),
    "watermark": (f"at most {oddities.MARKED} images", f"more than {oddities.STEP * 255:.0f} of 255", f"({oddities.COMMON})"),
    "grid": (f"above {oddities.SEAM} ", f"below {oddities.LEAST} pixels",
             *(f"{rows} x {columns}" for rows, columns in oddities.GRIDS)),
    "blurred": (f"below {checks.BLURRED} ",),
    "auditing": (f"at most {shortcuts.ROWS:,} rows", f"at most {shortcuts.DECODED // 2:,} photographs and",
                 f"at most {oddities.MARKED} images of each origin", f"beyond {near.EXACT_ROWS:,} rows",
                 f"`shortcuts` {2 * shortcuts.FOLDS} rows", f"sides of {oddities.LEAST} pixels"),
}


def words(name: str) -> str:
    """Return a page's text on one line."""
    folder = DOCS if name == "auditing" else DOCS / "defects"
    return " ".join((folder / f"{name}.md").read_text().split())


def test_every_check_has_its_page_and_every_page_its_check():
    assert {page.stem for page in PAGES} == set(CHECKS)


@pytest.mark.parametrize("check", CHECKS)
def test_a_page_names_its_check_and_has_all_its_parts_and_a_source(check):
    text = (DOCS / "defects" / f"{check}.md").read_text()
    assert text.startswith(f"# {check}: ")
    places = [text.find(f"\n**{part}.**") for part in PARTS]
    assert -1 not in places and places == sorted(places)
    assert "score is" in " ".join(text.split())
    source = text[text.index("\nSource: "):]
    assert source.count("\n") > 1 and re.search(r"[12][09]\d\d|course project", source)


@pytest.mark.parametrize("check", CHECKS)
def test_the_page_on_auditing_links_to_every_check_with_its_title(check):
    title = (DOCS / "defects" / f"{check}.md").read_text().splitlines()[0].partition(": ")[2]
    row = re.search(rf"^\| \[{check}\]\(defects/{check}\.md\) \| (.+?) \|", words_of_table(), re.M)
    assert row and set(row[1].split()) & set(title.split()) - {"the", "a", "in", "of"}


def words_of_table() -> str:
    return (DOCS / "auditing.md").read_text()


@pytest.mark.parametrize("name", QUOTED)
def test_a_page_quotes_the_numbers_of_the_code(name):
    text = words(name)
    assert [said for said in QUOTED[name] if said not in text] == []


def test_the_severities_are_those_that_the_page_on_auditing_explains():
    rows = re.findall(r"^\| (\w+) \| ", words_of_table().split("## Reading the output")[1].split("## The checks")[0], re.M)
    assert tuple(rows[1:]) == SEVERITIES


@pytest.mark.parametrize("ratio, severity", [(2, "low"), (9, "low"), (10, "medium")])
def test_imbalance_is_as_grave_and_scored_as_its_page_says(tmp_path, ratio, severity):
    for i in range(2 * ratio):
        draw(tmp_path / "real" / "wren" / f"{i}.png", (90, 90, 90), seed=i)
    for i in range(2):
        draw(tmp_path / "real" / "robin" / f"{i}.png", (90, 90, 90), seed=100 + i)
    finding, = audit(scan(tmp_path, "{origin}/{class}"), checks=["imbalance"])
    assert finding.severity == severity
    assert finding.score == pytest.approx(1 - 1 / ratio)
    assert "0.5 for twice as many, 0.9 for ten times" in words("imbalance")


def test_small_images_are_found_below_the_size_that_their_page_says(tmp_path):
    for i in range(4):
        draw(tmp_path / "real" / "wren" / f"{i}.png", (120, 120, 120), seed=i, size=100)
    for size in (34, 36):
        draw(tmp_path / "real" / "wren" / f"side{size}.png", (120, 120, 120), seed=size, size=size)
    finding, = audit(scan(tmp_path, "{origin}/{class}"), checks=["too-small"])
    assert finding.rows == ("real/wren/side34.png",)
    assert finding.details["below"] / finding.details["usual_side"] == pytest.approx(0.35)
    assert "below 0.35 of it" in words("too-small")


def test_dark_bright_and_plain_images_are_found_at_the_values_that_their_page_says(tmp_path):
    """Of 100 x 100 pixels, so many rows have another level than the rest; half of the rows in the last two."""
    for rows, level, rest in ((5, 255, 0), (7, 255, 0), (1, 0, 255), (2, 0, 255), (50, 127, 120), (50, 129, 120)):
        pixels = np.full((100, 100), rest, np.uint8)
        pixels[:rows] = level
        put = tmp_path / "real" / "wren" / f"{rows}-{level}-{rest}.png"
        put.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(put)
    finding, = audit(scan(tmp_path, "{origin}/{class}"), checks=["too-dark"])
    assert {Path(path).name for path in finding.rows} == {"5-255-0.png", "1-0-255.png", "50-127-120.png"}
    assert finding.details == {"dark": 1, "bright": 1, "plain": 1}
    text = words("too-dark")
    assert "brightness below 0.06 or above 0.985" in text and "below 0.015" in text


@pytest.mark.parametrize("page, line", COMMANDS)
def test_every_command_on_a_page_is_one_that_gilt_understands(page, line):
    """Options and settings are read; nothing is run."""
    program, name, *rest = shlex.split(line.partition(" > ")[0])
    command = gilt.get_command(click.Context(gilt), name)
    assert program == "gilt" and command is not None
    context = command.make_context(name, rest)
    assert set(context.params.get("checks") or ()) <= set(CHECKS)
    if name in SETTINGS:
        settings.parse(SETTINGS[name], settings.override({}, context.params["settings"]), where="--set")
