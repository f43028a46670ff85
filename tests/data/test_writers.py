"""Results are written whole, safely, or not at all."""

import io
import json
import os
import stat
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from ppl_models.data import write_table
from ppl_models.data.writers import check_destination
from ppl_models.errors import OutputError, UsageError

FRAME = pd.DataFrame(
    {"x": [-1.5, 2.0], "k": ["=1+1", "plain"], "@name": ["-2", "-2+3"], "n": [-3, 4], "mixed": [-1, "+a"]}
)


def test_text_that_would_be_a_formula(tmp_path):
    write_table(FRAME, tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == (
        "x,k,'@name,n,mixed\n-1.5,'=1+1,-2,-3,-1\n2.0,plain,'-2+3,4,'+a\n"
    )
    categories = pd.DataFrame({"k": pd.Categorical(["=a", "\tx", "b"])})
    write_table(categories, tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == "k\n'=a\n'\tx\nb\n"


def test_json_lines_and_parquet(tmp_path):
    frame = pd.DataFrame({"x": [-1.5, np.nan], "k": ["=1", None]})
    write_table(frame, tmp_path / "a.jsonl")
    lines = (tmp_path / "a.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"x": -1.5, "k": "=1"}, {"x": None, "k": None}]
    write_table(frame, tmp_path / "a.txt", json=True)
    assert (tmp_path / "a.txt").read_text().splitlines() == lines
    write_table(frame, tmp_path / "a.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "a.parquet"), frame)


@pytest.mark.parametrize("json", [False, True])
def test_standard_output(json, capsys):
    write_table(FRAME[["n"]], "-", json=json)
    assert capsys.readouterr().out == ('{"n":-3}\n{"n":4}\n' if json else "n\n-3\n4\n")


def test_a_file_is_replaced_only_by_a_whole_one(tmp_path, monkeypatch):
    path = tmp_path / "a.csv"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", _no_space)
    with pytest.raises(OutputError, match="No space left") as caught:
        write_table(FRAME, path)
    assert caught.value.exit_code == 73
    assert "\n" not in str(caught.value)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.csv"]


def _no_space(_):
    raise OSError(28, "No space left on device")


def test_where_nothing_can_be_written(tmp_path):
    with pytest.raises(OutputError, match="there is no directory"):
        write_table(FRAME, tmp_path / "none" / "a.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(OutputError):
        write_table(FRAME, tmp_path / "folder.csv")
    assert os.listdir(tmp_path) == ["folder.csv"]


def test_permissions_are_kept(tmp_path):
    path = tmp_path / "a.csv"
    write_table(FRAME, path)
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
    path.chmod(0o640)
    write_table(FRAME, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "b.csv").write_text("old")
    (tmp_path / "a.csv").symlink_to(tmp_path / "b.csv")
    write_table(FRAME[["n"]], tmp_path / "a.csv")
    assert (tmp_path / "a.csv").is_symlink()
    assert (tmp_path / "b.csv").read_text() == "n\n-3\n4\n"


def test_a_limit_on_the_size_of_files(tmp_path):
    code = (
        "import resource, signal, sys, numpy, pandas\n"
        "from ppl_models.data import write_table\n"
        "from ppl_models.errors import OutputError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "for name in ('a.csv', 'a.jsonl', 'a.parquet'):\n"
        "    frame = pandas.DataFrame({'x': numpy.arange(9999) ** 0.5})\n"
        "    try:\n        write_table(frame, sys.argv[1] + name)\n"
        "    except OutputError as error:\n        print(error)\n"
    )
    command = [sys.executable, "-B", "-c", code, f"{tmp_path}/"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert out.count("File too large") == 3
    assert os.listdir(tmp_path) == []


def test_a_closed_pipe_is_for_the_caller_to_see(monkeypatch):
    class Closed(io.StringIO):
        def write(self, _):
            raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(sys, "stdout", Closed())
    with pytest.raises(BrokenPipeError):
        write_table(FRAME, "-")


def test_importing_is_light():
    heavy = {"torch", "pandas", "pyarrow", "narwhals", "pyro", "scipy"}
    code = f"import sys, ppl_models.data; print({heavy} & {{*sys.modules}})"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "set()"


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_rows_that_follow_one_another(name, tmp_path, monkeypatch):
    """As one table, and each written before the next is made."""
    monkeypatch.setattr("ppl_models.data.writers.ROWS", 3)
    frame = pd.DataFrame({"x": np.arange(8.0), "k": [None, None, None, None, "=a", "b", "c", "d"]})
    write_table(frame, tmp_path / f"whole-{name}")
    asked = []

    def parts():
        for lo in (0, 4):
            asked.append(lo)
            yield frame.iloc[lo : lo + 4]

    write_table(parts(), tmp_path / name)
    assert asked == [0, 4]
    if name == "a.parquet":
        pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / name), frame)
    else:
        assert (tmp_path / name).read_bytes() == (tmp_path / f"whole-{name}").read_bytes()


def test_parts_of_a_parquet_file_may_need_wider_types(tmp_path):
    first = pd.DataFrame({"n": [1, 2], "y": ["a", "b"]})
    parts = [first, pd.DataFrame({"n": [0.5, np.nan], "y": ["c", None]})]
    write_table(iter(parts), tmp_path / "a.parquet")
    found = pd.read_parquet(tmp_path / "a.parquet")
    assert found["n"].tolist()[:3] == [1.0, 2.0, 0.5]
    assert found["y"].tolist()[:3] == ["a", "b", "c"]


def test_an_empty_table_has_its_header(tmp_path):
    for name in ("a.csv", "a.parquet"):
        write_table(pd.DataFrame({"x": []}), tmp_path / name)
    assert (tmp_path / "a.csv").read_text() == "x\n"
    assert list(pd.read_parquet(tmp_path / "a.parquet").columns) == ["x"]


def test_where_nothing_can_be_written_is_said_before_anything_is_computed(tmp_path):
    with pytest.raises(OutputError, match="there is no directory .*nowhere"):
        check_destination(tmp_path / "nowhere" / "a.csv")
    with pytest.raises(UsageError, match="file:///tmp/a.csv: tables are written to local files"):
        check_destination("file:///tmp/a.csv")
    assert check_destination("a.csv.gz") == (".csv", True)
