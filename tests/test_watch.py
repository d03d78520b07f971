"""`gilt study watch`: what runs, what stopped, what failed, how long it will take; in a pipe and on a terminal."""
import os
import platform
import pty
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

import gilt
from conftest import write_study
from gilt.files import write_json
from gilt.studies.heartbeat import Beat, beats
from gilt.studies.leases import machine
from gilt.studies.runner import Watch
from gilt.studies.store import Store
from gilt.studies.watching import Watcher

COMMAND = [sys.executable, "-m", "gilt", "study", "watch"]


@pytest.fixture
def store(tmp_path, bird_table):
    """A store of six trials, none of which was run."""
    bird_table.save(tmp_path / "birds.parquet")
    study = gilt.Study.load(write_study(tmp_path / "s.toml", tmp_path / "birds.parquet"))
    store = Store(tmp_path / "store")
    store.open(study, bird_table)
    return store


def ids(store):
    return [entry["id"] for entry in store.summary["trials"]]


def record(store, number, *, state="finished", seconds=60.0, error=None):
    """Write the record of a trial that took so long."""
    entry = store.summary["trials"][number]
    store.write(gilt.TrialRecord(
        id=entry["id"], study="birds", arm=entry["arm"], seed=entry["seed"], state=state, target="class", config={}, table="",
        started=f"2026-01-01T00:0{number}:00+00:00", seconds={"total": seconds}, error=error))


def beat(store, number, *, since=10.0, **said):
    """Write a heartbeat of this very process, but for what is said otherwise."""
    entry = store.summary["trials"][number]
    started = (datetime.now(UTC) - timedelta(seconds=since)).isoformat(timespec="seconds")
    store.beat(entry["id"], {
        "arm": entry["arm"], "seed": entry["seed"], "stage": "training", "epoch": 3, "epochs": 10, "val_accuracy": 0.75,
        "left": 20.0, "started": started, "at": time.time(), "host": platform.node(), "machine": machine(), "pid": os.getpid(),
        **said})


def dead_process() -> int:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def test_nothing_is_known_of_a_study_that_has_just_been_opened(store):
    standing = Watcher(store).look()
    assert (standing.total, standing.done, standing.waiting, standing.running, standing.failed) == (6, 0, 6, (), ())
    assert standing.per_hour is None
    assert standing.left is None
    assert not standing.over


def test_what_is_done_runs_failed_and_waits_is_counted_once_each(store):
    record(store, 0)
    record(store, 1, state="failed", error="Traceback\n  ...\nModelError: the training loss became nan")
    beat(store, 2)
    beat(store, 3, pid=dead_process())
    beat(store, 4, machine="another", at=time.time() - 300)
    standing = Watcher(store).look()
    assert (standing.done, len(standing.running), len(standing.failed), standing.waiting) == (1, 1, 1, 3)
    assert standing.failed[0].reason == "ModelError: the training loss became nan"
    assert (standing.running[0].arm, standing.running[0].seed) == ("aug", 0)
    said = [lost.gone for lost in standing.lost]
    assert "on this machine has ended" in said[0]
    assert said[1].startswith("not heard of for 300 s (process")


def test_a_process_of_another_machine_is_believed_for_a_minute(store):
    beat(store, 0, machine="another", pid=dead_process(), at=time.time() - 40)
    assert len(Watcher(store).look().running) == 1
    beat(store, 0, machine="another", pid=dead_process(), at=time.time() + 500)  # a clock that is ahead
    assert len(Watcher(store).look().running) == 1


def test_a_trial_that_is_tried_again_runs_and_a_finished_ones_last_heartbeat_is_nothing(store):
    record(store, 0, state="failed", error="x")
    beat(store, 0)
    record(store, 1)
    beat(store, 1)
    standing = Watcher(store).look()
    assert ([one.arm for one in standing.running], standing.failed, standing.done) == (["real"], (), 1)


def test_the_time_left_follows_what_each_arm_took(store):
    record(store, 0, seconds=100.0)  # real
    record(store, 1, seconds=20.0)  # ai
    beat(store, 2, left=30.0)  # aug
    beat(store, 3, left=60.0)  # real
    standing = Watcher(store).look()
    assert standing.per_hour == pytest.approx(2 * 3600 / 60)
    assert standing.left == pytest.approx((30 + 60 + 20 + 60) / 2)  # ai takes 20, aug as long as the mean
    assert standing.seconds == 120


def test_before_any_trial_is_done_those_that_run_say_how_long_they_take(store):
    beat(store, 0, since=30.0, left=30.0)
    standing = Watcher(store).look()
    assert standing.per_hour == pytest.approx(60, rel=0.05)
    assert standing.left == pytest.approx(30 + 5 * 60, rel=0.05)
    beat(store, 0, stage="starting", left=None)
    assert Watcher(store).look().left is None


def test_the_last_trial_takes_what_is_left_of_it(store):
    for number in range(5):
        record(store, number)
    beat(store, 5, left=42.0)
    assert Watcher(store).look().left == pytest.approx(42)
    record(store, 5)
    assert Watcher(store).look().over


def test_what_is_no_heartbeat_is_passed_over(store):
    store.beat(ids(store)[0], {"words": "of another version"})
    store.path(ids(store)[1], "running.json").write_text('{"arm": "re')
    write_json(store.path("0123456789abcdef", "running.json"), {})
    assert beats(store) == {}
    assert Watcher(store).look().waiting == 6


def test_a_running_trial_writes_where_it_stands_and_takes_it_away(store, tmp_path):
    seen: list[Beat] = []
    study = gilt.Study.load(tmp_path / "s.toml", seeds=1)
    gilt.run_study(study, store.folder, watch=Watch(tick=lambda tick: seen.extend(beats(store).values())))
    assert {(one.pid, one.host) for one in seen} == {(os.getpid(), platform.node())}
    assert {one.arm for one in seen} == {"real", "ai", "aug"}
    assert not store.beats()


def test_once_prints_where_it_stands_and_exits(store):
    record(store, 0)
    record(store, 1, state="failed", error="Traceback\nModelError: [red]nan[/red]")
    beat(store, 2, arm="[bold]aug\x1b[2J")
    said = subprocess.run([*COMMAND, str(store.folder), "--once"], capture_output=True, text=True)
    assert said.returncode == 0
    lines = said.stdout.splitlines()
    assert lines[0] == "birds: 1 of 6 done, 1 running, 3 waiting, 1 failed"
    assert lines[2].startswith("60 trials an hour, about 3:")
    assert lines[4].split()[:5] == ["[bold]aug�[2J", "0", "3/10", "75.0", "%"]
    assert lines[5] == "failed: ai seed 0: ModelError: [red]nan[/red]"
    piped = subprocess.run([*COMMAND, str(store.folder)], capture_output=True, text=True)
    assert piped.returncode == 0
    assert piped.stdout.splitlines()[0] == lines[0]


def test_a_terminal_sees_the_study_until_it_is_over(store):
    beat(store, 0)
    driver, terminal = pty.openpty()
    process = subprocess.Popen([*COMMAND, str(store.folder)], stdout=terminal, stderr=terminal,
                               env={**os.environ, "TERM": "xterm"})
    os.close(terminal)
    said = b""
    while b"running" not in said:
        said += os.read(driver, 4096)
    for number in range(6):
        record(store, number)
    with pytest.raises(OSError, match="Input/output error"):  # the other end is closed
        while True:
            said += os.read(driver, 4096)
    assert process.wait(30) == 0
    assert b"6 of 6 done" in said
    os.close(driver)


def test_a_folder_without_a_study_is_one_clear_line(tmp_path):
    said = subprocess.run([*COMMAND, str(tmp_path), "--once"], capture_output=True, text=True)
    assert said.returncode == 2
    assert said.stderr.startswith(f"error: {tmp_path} holds no study")


def test_watching_needs_no_torch(store):
    code = f"from gilt.cli import gilt; import sys; gilt(['study', 'watch', {str(store.folder)!r}], standalone_mode=False); " \
           "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
