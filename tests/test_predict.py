"""gilt predict: a detector's rows, what turns a verdict, pieces that survive a kill, and addresses that nobody should fetch."""
import io
import json
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import gilt
from conftest import draw
from gilt.cli import main
from gilt.data.parts import Parts
from gilt.data.pixels import decode
from gilt.data.web import fetch
from gilt.engine.stability import CHANGES
from gilt.engine.stream import BATCH, Look, stream
from gilt.engine.verdicts import COLUMNS, pieces, verdicts
from gilt.errors import ImageError, StoreError
from gilt.evaluation.calibration import p_generated
from gilt.models.classifier import Classifier
from gilt.training import Calibration


def detector(*, threshold=0.5, classes=("real", "generated"), target="origin", band=None) -> Classifier:
    """A network whose weights are random: what it says means nothing, and that is all these tests need."""
    torch.manual_seed(3)
    network = gilt.create("lenet5", outputs=1 if len(classes) == 2 else len(classes)).eval()
    with torch.no_grad():
        for value in network.parameters():
            value.mul_(2)
    fitted = Calibration(temperature=0.5, bias=0.1, threshold=threshold, rule="by hand", n=60, n_real=30, accuracy=0.9,
                         balanced_accuracy=0.9, false_positive_rate=0.1, band=band)
    return Classifier(network, "lenet5", classes, target, gilt.Preprocessing(size=32), 1 if len(classes) == 2 else len(classes),
                      calibration=fitted if target == "origin" else None)


@pytest.fixture(scope="module")
def inbox(tmp_path_factory) -> Path:
    """Nine readable images of several sizes and formats, and one that is cut."""
    folder = tmp_path_factory.mktemp("inbox")
    for i, ending in enumerate(("png", "jpg", "webp") * 3):
        draw(folder / f"{i}.{ending}", (40 * i % 256, 120, 200 - 20 * i), seed=i, size=24 + 5 * i)
    (folder / "cut.jpg").write_bytes((folder / "1.jpg").read_bytes()[:200])
    return folder


def rows(classifier, paths, **look) -> pd.DataFrame:
    return pd.concat(verdicts(classifier, pieces([str(path) for path in paths]), Look(**look)), ignore_index=True)


def run(capsys, *words):
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    said = capsys.readouterr()
    return left.value.code, said.out, said.err


def test_the_probabilities_are_those_of_one_image_at_a_time(inbox):
    classifier, paths = detector(), sorted(inbox.glob("[0-9]*"))
    one_by_one = []
    for path in paths:
        image = torch.from_numpy(decode(path, classifier.preprocessing).copy()).permute(2, 0, 1)[None].float() / 255
        one_by_one.append(classifier.logits(image)[0].numpy())
    streamed = [seen.logits[0] for seen in stream(classifier, map(str, paths))]
    np.testing.assert_allclose(streamed, one_by_one, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(gilt.predict(classifier, paths).logits, one_by_one, rtol=1e-5, atol=1e-5)


def test_a_change_that_turns_the_verdict_is_named_and_makes_it_uncertain(inbox, tmp_path):
    path = inbox / "3.png"
    with Image.open(path) as image:
        for name, change in CHANGES.items():
            change(image.convert("RGB")).save(tmp_path / f"{name}.png")
    p = {name: float(p_generated(gilt.predict(detector(), [tmp_path / f"{name}.png"]))[0]) for name in CHANGES}
    own = float(p_generated(gilt.predict(detector(), [path]))[0])
    assert len({round(value, 9) for value in (own, *p.values())}) > 3  # the changes do change something
    nearest = min((value for value in p.values() if abs(value - own) > 1e-7), key=lambda value: abs(value - own))
    row = rows(detector(threshold=(own + nearest) / 2), [path], stable=True).iloc[0]
    turned = [name for name, value in p.items() if (value >= (own + nearest) / 2) != (own >= (own + nearest) / 2)]
    assert turned
    assert row["flips"] == ", ".join(turned)
    assert (row["stable"], row["verdict"]) == ("no", "uncertain")
    assert row["label"] == ("generated" if own >= nearest else "real")  # the label is the image's own
    assert row["p_generated"] == pytest.approx(own, abs=1e-6)


@pytest.mark.parametrize("threshold, verdict", [(0.0, "generated"), (1.0, "real")])
def test_a_verdict_that_nothing_turns_stands(inbox, threshold, verdict):
    found = rows(detector(threshold=threshold), sorted(inbox.iterdir()), stable=True)
    assert tuple(found.columns) == COLUMNS
    good, bad = found[found["error"].isna()], found[found["error"].notna()]
    assert set(good["verdict"]) == set(good["label"]) == {verdict}
    assert set(good["stable"]) == {"yes"}
    assert bad["path"].tolist() == [str(inbox / "cut.jpg")]
    assert bad[["label", "p_generated", "verdict", "stable"]].isna().all(axis=None)


def test_without_the_trial_no_row_claims_to_be_stable(inbox):
    found = rows(detector(), sorted(inbox.glob("[0-9]*")))
    assert found["stable"].isna().all()
    assert set(found["verdict"]) <= {"real", "generated"}


def test_within_the_band_the_verdict_is_uncertain_and_the_label_stays(inbox, tmp_path, capsys):
    paths = sorted(inbox.glob("[0-9]*"))
    p = rows(detector(), paths)["p_generated"].to_numpy()
    low, high = np.sort(p)[[2, 5]]
    sure = detector(threshold=float((low + high) / 2), band=(float(low), float(high)))
    found = rows(sure, paths)
    assert (found["verdict"] == "uncertain").tolist() == ((p >= low) & (p <= high)).tolist()
    assert set(found["verdict"]) == {"real", "uncertain", "generated"}
    assert (found["label"] == np.where(p >= (low + high) / 2, "generated", "real")).all()
    sure.save(tmp_path / "d.safetensors")
    _, _, err = run(capsys, "predict", tmp_path / "d.safetensors", *paths, "--no-stable", "-o", tmp_path / "out.csv")
    assert f"3 generated, 2 real, 4 uncertain: 4 within {low:.2f} to {high:.2f}\n" in err


def test_the_summary_tells_what_is_within_the_band_from_what_flips(inbox, tmp_path, capsys):
    paths = sorted(inbox.glob("[0-9]*"))
    every = rows(detector(), paths, stable=True)
    p = np.sort(every["p_generated"])
    cuts = [(p[i] + p[i + 1]) / 2 for i in range(8)] + [p[0] + 1e-6]
    turned = {cut: rows(detector(threshold=cut), paths, stable=True)["flips"].notna() for cut in cuts}
    cut = max(cuts, key=lambda cut: turned[cut].sum())  # a threshold at which some verdicts flip
    held = every["p_generated"][turned[cut]]
    assert len(held)
    detector(threshold=cut, band=(cut - 1e-7, cut)).save(tmp_path / "flip.safetensors")
    detector(threshold=cut, band=(min(cut, held.min()), max(cut, held.max()))).save(tmp_path / "within.safetensors")
    said = {name: run(capsys, "predict", tmp_path / f"{name}.safetensors", *paths, "-o", tmp_path / f"{name}.csv")[2]
            for name in ("flip", "within")}
    flip = "flips" if len(held) == 1 else "flip"
    assert f"{len(held)} uncertain: {len(held)} {flip}\n" in said["flip"]
    assert " within " in said["within"]
    assert "flip" not in said["within"]


def test_a_detector_of_generators_says_each_ones_part(inbox):
    classifier = detector(threshold=0.5, classes=("painter", "real", "etcher"))
    found = rows(classifier, sorted(inbox.glob("[0-9]*")))
    np.testing.assert_allclose(found["p_painter"] + found["p_etcher"], found["p_generated"], rtol=1e-9)
    likeliest = np.where(found["p_painter"] > found["p_etcher"], "painter", "etcher")
    assert (found["label"] == np.where(found["p_generated"] >= 0.5, likeliest, "real")).all()
    assert set(found["verdict"]) <= {"generated", "real"}
    assert found.columns[-1] == "error"


def test_csv_json_lines_and_parquet_hold_the_same_rows(inbox, tmp_path, capsys):
    detector().save(tmp_path / "d.safetensors")
    for ending in ("csv", "jsonl", "parquet"):
        code, _, err = run(capsys, "predict", tmp_path / "d.safetensors", inbox, "-o", tmp_path / f"out.{ending}")
        assert code == 0
        assert "10 images, 1 of them unreadable; " in err
    sheet = pd.read_csv(tmp_path / "out.csv")
    lines = pd.DataFrame([json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()])
    table = pd.read_parquet(tmp_path / "out.parquet")
    for other in (lines, table):
        assert list(other.columns) == list(sheet.columns) == list(COLUMNS)
        np.testing.assert_allclose(other["p_generated"].astype(float), sheet["p_generated"], atol=1e-6)
        for column in ("path", "label", "verdict", "stable", "flips", "error"):
            assert other[column].astype(object).fillna("").tolist() == sheet[column].astype(object).fillna("").tolist()
    assert sheet["path"].tolist() == sorted(str(path) for path in inbox.iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.safetensors", "out.csv", "out.jsonl", "out.parquet"]
    code, out, _ = run(capsys, "predict", tmp_path / "d.safetensors", inbox, "--json")
    assert out == (tmp_path / "out.jsonl").read_text()


def test_a_zip_and_a_compressed_tar_give_what_the_folder_gives(inbox, tmp_path):
    paths = sorted(inbox.glob("[0-9]*"))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive, tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        for path in paths:
            archive.write(path, path.name)
            tar.add(path, path.name)
    expected = rows(detector(), paths)["p_generated"]
    for name in ("a.zip", "a.tar.gz"):
        found = rows(detector(), [tmp_path / name / path.name for path in paths])
        assert found["error"].isna().all()
        np.testing.assert_allclose(found["p_generated"], expected, atol=1e-6)


def test_only_a_few_batches_are_read_ahead(tmp_path, one_thread):
    path, taken = str(draw(tmp_path / "a.png", (1, 2, 3), seed=0, size=8)), []

    def endless():
        while True:
            taken.append(path)
            yield path

    answers = stream(detector(), endless())
    for _ in range(3 * BATCH):
        assert next(answers).error is None
    answers.close()
    assert len(taken) <= 3 * BATCH + 3 * BATCH  # one thread: two batches wait, one is being made


def test_a_killed_run_goes_on_and_ends_with_the_same_rows(tmp_path, capsys, monkeypatch):
    folder, out = tmp_path / "many", tmp_path / "out.csv"
    for i in range(1200):
        draw(folder / f"{i:04}.png", (i % 256, 120, 60), seed=i, size=12)
    (folder / "0600.png").write_bytes(b"no image")
    detector().save(tmp_path / "d.safetensors")
    command = [sys.executable, "-m", "gilt", "predict", "d.safetensors", "many", "-o"]
    first = subprocess.Popen([*command, "out.csv"], cwd=tmp_path, stderr=subprocess.DEVNULL)
    while first.poll() is None and not list(tmp_path.glob(".out.csv.parts/*.parquet")):
        time.sleep(0.002)
    first.send_signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    assert not out.exists()
    left = {path: path.stat().st_mtime_ns for path in tmp_path.glob(".out.csv.parts/*.parquet")}
    again = subprocess.run([*command, "out.csv"], cwd=tmp_path, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert f"going on: {256 * len(left):,} of 1,200 images were done before" in again.stderr
    assert not list(tmp_path.glob(".out.csv*"))
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, "predict", "d.safetensors", "many", "-o", "whole.csv")
    assert code == 0
    assert "going on" not in err
    found, expected = pd.read_csv(out), pd.read_csv(tmp_path / "whole.csv")
    assert found["path"].tolist() == [f"many/{i:04}.png" for i in range(1200)]
    pd.testing.assert_frame_equal(found, expected, atol=1e-5)
    assert found["error"].notna().sum() == 1


def test_pieces_of_other_files_or_settings_are_not_taken(tmp_path, caplog):
    frame, out = pd.DataFrame({"path": ["a", "b"], "error": [None, None]}), tmp_path / "out.csv"
    with Parts(out, "one") as parts:
        parts.write(0, "0" * 16, frame)
    with Parts(out, "one") as parts:
        assert parts.rows(0, "0" * 16) == 2
        assert parts.rows(0, "1" * 16) is None  # a file has changed since
        assert parts.rows(1, "0" * 16) is None
        parts.write(0, "1" * 16, frame)
        with pytest.raises(StoreError, match="another process writes"):
            Parts(out, "one").__enter__()
    assert len(list((tmp_path / ".out.csv.parts").glob("*.parquet"))) == 1
    with Parts(out, "two") as parts:
        assert parts.rows(0, "1" * 16) is None
    assert "begun anew" in caplog.text


class Server(BaseHTTPRequestHandler):
    """Answers with an image, redirects, floods, or never ends."""

    image = b""

    def do_GET(self):
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path[4:])
            self.end_headers()
        elif self.path == "/missing":
            self.send_error(404)
        elif self.path in ("/drip", "/flood"):
            self.send_response(200)
            self.end_headers()
            try:
                for _ in range(200):
                    self.wfile.write(b"x" if self.path == "/drip" else b"x" * (1 << 20))
                    time.sleep(0.05 if self.path == "/drip" else 0)
            except OSError:
                return
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(len(self.image)))
            self.end_headers()
            self.wfile.write(self.image)

    def log_message(self, *_):
        pass


@contextmanager
def served(image: bytes):
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (Server,), {"image": image}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_addresses_are_fetched_within_limits_only(tmp_path):
    data = draw(tmp_path / "a.png", (9, 99, 199), seed=1).read_bytes()
    with served(data) as host:
        assert fetch(f"{host}/a.png", private=True) == data
        assert fetch(f"{host}/to//a.png", private=True) == data
        for path, private, why in [
                ("/a.png", False, r"127\.0\.0\.1 is in a private network"), ("/missing", True, "answered 404"),
                ("/to/file:///etc/passwd", True, "only http and https"), ("/flood", True, "larger than 64 MB"),
                ("/to//to//to//to//to//to//a.png", True, "more than 5 redirections")]:
            with pytest.raises(ImageError, match=why):
                fetch(f"{host}{path}", private=private)
        start = time.monotonic()
        with pytest.raises(ImageError, match=r"no answer within 0\.5 seconds"):
            fetch(f"{host}/drip", private=True, seconds=0.5)
        assert time.monotonic() - start < 4


@pytest.mark.parametrize("host", ["localhost", "10.1.2.3", "169.254.169.254", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"])
def test_no_address_leads_into_a_private_network(host):
    with pytest.raises(ImageError, match="is in a private network"):
        fetch(f"http://{host}:9/x.png")


def test_an_address_is_a_row_like_any_other(tmp_path, inbox, capsys):
    detector().save(tmp_path / "d.safetensors")
    with served((inbox / "0.png").read_bytes()) as host:
        code, out, _ = run(capsys, "predict", tmp_path / "d.safetensors", f"{host}/x", inbox / "0.png", f"{host}/missing",
                           "--urls", "--allow-private")
    assert code == 0
    found = pd.read_csv(io.StringIO(out))
    assert found["path"].tolist() == [f"{host}/x", str(inbox / "0.png"), f"{host}/missing"]
    assert found["p_generated"][0] == found["p_generated"][1]
    assert "answered 404" in found["error"][2]


def test_a_classifier_of_classes_keeps_its_columns(inbox, tmp_path, capsys):
    detector(classes=("wren", "robin"), target="class").save(tmp_path / "c.safetensors")
    for ending in ("csv", "parquet"):
        assert run(capsys, "predict", tmp_path / "c.safetensors", inbox, "-o", tmp_path / f"o.{ending}")[0] == 0
    assert list(pd.read_csv(tmp_path / "o.csv").columns) == ["path", "label", "p_wren", "p_robin", "error"]
    assert list(pd.read_parquet(tmp_path / "o.parquet").columns) == ["path", "label", "p_wren", "p_robin", "error"]
    code, out, _ = run(capsys, "predict", tmp_path / "c.safetensors", inbox, "--top", "1")
    assert code == 0
    assert out.splitlines()[0] == "path,label_1,p_1,error"


@pytest.mark.parametrize("words, message", [
    (["https://example.org/a.jpg"], "nothing is fetched without --urls"),
    (["ftp://example.org/a.jpg", "--urls"], "only http and https"),
    (["nowhere"], "no file or folder nowhere"), (["in", "-o", "out.txt"], "Name it out.csv, out.parquet, out.jsonl"),
    (["in", "-o", "in"], "is a folder"), (["in", "--json", "-o", "a.csv"], "-o out.jsonl"),
    (["in", "--allow-private"], "belongs to --urls"), (["in", "--stable", "--top", "1"], "leave out --top"),
    (["in", "--trust", "in/0.png"], "cannot be read: it is no text"), (["in", "--trust", "no.pem"], "No such file"),
    (["in", "--trust", "t.pem"], "holds no certificate"),
    (["d.safetensors", "-o", "d.safetensors"], "is read by this command")])
def test_a_wrong_word_is_one_line_and_code_2(words, message, tmp_path, inbox, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    detector().save("d.safetensors")
    Path("t.pem").write_text("hello")
    Path("in").symlink_to(inbox)
    code, _, err = run(capsys, "predict", "d.safetensors", *words)
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1


def test_the_trial_of_a_verdict_is_for_detectors(inbox, tmp_path, capsys):
    detector(classes=("wren", "robin"), target="class").save(tmp_path / "c.safetensors")
    code, _, err = run(capsys, "predict", tmp_path / "c.safetensors", inbox, "--stable")
    assert code == 2
    assert "is no detector" in err
