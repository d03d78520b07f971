"""Containers: members are read in place, from several threads, and hostile ones are named and harm nothing."""
import bz2
import gzip
import io
import json
import shutil
import struct
import tarfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import gilt
from conftest import SHARED, draw, make_birds
from gilt.data import archives, containers
from gilt.data.containers import absent, is_there, members, read_image, reading_order
from gilt.data.pixels import PixelCache, decode_stream

P16 = gilt.Preprocessing(size=16)
KINDS = {"zip": "zip", "tar": "tar", "tar.gz": "gztar", "tar.bz2": "bztar", "tar.xz": "xztar"}


@pytest.fixture(scope="module")
def birds_folder(tmp_path_factory) -> Path:
    return make_birds(tmp_path_factory.mktemp("plain") / "birds", real=6, generated=4)


def packed(folder: Path, at: Path, kind: str) -> Path:
    """Return an archive of `folder` at `at`.kind."""
    return Path(shutil.make_archive(str(at), KINDS[kind], folder))


def image(seed=1, size=8) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (size, size, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def image_parquet(path: Path, images, *, group=4, **columns) -> Path:
    """Write a Hugging Face style Parquet file."""
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    values = pa.array([{"bytes": data, "path": None} for data in images], kind)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"image": values, **columns}), path, row_group_size=group)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_gives_the_same_table_as_its_folder(tmp_path, birds_folder, kind):
    archive = packed(birds_folder, tmp_path / "birds", kind)
    table = gilt.scan(archive)
    assert table == gilt.scan(birds_folder)
    table.check_files()
    assert set(table.frame["modified"]) == {archive.stat().st_mtime_ns}
    assert read_image(archive / "real/wren/000.png") == (birds_folder / "real/wren/000.png").read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_members_are_read_by_many_threads_in_any_order(tmp_path, birds_folder, kind, monkeypatch):
    archive = packed(birds_folder, tmp_path / "birds", kind)
    paths = [path.relative_to(birds_folder).as_posix() for path in birds_folder.rglob("*.png")] * 3
    np.random.default_rng(0).shuffle(paths)
    monkeypatch.setattr(archives, "WINDOW", 2000)  # a compressed tar must begin anew often
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda path: read_image(archive / path), paths))
    assert read == [(birds_folder / path).read_bytes() for path in paths]


def test_a_compressed_tar_is_read_twice_from_front_to_end_and_no_more(tmp_path, monkeypatch):
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for i in np.random.default_rng(0).permutation(200):
            add(archive, f"real/{i % 3}/{i}.png", image(i, 80))
    monkeypatch.setattr(archives, "WINDOW", 50_000)
    table = gilt.scan(path, threads=8)
    assert len(table.usable) == 200
    assert containers.opened(path).handle.begun == 2
    inside = list(containers.opened(path).names)
    assert list(table.frame["path"]) == inside
    assert inside != sorted(inside)


def test_archives_in_a_folder_count_where_asked_or_where_there_is_nothing_else(tmp_path, birds_folder, caplog):
    packed(birds_folder, tmp_path / "a", "zip")
    table = gilt.scan(tmp_path, "*/{origin}/{class}")
    assert (len(table), table.frame["path"][0]) == (20, "a.zip/painter/robin/g000.png")
    draw(tmp_path / "real" / "wren" / "a.png", (9, 9, 9), seed=1)
    assert len(gilt.scan(tmp_path)) == 1
    assert "1 archives passed over, such as a.zip: name one to read it, or scan with --containers" in caplog.text
    assert len(gilt.scan(tmp_path, ["*/{origin}/{class}", "{origin}/{class}"], containers=True)) == 21
    with pytest.raises(gilt.TableError, match="zip and tar files with --containers"):
        (tmp_path / "real" / "wren" / "a.png").unlink()
        gilt.scan(tmp_path, containers=False)


def test_pixels_and_predictions_come_out_of_archives(tmp_path, birds_folder):
    table = gilt.scan(packed(birds_folder, tmp_path / "birds", "zip"))
    plain = gilt.scan(birds_folder)
    pack, rows = PixelCache(tmp_path / "a").pixels(table.paths, list(table.frame["sha256"]), P16)
    expected, places = PixelCache(tmp_path / "b").pixels(plain.paths, list(plain.frame["sha256"]), P16)
    np.testing.assert_array_equal(pack[rows], expected[places])
    assert all(isinstance(pixels, np.ndarray) for _, pixels in decode_stream(table.paths, P16))
    from gilt.engine.predict import find_images
    assert find_images([table.root]) == table.paths
    assert find_images([table.paths[3]]) == [table.paths[3]]
    with pytest.raises(gilt.TableError, match="no file or folder"):
        find_images([table.root / "real/nothing.png"])


def test_parquet_rows_are_images_by_their_number(tmp_path):
    images = [image(i) for i in range(11)]
    path = image_parquet(tmp_path / "train.parquet", images)
    assert [read_image(path / f"{i:07}") for i in range(11)] == images
    assert read_image(path / "image" / "0000003") == images[3]
    assert members(path)[:2] == [("0000000", -1), ("0000001", -1)]
    assert is_there(path / "0000010")
    assert not is_there(path / "0000011")
    with pytest.raises(gilt.ImageError, match=r"train.parquet/0000011 cannot be read: train.parquet has 11 rows"):
        read_image(path / "0000011")


def test_few_row_groups_are_kept_and_all_rows_come_out_right(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "GROUPS", 100)
    images = [image(i) for i in range(40)]
    path = image_parquet(tmp_path / "train.parquet", images, group=3)
    rows = np.random.default_rng(0).permutation(40).tolist()
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda i: read_image(path / str(i)), rows)) == [images[i] for i in rows]
    assert len(archives.ParquetFile._groups) <= 2


def test_a_large_image_column_and_an_empty_row(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"jpg": pa.array([image(), None, b""], pa.large_binary())}), path)
    assert read_image(path / "0") == image()
    for row in ("1", "2"):
        with pytest.raises(gilt.ImageError, match="the row holds no bytes"):
            read_image(path / row)


def evil_zip(path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("real/wren/good.png", "../real/wren/up.png", "/real/wren/absolute.png", "real\\wren\\windows.png",
                     "C:/real/wren/drive.png", "real/wren/crc.png", "real/wren/bomb.png", "real/wren/secret.png"):
            archive.writestr(name, b"\0" * 2**20 if "bomb" in name else image())
        link = zipfile.ZipInfo("real/wren/link.png")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    data = bytearray(path.read_bytes())
    central = data.index(b"PK\1\2")
    for name, change in (("crc", (16, b"\1\2\3\4")), ("bomb", (24, struct.pack("<I", 2**31))), ("secret", (8, b"\1\0"))):
        entry = data.index(f"real/wren/{name}.png".encode(), central) - 46
        data[entry + change[0]:entry + change[0] + len(change[1])] = change[1]
    path.write_bytes(data)
    return path


def test_hostile_members_of_a_zip_are_rows_with_a_reason_or_counted(tmp_path, caplog):
    table = gilt.scan(evil_zip(tmp_path / "evil.zip"))
    reasons = {Path(path).stem: reason for path, reason in zip(table.frame["path"], table.frame["excluded"], strict=True)}
    assert reasons["good"] is reasons["windows"] is None
    assert reasons["crc"] == "unreadable: damaged in evil.zip: length or checksum is wrong"
    assert reasons["bomb"] == "unreadable: inflates to 2,048 MB, beyond 256 MB"
    assert reasons["secret"] == "unreadable: encrypted: unpack it with its password first"
    assert set(reasons) == {"good", "windows", "crc", "bomb", "secret"}
    assert "evil.zip: 4 members passed over: names that lead out of the archive 3, links and devices 1" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["evil.zip"]  # nothing was unpacked


def test_a_member_that_inflates_to_more_than_it_says_costs_no_memory(tmp_path):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", b"\0" * 2**26)
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") + 24:][:4] = b"    "
    entry = data.index(b"PK\1\2") + 24
    data[entry:entry + 4] = struct.pack("<I", 1000)
    path.write_bytes(data)
    with pytest.raises(gilt.ImageError, match="length or checksum is wrong"):
        read_image(path / "a.png")


def add(archive: tarfile.TarFile, name: str, data: bytes = b"", **facts) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in facts.items():
        setattr(info, key, value)
    archive.addfile(info, io.BytesIO(data))


@pytest.mark.parametrize("ending", ["tar", "tgz"])
def test_hostile_members_of_a_tar_are_counted_and_dotted_names_are_plain(tmp_path, caplog, ending):
    path = tmp_path / f"evil.{ending}"
    with tarfile.open(path, "w:gz" if ending == "tgz" else "w") as archive:
        add(archive, "./real/wren/good.png", image())
        add(archive, "../real/wren/up.png", image())
        add(archive, "/real/wren/absolute.png", image())
        add(archive, "real/wren/link.png", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add(archive, "real/wren/hard.png", type=tarfile.LNKTYPE, linkname="real/wren/good.png")
        add(archive, "real/wren/device.png", type=tarfile.CHRTYPE)
        add(archive, "real/wren/twice.png", image(1))
        add(archive, "real/wren/twice.png", image(2))
    table = gilt.scan(path)
    assert list(table.frame["path"]) == ["real/wren/good.png", "real/wren/twice.png"]
    assert read_image(path / "real/wren/twice.png") == image(2)
    assert "6 members passed over: links and devices 3, names that lead out of the archive 2, names that stand" in caplog.text


@pytest.mark.parametrize("cut", [0.4, 0.7])
@pytest.mark.parametrize("kind", ["tar", "tar.gz", "tar.xz"])
def test_a_tar_that_is_cut_short_gives_what_is_before(tmp_path, birds_folder, caplog, kind, cut):
    archive = packed(birds_folder, tmp_path / "birds", kind)
    data = archive.read_bytes()
    archive.write_bytes(data[:int(len(data) * cut)])
    table = gilt.scan(archive)
    assert 0 < len(table.usable) < 20
    assert "cannot be read to its end" in caplog.text


def test_a_tar_that_is_damaged_in_the_middle_says_so(tmp_path, birds_folder, caplog):
    archive = packed(birds_folder, tmp_path / "birds", "tar")
    with tarfile.open(archive) as opened:
        middle = opened.getmembers()[12].offset
    data = bytearray(archive.read_bytes())
    data[middle:middle + 512] = b"x" * 512
    archive.write_bytes(data)
    assert len(gilt.scan(archive)) < 12
    assert "cannot be read to its end (it is damaged)" in caplog.text


def test_a_compressed_tar_that_is_a_bomb_is_stopped(tmp_path, monkeypatch):
    path = tmp_path / "bomb.tar.gz"
    with gzip.open(path, "wb", compresslevel=9) as file:
        info = tarfile.TarInfo("a.png")
        info.size = 2**28
        file.write(info.tobuf())
        for _ in range(256):
            file.write(bytes(2**20))
    held = archives.Tar(path, (0,))
    held.handle.most = 2**22
    with pytest.raises(OSError, match="inflates to more than 200 times"):
        held.handle.at(2**27, 512)
    held.handle.close()


@pytest.mark.parametrize("name, content, part", [
    ("a.zip", b"no zip at all", "a.zip cannot be read: File is not a zip file"), ("a.zip", b"", "a.zip cannot be read"),
    ("a.tar", b"no tar at all" * 99, "a.tar cannot be read"), ("a.tar.gz", b"no gzip", "a.tar.gz cannot be read: Not a gz"),
    ("a.tar.bz2", bz2.compress(b"x" * 600), "a.tar.bz2 cannot be read"), ("a.tar.xz", b"", "a.tar.xz cannot be read"),
    ("a.parquet", b"PAR1 nothing", "a.parquet cannot be read")])
def test_a_container_that_is_none_is_one_clear_line(tmp_path, name, content, part):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(gilt.TableError, match=part) as problem:
        gilt.scan(tmp_path / name, constants={"origin": "real"} if name == "a.parquet" else {})
    assert "\n" not in str(problem.value)
    with pytest.raises(gilt.ImageError, match="cannot be read"):
        read_image(tmp_path / name / "real/wren/1.png")


def test_a_zip_without_an_image_says_what_it_holds(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("notes.txt", "x")
        archive.writestr("inner.zip", b"x")
    with pytest.raises(gilt.TableError, match=r"no image in .*a.zip; it holds 2 other files \(.txt, .zip inside an archive\)"):
        gilt.scan(tmp_path / "a.zip")


def test_a_container_that_changed_or_is_gone_is_named_with_the_remedy(tmp_path, birds_folder):
    archive = packed(birds_folder, tmp_path / "birds", "zip")
    table = gilt.scan(archive)
    path, digest = table.paths[0], table.frame["sha256"][0]
    time.sleep(0.01)
    with zipfile.ZipFile(archive, "w") as changed:
        changed.writestr(table.frame["path"][0], image(7))
    with pytest.raises(gilt.ImageError, match="has changed since it was scanned: scan the folder again"):
        PixelCache(tmp_path / "cache").pixels([path], [digest], P16)
    with pytest.raises(gilt.TableError, match="19 of 20 images are not where the table says"):
        table.check_files()
    archive.rename(tmp_path / "moved.zip")
    with pytest.raises(gilt.ImageError, match="cannot be read: No such file"):
        read_image(path)
    with pytest.raises(gilt.TableError, match=r"20 of 20 images .* give their folder with --root"):
        table.check_files()
    table.save(tmp_path / "t.parquet")
    with pytest.raises(gilt.TableError, match="19 of 20"):
        gilt.ImageTable.load(tmp_path / "t.parquet", root=tmp_path / "moved.zip").check_files()


def test_missing_paths_are_found_with_one_listing_a_folder(tmp_path, birds_folder):
    archive = packed(birds_folder, tmp_path / "birds", "tar")
    draw(tmp_path / "plain" / "a.png", (9, 9, 9), seed=1)
    paths = ["plain/a.png", "plain/b.png", "birds.tar/real/wren/000.png", "birds.tar/real/wren/x.png", "none/c.png"]
    assert absent(tmp_path, paths) == ["plain/b.png", "birds.tar/real/wren/x.png", "none/c.png"]
    assert absent(archive, ["real/wren/000.png"]) == []


def test_many_members_are_checked_quickly(tmp_path):
    path = tmp_path / "many.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(30_000):
            archive.writestr(f"{i % 100}/{i}.png", b"")
    names = [f"{i % 100}/{i}.png" for i in range(30_000)]
    assert absent(path, names[:1]) == []
    start = time.perf_counter()
    assert absent(path, [*names, "0/x.png"]) == ["0/x.png"]
    assert time.perf_counter() - start < 2


def test_reading_order_goes_through_each_container_once(tmp_path, birds_folder):
    archive = packed(birds_folder, tmp_path / "birds", "tar")
    with tarfile.open(archive) as opened:
        inside = [info.name.removeprefix("./") for info in opened if info.isfile()]
    shuffled = np.random.default_rng(0).permutation(inside).tolist()
    plain = draw(tmp_path / "a.png", (9, 9, 9), seed=1)
    paths = [*(archive / name for name in shuffled), plain, tmp_path / "gone.png"]
    ordered = [paths[i] for i in reading_order(paths)]
    assert ordered == [plain, tmp_path / "gone.png", *(archive / name for name in inside)]


def test_few_containers_stay_open(tmp_path):
    for i in range(3 * containers.KEPT):
        with zipfile.ZipFile(tmp_path / f"{i}.zip", "w") as archive:
            archive.writestr("a.png", image(i))
    handles = Path("/proc/self/fd")
    before = len(list(handles.iterdir())) if handles.exists() else 0
    for _ in range(2):
        for i in range(3 * containers.KEPT):
            assert read_image(tmp_path / f"{i}.zip" / "a.png") == image(i)
    if before:
        assert len(list(handles.iterdir())) <= before + containers.KEPT


def test_threads_that_meet_a_new_container_share_one_list(tmp_path, birds_folder):
    archive = packed(birds_folder, tmp_path / "birds", "tar.gz")
    with ThreadPoolExecutor(8) as pool:
        held = list(pool.map(lambda _: containers.opened(archive), range(32)))
    assert len({id(one.names) for one in held}) == 1
    assert len(held[0].names) == 20


@pytest.mark.shared
@pytest.mark.skipif(not (SHARED / "data" / "cifar10").is_dir(), reason="needs ../shared/data/cifar10")
def test_cifar_is_read_from_its_parquet_files():
    path = SHARED / "data" / "cifar10" / "test.parquet"
    table = gilt.scan(path, constants={"origin": "real"})
    assert table.counts("split") == {"test": 10_000}
    assert list(table.counts("class").items())[1:3] == [("automobile", 1000), ("bird", 1000)]
    assert len(table.usable) == 10_000
    table.check_files()
    features = json.loads(pq.read_schema(path).metadata[b"huggingface"])["info"]["features"]
    assert sorted(features["label"]["names"]) == table.classes
