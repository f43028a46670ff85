"""What formats declare of themselves: complete, consistent, cheap to ask for, and what the manual says."""

import inspect
import pkgutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import get_type_hints

import pytest

from ppl_models.data import Later, formats, known_formats, read, readers, reading_options
from ppl_models.data.options import FormatOptions
from ppl_models.data.readers import format_options, reader_of, reader_of_text
from ppl_models.data.readers.base import Option, Reader

ROOT = Path(__file__).resolve().parents[3]


def row(reader):
    """The line of a format in the table of docs/data.md."""
    names = ", ".join(f"`{suffix}`" for suffix in reader.suffixes)
    names += " inside" if reader.folder else ""
    names += ", also with `.gz`" if reader.packed else ""
    needs = f"`pip install 'ppl_models[{reader.extra}]'`" if reader.extra else ""
    return f"| {reader.description} | {names} | {needs} |".replace("|  |", "| |")


def test_the_manual_has_the_table_of_formats():
    lines = (ROOT / "docs" / "data.md").read_text(encoding="utf-8").splitlines()
    at = lines.index("| format | names of files | needs |")
    table = lines[at + 2 : lines.index("", at)]
    assert table == [row(reader) for reader in formats()]


def test_every_module_is_a_format():
    modules = {each.name for each in pkgutil.iter_modules(readers.__path__)} - {"base"}
    assert len(formats()) == len(modules) > 8
    for name in modules:
        assert isinstance(import_module(f"ppl_models.data.readers.{name}").READER, Reader), name


def test_formats_can_be_told_apart():
    tables = [reader for reader in formats() if not reader.whole]  # a .txt is a text where one is wanted
    suffixes = [suffix for reader in tables for suffix in reader.suffixes]
    assert len({*suffixes}) == len(suffixes)
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in suffixes)
    assert len({reader.name for reader in formats()}) == len(formats())
    starts = [start for reader in formats() for start in reader.starts]
    assert len({*starts}) == len(starts)
    assert [reader.name for reader in formats() if reader.folder] == ["PNG folder"]


def test_an_option_of_several_formats_is_the_same_one():
    declared = {option for reader in formats() for option in reader.options}
    assert len({option.name for option in declared}) == len(declared)
    assert {*format_options()} == declared


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.csv", "CSV and TSV"),
        ("a.b.TSV.GZ", "CSV and TSV"),
        ("a.jsonl", "JSON"),
        ("train.idx3-ubyte.gz", "IDX"),
        ("a.XLS", "Excel"),
        ("a.ddb", "DuckDB"),
        ("a.parquet.gz", None),
        ("a.png", None),
        ("csv", None),
        ("a.gz", None),
    ],
)
def test_a_format_is_known_by_its_name(name, expected):
    reader = reader_of(Path(name))
    assert (None if reader is None else reader.name) == expected


def test_standard_input_is_known_by_how_it_begins():
    found = {start: reader_of_text(start).name for start in (b'{"a"', b"[1", b"a,b", b"", b"PAR1")}
    assert found == {b'{"a"': "JSON", b"[1": "JSON"} | dict.fromkeys((b"a,b", b"", b"PAR1"), "CSV and TSV")


def test_the_sentence_names_every_format():
    assert all(reader.name in known_formats() for reader in formats())
    assert known_formats().endswith("also .gz of CSV and TSV, IDX, JSON, Text")


def test_the_extras_exist():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for reader in formats():
        assert (reader.extra is None) == (reader.module is None)
        assert reader.extra is None or f"\n{reader.extra} = [" in project


def test_options_are_the_parameters_of_read():
    parameters = inspect.signature(read).parameters
    own = {name for name, each in parameters.items() if each.kind is each.KEYWORD_ONLY}
    listed = [option.name for option in reading_options()]
    assert len({*listed}) == len(listed)
    for_programs = {"lengths", "schema", "require_schema_columns", "refine"}
    for_programs |= {"as_bytes"}  # a field of the model says what is text
    assert {*listed} == (own - for_programs) | {*get_type_hints(FormatOptions)}
    for option in reading_options():
        assert isinstance(option, Option)
        assert option.help.endswith(".")
        assert option.help[:1].isupper()
    documented = inspect.getdoc(read)
    assert all(f"    {name}: " in documented or f"`{name}`" in documented for name in listed)


def test_types_for_checkers_are_those_that_readers_declare():
    strict = {option.name for option in format_options() if option.strict}
    assert {*get_type_hints(FormatOptions)} == strict
    later = {option.name for option in reading_options("later")}
    assert {*get_type_hints(Later)} == later | {"lengths", "sequence", "time"}
    cells = {"delimiter", "decimal", "encoding", "missing", "na_values", "unseen"}
    assert later == cells | {"keep", "date_format", "sort", "long"} | strict
    assert "target" in {option.name for option in reading_options("fit")} - later
    assert "unseen" not in {option.name for option in reading_options("fit")}


def test_a_format_is_one_file(tmp_path, monkeypatch):
    """A module in the package, with an option of its own, is all it takes."""
    (tmp_path / "pairs.py").write_text(
        "from ppl_models.data.readers.base import Option, Reader\n"
        "from ppl_models.data.table import Table\n"
        "def _read(file, request):\n"
        "    import numpy as np\n"
        "    cells = [line.split('=') for line in file.content().decode().split()]\n"
        "    factor = float(request.options['factor'])\n"
        "    return Table(file.name, {k: np.array([factor * float(v)]) for k, v in cells}, 1)\n"
        "READER = Reader(name='Pairs', description='pairs', suffixes=('.pairs',), read=_read, packed=True,\n"
        "    options=(Option(name='factor', help='A factor.', metavar='X', default='1'),))\n"
    )
    (tmp_path / "a.pairs").write_text("a=1.5\nb=2.5\n")
    monkeypatch.setattr(readers, "__path__", [*readers.__path__, str(tmp_path)])
    formats.cache_clear()
    try:
        assert read(tmp_path / "a.pairs").values.tolist() == [[1.5, 2.5]]
        assert read(tmp_path / "a.pairs", factor=2).values.tolist() == [[3, 5]]
        assert "Pairs" in known_formats()
        assert "factor" in [option.name for option in reading_options("later")]
    finally:
        formats.cache_clear()
        sys.modules.pop("ppl_models.data.readers.pairs", None)


def test_to_list_options_costs_nothing():
    code = (
        "import sys\nfrom ppl_models.data import known_formats, reading_options\n"
        "known_formats(), reading_options()\nprint(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "pyarrow", "PIL", "duckdb", "python_calamine", "narwhals"} & {*done.stdout.split()}
