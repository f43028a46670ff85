"""Names of models: built in, plug-ins and files."""

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from ppl_models import registry
from ppl_models.errors import UsageError

COIN = """
from dataclasses import dataclass
from typing import Annotated

from ppl_models.model import Model
from ppl_models.models.hmm.model import HMM


@dataclass(frozen=True)
class Coin(Model):
    \"\"\"A coin that remembers.\"\"\"

    states: Annotated[int, "sides"] = 2

    settings = HMM.settings
    bounds = HMM.bounds

    def bind(self, schema):
        return HMM(states=self.states).bind(schema)
"""


PROGRAM = """
from dataclasses import dataclass
from ppl_models import Model, PyroModel

@dataclass(frozen=True)
class Coin(PyroModel):
    sides: int = 2
"""


@pytest.fixture
def coin():
    path = Path("coin.py").resolve()
    path.write_text(COIN)
    yield path
    registry._files.pop(path, None)


def test_the_hmm_is_there_without_torch():
    code = "import sys; from ppl_models.registry import find; print(find('hmm').name, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "hmm False\n"


def test_a_class_in_a_file(coin):
    found = registry.find("coin.py:Coin", files=True)
    assert (found.name, found.summary) == ("coin", "A coin that remembers.")
    assert registry.find(str(coin) + ":Coin") is found, "it was executed before"
    assert registry.reference(found) == f"{coin}:Coin"
    assert registry.find(registry.reference(found)) is found


def test_a_file_is_not_executed_unasked():
    Path("evil.py").write_text("open('pwned', 'w')\n")
    with pytest.raises(UsageError, match="only executed when it is asked for"):
        registry.find("evil.py:X")
    assert not Path("pwned").exists()


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("x = 1\ny = 1 / 0\n", "m.py:X", "m.py, line 2: ZeroDivisionError: division by zero"),
        ("x = 1\nclass X(\n", "m.py:X", "m.py, line 2: SyntaxError"),
        ("import nothing_like_it\n", "m.py:X", "m.py, line 1: ModuleNotFoundError"),
        ("raise SystemExit(0)\n", "m.py:X", "m.py, line 1: SystemExit: 0"),
        ("raise ValueError('a\\nb')\n", "m.py:X", "ValueError: a b"),
        ("x = 1\n", "m.py:X", "m.py has no 'X'; it defines no model"),
        ("X = 1\n", "m.py:X", "m.py:X is not a subclass"),
        (COIN, "m.py", "m.py needs the name of a class; name one of m.py:Coin"),
        (COIN, "m.py:Coim", "has no 'Coim'; name one of m.py:Coin"),
        (COIN.replace("    bounds = HMM.bounds\n", ""), "m.py:Coin", r"does not define bounds\(\)"),
        (PROGRAM, "m.py:Coin", r"does not define model\(\)"),
        (PROGRAM.replace("PyroModel):", "Model):\n    def model(self, data): ..."), "m.py:Coin", "PyroModel"),
        (COIN.replace("@dataclass(frozen=True)\n", ""), "m.py:Coin", "is not a dataclass"),
        (None, "m.py:X", "m.py: no such file"),
    ],
)
def test_what_is_wrong_with_a_file(text, name, message):
    if text is not None:
        Path("m.py").write_text(text)
    with pytest.raises(UsageError, match=message) as error:
        registry.find(name, files=True)
    registry._files.pop(Path("m.py").resolve(), None)
    assert "\n" not in str(error.value)


@pytest.fixture
def plugins(monkeypatch):
    entries = [
        EntryPoint("good", "ppl_models.models.hmm.model:HMM", registry.GROUP),
        EntryPoint("broken", "no_such_package:Model", registry.GROUP),
        EntryPoint("odd", "json:dumps", registry.GROUP),
        EntryPoint("hmm", "evil:HMM", registry.GROUP),
    ]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **group: entries)


@pytest.mark.usefixtures("plugins")
def test_plugins():
    listed = {(each.name, bool(each.problem)) for each in registry.models()}
    ours = {(name, False) for name in registry.BUILT_IN}
    assert listed == ours | {("good", False), ("broken", True), ("odd", True), ("hmm", True)}
    assert registry.find("hmm").__module__ == "ppl_models.models.hmm.model"
    assert registry.find("good").name == "hmm"
    with pytest.raises(
        UsageError, match="model 'broken' of no_such_package.* cannot be imported: ModuleNotFound"
    ):
        registry.find("broken")
    with pytest.raises(UsageError, match="is not a subclass"):
        registry.find("odd")


@pytest.mark.usefixtures("plugins")
def test_a_broken_plugin_is_a_warning_in_lists(run):
    for args in (["models"], ["fit", "--help"]):
        result = run(*args)
        assert result.exit_code == 0
        assert "good" in result.stdout
        assert "broken" not in result.stdout
        assert "warning: model 'broken'" in result.stderr
    result = run("fit", "broken", "data.csv")
    assert result.exit_code == 2
    assert result.stderr.startswith("ppl: model 'broken'")


def test_unknown_names_come_with_close_ones(run):
    result = run("fit", "hnm", "data.csv")
    assert (result.exit_code, result.stderr) == (2, "ppl: there is no model 'hnm'; did you mean hmm?\n")


def test_fit_and_verbs_with_a_file(run, coin):
    result = run("fit", "./coin.py:Coin", "data.csv", "--states", "2", "--restarts", "1", "--out", "r")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("coin with 2 states")
    registry._files.pop(coin)
    result = run("predict", "r")
    assert result.exit_code == 74
    assert "only executed when it is asked for" in result.stderr
    result = run("predict", "r", "--model", "coin.py:Coin")
    assert result.exit_code == 0, result.stderr
