"""Text larger than memory is read as small text is, block after block; what differs later on is told."""

import gc
import gzip
import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ppl_models.data import read, spill, streaming
from ppl_models.errors import DataError

N = 500


def table():
    rng = np.random.default_rng(0)
    found = pd.DataFrame(
        {
            "x": rng.normal(size=N).round(4),
            "gaps": np.where(rng.random(N) < 0.2, np.nan, rng.normal(size=N).round(3)),
            "count": rng.poisson(4, N),
            "word": rng.choice(["red", "green, dark", "blue"], N),
            "truth": rng.random(N) < 0.4,
        }
    )
    found["late"] = [0] * (N - 20) + [0.5] * 20
    found["empty_first"] = [np.nan] * (N - 30) + [1.5] * 30
    return found


@pytest.fixture
def small(monkeypatch):
    """Every file is larger than what is read as a whole, in blocks of some lines."""
    monkeypatch.setattr(streaming, "STREAMED", 0)
    monkeypatch.setattr(streaming, "HEAD", 2_000)
    monkeypatch.setattr(streaming, "BLOCK", 1_500)
    monkeypatch.setattr(streaming, "LINES", 37)
    monkeypatch.setattr(spill, "SPILL_BYTES", 0)


def whole(path, **options):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming, "STREAMED", 1 << 60)
        patch.setattr(streaming, "HELD", 0)
        return read(path, **options)


def check_same(one, other):
    np.testing.assert_array_equal(one.values, other.values)
    for a, b in zip(one.schema.columns, other.schema.columns, strict=True):
        mine, theirs = ((c.name, c.kind, c.levels, c.integer, c.missing, c.dtype) for c in (a, b))
        assert mine == theirs
        assert (a.mean, a.sd) == pytest.approx((b.mean, b.sd), nan_ok=True)
    assert one.path == other.path


def write(path, frame):
    if ".json" in path.name:
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_csv(path, index=False, sep="\t" if ".tsv" in path.name else ",")
    return path


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.tsv", "t.jsonl", "t.jsonl.gz"])
def test_a_stream_is_read_as_the_whole_is(name, tmp_path, small):
    path = write(tmp_path / name, table())
    found = read(path)
    check_same(found, whole(path))
    assert spill.lies_on_disk(found.values)
    check_same(read(path, target="word", ignore=["late"]), whole(path, target="word", ignore=["late"]))
    check_same(read(path, schema=found.schema), whole(path, schema=found.schema))


def test_cells_of_several_lines_are_read_as_in_memory(tmp_path, small):
    """Wherever the beginning of the file, or a block of it, is cut off."""
    said = [f'first {i % 7}\nthen, "{i % 5}" words' if i % 3 == 0 else "one line" for i in range(N)]
    path = write(tmp_path / "t.csv", pd.DataFrame({"said": said, "x": np.arange(N) / 7}))
    found = read(path, columns="said,x", types={"said": "categorical"})
    check_same(found, whole(path, columns="said,x", types={"said": "categorical"}))
    assert spill.lies_on_disk(found.values)
    bag = read(path, text="said")
    np.testing.assert_array_equal(np.asarray(bag.values), whole(path, text="said").values)
    assert "said[words]" in bag.names
    with path.open("a") as file:
        file.write("one line,many\n")
    with pytest.raises(DataError, match=rf"row {N + 1:,}.*'many' is not a number"):
        read(path, columns="x")


def test_the_file_is_never_read_as_a_whole(tmp_path, small, monkeypatch):
    path = write(tmp_path / "t.csv", table())
    monkeypatch.setattr("ppl_models.data.loading.read_bytes", lambda path: 1 / 0)
    assert read(path).rows == N


def test_marks_of_missing_cells(tmp_path, small):
    lines = ["a,b"] + [f"{i},{'?' if i % 7 == 0 else i % 5}" for i in range(400)] + ["-1,1", "NA,2"]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    check_same(read(tmp_path / "t.csv", missing="-1"), whole(tmp_path / "t.csv", missing="-1"))


def test_words_after_numbers_are_refused_with_their_row(tmp_path, small):
    frame = table().astype({"x": object})
    frame.loc[450, "x"] = "broken"
    path = write(tmp_path / "t.csv", frame)
    with pytest.raises(DataError, match=r"row 451, column 'x': 'broken' is not a number.*--missing 'broken'"):
        read(path)
    assert np.isnan(read(path, missing="broken").column("x")[450])
    assert read(path, types={"x": "categorical"}, ignore=["word"]).rows == N


@pytest.mark.parametrize(
    ("name", "line", "said"),
    [
        ("t.csv", "1,2,3", "cannot be read as delimited text .*Expected 2 columns, got 3"),
        ("t.jsonl", "null", "line 301: is not an object"),
        ("t.jsonl", "{", "line 301: is not JSON"),
        ("t.jsonl", '{"a":[1]}', "line 301, column 'a': a cell that is itself a list"),
    ],
)
def test_a_line_that_is_wrong_is_told(name, line, said, tmp_path, small):
    rows = [json.dumps({"a": i, "b": i}) if "json" in name else f"{i},{i}" for i in range(300)]
    head = [] if "json" in name else ["a,b"]
    (tmp_path / name).write_text("\n".join([*head, *rows, line]) + "\n")
    with pytest.raises(DataError, match=said):
        read(tmp_path / name)


def test_what_json_can_spell_and_no_file_can_hold(tmp_path, small):
    """Half of a character, as in a text that was cut off, and a whole number beyond float64."""
    path = tmp_path / "t.jsonl"
    path.write_text('{"x": "a\\ud800", "y": 1.5}\n{"x": "b", "y": 2.5}\n')
    check_same(read(path), whole(path))
    path.write_text('{"x\\ud800": 1.5}\n{"x\\ud800": 2.5}\n')
    for reading in (read, whole):
        with pytest.raises(DataError, match=r"half a character in 'x\\ud800'"):
            reading(path)
    path.write_text(f'{{"y": 1.5}}\n{{"y": {"9" * 400}}}\n')
    with pytest.raises(DataError, match="infinite"):
        read(path)


def test_a_packed_file_that_is_cut_off(tmp_path, small):
    rng = np.random.default_rng(0)
    packed = gzip.compress(pd.DataFrame(rng.normal(size=(900, 3))).to_csv(index=False).encode())
    (tmp_path / "t.csv.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(DataError, match="cannot be read as"):
        read(tmp_path / "t.csv.gz")


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".jsonl"])
@pytest.mark.parametrize("large", [False, True])
def test_several_files_are_one_table(ending, large, tmp_path, monkeypatch):
    frame = table().drop(columns="empty_first")
    for i, part in enumerate(np.array_split(np.arange(N), 3)):
        some = frame.iloc[part]
        path = tmp_path / f"part-{i}{ending}"
        some.to_parquet(path) if ending == ".parquet" else write(path, some)
    one = read(frame.astype({"late": float}))
    if large:
        monkeypatch.setattr("ppl_models.data.loading.STREAMED", 0)
    for name in (str(tmp_path / "part-*"), f"file://{tmp_path}/part-*{ending}"):
        found = read(name)
        assert found.names == one.names
        np.testing.assert_array_equal(found.values, one.values)
        assert [c.kind for c in found.schema.columns] == [c.kind for c in one.schema.columns]
        assert read(name, schema=found.schema).rows == N


def test_files_that_do_not_go_together(tmp_path):
    (tmp_path / "1.csv").write_text("a,b\n1,2\n3,4\n")
    (tmp_path / "2.csv").write_text("a,c\n1,2\n3,4\n")
    (tmp_path / "3.csv").write_text("a,b\n1,x\n3,y\n")
    with pytest.raises(DataError, match=r"2.csv: its columns are not those of .*1.csv: .*'b', 'c'"):
        read(tmp_path / "[12].csv")
    with pytest.raises(DataError, match=r"3.csv, column 'b': string cells, and int64 ones"):
        read(tmp_path / "[13].csv")
    with pytest.raises(DataError, match="no file matches"):
        read(tmp_path / "*.parquet")
    with pytest.raises(DataError, match=r"cannot be read|no file matches"):
        read(f"file://{tmp_path}/nothing/*.csv")


def test_an_error_in_one_of_several_files_says_which(tmp_path):
    (tmp_path / "1.csv").write_text("a,b\n" + "1,2\n" * 9)
    (tmp_path / "2.csv").write_text("a,b\n1,2\n1,inf\n")
    with pytest.raises(DataError, match=r"2.csv, line 3"):
        read(tmp_path / "*.csv")


@pytest.mark.parametrize("large", [False, True])
def test_a_file_that_is_elsewhere_is_fetched(large, tmp_path, monkeypatch):
    from pyarrow import fs

    write(tmp_path / "t.csv", table())
    write(tmp_path / "u.csv", table())
    (tmp_path / "fetched").mkdir()
    there = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    system = SimpleNamespace(from_uri=lambda uri: (there, uri.partition("://")[2].removeprefix("here/")))
    monkeypatch.setattr(fs, "FileSystem", system)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "fetched"))
    if large:
        monkeypatch.setattr(streaming, "STREAMED", 0)
        monkeypatch.setattr("ppl_models.data.loading.STREAMED", 0)
    one = read(tmp_path / "t.csv").values
    np.testing.assert_array_equal(read("s3://here/t.csv").values, one)
    gc.collect()
    assert not [*(tmp_path / "fetched").iterdir()]


@pytest.mark.slow
def test_the_memory_of_reading_does_not_grow_with_the_file(tmp_path):
    rows = 6_000_000
    path = tmp_path / "large.csv"
    rng = np.random.default_rng(0)
    with path.open("w") as file:
        file.write("a,b,c,d,e,f\n")
        for _ in range(rows // 100_000):
            np.savetxt(file, rng.normal(size=(100_000, 6)), fmt="%.5f", delimiter=",")
    assert path.stat().st_size > 250e6
    code = f"""
import resource
import ppl_models as ppl
import numpy as np
ppl.read({{"x": np.arange(10.0)}})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
data = ppl.read({str(path)!r})
print(data.rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found, kilobytes = map(int, done.stdout.split())
    assert found == rows
    assert kilobytes < 300_000
