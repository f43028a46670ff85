"""Options of `read` as Python programs give them: NumPy's numbers and texts, paths of any sort, sets."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ppl_models.data import Kind, read
from ppl_models.errors import UsageError

FRAME = pd.DataFrame(
    {"s": ["u", "u", "v", "v"], "t": [1, 2, 1, 2], "a": [0, 3, 2, 5], "b": [1.5, 2.5, -999, 4]}
)
NUMBERED = pd.DataFrame([[0.5, 1.5, 2.5], [1.5, 2.5, 4.5]])


class PathOfBytes:
    def __init__(self, path):
        self.path = os.fsencode(path)

    def __fspath__(self):
        return self.path


# options, and those in plain text that mean the same
CALLS = [
    ({"columns": ["b", "a"]}, {"columns": "b,a"}),
    ({"columns": ("b", "a")}, {"columns": "b, a"}),
    ({"columns": {"b", "a"}}, {"columns": "a,b"}),
    ({"columns": frozenset("ba")}, {"columns": "a,b"}),
    ({"columns": np.array(["b", "a"])}, {"columns": "b,a"}),
    ({"columns": pd.Index(["b", "a"])}, {"columns": "b,a"}),
    ({"columns": {"b": 1, "a": 2}.keys()}, {"columns": "b,a"}),
    ({"columns": (name for name in "ba")}, {"columns": "b,a"}),
    ({"columns": np.str_("b")}, {"columns": "b"}),
    ({"ignore": {np.str_("s"), "t"}}, {"ignore": "s,t"}),
    ({"ignore": np.array("s")}, {"ignore": "s"}),
    ({"types": {"a": Kind.CATEGORICAL}}, {"types": {"a": "categorical"}}),
    ({"types": {np.str_("a"): np.str_("categorical")}}, {"types": {"a": "categorical"}}),
    ({"types": None}, {}),
    ({"sequence": np.str_("s"), "time": np.str_("t")}, {"sequence": "s", "time": "t"}),
    ({"target": np.str_("s")}, {"target": "s"}),
    ({"weights": np.str_("a")}, {"weights": "a"}),
    ({"missing": -999}, {"missing": "-999"}),
    ({"missing": np.int64(-999)}, {"missing": "-999"}),
    ({"missing": [np.float64(-999), 7]}, {"missing": "-999,7"}),
    ({"missing": {-999.0}}, {"missing": ["-999"]}),
    ({"lengths": [np.int32(1), np.int64(3)]}, {"lengths": [1, 3]}),
    ({"lengths": (1, 3)}, {"lengths": [1, 3]}),
    ({"lengths": np.array([1, 3], np.uint8)}, {"lengths": [1, 3]}),
    ({"lengths": [True, 3]}, {"lengths": [1, 3]}),
    ({"lengths": [np.True_, np.int64(3)]}, {"lengths": [1, 3]}),
    ({"lengths": np.ones(4, bool)}, {"lengths": [1, 1, 1, 1]}),
    ({"lengths": np.int64(4)}, {"lengths": [4]}),
    ({"lengths": pd.Series([1, 3])}, {"lengths": [1, 3]}),
    ({"lengths": (n for n in (1, 3))}, {"lengths": [1, 3]}),
    ({"delimiter": np.str_(","), "decimal": np.str_("."), "encoding": np.str_("utf-8")}, {}),
    ({"unseen": np.str_("error"), "require_schema_columns": np.True_}, {}),
]


@pytest.mark.parametrize(
    ("options", "plain"), CALLS, ids=[f"{i} {next(iter(options))}" for i, (options, _) in enumerate(CALLS)]
)
def test_python_is_python(options, plain):
    data, expected = read(FRAME, **options), read(FRAME, **plain)
    assert data.schema == expected.schema
    assert data.sha256 == expected.sha256
    assert data.sequence_ids == expected.sequence_ids
    names = [*data.names, data.schema.sequence, data.schema.time, data.schema.target, data.schema.weights]
    assert {type(name) for name in names} <= {str, type(None)}


@pytest.mark.parametrize("one", [1, np.int64(1), "1"])
def test_numbers_that_name_columns(one):
    assert read(NUMBERED, columns=[0, one]).names == ("0", "1")
    assert read(NUMBERED, ignore=one).names == ("0", "2")
    assert read(NUMBERED, target=one, types={one: "categorical"}).schema.target == "1"
    assert read(NUMBERED, time=one).schema.time == "1"


@pytest.mark.parametrize("kind", [str, Path, np.str_, PathOfBytes])
def test_paths(kind, tmp_path):
    path = tmp_path / "a.csv"
    FRAME.to_csv(path, index=False)
    data = read(kind(path))
    assert data.sha256 == read(FRAME).sha256
    assert data.path == str(path)
    assert type(data.path) is str
    assert data.source == str(path)


@pytest.mark.parametrize("tab", ["\t", "\\t", "tab", np.str_("tab")])
def test_a_tab_can_be_spelled_out(tab, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("a\tb|c\n1.5\t2\n2.5\t7\n")
    assert read(path, delimiter=tab).names == ("a", "b|c")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"columns": 1.5}, "no column '1.5'"),
        ({"columns": b"a"}, "columns must be names"),
        ({"columns": {"a": 1}}, "columns must be names"),
        ({"columns": []}, "at least one column"),
        ({"ignore": object()}, "ignore must be names"),
        ({"types": ["a"]}, "types must be a dictionary"),
        ({"types": {"a": None}}, "type of 'a' must be one of"),
        ({"target": ["a"]}, "target must be the name of one column"),
        ({"time": 1.5}, "time must be the name of one column"),
        ({"lengths": "four"}, "whole numbers"),
        ({"lengths": [1.0, 3.0]}, "whole numbers"),
        ({"lengths": None, "weights": 3}, "weights must be"),
        ({"deliminer": ","}, "no option 'deliminer'; did you mean 'delimiter'"),
    ],
)
def test_what_cannot_be_meant(options, words):
    with pytest.raises(UsageError, match=words) as caught:
        read(FRAME, **options)
    assert "\n" not in str(caught.value)


def test_data_that_could_not_be_read_again_has_no_path(tmp_path):
    """A run that refers to its data by the path reads it with the schema and no other options."""
    path = tmp_path / "a.csv"
    FRAME.to_csv(path, index=False)
    for options in (
        {},
        {"columns": "a,b"},
        {"target": "s"},
        {"types": {"a": "categorical"}},
        {"sequence": "s"},
    ):
        data = read(path, **options)
        assert read(data.path, schema=data.schema).sha256 == data.sha256
    for options in ({"missing": "-999"}, {"delimiter": ","}, {"encoding": "latin-1"}):
        assert read(path, **options).path is None
