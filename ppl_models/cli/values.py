"""What the text of an option may mean."""

from collections.abc import Callable
from typing import Any

import click


class Names(click.ParamType):
    """Names with commas between them, or a list of them in a configuration file."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A list as it is; text is split by whoever takes it."""
        if isinstance(value, str):
            return value
        if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
            return list(value)
        self.fail(f"{value!r} is not a list of names", param, ctx)


class Pairs(click.ParamType):
    """`name=value` pairs with commas between them, or a table in a configuration file."""

    name = "pairs"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A dictionary of text."""
        if isinstance(value, dict):
            return {str(key): str(item) for key, item in value.items()}
        pairs = {}
        for part in str(value).split(","):
            key, sign, item = part.rpartition("=")
            if not sign or not key.strip() or not item.strip():
                self.fail(f"{part!r} is not of the form column=kind", param, ctx)
            pairs[key.strip()] = item.strip()
        return pairs


class Order(click.ParamType):
    """A column and its levels in order: `size=small,medium,large`."""

    name = "levels"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The column, and a list of texts."""
        if isinstance(value, tuple):
            return value
        column, sign, levels = str(value).partition("=")
        found = [level.strip() for level in levels.split(",")]
        if not sign or not column.strip() or not all(found):
            self.fail(f"{value!r} is not of the form column=first,second,...", param, ctx)
        return column.strip(), found


class Several(click.ParamType):
    """One whole number, or several to choose from: `3`, `1:6` (with both ends) or `2,4,6`."""

    name = "integer or range"
    most = 1000

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A number for one, a tuple for several."""
        if isinstance(value, int | tuple) and not isinstance(value, bool):
            return value
        if isinstance(value, list) and value and all(type(item) is int for item in value):
            return tuple(dict.fromkeys(value))
        text = str(value).strip()
        try:
            if ":" in text:
                low, high = (int(part) for part in text.split(":"))
                if low > high:
                    self.fail(f"{text!r} goes down; write {high}:{low}", param, ctx)
                if high - low >= self.most:
                    self.fail(f"{text!r} has more than {self.most} values", param, ctx)
                return tuple(range(low, high + 1))
            if "," in text:
                return tuple(dict.fromkeys(int(part) for part in text.split(",")))
            return int(text)
        except ValueError:
            self.fail(
                f"{text!r} is not a whole number, a range such as 1:6, or a list such as 2,4,6", param, ctx
            )


class Literals(click.Choice):
    """The values of a `Literal`, which need not be text."""

    def __init__(self, values: tuple[Any, ...]) -> None:
        super().__init__([str(value) for value in values])
        self.values = {str(value): value for value in values}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value whose text it is."""
        return self.values[super().convert(str(value), param, ctx)]


class Listed(click.ParamType):
    """Values of one type with commas between them."""

    name = "list"

    def __init__(self, item: Callable[[Any], Any]) -> None:
        self.item = item

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A tuple."""
        parts = value.split(",") if isinstance(value, str) else value
        parts = parts if isinstance(parts, list | tuple) else [parts]
        try:
            return tuple(self.item(part) for part in parts)
        except (ValueError, TypeError):
            self.fail(f"{value!r} is not a list of {self.item.__name__} with commas between them", param, ctx)
