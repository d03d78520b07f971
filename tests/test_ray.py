"""Ray: trials on a cluster of this machine's own, nodes that disappear, and what is refused. Real clusters, real processes."""
import importlib.util
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import gilt
from conftest import write_study
from gilt.studies.executors import Executor
from gilt.studies.ray_cluster import _share
from gilt.studies.runner import Watch
from gilt.studies.store import Store

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed: pip install 'gilt[ray]'")
TIMELESS = {"started", "seconds", "machine", "history"}
# a head that computes nothing and two nodes of one core; a word on standard input, and one node's processes are all killed
CLUSTER = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
print(cluster.address, flush=True)
if sys.stdin.readline():
    cluster.remove_node(nodes[0], allow_graceful=False)
    print("killed", flush=True)
sys.stdin.read()
cluster.shutdown()
"""


def same(records, others):
    return [r.model_dump(exclude=TIMELESS) for r in records] == [r.model_dump(exclude=TIMELESS) for r in others]


def home_of(folder, table, *, seeds, epochs):
    """Write a table and its study of two arms."""
    table.save(folder / "birds.parquet")
    file = write_study(folder / "birds.toml", folder / "birds.parquet", seeds=seeds, epochs=epochs)
    file.write_text(file.read_text().partition("[arms.aug]")[0])
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory, bird_table):
    return home_of(tmp_path_factory.mktemp("home"), bird_table, seeds=(0,), epochs=1)


@pytest.fixture(scope="module")
def cluster():
    """A cluster of this machine, which the tests share; a study leaves one that it has not started as it is."""
    import ray

    ray.init("local", num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    yield ray
    assert ray.is_initialized()
    ray.shutdown()


def until(true, seconds=120.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "that took too long"
        time.sleep(0.05)


@pytest.mark.slow
def test_the_records_are_those_of_one_process_and_nothing_runs_twice(home, cluster, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    study = gilt.Study.load(home / "birds.toml")
    done, again = [], []
    records = gilt.run_study(study, tmp_path / "store", executor=Executor("ray", workers=2), watch=Watch(done=done.append))
    assert [r.state for r in records] == ["finished", "finished"]
    assert {r.id for r in done} == {r.id for r in records}
    assert {r.machine["threads"] for r in records} == {1}
    assert same(records, gilt.run_study(study, tmp_path / "other", executor=Executor("local", workers=2)))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "store" / "trials").iterdir()}
    gilt.run_study(study, tmp_path / "store", executor="ray", watch=Watch(done=again.append))
    assert again == []
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "store" / "trials").iterdir()}
    assert Store(tmp_path / "store").beats() == {}


@pytest.mark.slow
def test_a_failed_trial_is_recorded_and_what_tasks_log_is_heard(home, cluster, tmp_path, caplog):
    text = (home / "birds.toml").read_text().replace("epochs = 1", "epochs = 4")
    wild = "[arms.ai]\ntrain.learning_rate = 1e30\ntrain.optimizer = 'sgd'"
    (tmp_path / "wild.toml").write_text(text.replace("[arms.ai]", wild))
    with caplog.at_level("INFO"):
        records = gilt.run_study(gilt.Study.load(tmp_path / "wild.toml"), tmp_path / "store", executor="ray")
    assert {r.arm: r.state for r in records} == {"real": "finished", "ai": "failed"}
    assert "lower train.learning_rate" in records[1].error
    assert sum("decoding 42 images" in text for text in caplog.messages) == 1


@pytest.mark.slow
def test_a_store_at_an_address_is_written_by_the_tasks(home, cluster, tmp_path):
    (tmp_path / "there").mkdir()
    address = f"dir://birds::file://{tmp_path}/there"
    records = gilt.run_study(gilt.Study.load(home / "birds.toml"), address, executor=Executor("ray", workers=2))
    assert [r.state for r in records] == ["finished", "finished"]
    assert {path.name.partition(".")[2] for path in (tmp_path / "there" / "birds" / "trials").iterdir()} == {
        "json", "val.parquet", "test.parquet", "rows.parquet"}


@pytest.mark.slow
@pytest.mark.parametrize("store, executor, kind, part", [
    ("memory://x", Executor("ray"), gilt.StoreError, "memory://x is in this process's memory, which no other sees"),
    ("memory://x", Executor(workers=2), gilt.StoreError, "memory://x is in this process's memory, which no other sees"),
    ("store", Executor("ray", gpus=64), gilt.ConfigError, r"a trial is to have 64 GPUs, and no node .* has more than \d")])
def test_what_cannot_be_run_on_ray_is_one_clear_line(home, cluster, tmp_path, store, executor, kind, part):
    where = store if "://" in store else tmp_path / store
    with pytest.raises(kind, match=part):
        gilt.run_study(gilt.Study.load(home / "birds.toml"), where, executor=executor)


@pytest.mark.slow
def test_a_table_that_the_nodes_do_not_see_is_one_clear_line(home, cluster, tmp_path):
    from gilt.studies.ray_cluster import run_ray
    from gilt.studies.work import Job

    study = gilt.Study.load(home / "birds.toml")
    table = gilt.ImageTable.load(study.table)
    place = Store(tmp_path / "store")
    place.open(study, table)
    todo = [(trial, trial.id(table.fingerprint)) for trial in study.trials()]

    def job(**change):
        return Job(**{"name": "birds", "table": str(study.table), "root": None, "store": str(tmp_path / "store"),
                      "pixels": str(tmp_path / "pixels")} | change)

    for wrong, part in (({"table": "/gone/birds.parquet"}, "table /gone/birds.parquet does not exist"),
                        ({"root": "/gone"}, "does not see the images in /gone"),
                        ({"store": str(tmp_path / "other")}, "does not see the store")):
        with pytest.raises(gilt.GiltError, match=rf"node .* of the Ray cluster .*{part}.*all nodes share"):
            run_ray(job(**wrong), todo, place, print)
    assert len(place.missing()) == 2


def node(cpu, gpu=0.0):
    return {"Resources": {"CPU": cpu, "GPU": gpu} if gpu else {"CPU": cpu}}


@pytest.mark.parametrize("nodes, at_once, gpus, share", [
    ([node(16.0)], 4, None, (4, 0)), ([node(16.0)], 100, None, (1, 0)), ([node(16.0)], 1, None, (16, 0)),
    ([node(0.0), node(8.0), node(4.0)], 2, None, (4, 0)),  # a head that computes nothing; no task is wider than a node
    ([node(16.0, 2.0)], 4, None, (8, 1)), ([node(16.0, 2.0)], 4, 0.25, (2, 0.25)), ([node(16.0, 2.0)], 4, 0.0, (4, 0)),
    ([node(4.0), node(16.0, 1.0)], 4, 0.5, (8, 0.5)), ([node(2.0, 1.0)], 4, 0.1, (1, 0.1))])
def test_a_task_takes_its_share_of_cores_and_gpus(nodes, at_once, gpus, share):
    assert tuple(_share(nodes, at_once, gpus).values()) == share


@pytest.mark.parametrize("nodes, gpus, part", [
    ([node(16.0)], 0.5, "no node of the Ray cluster has more than 0"),
    ([node(16.0, 4.0)], 1.5, "a part of one GPU or a whole number")])
def test_gpus_that_no_node_has_are_refused(nodes, gpus, part):
    with pytest.raises(gilt.ConfigError, match=part):
        _share(nodes, 1, gpus)


def study_run(home, *words, **how):
    line = [sys.executable, "-m", "gilt", "study", "run", str(home / "birds.toml"), "--executor", "ray", *words]
    return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **how)


@pytest.mark.slow
def test_no_cluster_at_an_address_and_no_ray_are_one_clear_line(home, tmp_path):
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    process = study_run(home, "--store", str(tmp_path / "store"), "--address", f"127.0.0.1:{port}")
    said = process.communicate()[1]
    assert process.returncode == 2
    assert said.count("\n") == 1, said
    assert f"error: no Ray cluster at 127.0.0.1:{port}: " in said
    code = "import sys; sys.modules['ray'] = None; from gilt.cli import main; main(sys.argv[1:])"
    words = ["study", "run", str(home / "birds.toml"), "--store", str(tmp_path / "store"), "--executor", "ray"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "error: ray is not installed: pip install 'gilt[ray]'\n")


@pytest.mark.slow
def test_ctrl_c_stops_all_tasks_and_the_next_run_finishes(bird_table, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    home = home_of(tmp_path, bird_table, seeds=(0,), epochs=60)
    process = study_run(home, "--store", str(home / "store"), start_new_session=True)
    until(lambda: Store(home / "store").beats())
    time.sleep(0.7)
    pids = [beat["pid"] for beat in Store(home / "store").beats().values()]
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
    assert "stopped. What was finished is kept" in said
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 20)
    assert len(Store(home / "store").missing()) >= 1
    records = gilt.run_study(gilt.Study.load(home / "birds.toml"), home / "store", executor=Executor("local", workers=2))
    assert [r.state for r in records] == ["finished", "finished"]


@pytest.fixture
def two_nodes(monkeypatch):
    """A cluster of two nodes in a process of its own, for who has its token: (its process, its address)."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    process = subprocess.Popen([sys.executable, "-c", CLUSTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, text=True)
    yield process, process.stdout.readline().strip()
    process.stdin.close()
    process.wait(60)
    process.stdout.close()


@pytest.mark.slow
def test_trials_of_a_node_that_disappears_run_elsewhere(bird_table, two_nodes, tmp_path, monkeypatch):
    """All processes of one of two nodes are killed while both train: the records are those of an undisturbed run."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    home = home_of(tmp_path, bird_table, seeds=(0, 1), epochs=60)
    store, (cluster, address) = Store(home / "store"), two_nodes
    process = study_run(home, "--store", str(store.folder), "--address", address, "--workers", "2")
    until(lambda: len(store.beats()) == 2 or process.poll() is not None)
    assert process.poll() is None, process.communicate()[1]
    time.sleep(0.7)  # into their training
    cluster.stdin.write("now\n")
    cluster.stdin.flush()
    assert cluster.stdout.readline() == "killed\n"
    assert len(store.missing()) == 4, "trials were over before the node was lost"
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 0, said
    records = store.records()
    calm = gilt.run_study(gilt.Study.load(home / "birds.toml"), home / "calm", executor=Executor("local", workers=2))
    assert same(records, calm)
    assert len(re.findall(r"test accuracy [\d.]+ % in \d", said)) == len(records) == 4
    assert {path.name.partition(".")[2] for path in (store.folder / "trials").iterdir()} <= {
        "json", "val.parquet", "test.parquet", "rows.parquet", "lock"}
