"""Options made from the fields of a model."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import click
import pytest

from ppl_models.cli.fit import fit_command
from ppl_models.cli.options import field_options
from ppl_models.cli.values import Names, Pairs, Several
from ppl_models.errors import UsageError
from ppl_models.model import Model


class Base(Model):
    name = "toy"
    summary = "a toy"

    @classmethod
    def bounds(cls):
        return ()

    def bind(self, schema):
        pass


@dataclass(frozen=True)
class Toy(Base):
    select = "size"

    rate: Annotated[float, "how fast"]
    size: Annotated[int, "how many"] = 2
    kind: Annotated[Literal["a", "b"], "which"] = "a"
    power: Literal[1, 2] = 1
    flag: Annotated[bool, "whether"] = True
    limit: Annotated[float | None, "at most"] = None
    hidden: Annotated[tuple[int, ...], "layers"] = (400, 400)
    label: str = ""
    extra: dict[str, Any] = field(default_factory=dict)
    learned: int = field(default=0, init=False)


def parsed(*args: str) -> dict[str, Any]:
    command = click.Command("toy", params=list(field_options(Toy)))
    return command.make_context("toy", list(args)).params


def test_defaults_are_those_of_the_fields():
    got = parsed("--rate", "2")
    assert got == {
        "rate": 2.0, "size": 2, "kind": "a", "power": 1, "flag": True, "limit": None, "hidden": (400, 400),
        "label": "",
    }  # fmt: skip
    assert Toy(**got) == Toy(2.0)


def test_values_have_the_types_of_the_fields():
    got = parsed(
        "--rate", "1e-3", "--kind", "b", "--power", "2", "--no-flag", "--limit", "3", "--hidden", "8",
        "--size", "4",
    )  # fmt: skip
    assert Toy(**got) == Toy(1e-3, 4, "b", 2, False, 3.0, (8,))


def test_help_and_defaults_are_shown():
    command = click.Command("toy", params=list(field_options(Toy)))
    text = command.get_help(click.Context(command))
    for part in (
        "How fast.",
        "[required]",
        "[a|b]",
        "--flag / --no-flag",
        "[default: a]",
        "[default: 400,400]",
    ):
        assert part in " ".join(text.split()), part


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("1:3", (1, 2, 3)), ("2:2", (2,)), ("2,4,2", (2, 4)), (" 5 ", 5), ([1, 2], (1, 2)), (4, 4)],
)
def test_several(text, value):
    assert Several().convert(text, None, None) == value


@pytest.mark.parametrize(
    "text", ["x", "1:", "6:1", "1:2:3", "1,", "1.5", "1:99999999999", [], [True], ["a"], 1.5]
)
def test_not_several(text):
    with pytest.raises(click.BadParameter):
        Several().convert(text, None, None)


def test_names_and_pairs_take_text_and_what_toml_has():
    assert Names().convert("a,b", None, None) == "a,b"
    assert Names().convert(["a,1", "b"], None, None) == ["a,1", "b"]
    assert Pairs().convert("a=count, b=x=binary", None, None) == {"a": "count", "b=x": "binary"}
    assert Pairs().convert({"a": "count"}, None, None) == {"a": "count"}
    for wrong in ("a", "=count", "a="):
        with pytest.raises(click.BadParameter):
            Pairs().convert(wrong, None, None)


def test_a_field_with_the_name_of_an_option_is_refused():
    @dataclass(frozen=True)
    class Clash(Base):
        seed: int = 0

    with pytest.raises(UsageError, match="a field for --seed"):
        fit_command("clash", Clash)


def test_a_required_field_of_a_strange_type_is_refused():
    @dataclass(frozen=True)
    class Strange(Base):
        table: dict[str, int]

    with pytest.raises(UsageError, match="the field table of Strange"):
        field_options(Strange)
