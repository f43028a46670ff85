"""Workbooks made by two other libraries, read as the same table in CSV would be."""

import datetime as dt
import io
import sys
import zipfile

import numpy as np
import openpyxl
import pandas as pd
import pytest

from ppl_models.data import read
from ppl_models.data.readers import excel
from ppl_models.errors import DataError, UsageError

xlwt = pytest.importorskip("xlwt", reason="nothing else writes .xls")

DAY = dt.datetime(2024, 1, 31)
ROWS = [
    ["x", "k", "b", "c", "mixed", "day", "clock", "when"],
    [1.5, 0, True, "u", 2, DAY, dt.time(9, 30), DAY + dt.timedelta(hours=3)],
    [None, 3, False, " v w ", "?", DAY + dt.timedelta(days=1), dt.time(10), DAY + dt.timedelta(hours=4)],
    [None] * 8,
    [-3.25, 5, True, None, 4.25, DAY + dt.timedelta(days=2), dt.time(23, 59, 59), DAY + dt.timedelta(days=9)],
]


def xlsx(path, rows, title="One", **sheets):
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, content in {title: rows, **sheets}.items():
        sheet = book.create_sheet(name)
        for i, row in enumerate(content, 1):
            for j, cell in enumerate(row, 1):
                sheet.cell(i, j, cell)
    book.save(path)
    return path


def xls(path, rows, title="One", **sheets):
    formats = {dt.datetime: "yyyy-mm-dd hh:mm:ss", dt.time: "hh:mm:ss"}
    book = xlwt.Workbook()
    for name, content in {title: rows, **sheets}.items():
        sheet = book.add_sheet(name)
        for i, row in enumerate(content):
            for j, cell in enumerate(row):
                style = xlwt.easyxf(num_format_str=formats.get(type(cell), "general"))
                if cell is not None:
                    sheet.write(i, j, cell, style)
    book.save(str(path))
    return path


MAKERS = {".xlsx": xlsx, ".xlsm": xlsx, ".xls": xls}


@pytest.fixture(params=MAKERS)
def made(request, tmp_path):
    """A function that writes a workbook of one of the kinds."""
    return lambda *rows, **sheets: MAKERS[request.param](tmp_path / f"a{request.param}", *rows, **sheets)


def test_cells_have_the_types_of_the_workbook(made):
    data = read(made(ROWS))
    assert data.names == ("x", "k", "b", "c", "mixed")
    kinds = [column.kind.value for column in data.schema.columns]
    assert kinds == ["continuous", "count", "binary", "categorical", "continuous"]
    assert data.schema.columns[3].levels == ("u", "v w")
    expected = [[1.5, 0, 1, 0, 2], [np.nan, 3, 0, 1, np.nan], [-3.25, 5, 1, np.nan, 4.25]]
    np.testing.assert_array_equal(data.values, expected)
    assert sum("(dates)" in note for note in data.notes) == 3


def test_it_is_the_table_that_a_csv_file_holds(made, tmp_path):
    frame = (
        pd.DataFrame(ROWS[1:], columns=ROWS[0]).dropna(how="all").drop(columns="clock").astype({"k": "Int64"})
    )
    frame.to_csv(tmp_path / "a.csv", index=False)
    path = made(ROWS)
    for options in ({"time": "day"}, {"time": "when"}, {"sequence": "day"}, {"target": "c", "columns": "x"}):
        options |= {"columns": "x,k,b,c,mixed"} if "columns" not in options else {}
        book, text = read(path, **options), read(tmp_path / "a.csv", **options)
        assert book.sha256 == text.sha256
        assert book.schema == text.schema
        assert book.sequence_ids == text.sequence_ids
        assert book.times == text.times
    assert read(path, time="clock").times == ("09:30:00", "10:00:00", "23:59:59")
    assert read(path, time="when").times[0] == "2024-01-31 03:00:00"


def test_sheets(made):
    path = made([["a"], [1.5], [None], [2.5]], Two=[["b", "c"], [1, "u"], [12, "v"]])
    first = read(path)
    assert first.names == ("a",)
    np.testing.assert_array_equal(first.values[:, 0], [1.5, np.nan, 2.5])  # as of a CSV file with one column
    assert first.notes[0] == "read the first sheet, 'One'; --sheet reads one of the others: 'Two'"
    assert first.path == str(path)
    second = read(path, sheet=np.str_("Two"))
    assert second.names == ("b", "c")
    assert second.source == str(path)
    assert second.path is None  # it could not be read again without the name of the sheet
    assert not any("sheet" in note for note in second.notes)
    assert read(path, sheet="Two", schema=second.schema).sha256 == second.sha256
    with pytest.raises(DataError, match="has no sheet 'Tow'; it has 'One', 'Two'"):
        read(path, sheet="Tow")
    with pytest.raises(DataError, match="sheet 'Two', row 3, column 'b': 'x' is not a number"):
        read(made([["a"], [1.5]], Two=[["b"], [1.5], ["x"], [2.5], [3.5]]), sheet="Two")


FAULTS = {
    "repeated header": ([["a", "b", "a"], [1, 2, 3]], ["repeats 'a'"]),
    "blank header": ([["a", None, "c"], [1, 2, 3]], ["header, row 1,", "no name for column B"]),
    "a title above": ([[], [], ["Report"], ["a", "b"], [1, 2]], ["row 3,", "column B"]),
    "padded header": ([["a", " b"], [1, 2]], ["spaces", "' b'"]),
    "blank": ([[None]], ["is empty"]),
    "header only": ([["a", "b"]], ["header", "no rows"]),
    "words": ([["a", "b"], [1, 2], [], ["x", 3], [4, 5], [6, 7]], ["row 4", "'a'", "'x'", "--missing"]),
    "missing column": ([["a", "b"], [1, None], [2, None]], ["'b'", "every cell is missing"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_refused_in_one_line(fault, made):
    rows, words = FAULTS[fault]
    with pytest.raises(DataError) as caught:
        read(made(rows))
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_header_and_mixtures(made):
    data = read(made([[1.5, 2], [2.5, 3]]))
    assert data.names == ("x0", "x1")
    assert data.rows == 2
    assert "no header" in data.notes[0]
    data = read(made([["a", 2024, True], [1, "7", 2.5], [True, 8.0, "3"]]), types={"a": "categorical"})
    assert data.names == ("a", "2024", "true")
    assert data.schema.columns[0].levels == ("1", "true")
    np.testing.assert_array_equal(data.values[:, 1:], [[7, 2.5], [8, 3]])


def test_only_the_columns_asked_for_are_judged(made):
    rows = [["a", "bad"], [1.5, "x"], [2.5, 1], [3.5, 2], [4.5, 3]]
    assert read(made(rows), columns="a").names == ("a",)
    with pytest.raises(DataError, match="'bad'"):
        read(made(rows))


def test_errors_are_missing_cells(tmp_path):
    path = xlsx(tmp_path / "a.xlsx", [["a", "b"], [1.5, "#N/A"], ["#DIV/0!", "u"], [2.5, "v"]], "A & <B>")
    data = read(path)
    np.testing.assert_array_equal(data.values, [[1.5, np.nan], [np.nan, 0], [2.5, 1]])
    assert "2 cells with an error, such as #N/A in B2, taken as missing" in data.notes
    book = xlwt.Workbook()
    sheet = book.add_sheet("S")
    for i, cell in enumerate(["a", 1.5, None, 2.5]):
        if cell is None:
            sheet.row(i).set_cell_error(0, "#DIV/0!")
        else:
            sheet.write(i, 0, cell)
    book.save(str(tmp_path / "b.xls"))
    np.testing.assert_array_equal(read(tmp_path / "b.xls").values[:, 0], [1.5, np.nan, 2.5])


def encrypted(path):
    """The container of an encrypted workbook: one of .xls whose stream has the name of that of such a one."""
    content = bytearray(xls(path, [["a"], [1]]).read_bytes())
    at = content.index("Workbook".encode("utf-16-le"))
    name = "EncryptedPackage".encode("utf-16-le")
    content[at : at + len(name)] = name
    content[at + 64 : at + 66] = (len(name) + 2).to_bytes(2, "little")
    path.write_bytes(content)
    return path


def test_files_that_are_no_workbooks(tmp_path):
    with pytest.raises(DataError, match=r"a\.xlsx: is encrypted; save it without a password"):
        read(encrypted(tmp_path / "a.xlsx"))
    good = xlsx(tmp_path / "good.xlsx", ROWS).read_bytes()
    for name, content in {
        "a.xlsx": b"",
        "b.xlsx": b"PK",
        "c.xls": b"a,b\n1,2\n",
        "d.xlsx": good[:-30],
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match="is not an Excel workbook, or is damaged") as caught:
            read(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".xlsx", ".xls"])
def test_noise_is_either_read_or_refused(suffix, tmp_path, capfd):
    """Whatever the bytes, also inside the archive; that calamine itself breaks down is damage too."""
    path = MAKERS[suffix](tmp_path / f"a{suffix}", ROWS)
    good, rng = path.read_bytes(), np.random.default_rng(1)
    for trial in range(40):
        bad = bytearray(good)
        if suffix == ".xlsx" and trial % 2:
            bad = bytearray(repacked(good, rng))
        else:
            bad = bad[: rng.integers(len(bad))] if trial % 4 == 0 else bad
            for index in rng.integers(len(bad), size=rng.integers(1, 20)):
                bad[index] = rng.integers(256)
        path.write_bytes(bytes(bad))
        assert "\n" not in outcome(path)
    capfd.readouterr()  # where Rust says that it panicked


def test_a_workbook_that_would_end_the_process_is_refused(tmp_path, monkeypatch):
    """Calamine makes a rectangle up to the last cell, and aborts where there is no memory for it."""
    book = openpyxl.Workbook()
    book.active["A1"], book.active["XFD1048576"] = "a", 1.5
    book.save(tmp_path / "a.xlsx")
    with pytest.raises(DataError, match=r"a\.xlsx: reading it takes about .* GB"):
        read(tmp_path / "a.xlsx")
    path = xls(tmp_path / "a.xls", ROWS)
    monkeypatch.setattr(excel, "_PROBE", "import os; os.abort()")
    with pytest.raises(DataError, match=r"a\.xls: is not an Excel workbook, or is damaged"):
        read(path)
    monkeypatch.setattr(excel, "_PROBE", "1 / 0")  # what the reader will say itself
    assert read(path).rows == 3


def outcome(path):
    try:
        return read(path).sha256
    except DataError as error:
        return str(error)


def repacked(content, rng):
    """The archive with a few characters of its parts changed."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(made, "w") as new:
        for name in old.namelist():
            part = bytearray(old.read(name))
            if rng.random() < 0.3:
                for index in rng.integers(len(part), size=3):
                    part[index] = rng.choice(np.frombuffer(b'<>"0 a9\xff', np.uint8))
            new.writestr(name, bytes(part))
    return made.getvalue()


def test_what_is_needed_is_named(tmp_path, monkeypatch):
    path = xlsx(tmp_path / "a.xlsx", ROWS)
    monkeypatch.setitem(sys.modules, "python_calamine", None)
    with pytest.raises(DataError, match=r"not installed; pip install 'ppl_models\[excel\]'$"):
        read(path)


def test_the_option_is_of_workbooks_only(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a\n1.5\n2.5\n")
    with pytest.raises(
        UsageError, match=r"sheet is for \.xlsx, \.xlsm, \.xls files; leave it out for .*a\.csv"
    ):
        read(path, sheet="One")
    with pytest.raises(UsageError, match="leave it out for data that is not in a file"):
        read({"a": [1.5]}, sheet="One")
    assert read(path, sheet=None).rows == 2
    with pytest.raises(UsageError, match="sheet must be a text"):
        read(path, sheet=["One"])
    with pytest.raises(UsageError, match="no option 'sheets'; did you mean 'sheet'"):
        read(path, sheets="One")
