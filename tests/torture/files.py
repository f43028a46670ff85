"""Sound files of every format, and damage to them that gets past the first check of a format.

Bytes that are changed anywhere mostly spoil what is packed or has a checksum, so that the parser behind is
never reached. Archives are therefore damaged inside and packed again, chunks of PNG get a checksum that fits.
"""

import gzip
import io
import json
import random
import re
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

ROWS = 40
TEXTS = [
    b'"', b",", b"\n", b"\r", b"\r\n", b"\x00", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"\xed\xa0\x80",
    b"\t", b";", b"\\", b"{", b"}", b"[", b"]", b":", b"null", b"true", b"NaN", b"Infinity", b"-inf",
    b"1e999", b"-0", b"1e-400", b"9" * 400, b"99999999999999999999", b"9223372036854775808", b"0x1F",
    b"1_000", b"1,5", b"12:00", b"2024-02-30", b"0000-00-00", b"99999-01-01", b"=1+1", b"\x1b[2J",
    "é".encode(), "\u202e".encode(), "\U0001f600".encode(), b'\\ud800', b"{}", b"[]", b'{"a": {"b": 1}}',
    b'""', b"''", b"# ", b"sep=;\n", b"  ", b"\x0b", b"\x1a", b"[" * 3000, b'{"a":' * 3000, b"a" * 70_000,
]  # fmt: skip
"""What is put into text."""

CELLS = [
    b"null", b"true", b"false", b"0", b"-0.0", b"1.5", b"1e308", b"-1e308", b"1e999", b"1e-320",
    b"9223372036854775808", b"9" * 60, b"9" * 5000, b'""', b'" "', b'"NA"', b'"nan"', b'"inf"', b'"1,5"',
    b'"\\u0000"', b'"\\ud800"', b'"\\u001b[2J"', b"NaN", b"Infinity", b"[]", b"{}", b"[1]", b'{"a":1}',
    b"[" * 500 + b"]" * 500, b'"2024-01-01"', b'"' + b"w" * 5000 + b'"',
]  # fmt: skip
"""Cells of JSON."""

NUMBERS = [
    0,
    1,
    2,
    127,
    128,
    255,
    256,
    32767,
    65535,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63 - 1,
    2**63,
    2**64 - 1,
]
"""What is put in place of sizes and offsets."""


def frame(rows: int = ROWS) -> pd.DataFrame:
    """A column of every kind."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "x": rng.normal(size=rows).round(4),
            "gaps": np.where(rng.random(rows) < 0.2, np.nan, rng.normal(size=rows).round(3)),
            "count": rng.poisson(4, rows),
            "truth": rng.random(rows) < 0.4,
            "word": rng.choice(["red", 'green, "dark"', "blué", "a\nb"], rows),
            "day": pd.date_range("2024-01-31", periods=rows).strftime("%Y-%m-%d"),
        }
    )


@cache
def sound(suffix: str) -> tuple[bytes, ...]:
    """Sound files with a suffix: several, as libraries write them with several options."""
    return tuple(_SOUND[suffix](frame()))


def _written(write: Callable[[Path], object]) -> bytes:
    with tempfile.TemporaryDirectory() as place:
        write(Path(place) / "a")
        return (Path(place) / "a").read_bytes()


def _delimited(sep: str, packed: bool = False) -> Callable[[pd.DataFrame], Iterator[bytes]]:
    def made(table: pd.DataFrame) -> Iterator[bytes]:
        for text in (
            table.to_csv(index=False, sep=sep),
            table.drop(columns="word").to_csv(index=False, sep=sep),
            table[["x"]].to_csv(index=False),
            table.to_csv(index=False, sep=";", decimal=","),
        ):
            yield gzip.compress(text.encode(), 1) if packed else text.encode()

    return made


def _json_lines(table: pd.DataFrame) -> Iterator[bytes]:
    yield table.to_json(orient="records", lines=True).encode()
    yield table[["x", "gaps", "truth"]].to_json(orient="records", lines=True).encode()


def _json(table: pd.DataFrame) -> Iterator[bytes]:
    yield table.to_json(orient="records").encode()
    yield json.dumps({name: table[name].astype(object).tolist() for name in table}, default=str).encode()


def _parquet(table: pd.DataFrame) -> Iterator[bytes]:
    typed = table.assign(day=pd.to_datetime(table["day"]), word=table["word"].astype("category"))
    for each, options in ((table, {}), (typed, {"compression": "zstd"}), (table, {"compression": None})):
        yield _written(lambda path, t=each, o=options: t.to_parquet(path, **o))
    yield _written(lambda path: table[["x", "count"]].to_parquet(path, compression=None, row_group_size=7))


def _arrow(table: pd.DataFrame) -> Iterator[bytes]:
    import pyarrow as pa

    typed = pa.Table.from_pandas(
        table.assign(day=pd.to_datetime(table["day"]), word=table["word"].astype("category"))
    )
    for compression in (None, "lz4"):
        out = io.BytesIO()
        options = pa.ipc.IpcWriteOptions(compression=compression)
        with pa.ipc.new_file(out, typed.schema, options=options) as file:
            file.write_table(typed, max_chunksize=13)
        yield out.getvalue()
    out = io.BytesIO()
    with pa.ipc.new_stream(out, typed.schema) as stream:
        stream.write_table(typed)
    yield out.getvalue()


def _npy(table: pd.DataFrame) -> Iterator[bytes]:
    x = table[["x", "gaps", "count"]].to_numpy()
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 5)).astype(np.uint8)
    record = np.zeros(5, [("a", "f8"), ("b", "i4")])
    for array in (x, np.asfortranarray(x), x[:, 0], images, x.astype(">f4"), record):
        out = io.BytesIO()
        np.save(out, array)
        yield out.getvalue()


def _npz(table: pd.DataFrame) -> Iterator[bytes]:
    x = table[["x", "gaps", "count"]].to_numpy()
    for save in (np.savez, np.savez_compressed):
        for arrays in ({"X": x, "y": x[:, 2]}, {"X": x, "lengths": np.array([10, 30])}):
            out = io.BytesIO()
            save(out, **arrays)
            yield out.getvalue()


def idx(array: np.ndarray) -> bytes:
    """An IDX file of bytes."""
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def _idx(table: pd.DataFrame) -> Iterator[bytes]:
    rng = np.random.default_rng(0)
    for shape in ((6, 4, 5), (7, 3), (9,)):
        yield idx(rng.integers(0, 256, shape).astype(np.uint8))


def _png(table: pd.DataFrame) -> Iterator[bytes]:
    from PIL import Image

    rng = np.random.default_rng(0)
    grey = Image.fromarray(rng.integers(0, 256, (6, 5)).astype(np.uint8))
    colour = Image.fromarray(rng.integers(0, 256, (6, 5, 4)).astype(np.uint8))
    deep = Image.fromarray(rng.integers(0, 65536, (6, 5)).astype(np.uint16))
    for image in (
        grey,
        colour,
        colour.convert("RGB"),
        colour.convert("RGB").convert("P"),
        deep,
        grey.convert("1"),
    ):
        yield _written(lambda path, i=image: i.save(path, "PNG"))


def _xlsx(table: pd.DataFrame) -> Iterator[bytes]:
    typed = table.assign(day=pd.to_datetime(table["day"]))
    yield _written(lambda path: typed.to_excel(path, index=False, engine="openpyxl"))
    yield _written(lambda path: table[["x"]].to_excel(path, index=False, engine="openpyxl"))


def _xls(table: pd.DataFrame) -> Iterator[bytes]:
    import xlwt

    book = xlwt.Workbook()
    sheet = book.add_sheet("S")
    for j, name in enumerate(table):
        for i, cell in enumerate([name, *table[name]]):
            if cell == cell:
                sheet.write(i, j, cell.item() if hasattr(cell, "item") else cell)
    yield _written(lambda path: book.save(str(path)))


def _duckdb(table: pd.DataFrame) -> Iterator[bytes]:
    import duckdb
    import pyarrow as pa

    def write(path: Path) -> None:
        with duckdb.connect(str(path)) as connection:
            connection.register("frame", pa.Table.from_pandas(table))
            connection.execute("create table t as from frame")

    yield _written(write)


_SOUND: dict[str, Callable[[pd.DataFrame], Iterator[bytes]]] = {
    ".csv": _delimited(","),
    ".tsv": _delimited("\t"),
    ".csv.gz": _delimited(",", packed=True),
    ".jsonl": _json_lines,
    ".json": _json,
    ".parquet": _parquet,
    ".arrow": _arrow,
    ".npy": _npy,
    ".npz": _npz,
    ".idx": _idx,
    ".png": _png,
    ".xlsx": _xlsx,
    ".xls": _xls,
    ".duckdb": _duckdb,
}

TEXT = (".csv", ".tsv", ".csv.gz", ".jsonl", ".json")


def damaged(suffix: str, number: int) -> bytes:
    """The damaged file of a number: the same each time."""
    rng = random.Random(f"{suffix} {number}")
    content = rng.choice(sound(suffix))
    if suffix == ".csv.gz" and number % 3:
        return gzip.compress(_spoilt_text(gzip.decompress(content), rng), 1)
    if suffix in (".xlsx", ".npz") and number % 3:
        return _repacked(content, rng, text=suffix == ".xlsx")
    if suffix == ".png" and number % 3:
        return _rechunked(content, rng)
    if suffix in (".json", ".jsonl") and number % 3:
        return _respelt(content, rng)
    if suffix in TEXT and suffix != ".csv.gz":
        return _spoilt_text(content, rng)
    return _spoilt(content, rng)


def _spoilt_text(content: bytes, rng: random.Random) -> bytes:
    bad = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5))):
        way, at = rng.randrange(8), rng.randrange(len(bad) + 1)
        if way < 3:
            bad[at:at] = rng.choice(TEXTS)
        elif way == 3:
            bad[at : at + rng.randrange(1, 12)] = rng.choice(TEXTS)
        elif way == 4:
            del bad[at : at + rng.choice((1, 10, 200))]
        elif way == 5:
            lines = bytes(bad).split(b"\n")
            line = rng.randrange(len(lines))
            lines[line:line] = [lines[rng.randrange(len(lines))]] * rng.choice((1, 3))
            bad = bytearray(b"\n".join(lines))
        elif way == 6 and bad:
            bad[at % len(bad)] ^= 1 << rng.randrange(8)
        else:
            bad = bad[:at]
    return bytes(bad)


def _respelt(content: bytes, rng: random.Random) -> bytes:
    """JSON that is still JSON, with other values, keys and rows."""
    bad = content
    for _ in range(rng.choice((1, 1, 2, 4))):
        cells = [*re.finditer(rb'(?<=[:\[,])\s*("[^"]*"|-?[\d.]+|null|true|false)(?=[,}\]])', bad)]
        if not cells:
            break
        cell = rng.choice(cells)
        bad = bad[: cell.start()] + rng.choice(CELLS) + bad[cell.end() :]
        if rng.random() < 0.2:
            bad = bad.replace(
                b'"x":',
                rng.choice((b'"":', b'" x":', b'"count":', b'"\\u0000":', b'"X":')),
                rng.choice((1, -1)),
            )
    return bad


def _spoilt(content: bytes, rng: random.Random) -> bytes:
    """Bytes changed anywhere, mostly at the ends, where headers and footers are."""
    bad = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        if not bad:
            break
        end = rng.choice((len(bad), len(bad), min(len(bad), 200)))
        at = rng.randrange(end) if rng.random() < 0.6 else len(bad) - 1 - rng.randrange(end)
        way = rng.randrange(6)
        if way < 2:
            bad[at] ^= 1 << rng.randrange(8)
        elif way == 2:
            bad[at] = rng.randrange(256)
        elif way == 3:
            size = rng.choice((1, 2, 4, 8))
            order = rng.choice(("little", "big"))
            bad[at : at + size] = (rng.choice(NUMBERS) % 256**size).to_bytes(size, order)
        elif way == 4:
            start = rng.randrange(len(bad))
            bad[at : at + 16] = bad[start : start + 16]
        elif rng.random() < 0.5:
            bad = bad[: rng.randrange(len(bad) + 1)]
        else:
            del bad[at : at + rng.randrange(1, 9)]
    return bytes(bad)


def _repacked(content: bytes, rng: random.Random, text: bool) -> bytes:
    """An archive of damaged parts."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as new:
        names = old.namelist()
        spoil = {rng.choice(names) for _ in range(rng.choice((1, 2)))}
        for name in names:
            part = old.read(name)
            if name in spoil:
                if rng.random() < 0.1:
                    continue
                part = _spoilt_xml(part, rng) if text and rng.random() < 0.7 else _spoilt(part, rng)
            new.writestr(name, part)
    return made.getvalue()


def _spoilt_xml(part: bytes, rng: random.Random) -> bytes:
    """Values of attributes and texts of elements in place of one another, or at their extremes."""
    values = [
        b"0",
        b"-1",
        b"99999999999",
        b"A0",
        b"XFE1048577",
        b"1e308",
        b"NaN",
        b"",
        b"s",
        b"&#0;",
        b"&lol;",
        b"9" * 50,
    ]
    bad = bytearray(part)
    for _ in range(rng.choice((1, 2, 5))):
        places = [i for i, c in enumerate(bad) if c in b'">']
        if not places:
            break
        start = rng.choice(places) + 1
        stop = next((i for i in range(start, len(bad)) if bad[i] in b'"<'), len(bad))
        bad[start:stop] = rng.choice(values)
    return bytes(bad)


def _rechunked(content: bytes, rng: random.Random) -> bytes:
    """A PNG image of which a chunk is damaged, left out or repeated, with a checksum that fits."""
    chunks, at = [], 8
    while at + 12 <= len(content):
        (size,) = struct.unpack(">I", content[at : at + 4])
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + size]))
        at += 12 + size
    i = rng.randrange(len(chunks))
    way, (kind, body) = rng.randrange(5), chunks[i]
    if way == 0:
        del chunks[i]
    elif way == 1:
        chunks.insert(rng.randrange(len(chunks)), chunks[i])
    elif way == 2 and kind == b"IDAT":
        chunks[i] = kind, zlib.compress(_spoilt(zlib.decompress(body), rng))
    else:
        chunks[i] = kind, _spoilt(body, rng)
    made = content[:8]
    for kind, body in chunks:
        made += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return made
