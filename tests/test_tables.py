"""A study's tables as CSV, Markdown and LaTeX: what they hold, what is escaped, what is never overwritten."""
import csv
import io
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from scipy import stats

import gilt
from gilt.cli import main
from gilt.evaluation.predictions import Predictions
from gilt.reports.tables import tables, write_tables
from gilt.reports.typeset import Table, as_csv, as_latex, as_markdown, latex_text
from gilt.studies.store import Store

NASTY = r"50%_a & b#1 {x} $y$ ~^\ <z> |"
CLASSES = ("robin [red]", "wren_&_tit")


def predictions(right):
    truth = [CLASSES[i % 2] for i in range(len(right))]
    logits = np.array([[2.0, 0.0] if (name == CLASSES[0]) == ok else [0.0, 2.0] for name, ok in zip(truth, right, strict=True)])
    n = len(right)
    return Predictions([f"{i:03}.png" for i in range(n)], ["real"] * n, truth, logits.astype(np.float32), [None] * n, CLASSES,
                       "class")


def make_store(folder, arms, *, seeds=6, name="birds_&_bees", benchmark="real-40", **summary):
    """A study with its predictions: arm -> (its config's mix, photographs, generated images, chance of being right)."""
    rng = np.random.default_rng(0)
    (folder / "trials").mkdir(parents=True)
    configs = {arm: gilt.TrialConfig.model_validate({"mix": mix}).model_dump(mode="json") for arm, (mix, *_) in arms.items()}
    trials = [{"arm": arm, "seed": seed, "id": f"t{i}-{seed}"} for seed in range(seeds) for i, arm in enumerate(arms)]
    (folder / "study.json").write_text(json.dumps({
        "kind": "study", "name": name, "metric": "accuracy", "benchmark": benchmark, "arms": configs, "fingerprint": "f",
        "trials": trials, "seeds": list(range(seeds)), **summary}))
    store = Store(folder)
    for trial in trials:
        found = predictions(rng.random(200) < arms[trial["arm"]][3])
        test = json.loads(json.dumps(gilt.evaluate(found).as_json()))
        _, real, generated, _ = arms[trial["arm"]]
        store.write(gilt.TrialRecord(
            **trial, study=name, state="finished", target="class", config=configs[trial["arm"]], table="", started="",
            seconds={"total": 1.5}, n_real=real, n_generated=generated, n_drawn=real + generated, n_val=10, n_test=200,
            train_set="Real" if not generated else "Aug(50-50)", val_set="Real", test_rows="t", val_rows="v", dropout=0.5,
            test=test, val=test))
        found.save(folder / "trials" / f"{trial['id']}.test.parquet")
    return store


ARMS = {"real-10": ({"max_real": 10}, 10, 0, 0.55), "real-20": ({"max_real": 20}, 20, 0, 0.65),
        "real-40": ({"max_real": 40}, 40, 0, 0.75), "real-80": ({"max_real": 80}, 80, 0, 0.85),
        NASTY: ({"mode": "add", "max_real": 40, "generated": 40}, 40, 40, 0.80)}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("tables") / "s", ARMS)


def read(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_a_study_has_every_table_that_it_has_something_for(store):
    found = tables(store)
    assert list(found) == ["arms", "effects", "classes", "worth", "regret", "trials"]
    for table in found.values():
        assert table.caption.startswith("birds_&_bees, 6 seeds: ")
        assert {len(table.fields)} == {len(row) for row in table.rows}
        assert {len(table.header)} == {len(row) for row in table.shown}
        assert all(isinstance(cell, str) for row in table.shown for cell in row)


def test_the_tidy_tables_hold_every_digit_of_what_was_measured(store):
    records, found = store.records(), {name: read(as_csv(table)) for name, table in tables(store).items()}
    arm = next(row for row in found["arms"] if row["arm"] == NASTY)
    known = np.array([r.metric("accuracy") for r in records if r.arm == NASTY])
    low, high = stats.ttest_1samp(known, 0).confidence_interval(0.95)
    assert [float(arm[f"accuracy_{name}"]) for name in ("mean", "sd", "low", "high")] == pytest.approx(
        [known.mean(), known.std(ddof=1), low, high])
    assert (arm["n_real"], arm["n_generated"], arm["seeds"], arm["benchmark"]) == ("40", "40", "6", "False")
    assert [row["arm"] for row in found["arms"] if row["benchmark"] == "True"] == ["real-40"]
    base = np.array([r.metric("accuracy") for r in records if r.arm == "real-40"])
    effect = next(row for row in found["effects"] if row["arm"] == NASTY)
    assert float(effect["difference_points"]) == pytest.approx(100 * (known - base).mean())
    assert float(effect["p_t"]) == pytest.approx(stats.ttest_rel(known, base).pvalue)
    assert {(row["arm"], row["class"]) for row in found["classes"]} == {(a, c) for a in ARMS if a != "real-40" for c in CLASSES}
    assert len(found["trials"]) == 30
    assert float(found["trials"][4]["test_accuracy"]) == records[4].metric("accuracy")
    worth, = found["worth"]
    assert (worth["arm"], worth["n_generated"]) == (NASTY, "40.0")
    assert float(worth["rho"]) == pytest.approx((float(worth["n_eq"]) - 40) / 40)
    assert found["regret"][0]["chosen"].count("; ") == 5


def test_what_is_read_is_rounded_as_on_the_page(store):
    found = tables(store)
    column = found["arms"].header.index(NASTY)
    shown = {row[0]: row[column] for row in found["arms"].shown}
    assert shown["# AI Images"] == "40"
    assert re.fullmatch(r"\d\d\.\d ± \d\.\d %", shown["Test Accuracy"])
    assert found["arms"].header[-1] == "Benchmark: real-40"
    text = as_markdown(found["effects"])
    assert text.startswith("birds\\_&\\_bees, 6 seeds: test accuracy against the benchmark real-40, paired over seeds\n\n| arm")
    assert "\\|" in text  # the arm's own bar ends no cell
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines()[2:]}) == 1


def plain_latex(text):
    """Return LaTeX without its own commands and escaped letters: what is left must hold nothing special."""
    text = re.sub(r"^% needs.*\n", "", text)
    assert "%" not in re.sub(r"\\%", "", text).replace("{!}{%\n", "")
    text = text.replace("{!}{%\n", "{!}{\n")
    text = re.sub(r"\$(-|\\pm)\$", "", text)
    text = re.sub(r"\\\\|\\[{}$&#%_]", "", text)
    return re.sub(r"\\[a-zA-Z]+(\{\})?", "", text)


def check(text):
    begun = re.findall(r"\\begin\{(\w+)\}", text)
    assert begun
    for name in begun:
        assert text.count(f"\\begin{{{name}}}") == text.count(f"\\end{{{name}}}")
    left = plain_latex(text)
    assert left.count("{") == left.count("}")
    assert not set("#$~^_\\") & set(left)
    for line in text.splitlines():
        if line.endswith(r"\\") and "\\caption" not in line:
            yield len(re.findall(r"(?<!\\)&", line))


def test_latex_is_balanced_and_every_special_letter_is_escaped(store):
    for table in tables(store).values():
        text = as_latex(table, "birds_&_bees")
        assert set(check(text)) == {len(table.header) - 1}
        assert re.search(r"\\label\{tab:birds-bees-\w+\}", text)
        assert "booktabs" in text.splitlines()[0]


def test_letters_that_latex_takes_for_commands_are_escaped():
    assert latex_text(NASTY) == (r"50\%\_a \& b\#1 \{x\} \$y\$ \textasciitilde{}\textasciicircum{}\textbackslash{} "
                                 r"\textless{}z\textgreater{} \textbar{}")
    assert latex_text("[red]") == "{}[red]"
    assert latex_text("-1.2 to +3.0, a--b, 2024-01, lenet-5") == "$-$1.2 to +3.0, a-{}-b, 2024-01, lenet-5"
    assert latex_text("80.1 ± 0.2 %\nnew\x07") == r"80.1 $\pm$ 0.2 \% new?"


def table_of(rows, columns=2, **more):
    cells = [[f"a{i}", *("1.5" for _ in range(columns - 1))] for i in range(rows)]
    header = ["name", *(f"c{i}" for i in range(1, columns))]
    return Table("t", "caption", header, cells, header, cells, **more)


def test_a_long_table_breaks_over_pages_and_a_wide_one_is_shrunk():
    assert "longtable" not in as_latex(table_of(40), "s")
    long = as_latex(table_of(41), "s")
    assert "\\begin{longtable}{lr}" in long
    assert "\\endhead" in long
    assert list(check(long)) == [1] * 43
    wide = as_latex(table_of(3, 30), "s")
    assert "\\resizebox{\\textwidth}{!}" in wide
    assert wide.splitlines()[0] == "% needs the packages booktabs, graphicx"
    assert "p{0.3\\textwidth}" in as_latex(Table("t", "c", ["a"], [], ["a"], [["long words " * 9]]), "s")


def test_many_arms_make_several_tables_each_with_the_last_column():
    text = as_latex(table_of(2, 14, blocks=6, last=True), "s")
    heads = re.findall(r"\\toprule\n(.*) \\\\", text)
    assert heads == ["name & c1 & c2 & c3 & c4 & c5 & c13", "name & c6 & c7 & c8 & c9 & c10 & c13", "name & c11 & c12 & c13"]
    assert text.count("(2 of 3)") == 1
    assert len(set(re.findall(r"\\label\{(.*?)\}", text))) == 3
    assert as_latex(table_of(2, 7, blocks=6, last=True), "s").count("toprule") == 1


def test_latex_compiles_where_there_is_an_engine(store, tmp_path):
    engine = next((name for name in ("pdflatex", "lualatex", "xelatex", "tectonic") if shutil.which(name)), None)
    if engine is None:
        pytest.skip("no LaTeX on this machine: the tables are checked, not compiled")
    write_tables(store, tmp_path / "t")
    body = "\n".join(f"\\input{{t/{path.name}}}" for path in sorted((tmp_path / "t").glob("*.tex")))
    (tmp_path / "all.tex").write_text("\\documentclass{article}\n\\usepackage{booktabs,longtable,graphicx}\n"
                                      f"\\begin{{document}}\n{body}\n\\end{{document}}\n")
    options = [] if engine == "tectonic" else ["-interaction=nonstopmode", "-halt-on-error"]
    done = subprocess.run([engine, *options, "all.tex"], cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]


def test_tables_are_written_three_times_each_and_again_in_place(store, tmp_path):
    written = write_tables(store, tmp_path / "paper" / "tables")
    names = {f"{name}.{ending}" for name in tables(store) for ending in ("csv", "md", "tex")}
    assert {path.name for path in written} == names
    assert {path.name for path in (tmp_path / "paper" / "tables").iterdir()} == {*names, "tables.json"}
    before = {path: path.read_bytes() for path in written}
    assert {path: path.read_bytes() for path in write_tables(store, tmp_path / "paper" / "tables")} == before


def test_a_table_that_a_study_no_longer_has_goes(store, tmp_path):
    write_tables(store, tmp_path / "t")
    fewer = make_store(tmp_path / "s", {arm: ARMS[arm] for arm in ("real-40", NASTY)})
    write_tables(fewer, tmp_path / "t")
    assert (tmp_path / "t" / "effects.csv").exists()
    assert not (tmp_path / "t" / "worth.csv").exists()  # no learning curve any more


@pytest.mark.parametrize("file, line", [
    ("notes.txt", "holds other things than tables (notes.txt): choose a new or empty folder"),
    ("arms.csv", "holds other things than tables (arms.csv)")])
def test_a_folder_that_holds_other_things_is_left_alone(store, tmp_path, file, line):
    (tmp_path / file).write_text("mine")
    with pytest.raises(gilt.StoreError, match=re.escape(line)):
        write_tables(store, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [file]
    assert (tmp_path / file).read_text() == "mine"


def test_another_studys_tables_a_file_and_a_store_are_no_folder_for_tables(store, tmp_path):
    write_tables(store, tmp_path / "t")
    other = make_store(tmp_path / "s", {"real-40": ARMS["real-40"]}, name="other")
    with pytest.raises(gilt.StoreError, match="holds the tables of the study 'birds_&_bees', not of 'other'"):
        write_tables(other, tmp_path / "t")
    (tmp_path / "t" / "tables.json").write_text('["mine"]')
    with pytest.raises(gilt.StoreError, match="is no list of tables of gilt's: choose a new"):
        write_tables(store, tmp_path / "t")
    (tmp_path / "file").write_text("")
    for below in (".", "sub/tables"):
        with pytest.raises(gilt.StoreError, match="file is a file: name a folder for the tables"):
            write_tables(store, tmp_path / "file" / below)
    with pytest.raises(gilt.StoreError, match=r"holds other things than tables \(study.json, trials\)"):
        write_tables(other, other.folder)


def test_one_seed_and_no_benchmark_make_fewer_tables_that_say_so(tmp_path):
    lone = make_store(tmp_path / "s", {"real-40": ARMS["real-40"], NASTY: ARMS[NASTY]}, seeds=1, benchmark=None)
    found = tables(lone)
    assert list(found) == ["arms", "regret", "trials"]
    assert found["arms"].caption.startswith("birds_&_bees, 1 seed: ")
    assert "(one seed)" in as_markdown(found["arms"])
    row = read(as_csv(found["arms"]))[0]
    assert (row["accuracy_sd"], row["accuracy_low"]) == ("", "")


def test_published_figures_stand_beside_the_measured_ones(tmp_path):
    published = {"real-40": {"test": {"accuracy": 0.9}}}
    store = make_store(tmp_path / "s", {"real-40": ARMS["real-40"]}, published=published)
    row, = read(as_csv(tables(store)["published"]))
    known = np.mean([r.metric("accuracy") for r in store.records()])
    assert (float(row["published"]), float(row["measured"])) == (0.9, pytest.approx(known))
    assert float(row["difference"]) == pytest.approx(known - 0.9)


def test_the_command_refuses_before_it_works_and_a_study_not_yet_run_has_no_tables(store, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("years of work")
    with pytest.raises(SystemExit) as stop:
        main(["study", "report", str(store.folder), "-o", str(tmp_path / "page.html"), "--tables", str(tmp_path / "full")])
    assert stop.value.code == 2
    assert "holds other things than tables (thesis.tex)" in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()
    empty = make_store(tmp_path / "s", {"real-40": ARMS["real-40"]}, seeds=0)
    with pytest.raises(gilt.StoreError, match="is finished yet: run gilt study run again"):
        tables(empty)
