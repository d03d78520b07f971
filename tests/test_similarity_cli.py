"""gilt similarity: what it prints, its page, its JSON, the table without leaks, and every mistake in one line."""
import json
import re

import pytest
from click.testing import CliRunner

import gilt
from conftest import draw
from gilt.cli import gilt as command_group
from gilt.cli import main
from gilt.data.table import ImageTable
from gilt.engine.copies import LEAK

FEW = ("--set", "draws=3")


@pytest.fixture
def table(birds, tmp_path):
    birds.save(tmp_path / "birds.parquet")
    return tmp_path / "birds.parquet"


def run(*arguments):
    result = CliRunner().invoke(command_group, ["similarity", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as exit_:
        main(["similarity", *map(str, arguments)])
    assert exit_.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def test_the_verdict_comes_first_and_every_number_stands_beside_its_floor(table):
    out = run(table, "--by", "class", *FEW).stdout
    assert out.startswith("painter: farther from the photographs")
    assert re.search(r"^C2ST +1\.00 \[1\.00 to 1\.00\] +0\.\d+ \[", out, re.M)
    assert re.search(r"^robin +10 ", out, re.M)
    assert "None of these numbers decides" in out
    assert "brightness" in out
    assert "AuthPct" in out


def test_test_photographs_are_said_to_have_been_looked_at(table):
    assert "Test photographs were looked at here" in run(table, *FEW).stderr


def test_json_holds_values_floors_and_words(table):
    found = json.loads(run(table, "--json", *FEW).stdout)
    kid = found["comparisons"][0]["measures"]["kid"]
    assert kid["low"] <= kid["value"] <= kid["high"]
    assert kid["floor_high"] < kid["low"]
    assert found["settings"]["draws"] == kid["draws"] == 3
    assert found["leak"]["n_test"] == 9
    assert found["copying"][0]["score"] is None
    assert found["sentences"]


def test_the_page_opens_offline_and_shows_the_nearest_pairs(table, tmp_path):
    run(table, "--html", tmp_path / "page.html", *FEW)
    page = (tmp_path / "page.html").read_text()
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert page.count("data:image/jpeg") == 2 * 12
    assert page.count("<svg") == 1
    for text in ("decides", "By class", "Kolmogorov", "what it says", "AuthPct", "Test photographs were looked at"):
        assert text in page, text


def test_names_from_files_are_no_html(tmp_path):
    for i in range(40):
        draw(tmp_path / "i" / ("real" if i % 2 else "<b>x") / "<i>wren" / f"{i}.png", (200, 120, 60), seed=i)
    gilt.scan(tmp_path / "i", "{origin}/{class}").save(tmp_path / "t.parquet")
    run(tmp_path / "t.parquet", "--html", tmp_path / "page.html", *FEW)
    page = (tmp_path / "page.html").read_text()
    assert "<b>x" not in page
    assert "<i>wren" not in page
    assert "&lt;b&gt;x" in page


def test_leaks_are_marked_in_another_table(tmp_path):
    for i in range(30):
        draw(tmp_path / "i" / "real" / "train" / "wren" / f"{i}.png", (200 - 3 * i, 120, 60), seed=i)
        draw(tmp_path / "i" / "real" / "test" / "wren" / f"{i}.png", (60, 120, 200 - 3 * i), seed=100 + i)
        draw(tmp_path / "i" / "painter" / "train" / "wren" / f"{i}.png", (200 - 3 * i, 110, 50), seed=200 + i)
    draw(tmp_path / "i" / "painter" / "train" / "wren" / "copy.bmp", (60, 120, 200 - 3 * 7), seed=107)
    gilt.scan(tmp_path / "i", "{origin}/{split}/{class}").save(tmp_path / "t.parquet")
    before = (tmp_path / "t.parquet").read_bytes()
    result = run(tmp_path / "t.parquet", "--flag", "-o", tmp_path / "flagged.parquet", *FEW)
    assert "1 generated image marked" in result.stderr
    frame = ImageTable.load(tmp_path / "flagged.parquet").frame
    assert frame["path"][frame["excluded"] == LEAK].tolist() == ["painter/train/wren/copy.bmp"]
    assert (tmp_path / "t.parquet").read_bytes() == before


def test_mistakes_are_told_in_one_line(table, tmp_path, capsys, birds):
    birds.real.save(tmp_path / "real.parquet")
    birds.with_column("split", None).save(tmp_path / "whole.parquet")
    for arguments, said in [
            ([tmp_path / "none.parquet"], "does not exist"),
            ([tmp_path / "real.parquet"], "has no generated images to compare"),
            ([table, "--set", "feature.model=x"], "unknown key 'feature'.* Did you mean 'features'"),
            ([table, "--set", "features.model=mobilenet_v2"], "needs features.weights"),
            ([table, "--set", "features.model=mobilenet_v2", "--set", "features.weights=x.pth"], "'x.pth' is no file"),
            ([table, "--set", "draws=1"], "draws"),
            ([table, "--set", 'generators=["paintr"]'], "Did you mean 'painter'"),
            ([table, "--flag"], "--flag and -o TABLE.parquet go together"),
            ([table, "-o", tmp_path / "x.parquet"], "--flag and -o TABLE.parquet go together"),
            ([table, "--flag", "-o", table], "is read by this command"),
            ([table, "--html", tmp_path], "is a folder: name a file"),
            ([tmp_path / "whole.parquet", "--flag", "-o", tmp_path / "x.parquet"], "no train or no test photographs"),
            ([table, "--root", tmp_path], "are not where the table says")]:
        assert re.search(said, refused(capsys, *arguments)), arguments
    assert not (tmp_path / "x.parquet").exists()
