"""Archives: the three kinds of container, each listed once and then read member by member, in memory.

A member is refused, with a reason, where it is encrypted, damaged, or larger than MOST_BYTES once inflated; links,
devices and names that lead out of the archive are no members at all and are counted in `passed`.
"""
import bisect
import bz2
import gzip
import lzma
import struct
import tarfile
import threading
import zipfile
import zlib
from collections import Counter, OrderedDict, deque
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gilt.errors import TableError, listed

MOST_BYTES = 256 * 2**20  # of one member, inflated
WINDOW = 64 * 2**20  # bytes of a compressed tar kept behind the reading point, for threads that are a little late
GROUPS = 512 * 2**20  # bytes of Parquet row groups kept, over all files
BROKEN = (OSError, EOFError, ValueError, KeyError, NotImplementedError, RuntimeError, OverflowError, MemoryError, struct.error,
          zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError, pa.ArrowException)


class Archive:
    """One container: its members by name, and how to read one. Listed once, under a lock, by the first who asks."""

    def __init__(self, path: Path, stamp: tuple[int, ...]) -> None:
        self.path, self.stamp = path, stamp
        self.names: dict[str, int] = {}  # member -> its row in `places`
        self.places = np.zeros((0, 6), np.int64)
        self.passed: Counter[str] = Counter()  # what is no member, by reason
        self.note = ""
        self.handle: Any = self._open()
        self._lock, self._listing, self._problem, self._listed = threading.Lock(), threading.Lock(), "", False

    def list_once(self) -> None:
        """List the members, the first time. Raises TableError, then and later, where that is not possible."""
        with self._listing:
            if not self._listed:
                try:
                    self._list()
                except BROKEN as error:
                    reason = str(error).split("\n")[0] or type(error).__name__
                    self._problem = f"{self.path} cannot be read: {reason}. Is it damaged, or only partly downloaded?"
                self._listed = True
        if self._problem:
            raise TableError(self._problem)

    def members(self) -> list[tuple[str, int]]:
        """Return (name, bytes) of every member, in the best order to read them."""
        return sorted((name, int(self.places[row, 1])) for name, row in self.names.items())

    def has(self, name: str) -> bool:
        """Tell whether there is such a member."""
        return name in self.names

    def place(self, name: str) -> int:
        """Return where a member begins: reading in this order is quickest."""
        return int(self.places[self.names[name], 0])

    def read(self, name: str) -> bytes:
        """Return a member's content. Raises one of BROKEN with the reason."""
        raise NotImplementedError

    def _open(self) -> Any:
        return self.path.open("rb")

    def _list(self) -> None:
        raise NotImplementedError

    def _row(self, name: str) -> list[int]:
        if name not in self.names:
            raise OSError(f"{self.path.name} has no such member")
        row = self.places[self.names[name]].tolist()
        if row[1] > MOST_BYTES:
            raise OSError(f"inflates to {row[1] / 2**20:,.0f} MB, beyond {MOST_BYTES // 2**20} MB")
        return row

    def _bytes(self, offset: int, count: int) -> bytes:
        with self._lock:
            self.handle.seek(offset)
            return self.handle.read(count)

    def _keep(self, found: dict[str, tuple[int, ...]]) -> None:
        self.names = {name: row for row, name in enumerate(found)}
        self.places = np.array(list(found.values()), np.int64).reshape(len(found), -1)

    def _clean(self, name: str) -> str | None:
        """Return a member's name with plain "/", or None, counted, where it leads out of the archive or is no text."""
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
        if name[:1] in ("/", "\\") or ".." in parts or not parts or parts[0][1:] == ":":
            self.passed["names that lead out of the archive"] += 1
            return None
        try:
            "/".join(parts).encode()
        except UnicodeEncodeError:
            self.passed["names that are no UTF-8"] += 1
            return None
        return "/".join(parts)


class Zip(Archive):
    """A zip file. A row of `places`: offset of the header, bytes inflated, bytes packed, CRC-32, method, flags."""

    def _list(self) -> None:
        found: dict[str, tuple[int, ...]] = {}
        with zipfile.ZipFile(self.handle) as archive:
            for info in archive.infolist():
                if info.is_dir():
                    continue
                if info.create_system == 3 and (info.external_attr >> 28) not in (0, 8):  # Unix: neither unset nor a file
                    self.passed["links and devices"] += 1
                    continue
                name = self._clean(info.filename)
                if name is None:
                    continue
                if name in found:
                    self.passed["names that stand twice (the last counts)"] += 1
                found[name] = (info.header_offset, info.file_size, info.compress_size, info.CRC, info.compress_type,
                               info.flag_bits)
        self._keep(found)

    def read(self, name: str) -> bytes:
        """Return a member's content, its length and checksum proven. Raises one of BROKEN with the reason."""
        offset, size, packed, crc, method, flags = self._row(name)
        if flags & 1:
            raise OSError("encrypted: unpack it with its password first")
        header = self._bytes(offset, 30) if packed <= MOST_BYTES else b""
        if len(header) < 30 or header[:4] != b"PK\3\4":
            raise OSError(f"{self.path.name} is damaged here: no member begins where its list says")
        skip = sum(struct.unpack("<HH", header[26:30]))
        data = self._bytes(offset + 30 + skip, packed)
        if method == zipfile.ZIP_DEFLATED:
            data = zlib.decompressobj(-15).decompress(data, size + 1)  # never more than was promised
        elif method == zipfile.ZIP_BZIP2:
            data = bz2.BZ2Decompressor().decompress(data, size + 1)
        elif method != zipfile.ZIP_STORED:
            raise OSError(f"packed by method {method}, which is not read (read: stored, deflated, bzip2)")
        if len(data) != size or zlib.crc32(data) != crc:
            raise OSError(f"damaged in {self.path.name}: length or checksum is wrong")
        return data


class Tar(Archive):
    """A tar file, plain or compressed. A row of `places`: offset of the content, bytes.

    A compressed one can only be read from front to end: its members are listed in that order, and reading them in
    another order means beginning anew each time.
    """

    def _open(self) -> Any:
        name = self.path.name.lower()
        openers = {"gz": gzip.open, "bz2": bz2.open, "xz": lzma.open}
        opener = next((opener for ending, opener in openers.items() if name.endswith(ending)), None)
        return _Forward(self.path, opener) if opener else _Plain(self.path)

    def _list(self) -> None:
        found: dict[str, tuple[int, ...]] = {}
        problem = ""
        archive = tarfile.open(fileobj=self.handle, mode="r:")
        try:
            while (info := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # they would pile up
                if info.isdir():
                    continue
                if not info.isreg() or info.issparse():
                    self.passed["links and devices"] += 1
                    continue
                name = self._clean(info.name)
                if name is not None:
                    if name in found:
                        self.passed["names that stand twice (the last counts)"] += 1
                        del found[name]  # in the order of reading
                    found[name] = (info.offset_data, info.size)
            end = self.handle.at(archive.offset, 512)
            problem = "" if not end.strip(b"\0") else "it is damaged"
        except BROKEN as error:
            problem = str(error) or "it is cut short"
        if problem and not found:
            raise OSError(problem)
        if problem:
            self.note = f"{self.path.name} cannot be read to its end ({problem}): only the {len(found):,} files before it count"
        self._keep(found)

    def members(self) -> list[tuple[str, int]]:
        """Return (name, bytes): by name, or in the archive's order where it can only be read so."""
        if isinstance(self.handle, _Forward):
            return [(name, int(self.places[row, 1])) for name, row in self.names.items()]
        return super().members()

    def read(self, name: str) -> bytes:
        """Return a member's content. Raises one of BROKEN with the reason."""
        offset, size = self._row(name)
        with self._lock:
            data = self.handle.at(offset, size)
        if len(data) != size:
            raise OSError(f"{self.path.name} ends before this file does")
        return data


class _Plain:
    """A file that tarfile may read, but not more than MOST_BYTES at once, whatever a header claims."""

    def __init__(self, path: Path) -> None:
        self.file, self.position = path.open("rb"), 0

    def at(self, offset: int, count: int) -> bytes:
        self.file.seek(offset)
        return self.file.read(count)

    def read(self, count: int = -1) -> bytes:
        if not 0 <= count <= MOST_BYTES:
            raise OSError("a header claims more than 256 MB")
        data = self.at(self.position, count)
        self.position += len(data)
        return data

    def seek(self, position: int, whence: int = 0) -> int:
        self.position = position
        return position

    def tell(self) -> int:
        return self.position

    def close(self) -> None:
        self.file.close()


class _Forward(_Plain):
    """A compressed file, read forward; the last WINDOW bytes stay, and what lies before them means beginning anew."""

    def __init__(self, path: Path, opener: Any) -> None:
        self.path, self.opener, self.position = path, opener, 0
        self.most = 200 * path.stat().st_size + 2**30  # images hardly shrink: more than this is a bomb
        self.file: BinaryIO = opener(path, "rb")
        self.pieces: deque[tuple[int, bytes]] = deque()
        self.end, self.begun = 0, 1  # bytes inflated so far; how often it was begun
        self.torn: BaseException | None = None  # what the file broke off with

    def at(self, offset: int, count: int) -> bytes:
        start = self.pieces[0][0] if self.pieces else self.end
        if offset < start:
            self.file.close()
            self.file, self.end, self.torn = self.opener(self.path, "rb"), 0, None
            self.begun += 1
            self.pieces.clear()
        while self.end < offset + count and (piece := self._more()):
            self.pieces.append((self.end, piece))
            self.end += len(piece)
            if self.end > self.most:
                raise OSError("it inflates to more than 200 times its size")
            while self.end - self.pieces[0][0] > WINDOW and self.pieces[0][0] + len(self.pieces[0][1]) <= offset:
                self.pieces.popleft()
        return b"".join(piece[max(0, offset - begin):offset + count - begin] for begin, piece in self.pieces
                        if begin < offset + count and begin + len(piece) > offset)

    def _more(self) -> bytes:
        """Return about the next megabyte; where the file breaks off, first what comes before that."""
        parts: list[bytes] = []
        while self.torn is None and sum(map(len, parts)) < 2**20:
            try:
                part = self.file.read1(2**20)  # type: ignore[attr-defined]
            except BROKEN as error:
                self.torn = error
                break
            if not part:
                break
            parts.append(part)
        if self.torn is not None and not parts:
            raise self.torn
        return b"".join(parts)


class ParquetFile(Archive):
    """A Parquet file with images in a binary column, or in structs with a field `bytes` (Hugging Face's form).

    A member is a row by its number, `0000017`, or `image/0000017` to name the column; unnamed, it is the first that fits.
    """

    _groups: OrderedDict[tuple[str, tuple[int, ...], str, int], pa.ChunkedArray] = OrderedDict()  # shared by all files
    _groups_lock = threading.Lock()

    def _open(self) -> Any:
        try:
            return pq.ParquetFile(self.path)
        except BROKEN as error:
            raise TableError(f"{self.path} cannot be read: {str(error).splitlines()[0]}") from None

    def _list(self) -> None:
        self.schema: pa.Schema = self.handle.schema_arrow
        self.columns = image_columns(self.schema)
        counts = [self.handle.metadata.row_group(i).num_rows for i in range(self.handle.num_row_groups)]
        self.starts = [0, *np.cumsum(counts).tolist()]

    @property
    def rows(self) -> int:
        """How many rows the file has."""
        return self.starts[-1]

    def members(self) -> list[tuple[str, int]]:
        """Return (number of the row, -1): a row's size is known once it is read."""
        return [(row_name(i), -1) for i in range(self.rows)] if self.columns else []

    def has(self, name: str) -> bool:
        """Tell whether there is such a row and column."""
        column, _, row = name.rpartition("/")
        return row.isdigit() and int(row) < self.rows and (column in self.columns if column else bool(self.columns))

    def place(self, name: str) -> int:
        """Return the row."""
        return int(name.rpartition("/")[2])

    def read(self, name: str) -> bytes:
        """Return the image in a row. Raises one of BROKEN with the reason."""
        if not self.has(name):
            raise OSError(f"{self.path.name} has {self.rows:,} rows and the image columns {listed(self.columns) or '(none)'}")
        column, row = name.rpartition("/")[0] or self.columns[0], int(name.rpartition("/")[2])
        group = bisect.bisect_right(self.starts, row) - 1
        value = self._group(column, group)[row - self.starts[group]]
        data = value.as_buffer().to_pybytes() if value.is_valid else b""
        if not data or len(data) > MOST_BYTES:
            raise OSError("the row holds no bytes" if not data else f"larger than {MOST_BYTES // 2**20} MB")
        return data

    def _group(self, column: str, group: int) -> pa.ChunkedArray:
        """Return one row group's images, from the few groups that are kept."""
        key = (str(self.path), self.stamp, column, group)
        with self._lock:  # one thread reads a group, the others wait for it
            with self._groups_lock:
                if key in self._groups:
                    self._groups.move_to_end(key)
                    return self._groups[key]
            kind = self.schema.field(column).type
            nested = pa.types.is_struct(kind)
            values = self.handle.read_row_group(group, columns=[f"{column}.bytes" if nested else column]).column(0)
            values = pc.struct_field(values, "bytes") if nested else values
            with self._groups_lock:
                self._groups[key] = values
                while len(self._groups) > 2 and sum(held.nbytes for held in self._groups.values()) > GROUPS:
                    self._groups.popitem(last=False)
            return values


def image_columns(schema: pa.Schema) -> list[str]:
    """Return the columns that can hold image files: structs with a binary field `bytes`, then plain binary columns."""
    def binary(kind: pa.DataType) -> bool:
        return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)

    nested = [field.name for field in schema if pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0
              and binary(field.type.field("bytes").type)]
    return nested + [field.name for field in schema if binary(field.type)]


def row_name(row: int) -> str:
    """Return the name of a row as a member: seven digits or more, so that names sort as rows do."""
    return f"{row:07}"
