"""Faults, with real processes: after workers and callers were killed, or the disk was full, a study ends as if nothing was."""
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

import gilt
from conftest import write_study
from gilt.models.device import threads
from gilt.studies.store import Store
from test_executors import alive, assert_same, assert_tidy, children, start, until

KILLS_OF_WORKERS, KILLS_OF_CALLERS = 13, 7
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900),
              pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks /proc about processes")]


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    """Compute on one thread everywhere: the last bits of a sum depend on their number."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def world(tmp_path_factory, bird_table):
    """A study of 15 trials of a second or two, and its records as one process made them, undisturbed: (its file, its store)."""
    home = tmp_path_factory.mktemp("world")
    bird_table.save(home / "birds.parquet")
    file = write_study(home / "birds.toml", home / "birds.parquet", seeds=range(5), epochs=50)
    with threads(1):
        gilt.run_study(gilt.Study.load(file), home / "store")
    return file, Store(home / "store")


def at_work(store: Store) -> list[int]:
    """Return the processes that say they are at a trial, and are."""
    return [beat["pid"] for beat in store.beats().values() if alive(beat["pid"])]


def finish(file: Path, folder: Path, *more: str) -> str:
    """Run the study to its end; return what was said."""
    process = start(file, folder, *more)
    said = process.communicate(timeout=200)[1]
    assert process.returncode == 0, said
    return said


def test_workers_killed_at_random_moments_change_nothing(world, tmp_path):
    """A worker is killed with SIGKILL, again and again, as it starts, trains, judges or writes; the study goes on by itself."""
    file, expected = world
    chance, store, kills = random.Random(0), Store(tmp_path / "store"), 0
    process = start(file, tmp_path / "store")
    while kills < KILLS_OF_WORKERS:
        until(lambda: at_work(store) or process.poll() is not None)
        time.sleep(chance.uniform(0, 1))
        if process.poll() is not None:
            break
        for pid in chance.sample(found := children(process.pid), min(1, len(found))):
            os.kill(pid, signal.SIGKILL)
            kills += 1
    said = process.communicate(timeout=200)[1]
    assert kills == KILLS_OF_WORKERS, f"the study was over after {kills} kills\n{said}"
    assert process.returncode in (0, 1), said  # 1: a trial that was hit twice is recorded as failed
    assert "Traceback" not in said
    assert "it is tried once more" in said
    finish(file, tmp_path / "store")
    assert_same(store, expected)
    assert_tidy(tmp_path / "store")


def test_callers_killed_at_random_moments_change_nothing_and_leave_no_worker_behind(world, tmp_path):
    file, expected = world
    chance, store = random.Random(1), Store(tmp_path / "store")
    for kill in range(KILLS_OF_CALLERS):
        process = start(file, tmp_path / "store")
        if kill % 3:  # else at any moment, also before anything is trained
            until(lambda process=process: at_work(store) or process.poll() is not None)
        time.sleep(chance.uniform(0, 1))
        workers = children(process.pid)
        assert process.poll() is None, f"the study was over before kill {kill + 1}"
        process.kill()
        process.communicate()
        until(lambda workers=workers: not any(map(alive, workers)), seconds=30)
    before = {record.id: record.started for record in store.records()}
    assert len(before) < 15
    finish(file, tmp_path / "store")
    assert {record.id: record.started for record in store.records() if record.id in before} == before  # none was run again
    assert_same(store, expected)
    assert_tidy(tmp_path / "store")


@pytest.mark.skipif(os.geteuid() != 0 or not Path("/bin/mount").exists(), reason="needs root to mount a tiny disk")
def test_a_disk_that_fills_under_two_workers_loses_nothing(world, tmp_path):
    file, expected = world
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=640k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("this machine does not let tests mount a tmpfs")
    try:
        process = start(file, disk / "store")
        said = process.communicate(timeout=200)[1]
        assert process.returncode == 2, said
        assert said.splitlines()[-1].startswith("error: the disk is full")
        assert "Traceback" not in said
        records = Store(disk / "store").records()
        assert 0 < len(records) < 15, "the disk was not full half-way"
        assert {record.state for record in records} == {"finished"}
        subprocess.run(["mount", "-o", "remount,size=50m", disk], check=True)
        assert f"{len(records)} of 15 trials are finished already" in finish(file, disk / "store")
        assert_same(Store(disk / "store"), expected)
        assert_tidy(disk / "store")
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_torn_files_of_a_killed_process_are_passed_over_and_cleaned(world, tmp_path):
    """What a kill leaves between two bytes: half a record under a temporary name, half a heartbeat, a state cut short."""
    file, expected = world
    first = expected.summary["trials"][0]["id"]
    trials = tmp_path / "store" / "trials"
    trials.mkdir(parents=True)
    torn = tmp_path / "store" / ".study.json.abcd1234.tmp"
    torn.write_text('{"kind"')
    os.utime(torn, (0, 0))
    (trials / f".{first}.json.abcd1234.tmp").write_text('{"id": "')
    (trials / f".{first}.test.parquet.abcd1234.tmp").write_bytes(b"PAR1")
    (trials / f"{first}.test.parquet").write_bytes(b"PAR1")
    (trials / f"{first}.running.json").write_text('{"arm": "re')
    (trials / f"{first}.checkpoint").write_bytes(b"PK\x03\x04 cut")
    said = finish(file, tmp_path / "store", "--seeds", "1")
    assert "is damaged, so the training starts anew" in said
    assert_same(Store(tmp_path / "store"), expected)
    assert_tidy(tmp_path / "store")
    assert not torn.exists()
