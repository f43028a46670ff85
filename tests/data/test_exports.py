"""Exports as people have them: what stands around the table, and how its cells are written."""

import numpy as np
import pandas as pd
import pytest

from ppl_models.data import read
from ppl_models.data.dates import calendar, read_dates, written
from ppl_models.data.marks import form_of

ROWS = [(1.5, 20.0), (2.5, 30.0), (3.25, 45.0), (4.75, 50.5)]

# name: (file name, text, names)
WRITTEN = {
    "semicolons": ("a.csv", "a;b\n1,5;20\n2,5;30\n3,25;45\n4,75;50,5\n", ["a", "b"]),
    "tabs": ("a.csv", "a\tb\n1.5\t20\n2.5\t30\n3.25\t45\n4.75\t50.5\n", ["a", "b"]),
    "bars in tsv": ("a.tsv", "a|b\n1.5|20\n2.5|30\n3.25|45\n4.75|50.5\n", ["a", "b"]),
    "excel": ("a.csv", "sep=;\r\na;b\r\n1,5;20\r\n2,5;30\r\n3,25;45\r\n4,75;50,5\r\n", ["a", "b"]),
    "pandas numbers": ("a.csv", ",a,b\n7,1.5,20\n9,2.5,30\n3,3.25,45\n1,4.75,50.5\n", ["a", "b"]),
    "pandas default": ("a.csv", ",0,1\n0,1.5,20\n1,2.5,30\n2,3.25,45\n3,4.75,50.5\n", ["0", "1"]),
    "pandas no names": ("a.csv", "0,1\n1.5,20\n2.5,30\n3.25,45\n4.75,50.5\n", ["0", "1"]),
    "R": ("a.txt", '"a" "b"\n"r one" 1.5 20\n"r two" 2.5 30\n"s" 3.25 45\n"t" 4.75 50.5\n', ["a", "b"]),
    "savetxt": (
        "a.txt",
        "# a b\n1.5e+00 2.0e+01\n2.5e+00 3.0e+01\n3.25e+00 4.5e+01\n4.75e+00 5.05e+01\n",
        ["a", "b"],
    ),
    "spaces": ("a.txt", "a    b\n1.5  20\n2.5  30\n3.25 45\n4.75 50.5\n", ["a", "b"]),
    "preamble": (
        "a.csv",
        "Report\nfrom us\n\na,b\n(m),(s)\n1.5,20\n2.5,30\n3.25,45\n4.75,50.5\n\n* provisional\nSource: us\n",
        ["a", "b"],
    ),
    "marks": ("a.csv", "a,b\n$1.5,20%\n$2.5,30%\n3.25,45 %\n4.75*,50.5%\n", ["a", "b"]),
    "empty twins": ("a.csv", "a,b,,a\n1.5,20,,\n2.5,30,,\n3.25,45,,\n4.75,50.5,,\n", ["a", "b"]),
}


@pytest.mark.parametrize("case", WRITTEN)
def test_a_table_is_found(case, tmp_path):
    name, text, names = WRITTEN[case]
    (tmp_path / name).write_text(text, newline="")
    found = read(tmp_path / name)
    assert list(found.names) == names
    np.testing.assert_allclose(found.values, ROWS)


def test_rows_of_totals_are_left_out(tmp_path):
    text = "region,month,x\nA,1,1.5\nA,2,2.5\nSubtotal A,,4\nB,1,7\nB,2,8\nSubtotal B,,15\nTOTAL,,19\n"
    (tmp_path / "a.csv").write_text(text)
    found = read(tmp_path / "a.csv")
    assert found.column("x").tolist() == [1.5, 2.5, 7, 8]
    assert any("3 rows of totals" in note for note in found.notes)
    (tmp_path / "a.csv").write_text("brand,x\nTotal,1.5\nShell,2.5\nTotal,3.5\n")
    assert read(tmp_path / "a.csv").rows == 3


def test_decimal_commas_and_points_of_thousands(tmp_path):
    (tmp_path / "a.csv").write_text("a;b\n1.250;9,56 €\n37;1.415,00 €\n-3.383;0,5 €\n")
    found = read(tmp_path / "a.csv")
    assert found.column("a").tolist() == [1250, 37, -3383]
    assert found.column("b").tolist() == [9.56, 1415, 0.5]


def test_zeros_in_front_are_no_quantity(tmp_path):
    (tmp_path / "a.csv").write_text("zip,x\n02134,1.5\n10115,2.5\n02134,3.5\n")
    assert read(tmp_path / "a.csv").schema.columns[0].levels == ("02134", "10115")


@pytest.mark.parametrize(
    ("texts", "decimal", "expected"),
    [
        (["1,234.56", "(1,841.03)", "5"], ".", [1234.56, -1841.03, 5]),
        (["1 234,5", "2\u202f000,25"], ",", [1234.5, 2000.25]),
        (["1'234.50", "12"], ".", [1234.5, 12]),
        (["$43,100", "38k"], ".", [43100, 38000]),
        (["20 min", "15"], ".", [20, 15]),
        (["12,34,567", "1"], ".", [1234567, 1]),
        (["EUR 5", "7 EUR"], ".", [5, 7]),
        (["-€3.50", "−2", "4-"], ".", [-3.5, -2, -4]),
        (["1,23", "4"], ".", None),
        (["5 min", "3 h"], ".", None),
        (["(5", "3"], ".", None),
        (["12a3", "3"], ".", None),
    ],
)
def test_numbers_with_marks(texts, decimal, expected):
    found = form_of(texts, decimal)
    assert (found and [found.numbers[text] for text in texts]) == expected


def test_a_sentinel_and_identifiers_are_noticed():
    rng = np.random.default_rng(0)
    x = rng.normal(20, 1, 60)
    x[[3, 9]] = -999
    found = read(pd.DataFrame({"x": x, "customer_id": 5000 + rng.permutation(60), "y": rng.normal(size=60)}))
    assert found.names == ("x", "y")
    assert any("--missing -999" in note for note in found.notes)
    assert not any("--missing" in note for note in read({"x": rng.normal(size=200) ** 3}).notes)


@pytest.mark.parametrize(
    ("start", "frequency", "words", "form"),
    [
        ("2020-01-01", "D", "days", "%d.%m.%Y"),
        ("2020-01-06", "B", "business days", "%m/%d/%Y"),
        ("2020-01-31", "ME", "months", "%Y-%m-%d"),
        ("2020-01-01", "MS", "months", "%b %d, %Y"),
        ("2020-01-01", "QS", "quarters", "%d %B %Y"),
        ("2020-01-01", "YS", "years", "%Y/%m/%d"),
        ("2020-01-01", "h", "hours", "%Y-%m-%d %H:%M"),
        ("2020-01-01", "10min", "10 minutes", "%d/%m/%Y %H:%M"),
        ("2020-01-05", "W", "weeks", "%Y-%m-%d"),
    ],
)
def test_calendars_go_on_as_in_pandas(start, frequency, words, form):
    dates = pd.date_range(start, periods=30, freq=frequency)
    found = read_dates(dates[:24].strftime(form).tolist())
    np.testing.assert_array_equal(found.when, dates[:24].to_numpy("datetime64[us]"))
    on = calendar(np.delete(found.when, 5), 6)
    assert on.name == words
    np.testing.assert_array_equal(on.ahead, dates[24:].to_numpy("datetime64[us]"))


def test_periods_go_on_as_they_are_written():
    for texts, expected in (
        (["2020-10", "2020-11", "2020-12"], ["2021-01", "2021-02"]),
        (["2020Q2", "2020Q3", "2020Q4"], ["2021Q1", "2021Q2"]),
    ):
        found = read_dates(texts)
        assert written(calendar(found.when, 2).ahead, found.style) == expected


def test_the_order_of_day_and_month(tmp_path):
    frame = {"t": ["01/02/2020", "02/02/2020", "03/02/2020"], "x": [1.5, 2.5, 3.5]}
    found = read(frame, time="t")
    assert found.times == ("2020-02-01", "2020-02-02", "2020-02-03")
    assert "--date-format mdy" in found.notes[0]
    assert read(frame, time="t", date_format="mdy").times == ("2020-01-02", "2020-02-02", "2020-03-02")


def test_repeated_times_are_read_and_said():
    found = read({"t": ["2020-01-01", "2020-01-01", "2020-01-02"], "x": [1.5, 2.5, 3.5]}, time="t")
    assert found.rows == 3
    assert "1 row with the time of the row before" in found.notes[0]


def test_rows_are_sorted_when_asked_for():
    frame = {
        "a": ["u", "v", "u", "v"],
        "b": [1, 1, 1, 2],
        "t": ["03.01.2020", "02.01.2020", "01.01.2020", "01.01.2020"],
    }
    frame["x"] = [1.5, 2.5, 3.5, 4.5]
    found = read(frame, sequence="a,b", time="t", sort=True)
    assert found.sequence_ids == ("u,1", "v,1", "v,2")
    assert found.column("x").tolist() == [3.5, 1.5, 2.5, 4.5]
    assert found.names == ("x",)
    again = read(frame, schema=found.schema, sort=True)
    assert again.sha256 == found.sha256
