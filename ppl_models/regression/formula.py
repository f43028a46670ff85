"""Wilkinson formulas, `y ~ a*C(b) + np.log(c)`, through formulaic, without running what a stranger wrote.

formulaic evaluates the Python inside a formula. A formula is stored with a run and read again, so that
only arithmetic over the table's columns is let through: names of columns, numbers and text, formulaic's
own transforms (`C`, `bs`, `cr`, `cs`, `cc`, `poly`, `center`, `scale`, …) and element-wise functions of
`np`. Everything else is refused before it is evaluated. (Wilkinson & Rogers 1973, Symbolic description of
factorial models, Applied Statistics 22, https://doi.org/10.2307/2346786; https://matthewwardrop.github.io/formulaic/.)
"""

import ast
import difflib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ppl_models.data.messages import clean, quoted
from ppl_models.data.schema import Schema
from ppl_models.errors import UsageError
from ppl_models.regression.coding import labelled

if TYPE_CHECKING:
    import pandas as pd

_LONGEST = 2_000
_LARGEST = 100_000
"""The largest number in a formula: more knots or powers than that are a mistake, or meant to do harm."""

_TRANSFORMS = frozenset("C I bs cc center cr cs exp exp10 exp2 log log10 log2 poly scale standardize".split())
_NUMPY = frozenset(
    "abs arcsin arcsinh arccos arctan arctanh cbrt ceil clip cos cosh e exp exp2 expm1 floor fabs hypot log "
    "log10 log1p log2 maximum minimum pi power rint sign sin sinh sqrt square tan tanh where".split()
)
_CONTRASTS = frozenset("treatment sum helmert diff poly SAS".split())
_ALLOWED = (
    ast.Expression, ast.Call, ast.Name, ast.Attribute, ast.Constant, ast.BinOp, ast.UnaryOp, ast.Compare,
    ast.keyword, ast.Tuple, ast.List, ast.Load, ast.unaryop, ast.cmpop,
    ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow,
)  # fmt: skip
_NAME = re.compile(r"`([^`]*)`")


def target_of(formula: str) -> str | None:
    """The column on the left of `~`, or None if there is none.

    Example:
        >>> target_of("sold ~ price*C(region)"), target_of("price + age")
        ('sold', None)
    """
    left, tilde, _ = formula.partition("~")
    name = left.strip()
    return (name[1:-1] if re.fullmatch(r"`[^`]*`", name) else name) if tilde and name else None


class FormulaCoding:
    """The columns that a formula asks for, without its intercept, which the model has anyway.

    Levels, knots, centres and the like come from the rows it is made with, and are used again for others.

    Args:
        formula: with the target, or nothing, on its left side.
        schema: of the table.
        target: index of the target among its columns.
        values: (n, C) rows that it is made with; those with missing cells are left out.

    Raises:
        UsageError: if the formula cannot be meant, or is not allowed.
    """

    flags: tuple[int, ...] = ()

    def __init__(self, formula: str, schema: Schema, target: int, values: np.ndarray) -> None:
        self._schema, self._text = schema, formula
        terms, self.used = _parse(formula, schema, target)
        complete = np.flatnonzero(~np.isnan(values[:, list(self.used)]).any(1))
        frame = self._frame(values[complete])
        self._spec = self._evaluate(lambda: terms.get_model_matrix(frame, **_OPTIONS).model_spec)
        columns = list(self._spec.column_names)
        self._kept = [j for j, name in enumerate(columns) if name != "Intercept"]
        self.names = tuple(_label(columns[j]) for j in self._kept)
        owner = [term for term, own in self._spec.term_indices.items() for _ in own]
        self.origins = tuple(_columns_of(owner[j], schema) for j in self._kept)
        self.categories = self._categories(terms, values[complete])

    def matrix(self, values: np.ndarray) -> np.ndarray:
        """(m, C) cells of the table to (m, p) float64.

        Raises:
            UsageError: if the formula cannot be evaluated for these rows.
        """
        X = np.full((len(values), len(self._kept)), np.nan)
        complete = np.flatnonzero(~np.isnan(values[:, list(self.used)]).any(1))
        if len(complete):
            frame = self._frame(values[complete])
            made = self._evaluate(lambda: np.asarray(self._spec.get_model_matrix(frame, context={}), float))
            X[complete] = made[:, self._kept]
        return X

    def _categories(self, terms: Any, values: np.ndarray) -> dict[int, tuple[tuple[str, float], ...]]:
        """Columns of labels, and numbers that are only used inside `C(…)`, with the values that were seen."""
        columns = self._schema.columns
        found = {i: labelled(columns[i]) for i in self.used if columns[i].labelled}
        factors = {factor.expr for term in terms for factor in term.factors} - {"1"}
        for i in self.used:
            own = [
                text for text in factors if columns[i].name in _check(text, self._text, self._schema.names)
            ]
            if i not in found and all(re.match(r"C\(", text) for text in own):
                found[i] = tuple((f"{v:g}", v) for v in np.unique(values[:, i]).tolist())
        return found

    def _frame(self, values: np.ndarray) -> "pd.DataFrame":
        import pandas as pd

        cells: dict[str, Any] = {}
        for i in self.used:
            column = self._schema.columns[i]
            cells[column.name] = (
                pd.Categorical.from_codes(values[:, i].astype(int), list(column.levels))
                if column.labelled
                else values[:, i]
            )
        return pd.DataFrame(cells, index=range(len(values)))

    def _evaluate(self, make: Any) -> Any:
        import warnings

        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return make()
        except MemoryError:
            raise
        except Exception as error:  # whatever formulaic, pandas or numpy raise for what cannot be computed
            cause = error.__cause__ or error
            reason = clean(str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__)
            raise UsageError(
                f"formula {quoted(self._text)} cannot be evaluated: {reason.rstrip('.')}; correct the formula"
            ) from error


_OPTIONS: dict[str, Any] = {"output": "numpy", "na_action": "raise", "context": {}}


def _parse(formula: str, schema: Schema, target: int) -> tuple[Any, tuple[int, ...]]:
    """The terms of the right side, and the columns that they use; refuses what is not arithmetic."""
    import formulaic

    if len(formula) > _LONGEST:
        raise UsageError(f"the formula has {len(formula)} characters; {_LONGEST} are the most")
    if any(int(power) > 10 for power in re.findall(r"\)\s*(?:\*\*|\^)\s*(\d+)", formula)):
        raise UsageError(f"formula {quoted(formula)}: a power above 10; write the interactions out")
    _check_target(formula, schema, target)
    right = formula.partition("~")[2] if "~" in formula else formula
    names = schema.names
    right = _expand_dot(right, names, target)
    try:
        parsed: Any = formulaic.Formula(right)  # type: ignore[abstract]
    except RecursionError:
        raise UsageError(f"formula {quoted(formula)} is nested too deeply") from None
    except Exception as error:
        reason = re.sub(r"\x1b\[[0-9;]*m|[⧛⧚]", "", str(error)).strip().splitlines()
        raise UsageError(
            f"formula {quoted(formula)} cannot be read: {clean(reason[0] if reason else error).rstrip('.')}"
        ) from None
    if not isinstance(parsed, formulaic.SimpleFormula):
        raise UsageError(
            f"formula {quoted(formula)} has several parts; write one right side, as in y ~ a + b"
        )
    used: set[int] = set()
    if not any(str(term) == "1" for term in parsed):
        raise UsageError(
            f"formula {quoted(formula)} takes the intercept away, which this model always has; "
            "remove '- 1' or '0 +'"
        )
    for term in parsed:
        for factor in term.factors:
            used |= {names.index(name) for name in _check(factor.expr, formula, names)}
    if target in used:
        raise UsageError(f"formula {quoted(formula)} has its target {quoted(names[target])} on both sides")
    return parsed, tuple(sorted(used))


def _check_target(formula: str, schema: Schema, target: int) -> None:
    left = target_of(formula)
    if left is not None and left != schema.names[target]:
        raise UsageError(
            f"the left side of formula {quoted(formula)} is {quoted(left)}, and the target is "
            f"{quoted(schema.names[target])}; name one target, by itself"
        )


def _expand_dot(right: str, names: Sequence[str], target: int) -> str:
    """`.` stands for every column but the target."""
    everything = " + ".join(f"`{name}`" for i, name in enumerate(names) if i != target)
    return re.sub(r"(^|[\s+*:(-])\.(?=$|[\s+*:^)-])", lambda m: f"{m.group(1)}({everything})", right)


def _check(expression: str, formula: str, names: Sequence[str]) -> set[str]:
    """The columns that one factor uses.

    Raises:
        UsageError: if it is anything but arithmetic over columns.
    """
    if expression in names or expression == "1":
        return {expression} - {"1"}
    quotes: list[str] = []

    def plain(match: re.Match[str]) -> str:
        quotes.append(match.group(1))
        return f"column_{len(quotes) - 1}_"

    text = _NAME.sub(plain, expression)
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise UsageError(f"formula {quoted(formula)}: {quoted(expression)} cannot be read") from None
    where = f"formula {quoted(formula)}: "
    used: set[str] = set()
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    inside = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if not isinstance(node, _ALLOWED) or (isinstance(node, ast.keyword) and node.arg is None):
            raise UsageError(f"{where}{quoted(expression)} is not arithmetic over columns; rewrite it")
        if isinstance(node, ast.Constant):
            _check_constant(node.value, where)
        if isinstance(node, ast.BinOp) and not _bounded(node):
            raise UsageError(f"{where}{quoted(ast.unparse(node))} is not arithmetic over columns; rewrite it")
        if isinstance(node, ast.Attribute):
            base = node.value.id if isinstance(node.value, ast.Name) else ""
            if not (base == "np" and node.attr in _NUMPY) and not (
                base == "contr" and node.attr in _CONTRASTS
            ):
                raise UsageError(
                    f"{where}{quoted(ast.unparse(node))} is not allowed; element-wise functions of np are, "
                    "such as np.log and np.sqrt"
                )
        if isinstance(node, ast.Call) and not isinstance(node.func, ast.Name | ast.Attribute):
            raise UsageError(f"{where}{quoted(expression)} is not arithmetic over columns; rewrite it")
        if isinstance(node, ast.Name) and id(node) not in inside:
            if id(node) in called:
                if node.id not in _TRANSFORMS:
                    raise UsageError(
                        f"{where}there is no function {quoted(node.id)}{_near(node.id, _TRANSFORMS)}"
                    )
                continue
            found = re.fullmatch(r"column_(\d+)_", node.id)
            name = quotes[int(found.group(1))] if found and int(found.group(1)) < len(quotes) else node.id
            if name not in names:
                raise UsageError(f"{where}there is no column {quoted(name)}{_near(name, names)}")
            used.add(name)
    return used


def _check_constant(value: Any, where: str) -> None:
    if isinstance(value, bool) or value is None or (isinstance(value, str) and len(value) < 200):
        return
    if isinstance(value, int | float) and abs(value) <= _LARGEST:
        return
    raise UsageError(f"{where}{quoted(repr(value))} is not allowed; numbers up to {_LARGEST:,} are")


def _bounded(node: ast.BinOp) -> bool:
    """Whether an operation is on numbers, and a power a small one: `9**9**9` would never end."""
    sides = (node.left, node.right)
    text = any(isinstance(side, ast.Constant) and isinstance(side.value, str) for side in sides)
    if text or any(isinstance(side, ast.List | ast.Tuple) for side in sides):
        return False
    power = node.right.operand if isinstance(node.right, ast.UnaryOp) else node.right
    small = isinstance(power, ast.Constant) and isinstance(power.value, int | float) and power.value <= 100
    return small or not isinstance(node.op, ast.Pow)


def _near(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return (
        f"; did you mean {' or '.join(close)}?" if close else f"; there are {', '.join(sorted(known)[:12])}"
    )


def _columns_of(term: Any, schema: Schema) -> tuple[int, ...]:
    found: set[str] = set()
    for factor in term.factors:
        found |= _check(factor.expr, factor.expr, schema.names)
    return tuple(sorted(schema.names.index(name) for name in found))


def _label(name: str) -> str:
    """`C(kind)[T.long]:age` as `kind[long]:age`: levels are named as in tables without a formula."""
    plain = re.sub(r"C\(`?([\w ]+)`?\)\[", r"\1[", name).replace("[T.", "[")
    return re.sub(r"\[(-?\d+)\.0\]", r"[\1]", plain)
