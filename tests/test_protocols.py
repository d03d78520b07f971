"""Protocols: what is new is never learnt from, numbers are those of the saved predictions, runs resume, mistakes are told."""
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn import metrics as sk

import gilt
from conftest import draw, make_birds
from gilt.cli import gilt as gilt_command
from gilt.errors import ConfigError, StoreError, TableError
from gilt.evaluation.calibration import p_generated
from gilt.evaluation.metrics import Metric
from gilt.evaluation.over_seeds import difference, mean_of, over_seeds
from gilt.reports.protocol import protocol_page, protocol_table, protocol_verdict
from gilt.studies.protocol_results import NO_THRESHOLD, Line, in_mean, protocol_result
from gilt.studies.protocols import FROM, chronological, cross_collection, leave_one_out, read_plan, run_protocol
from gilt.studies.store import Store

QUICK = {"train": {"model": "lenet5", "epochs": 1, "batch_size": 20}}
GENERATORS = ("etcher", "painter", "sketcher")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    """40 photographs and 20 images of each of three generators, as a table file."""
    root = tmp_path_factory.mktemp("scenes")
    for origin, colour, count in (("real", (200, 120, 60), 40), ("painter", (120, 150, 90), 20), ("etcher", (90, 90, 160), 20),
                                  ("sketcher", (180, 120, 80), 20)):
        for i in range(count):
            draw(root / "images" / origin / "any" / f"{i:02}.png", colour, seed=i + 100 * len(origin), size=16)
    table = gilt.scan(root / "images", "{origin}/{class}")
    when = table.frame["origin"].map({"painter": "2021", "etcher": "2022-06", "sketcher": "2023-02-01"})
    table.with_column("released", when.where(when.notna(), None)).with_column(
        "year", [2018 + i % 5 for i in range(len(table))]).save(root / "scenes.parquet")
    return root / "scenes.parquet"


@pytest.fixture(scope="module")
def unseen(scenes, tmp_path_factory) -> Path:
    """Leave-one-generator-out, run under two seeds."""
    folder = tmp_path_factory.mktemp("runs") / "unseen"
    run_protocol(leave_one_out(scenes, QUICK, seeds=2), folder)
    return folder


def test_the_generator_that_is_held_out_is_never_learnt_from(unseen):
    store = Store(unseen / "study")
    assert len(store.records()) == 6
    for record in store.records():
        rows, held = store.rows(record.id).frame, record.config["split"]["hold_out"][0]
        assert record.arm == f"without-{held}"
        assert set(rows[rows["origin"] == held]["split"]) == {"test"}
        assert {"real", *GENERATORS} == set(rows[rows["split"] == "test"]["origin"])
        assert {"real", *GENERATORS} - {held} == set(rows[rows["split"] == "train"]["origin"])


def test_photographs_are_dealt_alike_whichever_generator_is_held_out(unseen):
    store = Store(unseen / "study")
    tests = {seed: {frozenset(rows[(rows["origin"] == "real") & (rows["split"] == "test")]["path"])
                    for record in store.records() if record.seed == seed for rows in [store.rows(record.id).frame]}
             for seed in (0, 1)}
    assert [len(sets) for sets in tests.values()] == [1, 1]


def test_every_number_is_that_of_the_saved_predictions(unseen):
    store, result = Store(unseen / "study"), protocol_result(unseen)
    unseen_values, seen_values = {}, {}
    for record in store.records():
        predictions = store.predictions(record.id)
        origin, p = np.array(predictions.origin), p_generated(predictions)
        for name in GENERATORS:
            both = (origin == "real") | (origin == name)
            value = sk.roc_auc_score(origin[both] != "real", p[both])
            (unseen_values if record.arm == f"without-{name}" else seen_values).setdefault(
                (name, record.seed), []).append(value)
    for line in result.lines:
        values = (unseen_values if line.relation == "unseen" else seen_values)
        wanted = [np.mean(values[line.group, seed]) for seed in (0, 1)]
        assert line.cells["auroc"].seeds == pytest.approx(wanted)
        assert line.cells["auroc"].value == pytest.approx(np.mean(wanted))
    assert {(line.group, line.relation) for line in result.lines} == {(g, r) for g in GENERATORS for r in ("unseen", "seen")}
    new, known = (np.mean([np.mean(values[name, seed]) for name in GENERATORS for seed in (0, 1)])
                  for values in (unseen_values, seen_values))
    assert result.mean["unseen"]["auroc"].value == pytest.approx(new)
    assert result.gap["auroc"].value == pytest.approx(new - known)
    least = min(GENERATORS, key=lambda name: np.mean([unseen_values[name, seed] for seed in (0, 1)]))
    assert result.worst["unseen"]["auroc"].group == least


def test_a_protocol_that_is_run_again_trains_nothing_again(scenes, unseen):
    before = {record.id: record.started for record in Store(unseen / "study").records()}
    stamps = {path: path.stat().st_mtime_ns for path in (unseen / "study" / "trials").glob("*.parquet")}
    records = run_protocol(leave_one_out(scenes, QUICK, seeds=2), unseen)
    assert {record.id: record.started for record in records} == before
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


def test_what_is_missing_is_named(scenes, unseen):
    store = Store(unseen / "study")
    gone = store.path(store.records()[0].id, "json")
    kept = gone.read_bytes()
    gone.unlink()
    try:
        result = protocol_result(unseen)
    finally:
        gone.write_bytes(kept)
    assert result.missing == ("without-etcher seed 0",)
    assert next(line for line in result.of("unseen") if line.group == "etcher").cells["auroc"].seeds[1:] == ()


def test_whole_generators_are_held_out_where_each_has_one_moment(scenes):
    plan = chronological(scenes, QUICK, by="released", seeds=1)
    assert {arm: config.split.hold_out for arm, config in plan.study.arms.items()} == {
        "before-2022-06-01": ("etcher", "sketcher"), "before-2023-02-01": ("sketcher",)}
    named = chronological(scenes, QUICK, years={"painter": 2021, "etcher": 2023, "sketcher": 2023}, seeds=1)
    assert {arm: config.split.hold_out for arm, config in named.study.arms.items()} == {"before-2023": ("etcher", "sketcher")}


def test_what_came_next_stands_apart_from_what_came_later_and_what_was_seen(scenes, tmp_path):
    run_protocol(chronological(scenes, QUICK, by="released", seeds=1), tmp_path / "later")
    result = protocol_result(tmp_path / "later")
    assert {(line.arm, line.group): line.relation for line in result.lines} == {
        ("before-2022-06-01", "etcher"): "next", ("before-2022-06-01", "sketcher"): "later",
        ("before-2022-06-01", "painter"): "seen", ("before-2023-02-01", "sketcher"): "next",
        ("before-2023-02-01", "painter"): "seen", ("before-2023-02-01", "etcher"): "seen"}
    assert "One seed only" in protocol_verdict(result)[-1]


def test_dated_rows_are_cut_by_time_and_judged_within_their_window(scenes, tmp_path):
    plan = chronological(scenes, QUICK, by="year", cuts=[2020, 2022], seeds=1)
    assert {arm: config.split.cuts for arm, config in plan.study.arms.items()} == {
        "before-2020": (2020.0,), "before-2022": (2022.0,)}
    run_protocol(plan, tmp_path / "later")
    store, result = Store(tmp_path / "later" / "study"), protocol_result(tmp_path / "later")
    for record in store.records():
        rows = store.rows(record.id).frame
        start = int(record.arm.removeprefix("before-"))
        assert rows[rows["split"] == "test"]["year"].min() >= start > rows[rows["split"] != "test"]["year"].max()
    frame = gilt.ImageTable.load(scenes).frame
    between = frame[(frame["year"] >= 2020) & (frame["year"] < 2022)]
    line = next(line for line in result.lines if (line.arm, line.group, line.relation) == ("before-2020", "painter", "next"))
    assert (line.n_real, line.n_generated) == ((between["origin"] == "real").sum(), (between["origin"] == "painter").sum())
    assert "seen" not in result.mean


def test_another_collection_is_scored_and_never_learnt_from(scenes, tmp_path):
    make_birds(tmp_path / "birds", classes=("wren",), real=12, generated=12, size=16)
    twin = gilt.ImageTable.load(scenes).paths[0]
    (tmp_path / "birds" / "real" / "wren" / "twin.png").write_bytes(twin.read_bytes())
    gilt.scan(tmp_path / "birds", "{origin}/{class}").save(tmp_path / "own.parquet")
    plan = cross_collection(scenes, [tmp_path / "own.parquet"], QUICK, seeds=1, folder=tmp_path / "cross")
    run_protocol(plan, tmp_path / "cross")
    store, result = Store(tmp_path / "cross" / "study"), protocol_result(tmp_path / "cross")
    rows = store.rows(store.records()[0].id).frame
    assert set(rows[rows[FROM] == "own"]["split"]) == {"test"}
    digest = rows[rows["path"].str.endswith("twin.png")]["sha256"].iloc[0]
    assert set(rows[rows["sha256"] == digest]["split"]) == {"test"}
    whole = {line.group: line for line in result.lines if line.whole}
    assert (whole["own"].relation, whole["scenes"].relation) == ("other", "own")
    assert (whole["own"].n_real, whole["own"].n_generated) == (13, 12)
    assert result.mean["other"]["auroc"] == next(
        line for line in result.lines if line.group == "own: painter").cells["auroc"]  # the whole is no second generator


def test_rows_dealt_anew_are_those_of_the_own_collection_alone(scenes, tmp_path):
    make_birds(tmp_path / "birds", classes=("wren",), real=12, generated=12, size=16)
    gilt.scan(tmp_path / "birds", "{origin}/{class}").save(tmp_path / "own.parquet")
    table = gilt.ImageTable.load(scenes)
    table.with_column("split", "test").save(tmp_path / "tested.parquet")  # as a data set's own test, to be dealt anew
    anew = {**QUICK, "split": {"keep": False}}
    plan = cross_collection(tmp_path / "tested.parquet", [tmp_path / "own.parquet"], anew, seeds=1, folder=tmp_path / "cross")
    run_protocol(plan, tmp_path / "cross")
    store = Store(tmp_path / "cross" / "study")
    rows = store.rows(store.records()[0].id).frame
    assert set(rows[rows[FROM] == "own"]["split"]) == {"test"}
    assert set(rows[rows[FROM] == "tested"]["split"]) == {"train", "val", "test"}


def test_a_generator_of_a_few_test_images_does_not_count_beside_others_of_many():
    def line(group, relation, n, whole=False):
        return Line("arm", group, relation, whole, 50, n, {})

    rich, poor, whole = line("painter", "unseen", 40), line("etcher", "unseen", 3), line("own", "unseen", 43, whole=True)
    few = [line("painter", "seen", 4), line("etcher", "seen", 3)]
    assert in_mean([rich, poor, whole, *few]) == [rich, *few]  # where all are few, all count


def test_an_interval_is_the_wider_of_that_over_seeds_and_that_over_images():
    apart = over_seeds([Metric(0.7, 0.69, 0.71, 50), Metric(0.8, 0.79, 0.81, 40), Metric(0.9, 0.89, 0.91, 60)])
    assert apart.value == pytest.approx(0.8)
    assert (apart.low, apart.high) == apart.over_seeds == (pytest.approx(0.8 - 4.3027 * 0.1 / 3**0.5, abs=1e-4), 1.0)
    assert (apart.n, apart.sd) == (40, pytest.approx(0.1))
    alike = over_seeds([Metric(0.8, 0.6, 0.9, 50)] * 3)
    assert alike.over_seeds is None
    assert (alike.low, alike.high) == alike.over_images == (pytest.approx(0.6), pytest.approx(0.9))
    assert over_seeds([Metric(None, None, None, 9)] * 2).value is None


def test_a_difference_is_paired_by_seed():
    new, known = {0: Metric(0.6, None, None, 9), 1: Metric(0.8, None, None, 9)}, {1: Metric(0.9, None, None, 9)}
    assert difference(new, known).seeds == (pytest.approx(-0.1),)
    assert mean_of([*new.values()]).value == pytest.approx(0.7)
    assert mean_of([Metric(None, None, None, 0)]).value is None


def test_no_generators_name_becomes_a_path(scenes, tmp_path):
    table = gilt.ImageTable.load(scenes)
    names = {"painter": "../../a b", "etcher": ".././a-b"}
    table.with_column("origin", table.frame["origin"].replace(names)).save(tmp_path / "w.parquet")
    arms = leave_one_out(tmp_path / "w.parquet").study.arms
    assert not [arm for arm in arms if "/" in arm]
    assert [config.split.hold_out for config in arms.values()] == [("../../a b",), (".././a-b",), ("sketcher",)]


@pytest.mark.parametrize("ask, error, words", [
    ({"only": ["paintr"]}, ConfigError, "no generator 'paintr'.*Did you mean 'painter'"),
    ({"base": {"target": "class"}}, ConfigError, "its target is 'origin' or 'generator', not 'class'"),
    ({"base": {"train": {"target": "class"}}}, ConfigError, "its target is 'origin'"),
    ({"base": {"generators": ["painter"]}}, TableError, "one generator only, painter"),
    ({"base": {"trian": {}}}, ConfigError, "unknown key 'trian'")])
def test_a_plan_that_cannot_be_is_refused(scenes, ask, error, words):
    with pytest.raises(error, match=words):
        leave_one_out(scenes, **ask)


@pytest.mark.parametrize("ask, error, words", [
    ({}, ConfigError, "needs to know when"), ({"by": "released", "years": {"painter": 1}}, ConfigError, "not both"),
    ({"by": "realeased"}, TableError, "no column 'realeased'"), ({"by": "class"}, TableError, "neither a number nor a date"),
    ({"years": {"painter": 2021}}, TableError, "no year for 'etcher'"),
    ({"years": dict.fromkeys(GENERATORS, 2021)}, TableError, "one value only, 2021"),
    ({"by": "year", "cuts": [2030]}, ConfigError, "in the window from 2030 on .* from 2018 to 2022"),
    ({"by": "year", "cuts": [2018]}, ConfigError, "before 2018"),
    ({"by": "year", "cuts": [2021, 2020]}, ConfigError, "cuts must rise")])
def test_time_that_cannot_be_cut_is_told(scenes, ask, error, words):
    with pytest.raises(error, match=words):
        chronological(scenes, **ask)


def test_a_folder_of_something_else_is_refused_and_a_refused_plan_leaves_nothing(scenes, unseen, tmp_path):
    with pytest.raises(StoreError, match="holds the protocol leave-one-generator-out of scenes"):
        run_protocol(chronological(scenes, QUICK, by="released"), unseen)
    with pytest.raises(StoreError, match="holds other things"):
        run_protocol(leave_one_out(scenes, QUICK), scenes.parent)
    with pytest.raises(gilt.errors.ModelError, match="no network 'lenet6'"):
        run_protocol(leave_one_out(scenes, {"train": {"model": "lenet6"}}), tmp_path / "x")
    assert not (tmp_path / "x").exists()
    with pytest.raises(StoreError, match="holds no protocol"):
        read_plan(tmp_path)
    with pytest.raises(ConfigError, match="given twice"):
        cross_collection(scenes, [scenes], folder=tmp_path / "y")
    for setting in ({"folds": 3}, {"hold_out": ["painter"]}, {"by": "year"}):
        with pytest.raises(ConfigError, match=f"leave split.{next(iter(setting))} out"):
            cross_collection(scenes, [tmp_path / "own.parquet"], {"split": setting}, folder=tmp_path / "y")


def test_tables_and_page_say_what_was_found(unseen, tmp_path):
    result = protocol_result(unseen)
    header, rows = protocol_table(result, "auroc")
    assert [row[0] for row in rows][:4] == [*GENERATORS, "mean of 3"]
    assert all(len(row) == len(header) for row in rows)
    text = protocol_page(result, to=tmp_path / "p.html", command="gilt protocol ...").read_text()
    assert text.count("<svg") == 1
    assert "On generators that it never saw" in text
    assert f"{result.mean['unseen']['auroc'].value:.3f}" in text


def test_where_no_threshold_was_chosen_the_verdict_says_that_half_decides(unseen):
    result = protocol_result(unseen)
    assert NO_THRESHOLD in result.notes  # 40 photographs leave too few for validation
    assert any("validation chose, or at 0.5 where it had too few images for one, it finds" in line
               for line in protocol_verdict(result))
    chosen = replace(result, notes=())
    assert any("validation chose it finds" in line for line in protocol_verdict(chosen))


def test_equalise_is_an_option_of_protocols_too(scenes, tmp_path):
    asked = ["protocol", "leave-one-generator-out", str(scenes), "-o", str(tmp_path / "p"), "--seeds", "1", "--only", "painter",
             "--equalise", "--set", "train.equalise.size=12", *(f"--set=train.{name}={value}" for name, value in
                                                                  QUICK["train"].items())]
    done = CliRunner().invoke(gilt_command, asked)
    assert done.exit_code == 0, done.output
    assert [record.config["train"]["equalise"]["size"] for record in Store(tmp_path / "p" / "study").records()] == [12]



def test_the_command_takes_up_what_is_there(scenes, unseen):
    asked = ["protocol", "leave-one-generator-out", str(scenes), "-o", str(unseen), "--seeds", "2",
             "--set", "train.model=lenet5", "--set", "train.epochs=1", "--set", "train.batch_size=20"]
    result = CliRunner().invoke(gilt_command, [*asked, "--json"])
    assert result.exit_code == 0, result.output
    assert "6 of 6 trials are finished already" in result.stderr
    values = json.loads(result.stdout)
    assert values["plan"]["kind"] == "leave-one-generator-out"
    assert {line["relation"] for line in values["lines"]} == {"seen", "unseen"}
    assert (unseen / "protocol.html").is_file()
    shown = CliRunner().invoke(gilt_command, asked).stdout
    assert "held out" in shown and "worst: " in shown
