"""Tables of several folders as one: paths, lineage, what was seen, and rows that contradict each other."""
import zipfile

import pytest
from click.testing import CliRunner

import gilt
from conftest import draw
from gilt.cli import gilt as command
from gilt.data.seen import seen_hashes
from gilt.errors import TableError
from gilt.generators.manifest import Album


@pytest.fixture
def photographs(tmp_path):
    """Ten photographs of two classes, dealt."""
    for number in range(10):
        name = ("wren", "robin")[number % 2]
        draw(tmp_path / "here" / "photos" / name / f"{number}.png", (20 * number, 90, 30), seed=number)
    table = gilt.scan(tmp_path / "here" / "photos", "{class}", constants={"origin": "real"})
    return gilt.split(table, gilt.SplitConfig(train=0.6, val=0.2, test=0.2), seed=0)


@pytest.fixture
def made(tmp_path, photographs):
    """An album elsewhere: one image of a training photograph, told by its content, and one of no known source."""
    from PIL import Image

    album = Album(tmp_path / "there" / "album", "painter")
    train = photographs.where(split="train").frame
    album.note_seen(train["sha256"])
    album.add(Image.new("RGB", (8, 8), (1, 2, 3)), "wren", 0, source=train["sha256"].iloc[0])
    album.add(Image.new("RGB", (8, 8), (3, 2, 1)), "robin", 1)
    return gilt.scan(tmp_path / "there" / "album")


def test_rows_of_two_folders_stand_in_one_table_and_their_files_are_found(tmp_path, photographs, made):
    table = gilt.join([photographs, made])
    assert table.root == tmp_path
    assert len(table) == 12 and table.counts("origin") == {"real": 10, "painter": 2}
    table.check_files()
    assert list(table.real.frame["split"]) == list(photographs.frame["split"])


def test_a_source_known_by_its_content_is_found_in_the_other_table(photographs, made):
    table = gilt.join([photographs, made])
    source = table.generated.frame["source"].iloc[0]
    assert source == f"here/photos/{photographs.where(split='train').frame['path'].iloc[0]}"
    assert gilt.split(table, seed=3).generated.frame["split"].iloc[0] == "train"


def test_what_a_generator_saw_is_still_found(photographs, made):
    assert seen_hashes(gilt.join([photographs, made])) == set(photographs.where(split="train").frame["sha256"])


def test_a_table_joined_with_itself_is_itself(photographs, caplog):
    caplog.set_level("INFO")
    assert gilt.join([photographs, photographs]) == photographs
    assert "once in the joined one: 10 images" in caplog.text


def test_a_collection_in_a_zip_file_is_joined_in_place(tmp_path, photographs):
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.write(tmp_path / "here" / "photos" / photographs.frame["path"].iloc[0], "wren/again.png")
        for number in (1, 2):
            archive.write(draw(tmp_path / f"{number}.png", (9, 9, 40 * number), seed=90 + number), f"robin/{number}.png")
    packed = gilt.scan(tmp_path / "more.zip", "{class}", constants={"origin": "real"})
    table = gilt.join([photographs, packed])
    assert len(table) == 13
    table.check_files()
    assert "more.zip/robin/1.png" in list(table.frame["path"])


def test_groups_of_one_name_in_two_tables_stay_two_groups(photographs, made):
    one = photographs.with_column("group", ["a"] * len(photographs))
    table = gilt.join([one, made.with_column("group", ["a"] * len(made))])
    assert table.real.frame["group"].nunique() == 1 and table.frame["group"].nunique() == 2


def test_two_tables_that_say_different_things_of_a_file_are_refused(photographs):
    other = photographs.with_column("split", "test")
    with pytest.raises(TableError, match=r"two of the tables hold .*\.png, and say split='train' and 'test' of it"):
        gilt.join([photographs, other])


def test_the_command_writes_the_table_and_wants_two(tmp_path, photographs, made):
    photographs.save(tmp_path / "a.parquet")
    made.save(tmp_path / "b.parquet")
    result = CliRunner().invoke(command, ["join", str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet"), "-o",
                                          str(tmp_path / "c.parquet")])
    assert result.exit_code == 0, result.output
    assert gilt.ImageTable.load(tmp_path / "c.parquet") == gilt.join([photographs, made])
    assert CliRunner().invoke(command, ["join", str(tmp_path / "a.parquet"), "-o", str(tmp_path / "d.parquet")]).exit_code == 2
