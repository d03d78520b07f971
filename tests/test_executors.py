"""Executors: one contract over all of them; what workers say, how they end, what they cannot do."""
import importlib.util
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import gilt
from conftest import write_study
from gilt.models.device import threads
from gilt.studies.executors import Executor, settling
from gilt.studies.runner import Watch
from gilt.studies.store import Store
from gilt.studies.workers import threads_each

MAYBE = importlib.util.find_spec("ray") is None
EXECUTORS = [
    pytest.param(Executor(), id="here"), pytest.param(Executor(workers=2), id="workers", marks=pytest.mark.slow),
    pytest.param(Executor("ray", workers=2), id="ray",
                 marks=[pytest.mark.slow, pytest.mark.skipif(MAYBE, reason="ray is not installed")])]
TIMES = {"started", "seconds", "machine", "history"}


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    """Compute on one thread everywhere: the last bits of a sum depend on their number."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with threads(1):
        yield


@pytest.fixture(scope="module")
def world(tmp_path_factory, bird_table):
    """A study of 8 trials, of which 2 must fail, and its records as this process made them: (its file, its store)."""
    home = tmp_path_factory.mktemp("world")
    bird_table.save(home / "birds.parquet")
    file = write_study(home / "birds.toml", home / "birds.parquet", epochs=3)
    wild = "[arms.wild]\ntrain.learning_rate = 1e30\ntrain.optimizer = 'sgd'\n\n[arms.ai]"
    file.write_text(file.read_text().replace("[arms.ai]", wild))
    with threads(1):
        gilt.run_study(gilt.Study.load(file), home / "store")
    return file, Store(home / "store")


def assert_same(store: Store, expected: Store) -> None:
    """Hold a whole store's records and predictions to another's: all but times and the machine must be equal, bit by bit."""
    others = {record.id: record for record in expected.records()}
    records = store.records()
    assert [record.id for record in records] == [entry["id"] for entry in store.summary["trials"]]
    for one in records:
        other = others[one.id]
        if one.state == other.state == "failed":  # the traceback names other lines
            assert one.error.splitlines()[-1] == other.error.splitlines()[-1]
            continue
        assert one.model_dump(exclude=TIMES) == other.model_dump(exclude=TIMES)
        assert [epoch["train_loss"] for epoch in one.history] == [epoch["train_loss"] for epoch in other.history]
        for part in ("val", "test"):
            said = [place.predictions(one.id, part) for place in (store, expected)]
            assert list(said[0].path) == list(said[1].path)
            assert (said[0].logits == said[1].logits).all()
        assert store.rows(one.id).fingerprint == expected.rows(one.id).fingerprint


def assert_tidy(folder: Path) -> None:
    """No heartbeat, no state of a training and no torn file is left, and one record a trial."""
    left = [path.name for path in (folder / "trials").iterdir() if path.suffix not in (".lock", ".parquet", ".json")]
    assert not left
    assert not list((folder / "trials").glob("*.running.json"))
    assert len(list((folder / "trials").glob("*.json"))) == len(Store(folder).summary["trials"])


@pytest.mark.parametrize("executor", EXECUTORS)
class TestContract:
    def test_the_records_are_those_of_one_process_and_a_failure_stops_nothing(self, world, tmp_path, executor):
        file, expected = world
        heard = []
        records = gilt.run_study(gilt.Study.load(file), tmp_path / "store", executor=executor,
                                 watch=Watch(done=lambda record: heard.append((record.arm, record.seed))))
        assert_same(Store(tmp_path / "store"), expected)
        assert sorted(heard) == sorted((r.arm, r.seed) for r in records)
        assert {r.arm for r in records if r.state == "failed"} == {"wild"}
        assert {r.machine["threads"] for r in records if r.state == "finished"} == {1}
        assert "lower train.learning_rate" in next(r.error for r in records if r.state == "failed")
        before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "store" / "trials").glob("*.json")}
        heard.clear()
        gilt.run_study(gilt.Study.load(file), tmp_path / "store", executor=executor,
                       watch=Watch(done=lambda record: heard.append(record.arm)))
        assert heard == ["wild", "wild"]  # what failed is tried again, the rest is not
        after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "store" / "trials").glob("*.json")}
        assert {name for name in after if after[name] != before[name]} == {f"{r.id}.json" for r in records if r.arm == "wild"}
        assert not list((tmp_path / "store" / "trials").glob("*.running.json"))


@pytest.mark.slow
def test_two_callers_on_one_store_deal_the_trials_between_them(world, tmp_path):
    file, expected = world
    callers = [start(file, tmp_path / "store", workers=workers) for workers in (1, 2)]
    said = [caller.communicate(timeout=240)[1] for caller in callers]
    assert [caller.returncode for caller in callers] == [1, 1], said  # two trials failed, whoever ran them
    numbers = sorted(line.split("/")[0] for text in said for line in text.splitlines() if line.startswith("["))
    assert numbers == [f"[{number}" for number in range(1, 9)], said
    assert_same(Store(tmp_path / "store"), expected)
    assert not list((tmp_path / "store" / "trials").glob("*.running.json"))


def test_a_trial_that_failed_in_this_run_is_settled_and_an_earlier_failure_is_not(world):
    _, store = world
    failed = next(record for record in store.records() if record.state == "failed")
    finished = next(record for record in store.records() if record.state == "finished")
    assert not settling(store, [(failed.id, failed.started)])(failed.id)
    assert settling(store, [(failed.id, "2020-01-01T00:00:00+00:00")])(failed.id)
    assert settling(store, [])(failed.id)
    assert settling(store, [])(finished.id)
    assert not settling(store, [])("0123456789abcdef")


def children(pid: int) -> list[int]:
    """Return the processes that a process started."""
    said = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout
    return [int(text) for text in said.split() if alive(int(text))]


def alive(pid: int) -> bool:
    """Tell whether a process runs: one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until(found, *, seconds: float = 120):
    """Return what `found` returns, as soon as it is true."""
    deadline = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return value


def start(file: Path, store: Path, *more: str, workers: int = 2) -> "subprocess.Popen[str]":
    """Start a study in a process of its own, in a group of its own."""
    command = [sys.executable, "-m", "gilt", "study", "run", str(file), "--store", str(store), "--workers", str(workers), *more]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True)


@pytest.mark.slow
def test_ctrl_c_stops_all_workers_cleanly(world, tmp_path):
    process = start(world[0], tmp_path / "store", "--set", "train.epochs=5000")
    store = Store(tmp_path / "store")
    until(lambda: [beat for beat in store.beats().values() if beat["stage"] == "training"])
    workers = children(process.pid)
    assert len(workers) == 2
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the caller and the workers alike
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "Traceback" not in said
    assert "stopped. What was finished is kept" in said
    assert not any(map(alive, workers))
    assert not [path for path in (tmp_path / "store" / "trials").iterdir() if ".tmp" in path.name or "running" in path.name]


@pytest.mark.slow
def test_a_trial_whose_worker_is_killed_twice_is_recorded_as_failed_and_the_rest_goes_on(world, tmp_path):
    file = tmp_path / "slow.toml"
    file.write_text(world[0].read_text().replace("[arms.wild]", "[arms.slow]\ntrain.epochs = 100000\n\n[arms.wild]"))
    process = start(file, tmp_path / "store", "--seeds", "1")
    store = Store(tmp_path / "store")

    def slow() -> int | None:
        pids = [beat["pid"] for beat in store.beats().values() if beat["arm"] == "slow"]
        return next((pid for pid in pids if pid not in killed), None)

    killed: list[int] = []
    for _ in range(2):
        pid = until(slow)
        os.kill(pid, signal.SIGKILL)
        killed.append(pid)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 1
    assert "slow, seed 0: its worker was killed (SIGKILL); it is tried once more" in said
    states = {record.arm: record.state for record in store.records()}
    assert states == {"real": "finished", "slow": "failed", "wild": "failed", "ai": "finished", "aug": "finished"}
    error = next(record.error for record in store.records() if record.arm == "slow")
    assert error == "its worker was killed (SIGKILL), 2 times. Where memory ran short, run again with fewer workers."
    assert not store.beats()


@pytest.mark.slow
def test_what_workers_log_is_heard_here_once(world, tmp_path, caplog):
    file, _ = world
    with caplog.at_level(logging.INFO, "gilt"):
        gilt.run_study(gilt.Study.load(file, seeds=1), tmp_path / "store", executor=Executor(workers=2))
    said = [record.getMessage() for record in caplog.records if record.name == "gilt.data.pixels"]
    assert said
    assert len(said) == len(set(said))
    assert (tmp_path / "store" / "pixels").is_dir()
    packs = list((tmp_path / "store" / "pixels").rglob("index.bin"))
    assert len(packs) == 1
    assert packs[0].stat().st_size == 32 * len({*gilt.ImageTable.load(file.parent / "birds.parquet").frame["sha256"]} & {
        digest for record in Store(tmp_path / "store").records() if record.state == "finished"
        for digest in Store(tmp_path / "store").rows(record.id).frame["sha256"]})  # each image was decoded once


OWN = '''
from torch import nn
from gilt.models.registry import register

@register("own", input_size=8, source="a test")
def own(outputs: int, input_size: int) -> nn.Module:
    """One layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * input_size**2, outputs))
'''
RUN = '''
import gilt
from gilt.studies.executors import Executor
study = gilt.Study.load({file!r}, ["train.model=own", "arms.wild.train.epochs=1"], seeds=1)
print([r.state for r in gilt.run_study(study, {store!r}, executor=Executor(workers=2)) if r.arm != "wild"])
'''


@pytest.mark.slow
def test_workers_know_a_network_of_the_users_own_from_its_module(world, tmp_path):
    (tmp_path / "mine.py").write_text(OWN)
    code = RUN.format(file=str(world[0]), store=str(tmp_path / "store"))
    done = subprocess.run([sys.executable, "-c", f"import mine\n{code}"], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == "['finished', 'finished', 'finished']", done.stderr
    (tmp_path / "script.py").write_text(OWN + code)
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True)
    assert "the network 'own' is registered in the script that runs" in done.stderr.splitlines()[-1]
    assert done.stderr.splitlines()[-1].startswith("gilt.errors.ConfigError")


@pytest.mark.parametrize("arguments, part", [
    ({"kind": "rai"}, r"no executor 'rai' \(there are: local, ray\). Did you mean 'ray'"),
    ({"workers": 0}, "workers must be at least 1, not 0"),
    ({"address": "ray://a:1"}, "an address is for a Ray cluster: choose the executor 'ray'"),
    ({"gpus": 0.5}, "a part of a GPU is for a Ray cluster"),
    ({"kind": "ray", "gpus": -1.0}, "gpus must be a number from 0 up")])
def test_a_wrong_executor_is_one_clear_error(arguments, part):
    with pytest.raises(gilt.ConfigError, match=part):
        Executor(**arguments)


def test_a_wrong_executor_is_refused_on_the_command_line_before_anything_is_made(world, tmp_path):
    done = subprocess.run([sys.executable, "-m", "gilt", "study", "run", str(world[0]), "--store", str(tmp_path / "store"),
                           "--executor", "lokal"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: no executor 'lokal' (there are: local, ray). Did you mean 'local'?\n"
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("said, workers, expected", [("3", 2, 3), ("", 10_000, 1), ("0", 10_000, 1), ("many", 10_000, 1)])
def test_each_worker_has_its_share_of_the_cores_unless_told(monkeypatch, said, workers, expected):
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert threads_each(workers) == expected
