"""Studies: the file, the store, resuming after a kill, failures, effects, the report."""
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import gilt
from conftest import RECORDS, write_study
from gilt.evaluation.predictions import Predictions
from gilt.studies.compare import compare, sign_flip, verdicts
from gilt.studies.runner import Watch
from gilt.studies.store import Store, rows_shown


@pytest.fixture(scope="module")
def finished(tmp_path_factory, bird_table):
    """A study that was run: (its file, its store's folder, its records)."""
    home = tmp_path_factory.mktemp("study")
    bird_table.save(home / "birds.parquet")
    file = write_study(home / "birds.toml", Path("birds.parquet"))
    return file, home / "store", gilt.run_study(gilt.Study.load(file), home / "store")


def test_every_arm_runs_under_every_seed(finished):
    _, _, records = finished
    assert [(r.arm, r.seed, r.state) for r in records] == [
        (arm, seed, "finished") for seed in (0, 1) for arm in ("real", "ai", "aug")]
    by_arm = {r.arm: r for r in records}
    assert (by_arm["real"].n_real, by_arm["real"].n_generated, by_arm["real"].train_set) == (42, 0, "Real")
    assert (by_arm["ai"].n_real, by_arm["ai"].n_generated, by_arm["ai"].train_set) == (0, 33, "AI")
    assert (by_arm["aug"].n_real, by_arm["aug"].n_generated, by_arm["aug"].train_set) == (42, 33, "Aug(44-56)")
    assert all(r.n_test == 9 and r.val_set == "Real" for r in records)


def test_a_record_can_be_computed_again_from_its_predictions(finished):
    _, folder, records = finished
    for record in records:
        predictions = Predictions.load(folder / "trials" / f"{record.id}.test.parquet")
        assert json.loads(json.dumps(gilt.evaluate(predictions).as_json())) == record.test
        assert set(predictions.origin) == {"real"}


def test_arms_of_one_seed_share_their_real_rows_and_their_test(finished):
    _, folder, records = finished
    rows = {(r.arm, r.seed): gilt.ImageTable.load(folder / "trials" / f"{r.id}.rows.parquet") for r in records}
    for seed in (0, 1):
        tests = {rows[arm, seed].where(split="test").fingerprint for arm in ("real", "ai", "aug")}
        assert len(tests) == 1
        assert rows["real", seed].where(split="train") == rows["aug", seed].where(split="train").real
    assert rows["real", 0].where(split="test") != rows["real", 1].where(split="test")


def test_running_again_repeats_nothing(finished):
    file, folder, records = finished
    before = {p.name: p.stat().st_mtime_ns for p in (folder / "trials").glob("*.json")}
    started = []
    again = gilt.run_study(gilt.Study.load(file), folder, watch=Watch(start=lambda *_: started.append(1)))
    assert again == records
    assert not started
    assert before == {p.name: p.stat().st_mtime_ns for p in (folder / "trials").glob("*.json")}


def test_a_changed_setting_runs_only_what_it_changes(finished, tmp_path):
    file, _, _ = finished
    study = gilt.Study.load(file)
    changed = file.parent / "changed.toml"
    changed.write_text(file.read_text().replace("[arms.aug]\nmix.mode", "[arms.aug]\nmix.max_generated = 10\nmix.mode"))
    other = gilt.Study.load(changed)
    ids = [{(t.arm, t.seed): t.id("x") for t in s.trials()} for s in (study, other)]
    assert {key for key in ids[0] if ids[0][key] != ids[1][key]} == {("aug", 0), ("aug", 1)}


@pytest.mark.slow
def test_a_study_killed_half_way_ends_with_the_records_of_an_undisturbed_one(finished, tmp_path):
    """A real process is killed with SIGKILL, several times; run again, the store holds each trial once, the same."""
    file, _, undisturbed = finished
    command = [sys.executable, "-m", "gilt", "study", "run", str(file), "--store", str(tmp_path / "store")]
    trials = tmp_path / "store" / "trials"
    for wanted in (0, 2, 4):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        deadline = time.time() + 120
        while process.poll() is None and time.time() < deadline and (
                not trials.is_dir() or len(list(trials.glob(RECORDS))) < wanted or not list(trials.glob("*.rows.parquet"))):
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    left = len(list(trials.glob(RECORDS)))
    assert left < len(undisturbed), "the study was over before it could be killed"
    assert subprocess.run(command, capture_output=True).returncode == 0
    records = Store(tmp_path / "store").records()
    timeless = {"started", "seconds", "machine", "history"}
    for a, b in zip(records, undisturbed, strict=True):
        assert a.model_dump(exclude=timeless) == b.model_dump(exclude=timeless)
        losses = [[epoch["train_loss"] for epoch in r.history] for r in (a, b)]
        assert losses[0] == losses[1]
    assert not list(trials.glob("*.tmp"))


def test_a_failed_trial_is_recorded_and_the_rest_goes_on(bird_table, tmp_path, monkeypatch):
    bird_table.save(tmp_path / "birds.parquet")
    file = write_study(tmp_path / "s.toml", tmp_path / "birds.parquet", seeds=(0,), epochs=1)
    wild = "[arms.wild]\ntrain.learning_rate = 1e30\ntrain.optimizer = 'sgd'\n\n[arms.ai]"
    text = file.read_text().replace("[arms.ai]", wild)
    file.write_text(text.replace("epochs = 1", "epochs = 4"))
    records = gilt.run_study(gilt.Study.load(file), tmp_path / "store")
    states = {r.arm: r.state for r in records}
    assert states == {"real": "finished", "wild": "failed", "ai": "finished", "aug": "finished"}
    failed = next(r for r in records if r.state == "failed")
    assert "Traceback" in failed.error
    assert "lower train.learning_rate" in failed.error
    shown = {row["arm"]: row for row in rows_shown(Store(tmp_path / "store"))}
    assert shown["wild"]["test_accuracy"] is None
    page = gilt.report(tmp_path / "store").read_text()
    assert "Failed and not in any number below: wild, seed 0" in page


def test_the_store_of_another_study_is_refused(finished, tmp_path):
    file, folder, _ = finished
    other = tmp_path / "other.toml"
    other.write_text(file.read_text().replace('name = "birds"', 'name = "bees"').replace(
        '"birds.parquet"', f'"{file.parent / "birds.parquet"}"'))
    with pytest.raises(gilt.StoreError, match="holds the study 'birds', not 'bees'"):
        gilt.run_study(gilt.Study.load(other), folder)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    with pytest.raises(gilt.StoreError, match="holds other things"):
        gilt.run_study(gilt.Study.load(other), tmp_path / "full")


def test_a_finished_record_is_never_changed(finished):
    _, folder, records = finished
    with pytest.raises(gilt.StoreError, match="never changed"):
        Store(folder).write(records[0])


@pytest.mark.parametrize("old, new, part", [
    ("epochs = 2", "epoch = 2", r"unknown key 'train.epoch' \(known: .*Did you mean 'epochs'"),
    ("[arms.ai]\nmix.share", "[arms.ai]\nmix.shear", r"arm 'ai': unknown key 'mix.shear' .*Did you mean 'share'"),
    ("seeds", "seed", r"unknown key 'seed' .*Did you mean 'seeds'"),
    ('target = "class"', 'target = "clas"', r"train.target: .*not 'clas'.*Did you mean 'class'"),
    ("mix.share = 1.0", "mix.share = 1.5", r"mix.share: .*less than or equal to 1, not 1.5"),
    ("mix.share = 1.0", "", r"arms 'real' and 'ai' are the same trial"),
    ("seeds = [0, 1]", "seeds = [1, 1]", "a seed stands twice"),
    ("seeds = [0, 1]", "seeds = []", "at least 1 item"),
    ("seeds = [0, 1]", "seeds = [-1]", "greater than or equal to 0"),
    ("epochs = 2", "epochs = 2\nloss = 'binary'\nl2 = {conv9 = 0.1}", r"arm 'real': train.l2: the network has no layer"),
    ("[base.train]", "[base]\ntrain = 0.8\n\n[ignored]", "is not TOML: .*twice"),
    ("[arms.real]", 'benchmark = "x"\n[arms.real]', r"unknown key 'train.benchmark'"),
    ("seeds = [0, 1]", 'seeds = [0, 1]\nbenchmark = "reel"', r"benchmark 'reel' is no arm .*Did you mean 'real'"),
    ("[base]", "[base", "is not TOML: .*line"),
    ('model = "lenet5"', 'model = "lenet55"', r"arm 'real': no network 'lenet55' .*Did you mean 'lenet5'"),
    ("mix.mode = \"add\"", "mix.mode = \"add\"\nmix.generated = 999", r"arm 'aug': .*there are 33"),
    ("mix.share = 1.0", "mix.share = 1.0\nmix.max_generated = 0", r"arm 'ai': this mix leaves no training row"),
    ('target = "class"', 'target = "class"\nclasses = ["wren"]', r"arm 'real': the training rows hold one class only"),
    ("[base.train]", "[base.split]\ntrain = 0.8\nval = 0.2\ntest = 0.0\n\n[base.train]",
     r"arm 'real': there is no real test row"),
    ('target = "class"', 'target = "class"\ngenerators = ["dall-e"]', r"arm 'real': no generator 'dall-e'")])
def test_a_wrong_study_file_is_one_clear_error_before_anything_is_trained(study_file, tmp_path, old, new, part):
    text = study_file.read_text()
    assert old in text
    study_file.write_text(text.replace(old, new))
    with pytest.raises(gilt.GiltError, match=part) as caught:
        gilt.run_study(gilt.Study.load(study_file), tmp_path / "store")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "store").exists()


def test_settings_override_the_base(study_file):
    study = gilt.Study.load(study_file, ["train.epochs=7", "mix.val=generated"])
    assert {config.train.epochs for config in study.arms.values()} == {7}
    assert study.arms["real"].mix.val == "generated"
    assert study.benchmark == "real"


def test_a_list_that_lost_its_quotes_is_said_to_want_them(study_file):
    with pytest.raises(gilt.ConfigError, match="a list is written as TOML, in quotes for the shell"):
        gilt.Study.load(study_file, ["train.augment=[hflip]"])


def record(arm, seed, accuracy, loss=None, **fields):
    test = {"metrics": {"accuracy": {"value": accuracy}, "loss": {"value": loss}}}
    return gilt.TrialRecord(id=f"{arm}{seed}", study="s", arm=arm, seed=seed, state="finished", target="class", config={},
                            table="", started="", seconds={}, test=test, **fields)


def test_effects_are_scipys_paired_t(tmp_path):
    rng = np.random.default_rng(0)
    base, arm = rng.normal(0.8, 0.02, 8), rng.normal(0.83, 0.02, 8)
    records = [record("real", i, v) for i, v in enumerate(base)] + [record("aug", i, v) for i, v in enumerate(arm)]
    effect = compare(records, "real")[0]
    expected = stats.ttest_rel(100 * arm, 100 * base).confidence_interval(0.95)
    assert (effect.low, effect.high) == pytest.approx((expected.low, expected.high))
    assert effect.mean == pytest.approx(100 * (arm - base).mean())
    exact = stats.permutation_test((arm - base,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert effect.p == pytest.approx(exact.pvalue)


def test_for_the_loss_less_is_better():
    records = [record("real", i, 0.5, 1.0) for i in range(3)] + [record("aug", i, 0.5, 1.2 + i / 100) for i in range(3)]
    assert compare(records, "real", metric="loss")[0].verdict == "trails"
    with pytest.raises(gilt.ConfigError, match=r"no metric 'los' .*Did you mean 'loss'"):
        compare(records, "real", metric="los")


def test_arms_tested_on_other_photographs_are_not_compared():
    records = [record("real", i, 0.5, test_rows="x") for i in range(3)]
    records += [record("aug", i, 0.9 + i / 100, test_rows="y") for i in range(3)]
    assert compare(records, "real") == []
    assert "nothing can be compared" in verdicts(records, "real")[0]
    records += [record("ai", i, 0.4 + i / 100, test_rows="x") for i in range(3)]
    assert any("Not compared" in sentence and "aug" in sentence for sentence in verdicts(records, "real"))


def test_seeds_that_one_arm_lacks_are_not_paired():
    records = [record("real", s, 0.8) for s in (0, 1, 2)] + [record("aug", s, 0.9) for s in (1, 2, 3)]
    assert compare(records, "real")[0].seeds == (1, 2)


@pytest.mark.parametrize("differences, verdict", [
    ((0.05, 0.06, 0.055), "beats"), ((-0.05, -0.06, -0.055), "trails"), ((0.05, -0.05, 0.01), "matches"),
    ((0.05,), "unknown"), ((0.05, 0.05, 0.05), "unknown"), ((0.0, 0.0), "unknown")])
def test_the_verdict_follows_the_interval(differences, verdict):
    records = [record("real", i, 0.5) for i in range(len(differences))]
    records += [record("aug", i, 0.5 + d) for i, d in enumerate(differences)]
    assert compare(records, "real")[0].verdict == verdict
    sentences = verdicts(records, "real")
    if verdict == "unknown":
        assert "no verdict" in sentences[0]
        assert "no verdict" in sentences[1]
    else:
        assert f"aug {verdict} it" in sentences[0]
        assert f"aug {verdict} real" in sentences[1]
        assert "no permutation test can reach p < 0.05 (the smallest possible p is 0.25)" in sentences[2]


@pytest.mark.parametrize("k", [2, 5, 6])
def test_the_smallest_sign_flip_p_is_two_to_the_one_minus_k(k):
    assert sign_flip([1.0 + i for i in range(k)]) == pytest.approx(2 ** (1 - k))


def test_the_report_is_one_page_that_needs_no_network(finished):
    _, folder, _ = finished
    page = gilt.report(folder).read_text()
    assert not re.findall(r"(?:src|href)=[\"'](?!data:|#)", page)
    assert "url(http" not in page
    assert page.index('class="verdict"') < page.index("<h2>Trials")
    for part in ("Aug(44-56)", "Benchmark: real", "Learning curves", "Confusion matrix", "data:image/jpeg;base64",
                 "gilt study run", "95 % interval", "Test Loss"):
        assert part in page
    head = re.search(r'<section id="table">.*?<thead><tr>(.*?)</tr>', page, re.S).group(1)
    assert re.findall(r">([^<>]+)<", head)[-1] == "Benchmark: real"  # the benchmark stands last


def test_a_report_without_its_images_says_so(finished, tmp_path):
    import shutil

    _, folder, _ = finished
    shutil.copytree(folder, tmp_path / "store")
    summary = json.loads((tmp_path / "store" / "study.json").read_text()) | {"table": str(tmp_path / "gone.parquet")}
    (tmp_path / "store" / "study.json").write_text(json.dumps(summary))
    assert "The images are not where the table says" in gilt.report(tmp_path / "store").read_text()


def test_a_study_without_validation_rows_has_a_report(bird_table, tmp_path):
    bird_table.save(tmp_path / "birds.parquet")
    file = write_study(tmp_path / "s.toml", tmp_path / "birds.parquet", seeds=(0,), epochs=1)
    no_val = "[base.split]\ntrain = 0.8\nval = 0.0\ntest = 0.2\n\n[base.train]"
    file.write_text(file.read_text().replace("[base.train]", no_val))
    records = gilt.run_study(gilt.Study.load(file), tmp_path / "store")
    assert {(r.state, r.n_val, r.val_set) for r in records} == {("finished", 0, "none")}
    assert "Learning curves" in gilt.report(tmp_path / "store").read_text()


def test_a_trial_that_another_process_is_at_is_left_for_last(bird_table, tmp_path):
    bird_table.save(tmp_path / "birds.parquet")
    study = gilt.Study.load(write_study(tmp_path / "s.toml", tmp_path / "birds.parquet", seeds=(0,), epochs=1))
    store, order = Store(tmp_path / "store"), []
    store.open(study, bird_table)
    held = store.lock(next(study.trials()).id(bird_table.fingerprint))
    held.acquire()
    gilt.run_study(study, tmp_path / "store", watch=Watch(
        done=lambda record: (order.append(record.arm), record.arm == "aug" and held.release())))
    assert order == ["ai", "aug", "real"]


def test_a_study_finds_images_that_moved(bird_folder, tmp_path):
    import shutil

    shutil.copytree(bird_folder, tmp_path / "birds")
    gilt.scan(tmp_path / "birds").save(tmp_path / "birds.parquet")
    shutil.move(tmp_path / "birds", tmp_path / "elsewhere")
    study = gilt.Study.load(write_study(tmp_path / "s.toml", tmp_path / "birds.parquet", seeds=(0,), epochs=1))
    with pytest.raises(gilt.TableError, match="not where the table says"):
        gilt.run_study(study, tmp_path / "store")
    records = gilt.run_study(study, tmp_path / "store", root=tmp_path / "elsewhere")
    assert {record.state for record in records} == {"finished"}
    assert "Real beside generated images" in gilt.report(tmp_path / "store").read_text()


def test_a_folder_without_a_study_is_an_error(tmp_path):
    with pytest.raises(gilt.StoreError, match="holds no study"):
        gilt.report(tmp_path)
