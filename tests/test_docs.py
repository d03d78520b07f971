"""The documents: every snippet runs, every link leads somewhere, every module stands in the README's tree."""
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import gilt
from conftest import COLOURS, draw, make_birds

HOME = Path(__file__).resolve().parent.parent
PAGES = [HOME / "README.md", *sorted((HOME / "docs").glob("*.md"))]
DEFECTS = sorted((HOME / "docs" / "defects").glob("*.md"))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.M | re.S)


def world(folder: Path) -> None:
    """Lay out what the pages speak of: birds/, both/, inbox/."""
    make_birds(folder / "birds", real=30, generated=20)
    for split in ("train", "test"):
        draw(folder / "both" / "real" / split / "wren" / "a.png", COLOURS["wren"], seed=len(split))
    draw(folder / "both" / "painter" / "wren" / "a.png", COLOURS["wren"], seed=9)
    for i in range(3):
        draw(folder / "inbox" / f"{i}.png", COLOURS["robin"], seed=i)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_snippet_runs_in_the_order_of_the_page(page, tmp_path):
    """bash and python blocks are run, a toml block with a name is saved under it; text blocks are only shown."""
    blocks = BLOCK.findall(page.read_text())
    if not any(kind in ("bash", "python") for kind, _ in blocks):
        pytest.skip("no snippet on this page")
    world(tmp_path)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for kind, text in blocks:
        if kind == "toml" and (name := re.search(r'^name = "(\w+)"', text, re.M)):
            (tmp_path / f"{name[1]}.toml").write_text(text)
        command = {"bash": ["bash", "-e", "-c", text], "python": [sys.executable, "-c", text]}.get(kind)
        if command:
            result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PATH": path})
            assert result.returncode == 0, f"{text}\n{result.stdout}\n{result.stderr}"


@pytest.mark.parametrize("page", [*PAGES, *DEFECTS, HOME / "benchmarks" / "RESULTS.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_module_stands_in_the_readmes_tree():
    tree = (HOME / "README.md").read_text().split("## The house")[1]
    for path in Path(gilt.__file__).parent.rglob("*.py"):
        if not path.name.startswith("__") and path.parent.name != "cli":
            assert re.search(rf"\b{path.name}\b", tree), path


def test_no_address_of_a_registry_and_no_path_of_a_machine_is_committed():
    files = subprocess.run(["git", "ls-files"], cwd=HOME, capture_output=True, text=True).stdout.split()
    if not files:
        pytest.skip("no git checkout")
    for name in files:
        path = HOME / name
        if path.suffix in (".py", ".toml", ".md", ".txt", ".html", "") and path.is_file() and path.name != "LICENSE":
            text = path.read_text()
            assert str(HOME) not in text, name
            assert str(Path.home()) + "/" not in text, name
            assert not re.search(r"index.url *=|find.links *=|https?://[\w.-]*/simple", text), name


def test_the_constraints_are_names_and_versions_only():
    lines = [line for line in (HOME / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert lines
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line) for line in lines)


def test_the_reference_says_what_the_docstrings_say():
    sys.path.insert(0, str(HOME / "scripts"))
    try:
        from make_reference import reference
    finally:
        sys.path.pop(0)
    assert (HOME / "docs" / "reference.md").read_text() == reference(), "run python scripts/make_reference.py"
