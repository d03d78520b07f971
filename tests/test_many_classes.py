"""Many classes, to the end: mistakes, the confusion matrix, a classifier's page, submissions, and 100 classes learnt."""
import csv
import json
import logging
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw, ImageFont
from sklearn import metrics as sk

import gilt
from conftest import SHARED, draw
from gilt.cli import main
from gilt.data.pixels import PixelCache
from gilt.evaluation.mistakes import confused_pairs, confusion_order, images_of, mistakes_json, worst_classes
from gilt.evaluation.predictions import Predictions
from gilt.evaluation.submission import submission
from gilt.evaluation.uncertainty import wilson
from gilt.reports.judgement import judgement, verdict
from gilt.reports.matrix import MOST, SHOWN, confusion_matrix


def run(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    out, err = capsys.readouterr()
    return ended.value.code, out, err


def said(true, named, classes, *, sure=3.0, **changes):
    """Return predictions in which each image of class `true` is named `named`."""
    logits = np.zeros((len(true), len(classes)), np.float32)
    logits[np.arange(len(true)), [classes.index(name) for name in named]] = sure
    fields = {"path": [f"{i:03}.png" for i in range(len(true))], "origin": ["real"] * len(true), "class_": list(true),
              "logits": logits, "error": [None] * len(true), "classes": tuple(classes), "target": "class"}
    return Predictions(**(fields | changes))


@pytest.fixture
def animals():
    """10 cats, 3 of which are taken for dogs; 8 dogs, 1 taken for a cat; 4 owls, all right; no emu."""
    return said(["cat"] * 10 + ["dog"] * 8 + ["owl"] * 4, ["cat"] * 7 + ["dog"] * 3 + ["cat"] + ["dog"] * 7 + ["owl"] * 4,
                ["cat", "dog", "emu", "owl"])


def test_pairs_count_what_is_taken_for_what_with_the_part_of_the_class(animals):
    first, second = confused_pairs(gilt.evaluate(animals))
    assert (first.true, first.predicted, first.count, first.share.n) == ("cat", "dog", 3, 10)
    assert (first.share.value, first.share.low, first.share.high) == (0.3, *wilson(3, 10))
    assert (second.true, second.predicted, second.count) == ("dog", "cat", 1)
    assert len(confused_pairs(gilt.evaluate(animals), most=1)) == 1


def test_classes_are_ranked_by_f1_and_those_without_an_image_are_not(animals):
    evaluation = gilt.evaluate(animals)
    true, guess = animals.labels, animals.logits.argmax(1)
    cat, dog = (sk.f1_score(true == c, guess == c) for c in (0, 1))
    assert cat == dog  # and the recall of cats is lower
    assert [name for name, _ in worst_classes(evaluation)] == ["cat", "dog", "owl"]
    assert worst_classes(evaluation)[0][1]["f1"].value == pytest.approx(cat)
    assert worst_classes(evaluation, most=1)[0][0] == "cat"
    with pytest.raises(gilt.TableError, match=r"no metrics by class: evaluate with by=\('class',\)"):
        worst_classes(gilt.evaluate(animals, by=("origin",)))


def test_mistakes_as_json_are_plain_values(animals):
    found = json.loads(json.dumps(mistakes_json(gilt.evaluate(animals))))
    assert [item["class"] for item in found["worst"]] == ["cat", "dog", "owl"]
    assert found["confused"][0] == {"true": "cat", "predicted": "dog", "count": 3,
                                    "share": {"value": 0.3, "low": wilson(3, 10)[0], "high": wilson(3, 10)[1], "n": 10}}


def test_the_surest_mistakes_come_first(animals):
    animals.logits[8, 1] = 9.0
    animals.logits[7, 1] = 5.0
    assert images_of(animals, "cat", "dog").tolist() == [8, 7, 9]
    assert images_of(animals, "owl", "cat").tolist() == []


def test_confused_classes_stand_side_by_side():
    counts = np.diag([50] * 8)
    for i, j in ((0, 5), (5, 0), (2, 7), (7, 2)):
        counts[i, j] = 20
    order = confusion_order(counts)
    assert sorted(order) == list(range(8))
    for i, j in ((0, 5), (2, 7)):
        assert abs(order.index(i) - order.index(j)) == 1
    assert confusion_order(np.eye(2)) == [0, 1]


def texts(svg):
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_a_small_matrix_has_its_per_cents_in_the_cells_and_a_class_without_images_is_grey(animals):
    drawn = confusion_matrix(gilt.evaluate(animals).confusion, animals.classes, "Animals & <birds>")
    assert "Animals &amp; &lt;birds&gt;" in texts(drawn)
    assert [text for text in texts(drawn) if text in ("70", "30", "88", "12")] == ["70", "30", "12", "88"]
    assert re.search(r'fill="#e6e6e6" d="M0 80h160', drawn)  # the third row: no emu was judged


@pytest.mark.parametrize("count", [43, 100])
def test_a_large_matrix_names_every_class_on_all_four_sides(count):
    counts = np.diag([90] * count) + np.eye(count, k=1, dtype=int) * 3
    names = [f"class {i:02}" for i in range(count)]
    drawn = confusion_matrix(counts, names, "")
    shown = texts(drawn)
    assert all(shown.count(name) == 4 for name in names)
    assert float(re.search(r'font-size="([\d.]+)" fill="#1f2430"', drawn)[1]) >= 9
    assert len(drawn) < 60_000
    turned = texts(confusion_matrix(counts, names, "", order=range(count)[::-1]))
    assert turned.index("class 02") < turned.index("class 01")


def test_of_very_many_classes_the_worst_are_drawn():
    counts = np.diag([10] * (MOST + 30))
    counts[5, 5], counts[5, 6] = 2, 8
    drawn = confusion_matrix(counts, [f"n{i}" for i in range(MOST + 30)], "Many")
    assert f"Many: the {SHOWN} of {MOST + 30} classes with the lowest recall" in texts(drawn)
    assert texts(drawn).count("n5") == 4
    assert len([text for text in texts(drawn) if text.startswith("n")]) == 4 * SHOWN


def test_long_and_odd_names_stay_inside_the_picture():
    drawn = confusion_matrix(np.eye(3, dtype=int), ["a" * 60, "<script>", "tab\there"], "")
    assert "a" * 25 + "…" in texts(drawn)
    assert "&lt;script&gt;" in texts(drawn)
    assert "tab\ufffdhere" in texts(drawn)


@pytest.fixture
def pictured(tmp_path, animals):
    for path in animals.path:
        draw(tmp_path / "in" / path, (120, 60, 60), seed=int(path[:3]))
    return tmp_path / "in"


def test_a_page_says_how_right_a_classifier_is_and_shows_its_mistakes(animals, pictured, tmp_path):
    page = judgement(animals, to=tmp_path / "p.html", root=pictured, rows="test images", name="zoo").read_text()
    assert "81.8 % of 22 test images are named rightly (95 % interval 61.5 to 92.7)." in page
    assert "would be right for 45.5 %" in page
    assert "Most often confused: cat taken for dog, 3 images of 10 (30.0 %; 10.8 to 60.3)." in page
    by_class = page[page.index("By class, the worst first"):]
    assert re.findall(r"<tr><td>(\w+)</td><td>(\d+)</td>", by_class) == [("cat", "10"), ("dog", "8"), ("owl", "4")]
    assert page.count("data:image/jpeg") == (3 + 3) + (1 + 3)
    assert not re.search(r"(src|href)=\"(?!data:)", page)


def test_a_page_without_its_images_says_so(animals, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        page = judgement(animals, to=tmp_path / "p.html", root=tmp_path / "gone").read_text()
    assert "10 of the page's 10 pictures are missing" in caplog.text
    assert page.count("data:image/svg+xml") == 10


def test_a_page_counts_what_was_not_judged_and_one_without_mistakes_says_so(tmp_path):
    perfect = said(["a", "b", "c", "a", "z"], ["a", "b", "c", "a", "a"], ["a", "b", "c"], error=[None, None, None, "cut", None])
    perfect.logits[3] = np.nan
    page = judgement(perfect, to=tmp_path / "p.html").read_text()
    assert "Not judged: 1 (unreadable), 1 (class unknown to the classifier)." in page
    assert "No image was taken for another class." in page


def test_a_detectors_page_stands_by_origin(tmp_path):
    found = said(["wren"] * 8, ["real", "real", "generated", "real", "generated", "generated", "real", "generated"],
                 ["real", "generated"], target="origin", origin=["real"] * 4 + ["sd"] * 2 + ["gan"] * 2)
    page = judgement(found, to=tmp_path / "p.html").read_text()
    assert "75.0 % of 8 images are rightly called real or generated" in page
    assert "<h2>By origin</h2>" in page
    assert "Most often confused: generated taken for real, 1 image of 4" not in page  # as many as real taken for generated
    assert len(verdict(gilt.evaluate(found))) == 3


def folders(tmp_path, *names):
    for i, name in enumerate(names):
        draw(tmp_path / name, (90, 90, 90), seed=i)
    return tmp_path


def test_a_submission_has_a_line_an_image_under_the_columns_asked_for(animals, tmp_path):
    filled = submission(animals, columns=("Image", "Class"), name="stem")
    filled.save(tmp_path / "s.csv")
    lines = (tmp_path / "s.csv").read_text().splitlines()
    assert lines[:2] == ["Image,Class", "000,cat"]
    assert len(lines) == 23
    assert submission(animals).columns == ("id", "label")
    assert submission(animals).lines[0] == ("000.png", "cat")


@pytest.mark.parametrize("spelt", ["{}", "{}.png", "in/{}.png", "test/in/{}.png"])
def test_a_sample_says_which_images_in_which_order_and_what_they_are_called(animals, tmp_path, spelt, caplog):
    wanted = [spelt.format(name) for name in ("021", "000", "008")]
    (tmp_path / "sample.csv").write_text("\ufeffImage,Class\n" + "".join(f"{name},x\n" for name in wanted))
    animals = Predictions(**(vars(animals) | {"path": [f"data/test/in/{path}" for path in animals.path]}))
    with caplog.at_level(logging.WARNING):
        filled = submission(animals, sample=tmp_path / "sample.csv")
    assert filled.columns == ("Image", "Class")
    assert filled.lines == tuple(zip(wanted, ("owl", "cat", "dog"), strict=True))
    assert "left out: 19 images" in caplog.text


def test_a_sample_that_cannot_be_filled_is_one_clear_line(animals, tmp_path):
    sample = tmp_path / "sample.csv"
    sample.write_text("id,label\n000,x\n777,x\n888,x\n")
    with pytest.raises(gilt.TableError, match=r"asks for 2 images not among the 22 predicted: 777, 888. One that was"):
        submission(animals, sample=sample)
    sample.write_text("id,a,b\n000,0,0\n")
    with pytest.raises(gilt.TableError, match=r"has the columns id, a, b, and a submission has two"):
        submission(animals, sample=sample)
    assert submission(animals, sample=sample, columns=("id", "label")).lines == (("000", "cat"),)
    sample.write_text("id,label\n")
    with pytest.raises(gilt.TableError, match="names no image"):
        submission(animals, sample=sample)
    with pytest.raises(gilt.TableError, match=r"none\.csv cannot be read: No such file"):
        submission(animals, sample=tmp_path / "none.csv")
    twice = Predictions(**(vars(animals) | {"path": ["a/1.png", "b/1.png", *animals.path[2:]]}))
    sample.write_text("id,label\n1.png,x\n")
    with pytest.raises(gilt.TableError, match=r"'1\.png' may be a/1.png or b/1.png"):
        submission(twice, sample=sample)
    with pytest.raises(gilt.TableError, match=r"a/1.png and b/1.png have the same file name, '1.png'"):
        submission(twice)
    assert submission(twice, name="path").lines[:2] == (("a/1.png", "cat"), ("b/1.png", "cat"))


def test_an_unreadable_image_gets_the_stand_in_and_is_named(animals, caplog):
    animals.logits[[20, 21]] = np.nan
    broken = Predictions(**(vars(animals) | {"error": [None] * 20 + ["cut", "cut"]}))
    with caplog.at_level(logging.WARNING):
        filled = submission(broken, stand_in="emu")
    assert filled.lines[19:] == (("019.png", "owl"), ("020.png", "emu"), ("021.png", "emu"))
    assert filled.guessed == ("020.png", "021.png")
    assert "2 unreadable images got the class of most training images, 'emu': 020.png, 021.png" in caplog.text
    with caplog.at_level(logging.WARNING):
        assert submission(broken).lines[20] == ("020.png", "dog")  # 10 dogs were named, 8 cats
    assert "the class predicted most often, 'dog'" in caplog.text


def test_the_likeliest_classes_are_columns(animals):
    animals.logits[0] = [3, 1, 2, 2]
    frame = animals.top(3)
    assert list(frame) == ["path", "label_1", "label_2", "label_3", "p_1", "p_2", "p_3", "error"]
    assert list(frame.loc[0, ["label_1", "label_2", "label_3"]]) == ["cat", "emu", "owl"]  # of two as likely the earlier first
    assert list(frame["label_1"]) == list(animals.frame["label"])
    assert frame.loc[0, "p_2"] == pytest.approx(np.exp(2) / np.exp([3, 1, 2, 2]).sum())
    with pytest.raises(gilt.TableError, match="the 5 likeliest of 4 classes cannot be named"):
        animals.top(5)


def number(text, rng):
    """Return a 32x32 picture of a number: place, size, colours and noise vary."""
    paper, ink = rng.integers(150, 256, 3), rng.integers(0, 90, 3)
    image = Image.new("RGB", (32, 32), tuple(map(int, paper)))
    font = ImageFont.load_default(int(rng.integers(19, 22)))
    place = (16 + int(rng.integers(-2, 3)), 16 + int(rng.integers(-2, 3)))
    ImageDraw.Draw(image).text(place, text, fill=tuple(map(int, ink)), font=font, anchor="mm")
    return Image.fromarray(np.clip(np.asarray(image) + rng.normal(0, 47, (32, 32, 3)), 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def hundred(tmp_path_factory):
    """A competition of 100 classes, 00 to 99: train.csv with 24 images a class, 120 test images, a sample submission."""
    home, rng = tmp_path_factory.mktemp("hundred"), np.random.default_rng(0)
    for folder in ("numbers/train", "test"):
        (home / folder).mkdir(parents=True)
    rows = [(f"{c:02}_{i:02}.png", f"{c:02}") for c in range(100) for i in range(24)]
    for name, label in rows:
        number(label, rng).save(home / "numbers" / "train" / name)
    truth = {f"t{i:03}": f"{rng.integers(100):02}" for i in range(120)}
    for name, label in truth.items():
        number(label, rng).save(home / "test" / f"{name}.png")
    for path, header, lines in ((home / "numbers" / "train.csv", ("image", "label"), rows),
                                (home / "sample.csv", ("Image", "Class"), [(name, "0") for name in sorted(truth)[::-1]]),
                                (home / "truth.csv", ("Image", "Class"), truth.items())):
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([header, *lines])
    return home


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_competition_of_100_classes_goes_from_its_list_to_its_submission(hundred, tmp_path, capsys):
    table, model, page, out = (tmp_path / name for name in ("t.parquet", "m.safetensors", "p.html", "s.csv"))
    assert run(capsys, "scan", hundred / "numbers", "--layout", "competition", "--constant", "origin=real", "-o", table)[0] == 0
    assert list(gilt.ImageTable.load(table).classes) == [f"{c:02}" for c in range(100)]  # as the list spells them
    code, _, err = run(capsys, "train", table, "-o", model, *(f"--set={name}={value}" for name, value in {
        "train.model": "lenet5", "train.epochs": 5, "train.batch_size": 25, "train.learning_rate": 2e-3,
        "split.train": 0.8, "split.val": 0.1, "split.test": 0.1, "split.keep": "false"}.items()))
    assert code == 0, err

    code, shown, err = run(capsys, "evaluate", model, table, "--html", page)
    assert code == 0, err
    assert "by class: the 10 worst and 5 best of 100" in shown
    assert "... 85 more" in shown
    assert "most often confused" in shown
    assert len(shown.splitlines()) < 60
    assert "... 85 more" not in run(capsys, "evaluate", model, table, "--all")[1]
    text = page.read_text()
    assert " test images of t.parquet are named rightly" in text
    assert text.count('<svg xmlns="http://www.w3.org/2000/svg" width') == 2  # by name, and confused classes side by side
    assert len(re.findall(r"<tr><td>\d\d</td><td>[123]</td>", text[text.index("By class, the worst first"):])) == 100

    found = json.loads(run(capsys, "evaluate", model, table, "--json")[1])
    assert found["accuracy"]["value"] > 0.3, "30 times chance"
    assert found["top5_accuracy"]["value"] > found["top3_accuracy"]["value"] > found["accuracy"]["value"]
    assert np.shape(found["confusion"]) == (100, 100)
    assert len(found["worst"]) == len(found["confused"]) == 10

    code, _, err = run(capsys, "predict", model, hundred / "test", "--submission", out, "--sample", hundred / "sample.csv")
    assert code == 0, err
    assert "120 images, columns Image, Class" in err
    lines, truth = (list(csv.reader(path.read_text().splitlines())) for path in (out, hundred / "truth.csv"))
    assert [line[0] for line in lines] == ["Image", *(line[0] for line in sorted(truth[1:])[::-1])]
    right = dict(truth[1:])
    assert np.mean([right[name] == label for name, label in lines[1:]]) > 0.3


def test_numbers_as_class_names_stay_as_they_are_written(tmp_path):
    rng = np.random.default_rng(0)
    for i, label in enumerate(("007", "07", "7", "1e3") * 2):
        (tmp_path / label).mkdir(exist_ok=True)
        number("7", rng).save(tmp_path / label / f"{i}.png")
    pd.DataFrame({"image": [f"{i}.png" for i in range(8)], "label": ["007", "07", "7", "1e3"] * 2}).to_csv(
        tmp_path / "train.csv", index=False)
    listed = gilt.scan(tmp_path, "competition", constants={"origin": "real"})
    by_folder = gilt.scan(tmp_path, "{class}", constants={"origin": "real"})
    for table in (listed, by_folder):
        assert set(table.classes) == {"007", "07", "7", "1e3"}
        classifier = gilt.train(table.with_column("split", ["train"] * len(table)), gilt.TrainConfig(model="lenet5", epochs=1))
        filled = submission(gilt.predict(classifier, tmp_path), name="stem")
        assert {label for _, label in filled.lines} <= {"007", "07", "7", "1e3"}
        assert sorted(name for name, _ in filled.lines) == sorted(str(i) for i in range(8))


@pytest.fixture(scope="module")
def trained(tmp_path_factory, bird_folder):
    """A classifier of birds, trained on 30 wrens and 20 robins for no time at all."""
    from gilt.config import TrialConfig
    from gilt.engine.judge import memory

    home = tmp_path_factory.mktemp("trained")
    table = gilt.scan(bird_folder, "{origin}/{class}").real
    table = table.where(lambda frame: (frame["class"] == "wren") | (frame["path"].str[-7:] < "020.png"))
    rows = table.with_column("split", ["train"] * len(table))
    classifier = gilt.train(rows, gilt.TrainConfig(model="lenet5", epochs=1), cache=PixelCache(home / "pixels"))
    classifier.provenance |= memory(rows, rows, TrialConfig())
    classifier.save(home / "m.safetensors")
    return home / "m.safetensors"


def test_an_unreadable_image_is_given_the_class_of_most_training_images_by_the_command(trained, tmp_path, capsys):
    inbox = folders(tmp_path / "in", "a.png", "b.png")
    (inbox / "broken.png").write_bytes(b"no image")
    code, out, err = run(capsys, "predict", trained, inbox, "--submission", tmp_path / "s.csv", "--name", "stem")
    assert code == 0
    assert out == ""  # predictions are printed only where nothing is written
    assert "1 unreadable image got the class of most training images, 'wren'" in err
    assert (tmp_path / "s.csv").read_text().splitlines()[3] == "broken,wren"
    code, out, _ = run(capsys, "predict", trained, inbox, "--top", "2")
    assert out.splitlines()[0] == "path,label_1,label_2,p_1,p_2,error"
    assert "cannot be read" in out


@pytest.mark.parametrize("words, message", [
    (["--columns", "a,b"], "--columns belongs to --submission FILE"),
    (["--sample", "s.csv"], "--sample belongs to --submission FILE"),
    (["--submission", "out.csv", "--columns", "Image"], "--columns takes two names"),
    (["--submission", "out.csv", "--columns", "a,a"], "--columns takes two names"),
    (["--submission", "sample.csv", "--sample", "sample.csv"], "sample.csv is read by this command: name another file"),
    (["--submission", "out.csv", "--sample", "none.csv"], "none.csv cannot be read: No such file"),
    (["--submission", "out.csv", "--sample", "sample.csv"], "sample.csv asks for 1 image not among the 1 predicted: b"),
    (["--top", "3"], "--top 3: the classifier knows 2 classes")])
def test_what_a_submission_cannot_be_made_of_is_one_line(trained, tmp_path, capsys, monkeypatch, words, message):
    monkeypatch.chdir(folders(tmp_path, "in/a.png"))
    (tmp_path / "sample.csv").write_text("id,label\na,x\nb,x\n")
    code, _, err = run(capsys, "predict", trained, "in", *words)
    assert code == 2
    assert message in err.splitlines()[-1]
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.shared
@pytest.mark.slow
def test_ten_classes_of_photographs_are_learnt_from_parquet(tmp_path):
    """Of CIFAR-10's 10,000 test images, a small network learns enough from 4,000 to be far above chance on 1,000 others."""
    source = SHARED / "data" / "cifar10" / "test.parquet"
    if not source.exists():
        pytest.skip("shared/data/cifar10 is not there")
    (tmp_path / "cifar").mkdir()
    shutil.copy(source, tmp_path / "cifar" / "train.parquet")
    table = gilt.scan(tmp_path / "cifar", "huggingface", constants={"origin": "real"})
    dealt = gilt.split(table, gilt.SplitConfig(train=0.8, val=0.1, test=0.1, keep=False))
    classifier = gilt.train(gilt.mix(dealt, max_real=4000), gilt.TrainConfig(model="lenet5", epochs=6, batch_size=50))
    predictions = gilt.predict(classifier, dealt.where(split="test"))
    evaluation = gilt.evaluate(predictions)
    assert len(evaluation.classes) == 10
    assert evaluation.metrics["accuracy"].value > 0.3
    assert evaluation.metrics["top3_accuracy"].value > evaluation.metrics["accuracy"].value + 0.2
    assert {"cat", "bird", "deer"} & {name for name, _ in worst_classes(evaluation, most=5)}
    page = judgement(predictions, to=tmp_path / "p.html", root=table.root)
    assert page.read_text().count("data:image/jpeg") > 50
