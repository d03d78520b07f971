"""A study's report: its numbers are the records', warnings stand on top, and it leads from the verdict to an image."""
import html
import json
import re
import shutil
import time

import numpy as np
import pytest
from click.testing import CliRunner

import gilt
from conftest import draw
from gilt.cli import gilt as command_group
from gilt.config import TrialConfig
from gilt.evaluation.predictions import Predictions
from gilt.reports import notices
from gilt.reports.arms import anchors, differing
from gilt.reports.changes import points
from gilt.reports.drill import most_changed
from gilt.reports.notices import GRAVE
from gilt.studies.class_changes import class_changes
from gilt.studies.image_changes import image_changes
from gilt.studies.worth import worth

STUDY = """\
name = "flock"
benchmark = "real-16"
seeds = [0, 1]
[base]
table = "flock.parquet"
[base.mix]
max_real = 16
[base.train]
model = "lenet5"
steps = 12
batch_size = 8
[arms.real-8]
mix.max_real = 8
[arms.real-16]
[arms.real-32]
mix.max_real = 32
[arms.add]
mix.mode = "add"
[arms.held-back]
mix.mode = "add"
mix.control = "held_back"
mix.generated = 10
[arms.wild]
train.learning_rate = 1e30
train.optimizer = "sgd"
"""


def section(page, name):
    """The page's section of that id."""
    return re.search(rf'<section id="{name}">(.*?)</section>', page, re.S)[1]


def arm_section(page, name):
    return re.search(rf'<details class="arm" id="{name}">(.*?)\n</details>\n(?:<details class="arm"|</section>|\s*$)',
                     page, re.S)[1]


def text(part):
    return html.unescape(re.sub(r"<[^>]+>", "", part)).strip()


def rows(part):
    """Every table row in a part of the page, as a list of cells' texts."""
    return [[text(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S)]
            for row in re.findall(r"<tr[^>]*>(.*?)</tr>", part, re.S)]


def anchors_resolve(page):
    ids = re.findall(r'<(?:body|section|details)[^>]* id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    links = set(re.findall(r'<a [^>]*href="#([^"]+)"', page))
    assert links
    assert not links - set(ids)


@pytest.fixture(scope="module")
def flock(tmp_path_factory):
    """A study that was run: photographs as PNG, generated ones as JPEG, a curve, a control, and an arm that fails."""
    folder = tmp_path_factory.mktemp("flock")
    for c, (name, colour) in enumerate({"wren": (200, 120, 60), "robin": (200, 60, 60)}.items()):
        for i in range(40):
            draw(folder / "birds" / "real" / name / f"{i:03}.png", colour, seed=1000 * c + i)
        for i in range(15):
            pale = tuple(v // 2 + 90 for v in colour)
            draw(folder / "birds" / "painter" / name / f"g{i:03}.jpg", pale, seed=9000 + 100 * c + i)
    gilt.scan(folder / "birds", "{origin}/{class}").save(folder / "flock.parquet")
    (folder / "flock.toml").write_text(STUDY)
    records = gilt.run_study(gilt.Study.load(folder / "flock.toml"), folder / "store")
    path = gilt.report(folder / "store")
    return folder, [record for record in records if record.state == "finished"], path.read_text()


def test_the_numbers_on_the_page_are_those_of_the_records(flock):
    folder, records, page = flock
    by_arm = {}
    for record in records:
        by_arm.setdefault(record.arm, []).append(record)
    table = rows(section(page, "table"))
    names, accuracies = table[0][1:], next(row for row in table if row[0] == "Test Accuracy")[1:]
    assert names == ["real-8", "real-32", "add", "held-back", "Benchmark: real-16"]
    for name, shown in zip(names, accuracies, strict=True):
        values = 100 * np.array([r.metric("accuracy") for r in by_arm[name.removeprefix("Benchmark: ")]])
        assert shown == f"{values.mean():.1f} ± {values.std(ddof=1):.1f} %"
    assert next(row for row in table if row[0] == "Test Set Type")[1:] == ["Real"] * 5
    effects = {effect.arm: effect for effect in gilt.compare(folder / "store", "real-16")}
    shown = {row[0]: row[1] for row in rows(section(page, "effects"))[1:]}
    assert shown == {arm: f"{effect.mean:+.1f}" for arm, effect in effects.items()}
    trials = rows(section(page, "trials"))[1:]
    assert [(row[0], row[1], row[5].split()[0]) for row in trials] == [
        (r.arm, str(r.seed), f"{r.metric('accuracy'):.3f}") for r in records]
    assert len(trials) == 10


def test_an_arms_section_holds_its_classes_its_trials_and_its_settings(flock):
    folder, records, page = flock
    part = arm_section(page, "arm-add")
    own = [r for r in records if r.arm == "add"]
    change = {c.class_: c for c in class_changes(folder / "store") if c.arm == "add"}
    classes = {row[0]: row for row in rows(part) if row[0] in ("robin", "wren")}
    for name, row in classes.items():
        for at, key in ((2, "precision"), (3, "recall"), (4, "f1")):
            values = 100 * np.array([r.test["by"]["class"][name][key]["value"] for r in own])
            assert row[at] == f"{values.mean():.1f} ± {values.std(ddof=1):.1f}"
        assert row[5] == points(change[name].difference)
    assert ["mix.mode", "add", "share"] in rows(part)
    assert [row[:4] for row in rows(part) if row[1:2] == ["finished"]] == [
        [str(r.seed), "finished", "16", str(r.n_generated)] for r in own]
    assert part.count("<svg") == 2  # history and confusion matrix
    assert "(benchmark)" in arm_section(page, "arm-real-16").split("</summary>")[0]


def test_images_that_changed_stand_in_the_arms_section_with_what_both_said(flock):
    folder, _, page = flock
    store = gilt.Store(folder / "store")
    changes = [c for c in class_changes(store) if c.arm == "add"]
    chosen = most_changed(changes)
    assert chosen
    part = arm_section(page, "arm-add")
    for change in chosen:
        images = [i for i in image_changes(store, "add") if i.class_ == change.class_ and i.change]
        best = images[0] if change.difference > 0 else images[-1]
        shown = re.search(rf'<img src="data:image/jpeg;base64,[^"]+" alt="{best.path}"><figcaption.*?</figcaption>', part)
        said = text(shown[0].replace("<br>", " "))
        assert f"real-16: {round(best.benchmark_right * best.seeds)}/{best.seeds}" in said
        assert f"here: {round(best.right * best.seeds)}/{best.seeds}" in said
        assert re.search(rf'alt="painter/{change.class_}/g\d+.jpg"', part)


def test_a_page_needs_no_network_and_all_its_links_lead_somewhere(flock):
    page = flock[2]
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert not re.findall(r"url\((?!#)|@import|fetch\(|XMLHttp", page)
    outside = set(re.findall(r"https?://[^\s\"'<>]+", page))
    assert {address for address in outside if "w3.org" not in address} <= {
        "http://creativecommons.org/ns#", "http://purl.org/dc/elements/1.1/", "http://purl.org/dc/dcmitype/StillImage",
        "https://matplotlib.org/"}  # names in SVG's own metadata
    anchors_resolve(page)
    for arm in ("real-8", "add", "wild"):
        assert f'id="arm-{arm}"' in page


def test_warnings_stand_above_the_verdict(flock):
    page = flock[2]
    top = text(section(page, "warnings"))
    assert page.index('id="warnings"') < page.index('id="verdict"') < page.index('id="worth"') < page.index('id="effects"')
    assert "The audit of the table warns: Without a look at any pixel, format alone tells the origin" in top
    assert re.search(r"gilt clean --set equalise=true\..*To see the images: gilt audit \S+flock\.parquet --root \S+", top)
    assert "Failed and not in any number below: wild, seed 0; wild, seed 1. ModelError: the training loss became" in top
    assert "Traceback" in top
    assert ">Warnings (2)</a>" in page


def test_worth_stands_on_the_page_with_its_interval_and_each_arms_in_its_section(flock):
    folder, _, page = flock
    found = worth(folder / "store")
    part = text(section(page, "worth"))
    assert found.sentences[0] in part
    row = next(row for row in rows(section(page, "worth")) if row[0] == found.arms[0].arm)
    assert re.search(r"\[.*\]|at (least|most)|beyond", row[6])
    assert "control" in text(arm_section(page, "arm-held-back")).lower()


def test_the_audit_runs_once_and_is_kept_in_the_store(flock, tmp_path):
    shutil.copytree(flock[0] / "store", tmp_path / "store")
    kept = json.loads((tmp_path / "store" / "audit.json").read_text())
    assert set(kept["checks"]) == set(GRAVE)
    assert kept["table"] == gilt.Store(tmp_path / "store").summary["fingerprint"]
    kept["findings"] = [{"check": "leaks", "severity": "high", "score": 0.5, "meaning": "Half of the exam is known.",
                         "remedy": "Deal anew.", "rows": [], "groups": [], "details": {}}]
    (tmp_path / "store" / "audit.json").write_text(json.dumps(kept))
    top = text(section(gilt.report(tmp_path / "store").read_text(), "warnings"))
    assert "The audit of the table warns: Half of the exam is known. (leaks)" in top
    assert "The images are small (24 pixels)" in top
    assert "shortcuts" not in top
    kept["findings"] = []
    (tmp_path / "store" / "audit.json").write_text(json.dumps(kept))
    page = gilt.report(tmp_path / "store").read_text()
    assert f"The audit of the table ({len(GRAVE)} checks) found nothing grave." in page


@pytest.mark.parametrize("what, line", [
    ("many", r"not audited: it has 110 images, which takes minutes\. .*: gilt audit \S+flock\.parquet --root \S+ --json > \S+"),
    ("changed", r"was not audited: \S+flock\.parquet has changed since the study was run"),
    ("moved", r"was not audited, since its images are not where it says\. Where they are: gilt audit \S+ --root FOLDER"),
    ("gone", r"was not audited: table \S+ does not exist")])
def test_what_was_not_audited_is_said_with_the_command(flock, tmp_path, monkeypatch, what, line):
    shutil.copytree(flock[0] / "store", tmp_path / "store")
    (tmp_path / "store" / "audit.json").unlink()
    summary = json.loads((tmp_path / "store" / "study.json").read_text())
    if what == "many":
        monkeypatch.setattr(notices, "AUDITED", 100)
    elif what == "changed":
        gilt.ImageTable.load(flock[0] / "flock.parquet").take(slice(0, 90)).save(tmp_path / "flock.parquet")
        summary["table"] = str(tmp_path / "flock.parquet")
    elif what == "moved":
        summary["root"] = str(tmp_path / "nowhere")
    else:
        summary["table"] = str(tmp_path / "flock.parquet")
    (tmp_path / "store" / "study.json").write_text(json.dumps(summary))
    page = gilt.report(tmp_path / "store").read_text()
    assert re.search(line, text(section(page, "warnings")))
    assert not (tmp_path / "store" / "audit.json").exists()


def test_without_images_the_page_has_every_number_and_names_in_place_of_pictures(flock, tmp_path):
    folder, _, page = flock
    shutil.copytree(folder / "store", tmp_path / "store")
    bare = gilt.report(tmp_path / "store", root=tmp_path / "nowhere", to=tmp_path / "bare.html").read_text()
    assert "The images are not at hand, so only their names are shown." in bare
    assert "The images are not where the table says" in bare
    assert "<img" not in bare
    assert re.search(r"<li>real/(wren|robin)/\d+\.png: real-16 \d/\d", bare)
    for name in ("table", "effects", "trials", "classes"):
        assert rows(section(bare, name)) == rows(section(page, name))
    anchors_resolve(bare)


def test_images_that_moved_are_found_with_root(flock, tmp_path):
    folder, _, page = flock
    shutil.copytree(folder / "store", tmp_path / "store")
    shutil.copytree(folder / "birds", tmp_path / "elsewhere")
    summary = json.loads((tmp_path / "store" / "study.json").read_text()) | {"root": str(tmp_path / "gone")}
    (tmp_path / "store" / "study.json").write_text(json.dumps(summary))
    words = ["study", "report", str(tmp_path / "store"), "-o", str(tmp_path / "p.html")]
    assert CliRunner().invoke(command_group, words).exit_code == 0
    assert "<img" not in (tmp_path / "p.html").read_text()
    assert CliRunner().invoke(command_group, [*words, "--root", str(tmp_path / "elsewhere")]).exit_code == 0
    assert (tmp_path / "p.html").read_text().count("<img") == page.count("<img")


# stores made by hand

def trial(arm, seed, right, *, classes=("robin", "wren"), n_real=16, n_generated=0, state="finished", val=None, **config):
    """A trial's record and predictions: of each class's images, the first `right[class]` are named rightly."""
    each = 20
    truth = [name for name in classes for _ in range(each)]
    named = [name if i < right[c] else classes[(c + 1) % len(classes)] for c, name in enumerate(classes) for i in range(each)]
    logits = np.where(np.array([[c == name for c in classes] for name in named]), 3.0, 0.0).astype(np.float32)
    target = config.get("target", "class")
    origins = ["real" if name == "real" else "painter" for name in truth] if target == "origin" else ["real"] * len(truth)
    paths = [f"{name}/{i % each:03}.png" for i, name in enumerate(truth)]
    said = Predictions(paths, origins, truth, logits, [None] * len(truth), tuple(classes), target)
    known = {"id": re.sub(r"\W", "_", f"{arm}-{seed}"), "study": "made", "arm": arm, "seed": seed, "state": state,
             "target": target, "config": TrialConfig.model_validate(config).model_dump(mode="json"), "table": "f",
             "started": "2026-01-01T00:00:00+00:00", "seconds": {"total": 1.5}, "gilt": "0.1.0"}
    if state == "failed":
        return gilt.TrialRecord(**known, error="Traceback\n  somewhere\nValueError: too wild"), None
    test = gilt.evaluate(said).as_json()
    history = [{"epoch": e, "train_loss": 1 / e, "train_accuracy": 0.5, "val_loss": None, "val_accuracy": None} for e in (1, 2)]
    return gilt.TrialRecord(
        **known, n_real=n_real, n_generated=n_generated, n_drawn=n_real + n_generated, n_test=len(truth), val_set="none",
        train_set="Real", test_rows="t", classes=list(classes), test=test, val=val, history=history,
        machine={"processor": "abacus", "cores": 1, "threads": 1, "device": "cpu", "precision": "float32", "torch": "2"}), said


def made(folder, trials, *, benchmark="real", missing=(), **more):
    """A store on disk of (record, predictions)."""
    store = gilt.Store(folder)
    (folder / "trials").mkdir(parents=True)
    configs = {}
    for record, _ in trials:
        configs.setdefault(record.arm, record.config)
    entries = [{"arm": r.arm, "seed": r.seed, "id": r.id} for r, _ in trials]
    (folder / "study.json").write_text(json.dumps({
        "kind": "study", "name": "made", "description": "", "metric": "accuracy", "benchmark": benchmark, "arms": configs,
        "fingerprint": "f", "table": str(folder / "none.parquet"), "source": "made.toml", "settings": [], "text": "",
        "seeds": sorted({r.seed for r, _ in trials}), "trials": [*entries, *missing], **more}))
    for record, said in trials:
        store.write(record)
        if said is not None:
            said.save(folder / "trials" / f"{record.id}.test.parquet")
    return store


def test_a_failing_control_stands_above_the_verdict(tmp_path):
    sizes = {"real-8": (8, 8), "real": (16, 12), "real-32": (32, 16)}
    trials = []
    for seed in range(3):
        for arm, (n, right) in sizes.items():
            trials.append(trial(arm, seed, (right + seed % 2, right), n_real=n, mix={"max_real": n}))
        trials.append(trial("held", seed, (8 + seed % 2, 8), n_generated=16,
                            mix={"max_real": 16, "mode": "add", "generated": 16, "control": "held_back"}))
    page = gilt.report(made(tmp_path / "s", trials)).read_text()
    assert "A control failed: 16 held-back photographs posing as generated images" in text(section(page, "warnings"))
    assert "cannot be taken at their word" in text(section(page, "warnings"))
    assert "A control failed" not in text(section(page, "worth"))  # once is enough
    assert "A control failed" in text(arm_section(page, "arm-held"))


def test_one_seed_without_val_rows_has_a_page_that_says_what_it_cannot_say(tmp_path):
    store = made(tmp_path / "s", [trial("real", 0, (12, 12)), trial("add", 0, (20, 11), n_generated=5, mix={"mode": "add"})],
                 missing=[{"arm": "add", "seed": 1, "id": "x"}])
    page = gilt.report(store).read_text()
    assert "1 trial has not been run yet. add, seed 1. Run the study again" in text(section(page, "warnings"))
    assert "On this test set only" in text(section(page, "verdict"))
    assert "Not said here: a learning curve needs at least 3 sizes of real-only arms" in text(section(page, "worth"))
    change = {row[1]: row for row in rows(section(page, "classes"))[1:]}["robin"]
    assert change[:5] == ["add", "robin", "60.0", "100.0", "+40.0"]
    assert change[7] == "helped"
    assert "Not said here" in text(section(page, "regret"))
    own = {row[0]: row for row in rows(arm_section(page, "arm-add"))}
    assert own["robin"][1:5] == ["20", f"{100 * 20 / 29:.1f}", "100.0", f"{100 * 40 / 49:.1f}"]
    anchors_resolve(page)


def test_an_arm_that_failed_under_every_seed_has_a_section_and_a_notice(tmp_path):
    trials = [trial("real", s, (12 + s, 12)) for s in (0, 1)] + [trial("wild", s, (0, 0), state="failed") for s in (0, 1)]
    page = gilt.report(made(tmp_path / "s", trials)).read_text()
    assert "wild, seed 0; wild, seed 1. ValueError: too wild" in text(section(page, "warnings"))
    assert [row[1] for row in rows(arm_section(page, "arm-wild"))[1:]] == ["failed", "failed"]
    assert "Only the benchmark 'real' is finished" in text(section(page, "verdict"))
    anchors_resolve(page)


def test_a_study_of_detectors_has_a_page_with_origins_for_classes(tmp_path):
    trials = [trial(arm, s, (12 + i + s, 14), classes=("real", "generated"), target="origin")
              for s in (0, 1) for i, arm in enumerate(("a", "b"))]
    page = gilt.report(made(tmp_path / "s", trials, benchmark="a")).read_text()
    assert "this study's target is the origin" in text(section(page, "worth"))
    assert {row[1] for row in rows(section(page, "classes"))[1:]} <= {"real", "painter"}
    assert {row[0] for row in rows(arm_section(page, "arm-b"))} >= {"real", "generated"}


def test_without_a_benchmark_nothing_is_compared_and_the_page_stands(tmp_path):
    trials = [trial(arm, s, (12, 12 + s)) for s in (0, 1) for arm in ("a", "b")]
    page = gilt.report(made(tmp_path / "s", trials, benchmark=None)).read_text()
    assert "There is no benchmark" in text(section(page, "verdict"))
    assert '<section id="effects">' not in page
    assert '<section id="classes">' not in page
    assert "Settings that differ" not in page
    anchors_resolve(page)


def test_names_of_any_letters_are_shown_as_they_are_and_linked(tmp_path):
    arms = ["real", "a <b>&\"c\"", "a  b  c", "ünlaut", "ünläut", "#", "x" * 90]
    trials = [trial(arm, s, (12 + i % 3, 12 + s), classes=("<i>", "w&n")) for s in (0, 1) for i, arm in enumerate(arms)]
    page = gilt.report(made(tmp_path / "s", trials)).read_text()
    assert rows(section(page, "table"))[0][1:] == [*arms[1:], "Benchmark: real"]
    assert "<b>&" not in page
    assert "<i>" not in page
    anchors_resolve(page)
    names = anchors(arms)
    assert len(set(names.values())) == len(arms)
    assert all(re.fullmatch(r"arm-[a-z0-9-]+", name) for name in names.values())


def test_published_figures_stand_beside_those_measured(tmp_path):
    trials = [trial(arm, s, (12 + s, 14)) for s in (0, 1) for arm in ("real", "ai")]
    page = gilt.report(made(tmp_path / "s", trials, published={"ai": {"test": {"accuracy": 0.9}, "real": 50}},
                            about={"source": "A thesis", "images": {"real": 50}, "differs": ["Other photographs."]},
                            images={"real": 40})).read_text()
    row = rows(section(page, "published"))[1]
    measured = 100 * np.mean([(12 + s + 14) / 40 for s in (0, 1)])
    assert row[:3] == ["ai", "test accuracy", "90.0 %"]
    assert row[4] == f"{measured - 90:+.1f}"
    assert "The document had 50 photographs; here there are 40." in text(section(page, "published"))
    assert "Other photographs." in text(section(page, "published"))


def test_regret_says_what_validation_cost(tmp_path):
    val = {arm: {"metrics": {"accuracy": {"value": value}, "loss": {"value": 1.0}}} for arm, value in (("a", 0.9), ("b", 0.8))}
    trials = [trial(arm, s, (right + s, right), val=val[arm]) for s in (0, 1) for arm, right in (("a", 10), ("b", 12))]
    page = gilt.report(made(tmp_path / "s", trials, benchmark="a")).read_text()
    assert rows(section(page, "regret"))[1][:5] == ["selection", "real", "a, b", "the best on test", f"{100 * 4 / 40:.1f}"]


def test_forty_arms_and_a_hundred_classes_stay_readable_and_small(tmp_path):
    rng, classes = np.random.default_rng(0), tuple(f"class-{i:02}" for i in range(100))
    truth, trials = np.repeat(np.arange(100), 3), []
    for arm in range(40):
        for seed in (0, 1):
            logits = rng.normal(0, 1, (300, 100)).astype(np.float32)
            logits[np.arange(300), truth] += 2 + arm / 20
            said = Predictions([f"{i}.png" for i in range(300)], ["real"] * 300, [classes[c] for c in truth], logits,
                               [None] * 300, classes, "class")
            counts = np.zeros((100, 100), int)
            np.add.at(counts, (truth, logits.argmax(1)), 1)
            part = np.diag(counts).sum() / 300
            plain = {"value": part, "low": part - 0.1, "high": part + 0.1, "n": 300}
            record, _ = trial(f"arm-{arm:02}", seed, (1, 1))
            test = {"metrics": dict.fromkeys(("accuracy", "loss", "f1", "auroc"), plain), "confusion": counts.tolist(),
                    "by": {}}
            trials.append((record.model_copy(update={"test": test, "classes": list(classes)}), said))
    store = made(tmp_path / "s", trials, benchmark="arm-00")
    begin = time.perf_counter()
    page = gilt.report(store).read_text()
    assert time.perf_counter() - begin < 60
    assert len(page) < 5e6
    assert "What each of the 39 arms did" in page
    assert ">other arms</text>" in section(page, "curves")
    assert "of 100 classes with the lowest recall" in arm_section(page, "arm-arm-39")
    assert len(re.findall(r'<a href="#arm-arm-\d\d"><text', section(page, "classes"))) == 39
    anchors_resolve(page)


def test_settings_that_differ_are_those_and_no_others():
    base, other = (TrialConfig.model_validate(config).model_dump(mode="json") for config in (
        {}, {"mix": {"mode": "add", "generated": 400}, "train": {"epochs": 7}}))
    found = {name: values for name, *values in differing(other, base)}
    assert found == {"mix.mode": ["add", "share"], "mix.generated": ["400", "-"],
                     "train.epochs": ["7", str(base["train"]["epochs"])]}
    assert differing(base, base) == []
    assert differing(other, None) == []
