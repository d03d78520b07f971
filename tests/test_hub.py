"""Hub: data sets are read from the libraries' own caches without a network; without either there is one clear line."""
import os
import shutil
import subprocess
import sys

import pytest

import gilt
from conftest import draw, make_birds
from gilt.data.hub import fetched

pytest.importorskip("huggingface_hub")
pytest.importorskip("kagglehub")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hugging(tmp_path, monkeypatch):
    """A cache as huggingface_hub lays it out: one data set, its files as links to blobs, main pointing at one commit."""
    home = tmp_path / "hf"
    place = home / "hub" / "datasets--owner--birds"
    snapshot = place / "snapshots" / COMMIT
    for number, path in enumerate(sorted(make_birds(tmp_path / "birds", real=3, generated=2).rglob("*.png"))):
        link = snapshot / "pictures" / path.relative_to(tmp_path / "birds")
        (place / "blobs").mkdir(parents=True, exist_ok=True)
        link.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place / "blobs" / str(number))
        link.symlink_to(place / "blobs" / str(number))
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(COMMIT)
    monkeypatch.setenv("HF_HOME", str(home))
    return home


@pytest.fixture
def kaggle(tmp_path, monkeypatch):
    """A cache as kagglehub lays it out: two versions, each with the mark that it is whole, and one that is not."""
    home = tmp_path / "kaggle"
    place = home / "datasets" / "owner" / "birds"
    for version in (1, 2):
        make_birds(place / "versions" / str(version), real=version, generated=1)
        (place / f"{version}.complete").touch()
    make_birds(place / "versions" / "3", real=1, generated=1)
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(home))
    return home


def run(*words, cwd, **environment):
    """Run the command with addresses at which nobody answers."""
    nobody = {"HF_ENDPOINT": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "HF_HUB_DISABLE_TELEMETRY": "1"}
    return subprocess.run([sys.executable, "-m", "gilt", "scan", *words], cwd=cwd, capture_output=True, text=True,
                          env={**os.environ, **nobody, **environment})


@pytest.mark.parametrize("place, layout", [
    ("hf:owner/birds", "pictures/{origin}/{class}"), ("hf:owner/birds/pictures", "{origin}/{class}"),
    (f"hf:owner/birds@{COMMIT}/pictures/", "{origin}/{class}"), ("hf:owner/birds@main", "*/{origin}/{class}")])
def test_a_hugging_face_data_set_in_the_cache_is_scanned_without_a_network(tmp_path, hugging, place, layout):
    offline = {"HF_HUB_OFFLINE": "1"} if COMMIT in place else {}  # a cache of an older library is asked for after long tries
    result = run(place, "--layout", layout, "-o", "t.parquet", cwd=tmp_path, **offline)
    assert result.returncode == 0, result.stderr
    table = gilt.ImageTable.load(tmp_path / "t.parquet")
    assert table.counts("origin") == {"real": 6, "painter": 4}
    assert COMMIT in str(table.root)
    table.check_files()


def test_a_kaggle_data_set_in_the_cache_is_scanned_without_a_network(tmp_path, kaggle):
    result = run("kaggle:owner/birds", "-o", "t.parquet", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "note: Kaggle cannot be reached: version 2 of owner/birds, from the cache" in result.stderr
    assert gilt.ImageTable.load(tmp_path / "t.parquet").counts("origin") == {"real": 4, "painter": 2}
    result = run("kaggle:owner/birds/versions/1", "-o", "one.parquet", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert gilt.ImageTable.load(tmp_path / "one.parquet").counts("origin") == {"real": 2, "painter": 2}


@pytest.mark.parametrize("place", ["hf:owner/birds", "kaggle:owner/birds", "kaggle:owner/birds/versions/3"])
def test_without_network_and_cache_there_is_one_clear_line(tmp_path, place):
    result = run(place, "-o", "t.parquet", cwd=tmp_path, HF_HOME=str(tmp_path / "a"), KAGGLEHUB_CACHE=str(tmp_path / "b"))
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert result.stderr.startswith(f"error: {place} cannot be fetched and is not in the local cache (")
    assert "Connect to the network and run the same command again" in result.stderr


def test_a_folder_that_the_data_set_lacks_is_named(tmp_path, hugging):
    result = run("hf:owner/birds/pitcures", "-o", "t.parquet", cwd=tmp_path)
    assert result.returncode == 2
    assert "no folder 'pitcures' in the data set (in the cache: pictures)" in result.stderr


@pytest.mark.parametrize("place", ["hf:birds", "hf:owner/", "hf:owner/birds@", "hf:../x", "kaggle:birds", "kaggle:owner/b/2"])
def test_a_place_that_is_not_written_right_says_how(place):
    with pytest.raises(gilt.TableError, match=r"is not written as (hf:owner/name|kaggle:owner/name)"):
        fetched(place)


def test_a_folder_of_such_a_name_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "hf:birds" / "real" / "wren" / "a.png", (9, 9, 9), seed=1)
    assert len(gilt.scan("hf:birds")) == 1


@pytest.mark.parametrize("place, package", [("hf:owner/birds", "huggingface_hub"), ("kaggle:owner/birds", "kagglehub")])
def test_a_missing_library_names_the_extra(tmp_path, place, package):
    code = (f"import sys; sys.modules[{package!r}] = None; from gilt.cli import main; "
            f"main(['scan', {place!r}, '-o', 't.parquet'])")
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr == f"error: {package} is not installed: pip install 'gilt[hub]'\n"
