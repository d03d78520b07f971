"""Presets of studies: they say what the documents say, run on a table at hand, and set measured beside published."""
import itertools
import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

import gilt
from conftest import SHARED
from gilt.cli import gilt as commands
from gilt.data.layouts import compile_layouts
from gilt.data.presets import PRESETS as LAYOUTS
from gilt.files import write_json
from gilt.models.zoo import find
from gilt.reports.heatmap import write_heatmap
from gilt.studies.about import preset_files
from gilt.studies.literature import heat_table
from gilt.studies.presets import describe, presets
from gilt.studies.published import how_it_differs, published_rows, published_table
from gilt.studies.store import Store
from gilt.studies.tuning import Tuning

STUDIES = [name for name, path in preset_files().items() if "tune" not in tomllib.loads(path.read_text())]
THESIS = [name for name in STUDIES if name.startswith("thesis-")]
SEEDS = {"thesis": "000_*", "detector": "001_*", "comparison": "003_*", "competition": "004_*", "contamination": "000_*"}


def cli(*words):
    """Run a command in this process and return what it printed; a GiltError comes through."""
    result = CliRunner().invoke(commands, [str(word) for word in words], catch_exceptions=False, standalone_mode=False)
    return result.stdout


def seed_text(name):
    found = sorted((SHARED / "seeds").glob(SEEDS[name.split("-")[0]]))
    if not found:
        pytest.skip("the documents that the presets are from do not lie beside this checkout")
    return found[0].read_text()


@pytest.mark.parametrize("name", preset_files())
def test_every_preset_is_whole_and_its_networks_are_there(name):
    path = preset_files()[name]
    text, plan = path.read_text(), (gilt.Study if name in STUDIES else Tuning).load(name, data="t.parquet")
    assert plan.name == name
    assert text.startswith("# ")
    assert "--data" in text.split("name =")[0]
    for field in ("source", "category", "data", "layout", "scan"):
        assert getattr(plan.about, field), field
    assert plan.about.images
    for config in plan.arms.values() if name in STUDIES else ():
        find(config.train.model)
    scan = shlex.split(plan.about.scan)
    layout = scan[scan.index("--layout") + 1]
    constants = dict(text.split("=") for flag, text in itertools.pairwise(scan) if flag == "--constant")
    assert layout in LAYOUTS or compile_layouts([layout], constants)
    told = describe(name)
    assert told["claim"]
    assert told["command"].startswith("gilt study run" if name in STUDIES else "gilt tune")


def test_the_thesis_has_17_data_sets_in_5_categories_and_90_printed_trials():
    plans = {name: gilt.Study.load(name, data="t.parquet") for name in THESIS}
    assert len(plans) == 17
    assert len({plan.about.category for plan in plans.values()}) == 5
    assert sum(len(plan.published) for plan in plans.values()) == 90
    assert {len(plan.published) for plan in plans.values()} == {2, 4, 5, 6, 7, 13}
    assert sum(len(plan.arms) for plan in plans.values()) == 89  # two columns of Table 4.11 have the same settings
    assert all(plan.benchmark == "real" for plan in plans.values())


@pytest.mark.shared
@pytest.mark.parametrize("name", THESIS)
def test_a_thesis_preset_holds_its_table_cell_by_cell(name):
    """Each column of the document's table is an arm with its settings, and a published figure."""
    plan, text = gilt.Study.load(name, data="t.parquet"), seed_text(name)
    number = re.search(r"Table ([\d.]+)$", plan.about.source)[1]
    lines = re.search(rf"^Table {re.escape(number)}: [^\n]+\n\n((?:[^\n]+\t[^\n]*\n)+)", text, re.M)[1].splitlines()
    table = {line.split("\t")[0]: line.split("\t")[1:] for line in lines}
    names = ["real" if cell == "Benchmark" else f"trial-{cell}" for cell in table["Trials"]]
    assert list(plan.published) == names
    for i, arm in enumerate(names):
        figures = plan.published[arm]
        train = plan.arms[figures.same_as or arm].train
        dropout = find(train.model).dropout if train.dropout is None else train.dropout
        here = {"Batch Size": train.batch_size, "Epochs": train.epochs, "Dropout": dropout, "Model": train.model[-1],
                "# AI Images": figures.generated, "# Real Images": figures.real, "Train Set Type": figures.train_set,
                "Val Set Type": figures.val_set, "Test Accuracy": figures.test["accuracy"],
                "Test Loss": figures.test.get("loss")}
        for row, value in here.items():
            if "" not in table[row]:  # merged cells: the preset says that they are unclear
                assert read(table[row][i]) == read(str("-" if value is None else value)), (arm, row)


def read(cell):
    match = re.fullmatch(r"([\d.]+)(k?)", cell.lower())
    return round(float(match[1]) * (1000 if match[2] else 1), 6) if match else cell


def test_an_arm_of_a_thesis_preset_takes_the_printed_mixture(bird_folder):
    """The rows that are asked for are those of the table: the share, and 80 % of the generated images to train on."""
    for name in THESIS:
        plan = gilt.Study.load(name, data="t.parquet")
        for arm, figures in plan.published.items():
            mix = plan.arms[figures.same_as or arm].mix
            aug = re.fullmatch(r"Aug\((\d+)-\d+\)", figures.train_set or "")
            if figures.train_set == "Real":
                assert mix.share is None
            elif aug and plan.about.category != "Medical":
                assert mix.share == int(aug[1]) / 100
            elif figures.train_set:
                assert mix.share == 1.0
            if mix.max_generated and not figures.note.startswith("train and val 70-30"):
                assert mix.max_generated == round(0.8 * figures.generated)
            assert figures.generated in (0, plan.about.images["generated"]) or mix.max_generated or figures.same_as


@pytest.mark.shared
@pytest.mark.parametrize("name", [name for name in STUDIES if name.split("-")[0] in SEEDS])
def test_every_published_figure_stands_in_its_document(name):
    text, plan = seed_text(name), gilt.Study.load(name, data="t.parquet")
    numbers = {round(float(number), 4) for number in re.findall(r"\d+\.?\d*", text.replace(",", "."))}
    count = 0
    for arm, figures in plan.published.items():
        for part in (figures.test, figures.val, *figures.others.values()):
            for metric, value in part.items():
                assert {round(value, 4), round(100 * value, 4)} & numbers, (arm, metric, value)
                count += 1
    assert count >= len(plan.arms) - 1  # one cell of the contamination study is printed as NaN


def test_the_list_names_every_preset_and_one_is_shown_with_its_data_and_figures():
    listed = cli("study", "presets")
    assert all(re.search(rf"^{name} ", listed, re.M) for name in preset_files())
    assert [row["name"] for row in json.loads(cli("study", "presets", "--json"))] == [preset.name for preset in presets()]
    shown = cli("study", "presets", "thesis-hair")
    assert "kaggle:rashikrahmanpritom/gender-recognition-dataset" in shown
    assert "gilt scan hair --layout '{origin}/{class}' -o hair.parquet" in shown
    assert "2,000 real, 4,000 generated" in shown
    assert re.search(r"trial-2 .*Aug\(80-20\).*4,000 +2,000 +test accuracy 0.95, loss 0.14", shown)
    assert tomllib.loads(cli("study", "presets", "tstr", "--toml"))["name"] == "tstr"
    with pytest.raises(gilt.ConfigError, match=r"no preset 'thesis-hiar' .*Did you mean 'thesis-hair'"):
        cli("study", "presets", "thesis-hiar")


def test_without_its_data_a_preset_says_where_to_get_it_and_how_to_lay_it_out(tmp_path, bird_table):
    with pytest.raises(gilt.ConfigError, match=r"needs its images: --data TABLE.parquet. Get it: .*gender-recognition.*"
                                               r"Lay it out as real/\{black,blonde\}.*gilt scan hair"):
        gilt.Study.load("thesis-hair")
    bird_table.save(tmp_path / "birds.parquet")
    lacking = r"thesis-hair: .* holds no class 'black' \(it has: robin, wren\)\. Get it: .*gilt scan hair"
    with pytest.raises(gilt.TableError, match=lacking):
        cli("study", "run", "thesis-hair", "--data", tmp_path / "birds.parquet", "--store", tmp_path / "s")
    only = tmp_path / "real.parquet"
    bird_table.real.save(only)
    with pytest.raises(gilt.TableError, match=r"holds no generated images\. Get it"):
        cli("study", "run", "tstr", "--data", only, "--store", tmp_path / "s")
    bird_table.generated.save(only)
    with pytest.raises(gilt.TableError, match=r"holds no photographs \(origin real\)\. Get it"):
        cli("study", "run", "tstr", "--data", only, "--store", tmp_path / "s")
    with pytest.raises(gilt.TableError, match=r"holds no generator 'stable-diffusion' \(it has: painter\)\. Get it"):
        cli("study", "run", "contamination", "--data", tmp_path / "birds.parquet", "--store", tmp_path / "s")
    with pytest.raises(gilt.ConfigError, match=r"no file and no preset 'thesis-hiar' .*Did you mean 'thesis-hair'"):
        gilt.Study.load("thesis-hiar")
    with pytest.raises(gilt.ConfigError, match=r"is a tuning .*gilt tune cifake-grid"):
        gilt.Study.load("cifake-grid", data="t.parquet")


@pytest.fixture(scope="module")
def potholes(tmp_path_factory, bird_table):
    """A whole preset, all arms of a data set of the thesis, run small on birds: the store's folder."""
    home = tmp_path_factory.mktemp("potholes")
    bird_table.save(home / "birds.parquet")
    cli("study", "run", "thesis-potholes", "--data", home / "birds.parquet", "--store", home / "store", "--seeds", "2",
        "--set", "classes=['wren', 'robin']", "--set", "train.model=lenet5", "--set", "train.epochs=1", "--set",
        "train.image_size=24")
    return home / "store"


def test_a_whole_preset_runs_on_a_table_at_hand_and_its_report_can_be_written(potholes):
    records = Store(potholes).records()
    assert [(r.arm, r.seed, r.state) for r in records] == [
        (arm, seed, "finished") for seed in (0, 1) for arm in (*(f"trial-{i}" for i in range(1, 7)), "real")]
    sets = {r.arm: (r.train_set, r.val_set) for r in records if r.seed == 0}
    assert sets["trial-2"] == ("AI", "Real")
    assert sets["trial-3"] == ("AI", "Aug(50-50)")
    assert sets["trial-4"][0] == "Aug(80-20)"
    assert sets["real"] == ("Real", "Real")
    assert gilt.report(potholes).is_file()


def test_measured_stands_beside_published_and_what_differs_is_said(potholes):
    store = Store(potholes)
    rows = {(row.arm, row.metric): row for row in published_rows(store)}
    assert len(rows) == 14
    row, values = rows["trial-4", "accuracy"], [r.metric("accuracy") for r in store.records() if r.arm == "trial-4"]
    assert row.published == 0.98
    assert row.measured == pytest.approx(sum(values) / 2)
    assert row.difference == pytest.approx(sum(values) / 2 - 0.98)
    assert row.seeds == 2
    assert (row.generated, row.real, row.real_here) == (1530, 1400, 60)
    first = next(r for r in store.records() if r.arm == "trial-4")
    used = gilt.ImageTable.load(store.path(first.id, "rows.parquet"))
    assert row.generated_here == len(used.where(split=["train", "val"]).generated)
    said = how_it_differs(store)
    assert "The document had 1,400 photographs; here there are 60." in said
    assert "The document had 1,530 generated images; here there are 40." in said
    assert any("--set train.epochs=1" in sentence for sentence in said)
    assert any("far below chance" in sentence for sentence in said)
    header, cells = published_table(published_rows(store))
    line = next(dict(zip(header, row, strict=True)) for row in cells if row[:2] == ["trial-4", "test loss"])
    assert line["published"] == "0.150"
    shown = cli("study", "show", potholes, "--published")
    assert re.search(r"trial-4 +test accuracy +98\.0 %", shown)
    assert json.loads(cli("study", "show", potholes, "--published", "--json"))[0]["published"] == 0.24


def test_the_store_remembers_the_document(potholes):
    summary = Store(potholes).summary
    assert summary["published"]["trial-1"]["test"] == {"accuracy": 0.24, "loss": 5.11}
    assert summary["about"]["source"].endswith("Table 4.12")
    assert summary["images"] == {"real": 60, "generated": 40}
    assert summary["source"] == "thesis-potholes"
    assert summary["options"][2:] == ["--seeds", "2"]


def test_two_printed_trials_of_one_setting_are_held_against_one_arm_and_an_unrun_arm_has_no_figure(tmp_path, bird_table):
    bird_table.save(tmp_path / "birds.parquet")
    file = tmp_path / "s.toml"
    file.write_text("""
name = "s"
seeds = [0]
[base]
table = "birds.parquet"
train = { model = "lenet5", epochs = 1 }
[arms.a]
[published.a]
test.accuracy = 0.5
val = { loss = 1.0 }
others.moon = { accuracy = 0.1 }
[published.b]
same_as = "a"
test.accuracy = 0.75
""")
    gilt.run_study(gilt.Study.load(file), tmp_path / "store")
    rows = published_rows(Store(tmp_path / "store"))
    assert [(r.arm, r.part, r.metric, r.published) for r in rows] == [
        ("a", "test", "accuracy", 0.5), ("a", "val", "loss", 1.0), ("a", "moon", "accuracy", 0.1),
        ("b", "test", "accuracy", 0.75)]
    assert rows[0].measured == rows[3].measured is not None
    assert (rows[0].sd, rows[0].low) == (None, None)
    assert rows[2].measured is None
    assert rows[3].note == "same settings as a"
    assert how_it_differs(Store(tmp_path / "store")) == []


def test_a_study_without_published_figures_says_so(tmp_path, study_file):
    gilt.run_study(gilt.Study.load(study_file, ["train.epochs=1"], seeds=1), tmp_path / "store")
    assert published_rows(Store(tmp_path / "store")) == []
    with pytest.raises(gilt.StoreError, match=r"is no run of a study with published figures.*\[published.ARM\]"):
        cli("study", "show", tmp_path / "store", "--published")


@pytest.fixture(scope="module")
def crosswise(tmp_path_factory, bird_table):
    """The preset tstr, run small on birds over the folds of two partitions: the store's folder."""
    home = tmp_path_factory.mktemp("tstr")
    bird_table.save(home / "birds.parquet")
    cli("study", "run", "tstr", "--data", home / "birds.parquet", "--store", home / "store", "--set", "train.model=lenet5",
        "--set", "train.epochs=1", "--set", "split.folds=2", "--set", "seeds=[0, 1]")
    return home / "store"


def test_training_on_synthetic_and_testing_on_real_and_the_reverse_in_cross_validation(crosswise):
    records = Store(crosswise).records()
    sets = {r.arm: (r.train_set, r.test_set) for r in records}
    assert sets == {"trtr": ("Real", "Real"), "tstr": ("AI", "Real"), "trts": ("Real", "AI"), "tsts": ("AI", "AI")}
    used = {(r.arm, r.seed): gilt.ImageTable.load(Store(crosswise).path(r.id, "rows.parquet")) for r in records}
    tests = {trial: rows.where(split="test") for trial, rows in used.items()}
    for arm, count, origin in (("trtr", 60, "real"), ("trts", 40, "painter")):
        tested = [path for seed in (0, 1) for path in tests[arm, seed].frame["path"]]
        assert len(set(tested)) == len(tested) == count
        assert set(tests[arm, 0].origins) == {origin}
    assert tests["trts", 0] == tests["tsts", 0]


def test_arms_tested_on_generated_images_are_never_paired_with_those_tested_on_photographs(crosswise):
    records = Store(crosswise).records()
    assert [effect.arm for effect in gilt.compare(records, "trtr")] == ["tstr"]
    assert [effect.arm for effect in gilt.compare(records, "tsts")] == ["trts"]


@pytest.fixture(scope="module")
def stores(tmp_path_factory, bird_table):
    """Two data sets under two networks each, of which one is the same: the stores' folders."""
    home = tmp_path_factory.mktemp("heat")
    bird_table.save(home / "birds.parquet")
    for name, networks, classes in (("plain", ["lenet5", "lenet"], []), ("swapped", ["lenet5", "cifake"], ["robin", "wren"])):
        (home / f"{name}.toml").write_text(
            f'name = "{name}"\nseeds = [0, 1]\n[base]\ntable = "birds.parquet"\n{f"classes = {classes}" if classes else ""}\n'
            f'train = {{ epochs = 1, image_size = 32 }}\n[cross]\n"train.model" = {networks}\n')
        gilt.run_study(gilt.Study.load(home / f"{name}.toml"), home / name)
    return home / "plain", home / "swapped"


def test_a_heat_map_has_the_mean_over_seeds_of_each_network_and_data_set(stores):
    table = heat_table(stores, metric="auroc")
    assert set(table.networks) == {"lenet5", "lenet", "cifake"}
    assert set(table.columns) == {"plain", "swapped"}
    by_hand = {}
    for folder in stores:
        for record in Store(folder).records():
            by_hand.setdefault((record.config["train"]["model"], record.study), []).append(record.metric("auroc"))
    for i, network in enumerate(table.networks):
        for j, column in enumerate(table.columns):
            values = by_hand.get((network, column))
            assert table.means[i][j] == (None if values is None else pytest.approx(sum(values) / 2))
            assert table.seeds[i][j] == (2 if values else 0)


def cells(path, name, values):
    """Lay down a store's summary and records: network -> AUROCs over seeds, one arm each."""
    trials = []
    for network, numbers in values.items():
        for seed, number in enumerate(numbers):
            metrics = {"auroc": {"value": number}, "loss": {"value": 1 - number}}
            record = {"id": f"{network}{seed}", "study": name, "arm": network, "seed": seed, "state": "finished",
                      "target": "class", "config": {"train": {"model": network}, "mix": {}}, "table": "t", "started": "now",
                      "seconds": {}, "train_set": "Real", "test": {"metrics": metrics}}
            write_json(path / "trials" / f"{record['id']}.json", record)
            trials.append({"arm": network, "seed": seed, "id": record["id"]})
    write_json(path / "study.json", {"name": name, "trials": trials, "arms": {n: {"mix": {}} for n in values}})
    return path


def test_networks_are_ranked_on_the_data_sets_that_they_share(tmp_path):
    easy = cells(tmp_path / "easy", "easy", {"weak": [0.95, 0.97]})
    hard = cells(tmp_path / "hard", "hard", {"weak": [0.5, 0.6], "strong": [0.7, 0.8], "middle": [0.6, 0.7]})
    table = heat_table([hard, easy])
    assert table.networks == ("strong", "middle", "weak")
    assert table.columns == ("easy", "hard")
    assert table.means[2] == (pytest.approx(0.96), pytest.approx(0.55))
    assert table.means[0] == (None, pytest.approx(0.75))
    assert table.sds[2][1] == pytest.approx(0.05 * 2**0.5)
    assert heat_table([hard, easy], metric="loss").networks == ("strong", "middle", "weak")


def test_a_heat_map_is_a_picture_a_page_or_a_table(stores, tmp_path):
    table = heat_table(stores)
    with Image.open(write_heatmap(table, tmp_path / "heat.png")) as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 200
    assert write_heatmap(table, tmp_path / "heat.svg").read_text().startswith("<svg")
    page = write_heatmap(table, tmp_path / "heat.html").read_text()
    assert "<svg" in page
    assert not re.search(r'(src|href)="https?:', page)
    lines = write_heatmap(table, tmp_path / "heat.csv").read_text().splitlines()
    assert lines[0] == "network,data_set,metric,mean,sd,seeds"
    assert len(lines) == 5
    assert write_heatmap(table, tmp_path / "heat.md").read_text().startswith("| network, AUROC | ")
    with pytest.raises(gilt.ConfigError, match=r"heat.gif: a heat map is written as .png"):
        write_heatmap(table, tmp_path / "heat.gif")
    printed = cli("study", "heatmap", *stores, "--metric", "accuracy", "-o", tmp_path / "again.html")
    assert re.search(r"^cifake ", printed, re.M)
    assert (tmp_path / "again.html").is_file()


def test_a_heat_map_says_what_it_cannot_show(stores, crosswise, potholes, tmp_path):
    assert set(heat_table([crosswise]).columns) == {
        "tstr Real", "tstr AI", "tstr Real, tested on GENERATED", "tstr AI, tested on GENERATED"}
    with pytest.raises(gilt.StoreError, match=r"arms 'trial-1' and 'trial-2' both train lenet5 on AI: choose one with --arms"):
        heat_table([potholes])
    assert heat_table([potholes], arms=["real"]).columns == ("thesis-potholes",)
    with pytest.raises(gilt.ConfigError, match=r"no metric 'auroq' .*Did you mean 'auroc'"):
        heat_table(stores, metric="auroq")
    with pytest.raises(gilt.StoreError, match=r"no finished trial with a test auroc and an arm like none"):
        heat_table(stores, arms=["none"])
    with pytest.raises(gilt.StoreError, match=r"holds no study"):
        heat_table([tmp_path])
    with pytest.raises(gilt.StoreError, match=r"lenet5 is there twice for plain .*give each study its own name"):
        heat_table([stores[0], stores[0]], arms=["model=lenet5"])


def test_the_page_of_presets_lists_them_as_the_command_does():
    page = (Path(__file__).resolve().parents[1] / "docs" / "presets.md").read_text()
    lines = [line.strip("|").split("|") for line in page.splitlines() if line.startswith("| `")]
    rows = [[cell.strip().strip("`") for cell in line] for line in lines]
    assert rows == [[p.name, p.category, p.what, str(p.arms), str(p.published)] for p in presets()]
