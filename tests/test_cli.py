"""The command line, as a user meets it: real processes, exit codes, one clear line for bad input."""
import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import RECORDS, draw, write_study
from gilt.cli.show import TrainLine
from gilt.engine.epochs import Tick


def run(*arguments, cwd=None, code=0):
    result = subprocess.run([sys.executable, "-m", "gilt", *map(str, arguments)], cwd=cwd, capture_output=True, text=True)
    assert result.returncode == code, f"exit code {result.returncode}\n{result.stdout}\n{result.stderr}"
    return result


def error_line(*arguments, cwd=None):
    result = run(*arguments, cwd=cwd, code=2)
    lines = [line for line in result.stderr.splitlines() if not line.startswith("note:")]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    return lines[0]


@pytest.fixture(scope="module")
def home(tmp_path_factory, bird_folder):
    """A folder in which the birds were scanned, split, and a small classifier was trained."""
    home = tmp_path_factory.mktemp("home")
    run("scan", bird_folder, "--layout", "{origin}/{class}", "-o", "birds.parquet", cwd=home)
    run("split", "birds.parquet", "-o", "dealt.parquet", cwd=home)
    run("train", "dealt.parquet", "-o", "m.safetensors", "--set", "train.model=lenet5", "--set", "train.epochs=6",
        "--set", "train.batch_size=10", cwd=home)
    return home


def test_scan_says_what_it_found_and_wrote(bird_folder, tmp_path):
    result = run("scan", bird_folder, "-o", tmp_path / "t.parquet")
    assert "painter" in result.stdout
    assert "wrote" in result.stderr
    assert "100 rows, fingerprint" in result.stderr


def test_mix_writes_a_table(home):
    result = run("mix", "dealt.parquet", "--set", "mode=add", "--set", "generated=10", "-o", "mixed.parquet", cwd=home)
    assert "wrote mixed.parquet" in result.stderr


def test_train_and_evaluate_print_metrics_with_intervals(home):
    metrics = json.loads(run("evaluate", "m.safetensors", "dealt.parquet", "--json", cwd=home).stdout)
    assert set(metrics) >= {"accuracy", "loss", "precision", "recall", "f1", "auroc", "average_precision"}
    assert set(metrics["accuracy"]) == {"value", "low", "high", "n"}
    assert metrics["accuracy"]["n"] == 9
    table = run("evaluate", "m.safetensors", "dealt.parquet", cwd=home).stdout
    assert "by origin" in table


def test_a_table_without_splits_is_judged_on_the_rows_that_training_held_back(home):
    run("train", "birds.parquet", "-o", "u.safetensors", "--set", "train.model=lenet5", "--set", "train.epochs=1", cwd=home)
    metrics = json.loads(run("evaluate", "u.safetensors", "birds.parquet", "--json", cwd=home).stdout)
    assert metrics["accuracy"]["n"] == 9


def test_rows_that_the_classifier_learnt_from_are_not_judged_on(home):
    run("split", "birds.parquet", "--seed", "5", "-o", "other.parquet", cwd=home)
    result = run("evaluate", "m.safetensors", "other.parquet", "--json", cwd=home)
    left = int(result.stderr.split("left out: ")[1].split()[0])
    assert left > 0
    assert json.loads(result.stdout)["accuracy"]["n"] + left == 9
    assert "were training rows" in error_line("evaluate", "m.safetensors", "train-only.parquet", cwd=_train_only(home))


def _train_only(home):
    import gilt

    gilt.ImageTable.load(home / "dealt.parquet").where(split="train", origin="real").with_column("split", None).save(
        home / "train-only.parquet")
    return home


def test_merged_classes_are_merged_again_when_judged(home):
    (home / "merge.toml").write_text('classes = {bird = ["wren"], other = ["robin"]}\n')
    run("train", "dealt.parquet", "-o", "g.safetensors", "--config", "merge.toml", "--set", "train.model=lenet5",
        "--set", "train.epochs=1", cwd=home)
    found = json.loads(run("evaluate", "g.safetensors", "dealt.parquet", "--json", cwd=home).stdout)
    assert found["classes"] == ["bird", "other"]
    assert not found["left_out"]


def test_a_detector_is_trained_by_the_same_command(home):
    run("train", "birds.parquet", "-o", "d.safetensors", "--set", "target=origin", "--set", "train.model=lenet5",
        "--set", "train.epochs=4", "--set", "train.batch_size=10", cwd=home)
    found = json.loads(run("evaluate", "d.safetensors", "birds.parquet", "--json", cwd=home).stdout)
    assert found["classes"] == ["real", "generated"]
    assert set(found["by"]["origin"]) == {"real", "painter"}


def test_predict_writes_a_line_for_every_image(home, tmp_path):
    for i in range(3):
        draw(tmp_path / "in" / f"{i}.png", (200, 120, 60), seed=i)
    (tmp_path / "in" / "bad.jpg").write_bytes(b"\xff\xd8 cut")
    result = run("predict", home / "m.safetensors", tmp_path / "in", tmp_path / "in" / "0.png", "-o", tmp_path / "out.csv")
    assert "1 of them unreadable" in result.stderr
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    assert list(rows[0]) == ["path", "label", "p_robin", "p_wren", "error"]
    assert len(rows) == 5
    bad = next(row for row in rows if row["path"].endswith("bad.jpg"))
    assert bad["label"] == ""
    assert "cannot be read" in bad["error"]


def test_models_are_listed_with_parameters_size_and_source():
    rows = json.loads(run("models", "--json").stdout)
    assert {row["name"]: row["parameters"] for row in rows}["thesis2"] == 3_696_625
    assert {"name", "parameters", "input_size", "source"} <= set(rows[0])
    one = json.loads(run("models", "thesis4", "--json").stdout)
    assert one["parameters"] == 15_783_873
    assert "conv1" in run("models", "thesis1").stdout


def test_a_study_runs_shows_and_reports(study_file, tmp_path):
    result = run("study", "run", study_file, "--store", tmp_path / "store", "--set", "train.epochs=1")
    assert "Aug(44-56): 42 real + 33 generated, test accuracy" in result.stderr
    shown = json.loads(run("study", "show", tmp_path / "store", "--json").stdout)
    assert len(shown) == 6
    assert list(shown[0]) == ["arm", "seed", "state", "n_real", "n_generated", "n_drawn", "val_accuracy", "test_accuracy",
                              "test_loss", "seconds"]
    table = run("study", "show", tmp_path / "store", "--markdown").stdout
    assert table.splitlines()[0] == "| Trials | ai | aug | Benchmark: real |"
    assert "| Train Set Type | AI | Aug(44-56) | Real |" in table
    page = run("study", "report", tmp_path / "store").stdout.strip()
    assert page.endswith("report.html")
    assert Path(page).stat().st_size > 10_000


def test_ctrl_c_keeps_what_was_finished(bird_table, tmp_path):
    bird_table.save(tmp_path / "birds.parquet")
    file = write_study(tmp_path / "s.toml", tmp_path / "birds.parquet", seeds=range(30), epochs=20)
    process = subprocess.Popen([sys.executable, "-m", "gilt", "study", "run", file, "--store", tmp_path / "store"],
                               stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    deadline = time.time() + 120
    while not list((tmp_path / "store").glob("trials/" + RECORDS)) and time.time() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped. What was finished is kept" in errors
    assert "Traceback" not in errors
    shown = json.loads(run("study", "show", tmp_path / "store", "--json").stdout)
    assert {row["state"] for row in shown} == {"finished", "waiting"}


def test_bad_input_is_one_line_and_exit_code_2(home, bird_folder, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no folder nowhere" in error_line("scan", "nowhere", "-o", "t.parquet", cwd=tmp_path)
    assert "no image in empty" in error_line("scan", "empty", "-o", "t.parquet", cwd=tmp_path)
    assert "fits '{origin}/{split}/{class}': 'painter/robin/g000.png'" in error_line(
        "scan", bird_folder, "--layout", "{origin}/{split}/{class}", "-o", tmp_path / "t.parquet")
    assert "--constant takes name=value" in error_line("scan", bird_folder, "--constant", "real", "-o", "t", cwd=tmp_path)
    assert "No such command 'scna'" in error_line("scna")
    assert "No such option" in error_line("scan", "--layuot", "x")
    assert "unknown key 'train.epoch'" in error_line("train", "dealt.parquet", "-o", "x", "--set", "train.epoch=1", cwd=home)
    assert "--set takes name=value" in error_line("train", "dealt.parquet", "-o", "x", "--set", "epochs", cwd=home)
    assert "does not exist" in error_line("train", "none.parquet", "-o", "x", cwd=home)
    assert "does not exist" in error_line("evaluate", "none.safetensors", "dealt.parquet", cwd=home)
    assert "no file or folder" in error_line("predict", "m.safetensors", "nowhere", cwd=home)
    assert "is a table: gilt evaluate" in error_line("predict", "m.safetensors", "birds.parquet", cwd=home)
    assert "is a folder" in error_line("train", "dealt.parquet", "-o", ".", cwd=home)
    assert "--set: train: " in error_line("train", "dealt.parquet", "-o", "x", "--set", "target=origin", "--set", "train=0.8",
                                          cwd=home)
    assert "-1" in error_line("train", "dealt.parquet", "-o", "x", "--seed", "-1", cwd=home)
    assert "holds no study" in error_line("study", "show", tmp_path)
    assert "no network 'thesis9'" in error_line("models", "thesis9")
    assert "no file" in error_line("study", "run", "none.toml", "--store", "s", cwd=tmp_path)
    assert not (tmp_path / "t.parquet").exists()


def test_a_table_whose_files_moved_says_so(tmp_path, bird_folder):
    import shutil

    shutil.copytree(bird_folder, tmp_path / "birds")
    run("scan", "birds", "-o", "t.parquet", cwd=tmp_path)
    shutil.move(tmp_path / "birds", tmp_path / "elsewhere")
    line = error_line("train", "t.parquet", "-o", "m.safetensors", "--set", "train.model=lenet5", cwd=tmp_path)
    assert "not where the table says" in line
    assert "--root" in line
    run("train", "t.parquet", "-o", "m.safetensors", "--set", "train.model=lenet5", "--set", "train.epochs=1", "--root",
        "elsewhere", cwd=tmp_path)


@pytest.mark.skipif(os.geteuid() != 0 or not Path("/bin/mount").exists(), reason="needs root to mount a tiny disk")
def test_a_full_disk_loses_nothing(study_file, tmp_path):
    """A study on a disk of 200 kB stops with one line; with more room, the same command finishes it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("this machine does not let tests mount a tmpfs")
    try:
        arguments = ("study", "run", study_file, "--store", disk / "store", "--set", "train.epochs=1")
        result = run(*arguments, code=2)
        assert "error: the disk is full" in result.stderr.splitlines()[-1]
        assert "Traceback" not in result.stderr
        subprocess.run(["mount", "-o", "remount,size=50m", disk], check=True)
        run(*arguments)
        shown = json.loads(run("study", "show", disk / "store", "--json").stdout)
        assert [row["state"] for row in shown] == ["finished"] * 6
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_line_of_progress_that_stays_shows_the_val_figure_of_its_own_epoch(capsys):
    line = TrainLine()
    for step, (epoch, val) in enumerate([(1, None), (1, None), (2, 0.25), (2, 0.25), (3, 0.75), (3, 0.75)], 1):
        line(Tick(epoch, 3, step, 6, 0.5, val, 100.0, 6.0 - step))
    said = [text for text in capsys.readouterr().err.splitlines() if text.startswith("epoch")]
    assert [(text[:9], "val" in text and text.split("val ")[1][:6]) for text in said] == [
        ("epoch 1/3", "25.0 %"), ("epoch 2/3", "75.0 %"), ("epoch 3/3", False)]
