"""Stores at addresses: the same records as in a folder, leases, networks that fail, several machines, and what is refused."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest
from click.testing import CliRunner
from filelock import Timeout

import gilt
from conftest import write_study
from gilt.cli import gilt as command
from gilt.studies import leases, remote
from gilt.studies.leases import Lease
from gilt.studies.remote import Remote
from gilt.studies.store import Store

TIMELESS = {"started", "seconds", "machine", "history"}
FTP = """
import sys
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import FTPServer
FTPHandler.authorizer = DummyAuthorizer()
FTPHandler.authorizer.add_anonymous(sys.argv[1], perm="elradfmwMT")
FTPHandler.timeout = float(sys.argv[3])
server = FTPServer(("127.0.0.1", int(sys.argv[2])), FTPHandler)
print(server.address[1], flush=True)
server.serve_forever()
"""
S3 = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(port=0, verbose=False)
server.start()
print(server._server.socket.getsockname()[1], flush=True)
sys.stdin.read()
"""


class Ftp:
    """An FTP server in a process of its own, which may be killed and started again; it hangs up on the idle after a moment."""

    def __init__(self, root):
        self.root, self.port, self.process = root, 0, None
        root.mkdir(exist_ok=True)
        self.start()

    def start(self, idle=1):
        self.process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", FTP, str(self.root), str(self.port), str(idle)],
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.port = int(self.process.stdout.readline())

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    @property
    def address(self):
        return f"ftp://127.0.0.1:{self.port}/studies/birds"


@pytest.fixture
def ftp(tmp_path):
    pytest.importorskip("pyftpdlib.log", reason="pyftpdlib is not installed")
    server = Ftp(tmp_path / "ftp")
    yield server
    server.kill()


@pytest.fixture
def s3(monkeypatch):
    pytest.importorskip("s3fs", reason="s3fs is not installed: pip install s3fs 'moto[server]'")
    pytest.importorskip("moto", reason="moto is not installed: pip install s3fs 'moto[server]'")
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", S3], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, text=True)
    for name, value in {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    import fsspec

    monkeypatch.setitem(fsspec.config.conf, "s3", {"endpoint_url": f"http://127.0.0.1:{int(process.stdout.readline())}"})
    fsspec.filesystem("s3", skip_instance_cache=True).mkdir("bucket")
    yield "s3://bucket/studies/birds"
    process.stdin.close()
    process.wait()
    process.stdout.close()


@pytest.fixture(params=["memory", "folder", "ftp", "s3"])
def address(request, tmp_path):
    """A store's address on each of several file systems; `folder` is one that gilt does not know to be local."""
    if request.param == "memory":
        return f"memory://{uuid.uuid4().hex}/birds"
    if request.param == "folder":
        (tmp_path / "there").mkdir()
        return f"dir://birds::file://{tmp_path}/there"
    given = request.getfixturevalue(request.param)
    return given if isinstance(given, str) else given.address


@pytest.fixture(scope="module")
def home(tmp_path_factory, bird_table):
    home = tmp_path_factory.mktemp("home")
    bird_table.save(home / "birds.parquet")
    file = write_study(home / "birds.toml", home / "birds.parquet", seeds=(0,), epochs=1)
    file.write_text(file.read_text().partition("[arms.aug]")[0])
    return home


@pytest.fixture(scope="module")
def undisturbed(home):
    """The records of the study, run into a folder."""
    return gilt.run_study(gilt.Study.load(home / "birds.toml"), home / "store")


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Return what makes this another machine: with a cache of its own."""
    return lambda: monkeypatch.setenv("GILT_CACHE", str(tmp_path / uuid.uuid4().hex))


def same(records, others):
    return [r.model_dump(exclude=TIMELESS) for r in records] == [r.model_dump(exclude=TIMELESS) for r in others]


def run(home, address):
    return gilt.run_study(gilt.Study.load(home / "birds.toml"), address)


def test_a_study_at_an_address_has_the_records_of_one_in_a_folder(address, home, undisturbed, elsewhere):
    records = run(home, address)
    assert len(records) == 2
    assert same(records, undisturbed)
    elsewhere()
    store, local = Store(address), Store(home / "store")
    assert store.address == address
    assert store.records() == records
    for record in records:
        for part in ("val", "test"):
            assert (store.predictions(record.id, part).logits == local.predictions(record.id, part).logits).all()
        assert store.rows(record.id) == local.rows(record.id)
    started = []
    assert gilt.run_study(gilt.Study.load(home / "birds.toml"), address,
                          watch=gilt.studies.runner.Watch(start=lambda *_: started.append(1))) == records
    assert not started
    endings = {name.partition(".")[2] for name in store.place.names("trials")}
    assert endings == {"json", "val.parquet", "test.parquet", "rows.parquet"}, "locks, heartbeats or torn files are left"
    assert store.place.names() == {"study.json", "trials"}


def test_a_finished_record_at_an_address_stays_and_a_failed_one_makes_way(address, home, undisturbed, elsewhere):
    first, other = Store(address), undisturbed[0]
    first.open(gilt.Study.load(home / "birds.toml"), gilt.ImageTable.load(home / "birds.parquet"))
    first.write(other.model_copy(update={"state": "failed", "error": "no light"}))
    elsewhere()
    second = Store(address)
    assert second.read(other.id).error == "no light"
    second.write(other)
    assert second.read(other.id) == other
    first.place.forget()
    assert first.read(other.id) == other
    first.write(other.model_copy(update={"seconds": {"total": 9.0}}))  # a machine that had it too, and was slower
    for store in (first, second):
        store.place.forget()
        assert store.read(other.id) == other


def test_the_commands_take_addresses(ftp, home, tmp_path, elsewhere):
    where = ftp.address
    runner = CliRunner()

    def out(*words, code=0):
        done = runner.invoke(command, list(words))
        assert done.exit_code == code, done.output
        return done

    assert f"next: gilt study report {where}" in out("study", "run", str(home / "birds.toml"), "--store", where).stderr
    elsewhere()
    shown = json.loads(out("study", "show", where, "--json").stdout)
    assert [(row["arm"], row["state"]) for row in shown] == [("real", "finished"), ("ai", "finished")]
    assert "| Trials |" in out("study", "show", where, "--markdown").stdout
    done = out("study", "report", where)
    there = ftp.root / "studies" / "birds" / "report.html"
    assert f"published as {where}/report.html" in done.stderr
    assert there.read_text() == Path(done.stdout.strip()).read_text()
    assert f"--store {where}" in there.read_text()
    out("study", "report", where, "-o", str(tmp_path / "here.html"))
    assert (tmp_path / "here.html").is_file()
    assert json.loads(out("study", "compare", where, "--json").stdout)
    out("study", "heatmap", where, "-o", str(tmp_path / "map.png"))
    assert "2 of 2" in out("study", "watch", where, "--once").output
    assert "a learning curve needs" in str(runner.invoke(command, ["worth", where]).exception)


def test_a_search_at_an_address_has_its_best_and_its_page(home, tmp_path):
    pytest.importorskip("optuna", reason="optuna is not installed")
    (tmp_path / "tune.toml").write_text(f"""
name = "small"
seeds = [0]
[base]
table = "{home / 'birds.parquet'}"
[base.train]
model = "lenet5"
epochs = 1
[tune]
sampler = "grid"
[tune.space]
"train.batch_size" = [10, 20]
""")
    where = f"memory://{uuid.uuid4().hex}/small"
    gilt.tune(gilt.Tuning.load(tmp_path / "tune.toml"), where)
    found = Store(where)
    assert len(found.records()) == 3
    page = gilt.report(where)
    assert f"--store {where}" in page.read_text()
    assert "report.html" in Store(where).place.names()
    assert Store(where).place.names("report-tables")


def test_what_was_deleted_at_the_address_is_run_again(ftp, home):
    records = run(home, ftp.address)
    shutil.rmtree(ftp.root / "studies")
    with pytest.raises(gilt.StoreError, match="holds no study"):
        Store(ftp.address).records()
    again = run(home, ftp.address)
    assert same(again, records)
    assert [r.started for r in again] != [r.started for r in records] or again != records
    lost = ftp.root / "studies" / "birds" / "trials" / f"{again[0].id}.json"
    lost.unlink()
    assert [entry["arm"] for entry in Store(ftp.address).missing()] == ["real"]


def test_a_trial_that_could_not_be_published_is_published_by_the_next_run_without_training(ftp, home, undisturbed, monkeypatch):
    monkeypatch.setattr(remote, "PAUSES", (0.05,))
    study = gilt.Study.load(home / "birds.toml")
    heard = []
    watch = gilt.studies.runner.Watch(start=lambda trial, *_: heard.append(trial.arm), tick=lambda tick: (
        ftp.kill() if heard == ["real"] and ftp.process.poll() is None else None))
    with pytest.raises(gilt.StoreError, match=r"cannot \w+ ftp://.*again: nothing that was finished is lost"):
        gilt.run_study(study, ftp.address, watch=watch)
    assert heard == ["real"]
    ftp.start()
    began = []
    records = gilt.run_study(study, ftp.address, watch=gilt.studies.runner.Watch(start=lambda t, *_: began.append(t.arm)))
    assert began == ["ai"], "what was finished before the network failed is not trained again"
    assert same(records, undisturbed)


def test_a_connection_that_the_server_closed_is_opened_again(ftp):
    there = Remote(ftp.address)
    there.put("a.txt", b"one")
    time.sleep(2.5)  # the server hangs up on the idle
    assert there.get(["a.txt", "b.txt"]) == {"a.txt": b"one"}
    time.sleep(2.5)
    there.remove("a.txt")
    assert there.stamps() == {}
    assert not list(ftp.root.rglob("*.tmp"))


def test_a_heartbeat_is_heard_on_another_machine(address, home, elsewhere):
    store = Store(address)
    store.open(gilt.Study.load(home / "birds.toml"), gilt.ImageTable.load(home / "birds.parquet"))
    store.beat("a" * 16, {"epoch": 1})
    elsewhere()
    other = Store(address)
    assert other.beats() == {"a" * 16: {"epoch": 1}}
    store.quiet("a" * 16)
    assert Store(address).beats() == {}
    other.open(gilt.Study.load(home / "birds.toml"), gilt.ImageTable.load(home / "birds.parquet"))


def test_a_lease_is_held_by_one_and_given_back(address):
    mine, theirs = (Lease(Remote(address), "trials/x.lock") for _ in range(2))
    with mine.acquire(timeout=0):
        with pytest.raises(Timeout):
            theirs.acquire(timeout=0.5)
        assert "trials/x.lock" not in Remote(address).stamps()
        assert "x.lock" in Remote(address).stamps("trials")
    with theirs.acquire(timeout=5):
        mine.release()  # which has it no more
        assert "x.lock" in Remote(address).stamps("trials")
    assert "x.lock" not in Remote(address).stamps("trials")


@pytest.mark.parametrize("change, taken", [
    ({}, False), ({"pid": os.getpid()}, True), ({"time": 0}, True), ({"machine": "another"}, False),
    ({"machine": "another", "time": 0}, True)])
def test_a_lease_is_taken_over_from_who_gives_no_sign_of_life(ftp, change, taken):
    there = Remote(ftp.address)
    held = {"token": "t", "host": "h", "machine": leases.machine(), "pid": os.getppid(), "time": time.time()}
    there.put("x.lock", json.dumps(held | change).encode())
    if not taken:
        with pytest.raises(Timeout):
            Lease(there, "x.lock").acquire(timeout=0)
        return
    with Lease(there, "x.lock").acquire(timeout=0):
        assert json.loads(there.get(["x.lock"])["x.lock"])["token"] != "t"


def test_a_lease_of_a_process_that_was_killed_here_is_taken_over_at_once(ftp):
    code = ("import sys, time; from gilt.studies.leases import Lease; from gilt.studies.remote import Remote; "
            "Lease(Remote(sys.argv[1]), 'x.lock').acquire(timeout=5); print('held', flush=True); time.sleep(60)")
    process = subprocess.Popen([sys.executable, "-c", code, ftp.address], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    lease = Lease(Remote(ftp.address), "x.lock")
    with pytest.raises(Timeout):
        lease.acquire(timeout=0)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with lease.acquire(timeout=0):
        assert "x.lock" in Remote(ftp.address).stamps()


def test_a_lease_is_renewed_while_it_is_held(ftp, monkeypatch):
    monkeypatch.setattr(leases, "RENEW", 0.2)
    there = Remote(ftp.address)
    with Lease(there, "x.lock").acquire(timeout=0):
        first = json.loads(there.get(["x.lock"])["x.lock"])
        time.sleep(1.0)
        second = json.loads(there.get(["x.lock"])["x.lock"])
    assert second["token"] == first["token"]
    assert second["time"] > first["time"]


@pytest.mark.parametrize("stale", [False, True])
def test_of_many_who_want_a_lease_at_once_one_has_it(address, stale):
    remotes = [Remote(address) for _ in range(5)]
    if stale:
        remotes[0].put("x.lock", json.dumps({"token": "old", "time": 0}).encode())
    won, start = [], threading.Barrier(len(remotes))

    def want(there):
        lease = Lease(there, "x.lock")
        start.wait()
        try:
            won.append(lease.acquire(timeout=0))
        except Timeout:
            return

    threads = [threading.Thread(target=want, args=(there,)) for there in remotes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    won[0].release()


@pytest.mark.slow
def test_two_machines_share_the_trials_of_a_study_and_run_none_twice(ftp, home, undisturbed, tmp_path):
    line = [sys.executable, "-m", "gilt", "study", "run", str(home / "birds.toml"), "--store", ftp.address]
    both = [subprocess.Popen(line, env={**os.environ, "GILT_CACHE": str(tmp_path / name)}, stderr=subprocess.PIPE, text=True,
                             stdout=subprocess.DEVNULL) for name in ("one", "two")]
    said = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sum(len(re.findall("test accuracy .* in 0:", text)) for text in said) == len(undisturbed)
    assert same(Store(ftp.address).records(), undisturbed)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.mark.parametrize("where, part", [
    ("sftq://host/x", r"no protocol 'sftq' \(known: s3, gs, az, .*Did you mean 'sftp'"),
    ("smb://host/x", "needs a package that is not installed: pip install smbprotocol"),
    ("gs://bucket/x", "needs a package that is not installed: pip install gcsfs"),
    ("ftp://me:secret@host/x", "ftp://me:...@host: an address is printed in reports: keep the password out"),
    (Path("s3://bucket/x"), "lost a slash, as a Path does to it: give it as text, s3://bucket/x"),
    ("ftp://127.0.0.1:{port}/x", r"cannot reach ftp://127.0.0.1:\d+/x: .*refused"),
])
def test_an_address_that_cannot_be_used_is_one_clear_line(where, part):
    for package in ("smbprotocol", "gcsfs"):
        if package in part:
            try:
                __import__(package)
                pytest.skip(f"{package} is installed")
            except ImportError:
                pass
    if isinstance(where, str):
        where = where.format(port=free_port())
    with pytest.raises(gilt.StoreError, match=part) as problem:
        Store(where)
    assert "secret" not in str(problem.value)
    assert "\n" not in str(problem.value)


def test_an_address_that_may_not_be_written_is_one_clear_line(ftp, home):
    (ftp.root / "studies").write_text("a file is where the folder should be")
    with pytest.raises(gilt.StoreError, match=r"cannot write ftp://127.0.0.1"):
        run(home, ftp.address)


def test_a_file_address_is_a_folder(tmp_path):
    store = Store(f"file://{tmp_path}/store")
    assert (store.folder, store.address, store.place.remote) == (tmp_path / "store", str(tmp_path / "store"), False)
