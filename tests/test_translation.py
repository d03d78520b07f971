"""Translation: which rows, how far, whose offspring, what was seen, and that a kill changes nothing."""
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import gilt
from conftest import COLOURS, draw, make_birds, write_study
from gilt.cli import main
from gilt.data.seen import seen_hashes
from gilt.errors import ConfigError, StoreError, TableError
from gilt.files import sha256
from gilt.generators.config import GeneratorConfig, SampleConfig, TranslateConfig
from gilt.generators.sampling import generate
from gilt.generators.training import train_generator
from gilt.generators.translation import roots, translate, translated_rows

QUICK = {"size": 28, "batch_size": 8, "width": 16, "looks": 1, "precision": "float32", "patch": 4,
         "sample": SampleConfig(steps=6, guidance=1)}
SHORT = {**QUICK, "steps": 4}

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def painter(birds):
    """A generator that has had four steps: enough to be asked and refused."""
    return train_generator(birds, GeneratorConfig(**SHORT))


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    """A generator that knows the colours of real wrens and robins."""
    table = gilt.split(gilt.scan(make_birds(tmp_path_factory.mktemp("learnt"), generated=0), "{origin}/{class}"),
                       train=0.8, val=0.1, test=0.1)
    return train_generator(table, GeneratorConfig(**QUICK | {"steps": 300, "batch_size": 16, "rate": 3e-3}))


@pytest.fixture
def collection(tmp_path):
    """Photographs and pale images in a folder of their own, dealt; albums can be made beside them."""
    make_birds(tmp_path / "birds", real=12, generated=6, size=28)
    return gilt.split(gilt.scan(tmp_path / "birds", "{origin}/{class}"), train=0.5, val=0.2, test=0.3, seed=0)


def pixels_of(paths):
    return np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])


def test_a_little_strength_gives_the_image_back_and_all_of_it_a_new_one(painter):
    source = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 3), np.uint8)
    wanted = [("wren", 0), ("robin", 5), ("wren", 7)]
    same = painter.translated(wanted, source, strength=0.001, seed=3)
    assert np.abs(same.astype(int) - source).max() <= 4
    for sampler in ("euler", "heun", "adams"):
        sample = SampleConfig(steps=4, sampler=sampler)
        whole = painter.translated(wanted, source, strength=1, seed=3, sample=sample)
        assert np.array_equal(whole, painter.images(wanted, seed=3, sample=sample))
    far = [np.abs(painter.translated(wanted, source, strength=strength).astype(int) - source).mean() for strength in (0.2, 0.8)]
    assert far[0] < far[1]


def test_a_translation_depends_on_its_own_image_and_number_only(painter):
    source = np.random.default_rng(1).integers(0, 256, (40, 28, 28, 3), np.uint8)
    wanted = [("wren", i) for i in range(40)]
    many = painter.translated(wanted, source, strength=0.5, seed=5)
    assert np.array_equal(painter.translated(wanted[37:38], source[37:38], strength=0.5, seed=5)[0], many[37])
    assert not np.array_equal(painter.translated([("wren", 38)], source[37:38], strength=0.5, seed=5)[0], many[37])
    assert not np.array_equal(painter.translated([("robin", 37)], source[37:38], strength=0.5, seed=5)[0], many[37])
    assert not np.array_equal(painter.translated(wanted[37:38], source[37:38], strength=0.5, seed=6)[0], many[37])


def test_what_does_not_fit_the_network_is_refused(painter):
    source = np.zeros((1, 28, 28, 3), np.uint8)
    for strength in (0, 1.5, -1):
        with pytest.raises(ConfigError, match=f"strength is {strength}"):
            painter.translated([("wren", 0)], source, strength=strength)
    with pytest.raises(ConfigError, match=r"are uint8 \(1, 28, 28, 1\), not uint8 \(1, 28, 28, 3\)"):
        painter.translated([("wren", 0)], source[..., :1], strength=0.5)
    with pytest.raises(ConfigError, match=r"no class 'wrn' .*Did you mean 'wren'"):
        painter.translated([("wrn", 0)], source, strength=0.5)


def test_pale_images_come_nearer_to_the_colours_that_were_learnt(learnt, collection, tmp_path):
    def distance(images):
        return np.abs(images.mean((0, 1, 2)) - COLOURS["wren"]).mean()

    pale = distance(pixels_of(collection.where(origin="painter", class_="wren").paths))
    far = []
    for strength in (0.3, 0.8):
        album = translate(learnt, collection, tmp_path / f"made{strength}", strength=strength, origins=["painter"],
                          count={"wren": 8})
        far.append(distance(pixels_of([album.folder / path for path in album.rows])))
    assert pale > 30 and far[1] < far[0] < pale and far[1] < 0.6 * pale


def test_only_training_rows_are_translated_one_of_each(painter, collection, tmp_path):
    album = translate(painter, collection, tmp_path / "made")
    train = set(collection.where(split="train").frame["sha256"])
    assert {row["translated"] for row in album.rows.values()} == train and len(album.rows) == len(train)
    held = {*collection.where(split=["val", "test"]).frame["sha256"]}
    assert held and not held & {row["source"] for row in album.rows.values()}
    assert {row["from"] for row in album.rows.values()} == {"real", "painter"}
    assert all(row["strength"] == "0.5" and row["path"].startswith(f"{row['class']}/") for row in album.rows.values())


def test_rows_that_go_back_to_a_held_out_photograph_are_not_translated(collection):
    frame = collection.frame.copy()
    test = frame["path"][(frame["split"] == "test") & (frame["class"] == "wren")].iloc[0]
    made = frame.index[(frame["origin"] == "painter") & (frame["class"] == "wren")]
    frame.loc[made, "split"] = "train"
    frame.loc[made[0], "source"] = test
    frame.loc[made[1], "source"] = frame.loc[made[0], "path"]  # a translation of an image that was made of it
    rows = translated_rows(gilt.ImageTable(frame, collection.root), TranslateConfig(origins=["painter"]))
    left = set(rows.frame["path"])
    assert not {frame.loc[made[0], "path"], frame.loc[made[1], "path"]} & left and frame.loc[made[2], "path"] in left
    copy = frame.loc[[frame.index[frame["path"] == test][0]]].assign(path="real/wren/copy.png", split="train")
    again = gilt.ImageTable(pd.concat([frame, copy], ignore_index=True), collection.root)
    assert "real/wren/copy.png" not in set(translated_rows(again, TranslateConfig()).frame["path"])


def test_a_table_without_splits_is_taken_whole_and_that_is_said(collection, caplog):
    rows = translated_rows(collection.with_column("split", None), TranslateConfig(origins=["real"]))
    assert len(rows) == 24 and "has a split yet, so each may be translated, 24 rows in all" in caplog.text
    half = collection.with_column("split", [split if split != "train" else None for split in collection.frame["split"]])
    with pytest.raises(TableError, match=r"no training row of .* is left to translate"):
        translated_rows(half, TranslateConfig(origins=["real"]))


def test_more_translations_than_rows_use_the_rows_equally_often_with_other_noise(painter, collection, tmp_path):
    rows = collection.where(split="train", origin="real", class_="wren")
    album = translate(painter, collection, tmp_path / "made", origins=["real"], count={"wren": 2 * len(rows)})
    sources = pd.Series([row["source"] for row in album.rows.values()])
    assert set(sources.value_counts()) == {2} and set(sources) == set(rows.frame["sha256"])
    twins = [album.folder / path for path, row in album.rows.items() if row["source"] == sources[0]]
    assert twins[0].read_bytes() != twins[1].read_bytes()
    fewer = translate(painter, collection, tmp_path / "fewer", origins=["real"], count=2)
    assert len(fewer.rows) == 4
    assert [row["source"] for row in fewer.rows.values() if row["class"] == "wren"] == list(sources[:2])


def test_classes_are_renamed_and_merged_to_those_of_the_generator(painter, collection, tmp_path):
    foreign = collection.with_column("class", collection.frame["class"].map({"wren": "troglodyte", "robin": "redbreast"}))
    with pytest.raises(ConfigError, match=r"knows no class 'redbreast', which rows to translate have \(it knows: robin, wren; "
                                          r"2 classes of 2 unknown\).*--set 'classes=\{robin = \[\"redbreast\"\]\}'"):
        translate(painter, foreign, tmp_path / "made")
    album = translate(painter, foreign, tmp_path / "made", classes={"wren": ["troglodyte", "redbreast"]}, count=3)
    assert {row["class"] for row in album.rows.values()} == {"wren"} and len(album.rows) == 3
    with pytest.raises(ConfigError, match=r"count names the class 'wrn'.*Did you mean 'wren'"):
        translate(painter, collection, tmp_path / "other", count={"wrn": 3})
    with pytest.raises(TableError, match=r"no image of 'panter' .*\(origins: real, painter\)\. Did you mean 'painter'"):
        translate(painter, collection, tmp_path / "other", origins=["panter"])
    with pytest.raises(ConfigError, match="strenght"):
        translate(painter, collection, tmp_path / "other", strenght=0.3)


def test_grey_generators_take_colour_images_and_the_other_way_round(painter, collection, tmp_path):
    for i in range(8):
        Image.fromarray(np.full((28, 28), 20 * i + 30, np.uint8)).save(draw(tmp_path / "grey" / "wren" / f"{i}.png", (1, 1, 1),
                                                                            seed=i))
    dusk = gilt.scan(tmp_path / "grey", "{class}", constants={"origin": "real"})
    grey = train_generator(dusk, GeneratorConfig(**SHORT))
    album = translate(grey, collection, tmp_path / "made", strength=0.01, origins=["real"], count={"wren": 1})
    row = album.rows["wren/000000.png"]
    source = collection.where(sha256=row["translated"]).paths[0]
    with Image.open(album.folder / row["path"]) as made, Image.open(source) as colour:
        assert made.mode == "L"
        assert np.abs(np.asarray(made, int) - np.asarray(colour.convert("L"), int)).max() <= 8
    translate(painter, dusk, tmp_path / "coloured", strength=0.01)
    assert pixels_of([tmp_path / "coloured" / "wren" / "000000.png"]).shape == (1, 28, 28, 3)


def test_translations_stay_with_their_source_and_its_photograph_when_dealt(painter, collection, tmp_path):
    birds = tmp_path / "birds"
    pale = collection.where(origin="painter").frame
    photographs = collection.real.where(split="train").frame.groupby("class")["path"].first()
    frame = collection.frame.copy()
    frame["source"] = [photographs[name] if path in set(pale["path"][::2]) else None
                       for path, name in zip(frame["path"], frame["class"], strict=True)]
    frame.loc[frame["origin"] == "painter", "split"] = "train"
    table = gilt.ImageTable(frame, birds)
    album = translate(painter, table, birds / "made", origins=["painter"])
    digest = dict(zip(frame["path"], frame["sha256"], strict=True))
    for row in album.rows.values():  # what has a photograph names that, what has none names the image
        known = table.frame.loc[frame["sha256"] == row["translated"], "source"].iloc[0]
        assert row["source"] == (digest[known] if known else row["translated"])
    again = translate(painter, gilt.scan(album.folder), birds / "twice")  # a translation of a translation
    assert {row["source"] for row in again.rows.values()} <= {row["source"] for row in album.rows.values()}
    scanned = gilt.scan(birds, "{origin}/{class}")
    made = scanned.where(origin="diffusion-translated")
    assert len(made) == 24 and set(made.frame["source"]) <= {*collection.real.frame["path"], *pale["path"]}
    assert set(made.frame["source"]) & set(pale["path"]) and set(made.frame["source"]) & set(photographs)
    for seed in range(3):
        dealt = gilt.split(scanned, train=0.4, val=0.3, test=0.3, seed=seed).frame
        splits = dealt.set_index("path")["split"]
        own = dealt[dealt["origin"] == "diffusion-translated"]
        assert list(own["split"]) == list(splits[own["source"]]) and dealt["excluded"].isna().all()


def test_the_root_of_a_chain_is_found_and_a_circle_does_no_harm(collection):
    table = collection.take(range(4))
    paths = list(table.frame["path"])
    chained = table.with_column("source", [None, paths[0], paths[1], "elsewhere.png"])
    assert roots(chained) == {paths[0]: paths[0], paths[1]: paths[0], paths[2]: paths[0], paths[3]: paths[3]}
    assert set(roots(table.with_column("source", [paths[1], paths[0], None, None]))) == set(paths)


def test_what_was_seen_is_what_all_the_generators_saw(painter, collection, tmp_path):
    (tmp_path / "birds" / "theirs.txt").write_text(f"{sha256(b'their photograph')}\n")
    table = collection.with_column("saw", collection.frame["origin"].map({"painter": "theirs.txt"}))
    album = translate(painter, table, tmp_path / "birds" / "made", origins=["painter"], count=1)
    scanned = gilt.scan(album.folder)
    assert seen_hashes(scanned) == {*painter.seen, sha256(b"their photograph")}
    translate(painter, collection, tmp_path / "birds" / "made", origins=["painter"], count=2)  # which says less
    assert seen_hashes(gilt.scan(album.folder)) == {*painter.seen, sha256(b"their photograph")}


def test_a_study_refuses_translations_by_a_generator_that_saw_its_test(collection, tmp_path):
    leaky = train_generator(collection.with_column("split", "train"), GeneratorConfig(**SHORT))
    translate(leaky, collection, tmp_path / "birds" / "made", origins=["painter"])
    table = gilt.split(gilt.scan(tmp_path / "birds", "{origin}/{class}"), seed=0)
    table.save(tmp_path / "t.parquet")
    study = write_study(tmp_path / "t.toml", tmp_path / "t.parquet", seeds=(0,), epochs=1)
    with pytest.raises(TableError, match=r"the generator 'diffusion-translated' was trained on \d+ of the \d+ test rows"):
        gilt.run_study(gilt.Study.load(study), tmp_path / "runs")


def test_a_run_that_was_killed_goes_on_and_other_settings_are_refused(painter, collection, tmp_path):
    whole = translate(painter, collection, tmp_path / "whole", count=3)
    translate(painter, collection, tmp_path / "made", count=2)
    manifest = tmp_path / "made" / "manifest.csv"
    manifest.write_text(manifest.read_text()[:-9])
    (tmp_path / "made" / "wren" / "000000.png").unlink()
    told = []
    album = translate(painter, collection, tmp_path / "made", count=3, progress=told.append)
    assert album.rows == whole.rows and told[-1].done == told[-1].images == 6
    for path in whole.rows:
        assert (tmp_path / "made" / path).read_bytes() == (tmp_path / "whole" / path).read_bytes()
    before = manifest.read_bytes()
    for settings, says in (({"strength": 0.7}, r"strength 0\.5, and 0\.7 is asked for"), ({"origins": ["real"]}, "made with "),
                           ({"sample": SampleConfig(steps=9)}, "steps 6, and 9 is asked for")):
        with pytest.raises(StoreError, match=says):
            translate(painter, collection, tmp_path / "made", count=3, **settings)
    translate(painter, collection, tmp_path / "made", count=1)  # what is there is enough
    assert manifest.read_bytes() == before


def test_a_collection_that_moved_is_said(painter, collection, tmp_path):
    (tmp_path / "birds").rename(tmp_path / "moved")
    with pytest.raises(TableError, match=r"are not where the table says.*--root"):
        translate(painter, collection, tmp_path / "made")


def test_a_gan_cannot_translate(birds, collection, tmp_path):
    gan = train_generator(birds, GeneratorConfig(kind="gan", size=28, width=16, steps=2, batch_size=8, looks=1))
    with pytest.raises(ConfigError, match=r"a GAN makes an image at one go.*--kind diffusion"):
        translate(gan, collection, tmp_path / "made")
    assert not (tmp_path / "made").exists()


def cli(*words, capsys):
    """Return (exit code, standard error) of a command line."""
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    return ended.value.code, capsys.readouterr().err


def test_the_command_translates_and_says_in_a_line_what_is_wrong(painter, collection, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    painter.save("flow.safetensors")
    collection.save("t.parquet")
    code, said = cli("generate", "translate", "flow.safetensors", "t.parquet", "-o", "made", "--from", "painter",
                     "--count", "2", "--steps", "3", "--strength", "0.3", capsys=capsys)
    assert code == 0 and "made holds 4 images of flow-translated, its manifest" in said
    row = gilt.scan(tmp_path / "made").frame.iloc[0]
    assert (row["steps"], row["guidance"], row["strength"], row["from"]) == (3, 1.0, 0.3, "painter")
    for wrong, says in ((["--strength", "0"], "strength: should be greater than 0"),
                        (["--strength", "1.1"], "less than or equal to 1"),
                        (["--from", "rael"], "Did you mean 'real'"), (["--sampler", "adam"], "Did you mean 'adams'"),
                        (["--count", "wrn=2"], "Did you mean 'wren'"), (["--count", "x"], "--count takes one number"),
                        (["--set", "clases={wren = [\"robin\"]}"], "Did you mean 'classes'"),
                        (["--set", "classes=[\"wrn\"]"], "Did you mean 'wren'")):
        code, said = cli("generate", "translate", "flow.safetensors", "t.parquet", "-o", "other", *wrong, capsys=capsys)
        assert code == 2 and says in said and said.count("\n") == 1, said
    code, said = cli("generate", "translate", "flow.safetensors", "none.parquet", "-o", "other", capsys=capsys)
    assert code == 2 and "none.parquet does not exist" in said
    code, said = cli("generate", "translate", "flow.safetensors", "t.parquet", "-o", "birds", capsys=capsys)
    assert code == 2 and "holds something else than made images" in said


def test_strength_one_makes_the_images_of_the_generator_alone(painter, collection, tmp_path):
    album = translate(painter, collection, tmp_path / "made", strength=1, count=2, seed=4)
    plain = generate(painter, tmp_path / "plain", count=2, seed=4)
    for path in plain.rows:
        assert (album.folder / path).read_bytes() == (plain.folder / path).read_bytes()
