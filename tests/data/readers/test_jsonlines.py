"""JSON lines that a parser in C crashed on, or changed without a word."""

import pytest

from ppl_models.data import read
from ppl_models.errors import DataError


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('null\n{"a": 1.5}\n', "line 1: 'null' is not an object"),
        ('{"a": 1.5}\nnull\n', "line 2: 'null' is not an object"),
        ('[null, {"a": 1.5}]', "row 1: 'null' is not an object"),
        ('{"a": 1.5}\n7\n', "line 2: '7' is not an object"),
        ('{"a": 1.5}\n{"a": 1, "a": 2}\n', "line 2: .*'a' comes twice"),
        ('{"a": 1.5}\n{"a": %s}\n' % ("1" * 400), "too large"),
        ('{"a": 1.5}\n{"a": %s}\n' % ("1" * 5000), "line 2: is not JSON"),
    ],
)
def test_what_is_not_a_row_is_refused(text, said, tmp_path):
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(DataError, match=said):
        read(tmp_path / "a.jsonl")


def test_text_that_looks_like_a_date_stays_text(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"t": "2020-01-01", "x": 1.5}\n{"t": "2020-01-02", "x": 2.5}\n')
    assert read(tmp_path / "a.jsonl", time="t").times == ("2020-01-01", "2020-01-02")


def test_mixed_types_are_said(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"a": 1.5}\n{"a": "2.5"}\n')
    assert "'a' holds numbers and text" in read(tmp_path / "a.jsonl").notes[0]
