"""Exports as people have them: what stands around the table, and how its cells are written."""

import numpy as np
import pandas as pd
import pytest

from ppl_models.data import read
from ppl_models.data.dates import calendar, read_dates, written
from ppl_models.data.marks import form_of
from ppl_models.errors import UsageError


@pytest.fixture
def table(tmp_path):
    """What is read from a text."""

    def written_and_read(text, **options):
        (tmp_path / "a.csv").write_text(text)
        return read(tmp_path / "a.csv", **options)

    return written_and_read


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


def test_yes_and_no_in_several_spellings_with_dashes_are_one_pair(table):
    cells = ["Yes", "y", "NO", "n", "-", "No", "Y", "yes", "N", "Y"]
    found = table("a,b\n" + "".join(f"{c},{i}.5\n" for i, c in enumerate(cells)))
    a = found.schema.columns[0]
    assert (a.kind, [level.lower()[0] for level in a.levels], a.missing) == ("binary", ["n", "y"], 1)
    wanted = [np.nan if c == "-" else c.lower()[0] == "y" for c in cells]
    assert np.array_equal(found.values[:, 0], np.array(wanted, float), equal_nan=True)
    later = read({"a": ["yes", "no"], "b": [1.0, 2.0]}, schema=found.schema)
    assert later.values[:, 0].tolist() == [1.0, 0.0]
    assert any("'-' taken as missing" in note for note in found.notes)
    kept = table("a,b\n-,1.5\nx,2.5\n-,3.5\n", na_values="")
    assert kept.schema.columns[0].levels == ("-", "x")


def test_signs_are_labels(table):
    assert table("a,b\n-,1.5\n+,2.5\n-,3.5\n").schema.columns[0].levels == ("+", "-")


@pytest.mark.parametrize(
    "levels",
    [
        ("Strongly disagree", "Disagree", "Agree", "Strongly agree"),
        ("never", "sometimes", "always"),
        ("S", "M", "XL"),
        ("Mon", "Tue", "Sun"),
        ("apple", "banana", "Very good"),  # no scale
    ],
)
def test_words_of_a_scale_are_in_its_order(levels, table):
    rows = "".join(f"{levels[i % len(levels)]},{i}.5\n" for i in (2, 0, 1, 3, 5, 4))
    assert table("a,b\n" + rows).schema.columns[0].levels == levels


def test_refusals_among_numbers_and_opening_balances(table):
    found = table('a,b\n38k,1.5\n"$43,100",2.5\nprefer not to say,3.5\n-,1.0\n')
    assert np.array_equal(found.values[:, 0], [38000.0, 43100.0, np.nan, np.nan], equal_nan=True)
    found = table("date,what,x\n,Opening balance,7.5\n2024-01-01,shop,1.5\n2024-01-02,shop,2.5\n")
    assert found.values[:, -1].tolist() == [1.5, 2.5]


def test_two_sides_of_an_amount_are_one(table):
    text = "what,Debit,Credit\na,1.5,\nb,,7\nc,2.5,\n"
    found = table(text)
    assert found.names[-1] == "Credit - Debit"
    assert found.values[:, -1].tolist() == [-1.5, 7.0, -2.5]
    later = table("what,Debit,Credit\na,4,\nb,5,\n", schema=found.schema, keep="Debit")
    assert later.values[:, -1].tolist() == [-4.0, -5.0]
    assert later.kept["Debit"].tolist() in ([4, 5], ["4", "5"])
    assert len(later.notes) == len({*later.notes})
    assert table("what,Debit,Credit\na,1.5,2\nb,1,7\nc,2.5,3.5\n").names[1:] == ("Debit", "Credit")
    assert table(text, types={"Debit": "continuous"}).names[1:] == ("Debit", "Credit")


def test_ticks_become_columns(table):
    cells = ["email;phone", "post", "none", "phone;email", "", "email", "post;phone"]
    found = table("by,x\n" + "".join(f"{c},{i}.5\n" for i, c in enumerate(cells)))
    assert found.names == ("by: email", "by: phone", "by: post", "x")
    for j, item in enumerate(("email", "phone", "post")):
        wanted = [np.nan if not c else float(item in c.split(";")) for c in cells]
        assert np.array_equal(found.values[:, j], wanted, equal_nan=True)
    later = table("by,x\nphone,1.5\n", schema=found.schema)
    assert later.values[0].tolist() == [0.0, 1.0, 0.0, 1.5]
    places = table('by,x\n"Paris, FR",1.5\n"Lyon, FR",2.5\n"Bonn, DE",3.5\n')
    assert places.names == ("by", "x")


def test_rows_sent_twice(table):
    rows = [f"c{i},{i % 3}.5\n" for i in range(30)]
    found = table("id,x\n" + "".join([*rows, rows[4]]))
    assert (found.rows, found.path) == (30, None)
    assert any("left out 1 row" in note and "line 32" in note for note in found.notes)
    assert table("k,x\n" + "".join(f"{'ab'[i % 2]},1.5\n" for i in range(30))).rows == 30


def test_corrected_times(table):
    rows = [f"{i},{i}.5\n" for i in range(40)]
    found = table("t,x\n" + "".join([*rows[:5], "9,7.25\n", *rows[5:]]), time="t", sort=True)
    assert found.values[:, 0].tolist() == [i + 0.5 for i in range(40)]
    assert table("t,x\n1,1.5\n1,2.5\n2,3.5\n2,4.5\n", time="t", sort=True).rows == 4


def test_years_as_columns(table):
    text = 'id,size,2019,2020,2021\n007,1.5,"1,234.5",..,3\n008,2.5,4,5,6.5\n'
    found = table(text, long="y", sequence="id", time="year")
    assert found.names == ("size", "y")
    wanted = [[1.5, 1234.5], [1.5, np.nan], [1.5, 3], [2.5, 4], [2.5, 5], [2.5, 6.5]]
    assert np.array_equal(found.values, wanted, equal_nan=True)
    assert (found.lengths.tolist(), found.sequence_ids) == ([3, 3], ("007", "008"))
    assert found.times.tolist() == [2019, 2020, 2021] * 2
    assert table(text, long="y", schema=found.schema).values.shape == (6, 2)
    assert any("--long NAME" in note for note in table(text).notes)
    with pytest.raises(UsageError, match="called by years"):
        table("a,b\n1,2\n", long="y")
