"""recommend(): which two systems to start with, by what the data and the question are.

The rules are tried in order, and the first that holds and whose systems are installed decides. They are in
docs/compare.md, each with its reason, and are held against `compare` by benchmarks/recommend.py.
"""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple

import numpy as np

from ppl_models.comparison.entries import Own
from ppl_models.comparison.words import parsed
from ppl_models.data import Dataset, Kind, read
from ppl_models.data.marginals import marginal
from ppl_models.errors import UsageError
from ppl_models.registry import find, names

Question = Literal["predict", "groups", "density", "generate", "impute", "anomalies", "forecast"]


@dataclass(frozen=True)
class Facts:
    """What is looked at.

    Attributes:
        source: the data.
        rows: n.
        columns: predictors; all columns without a target.
        labelled: how many of these are labels.
        missing: share of their cells that is missing.
        question: what is asked.
        target: the column that is predicted.
        classes: of the target; 0 of a number or without one.
        rarest: share of its rarest class.
        unlabelled: share of rows without the target.
        counts: whether the target is a count.
        sequences: how many; 1 of a table of independent rows.
        steps: rows of the longest.
        in_time: whether there is an order in time.
        image: whether rows are images.
        text: whether a column of free text was left out.
        spiked: numbers of which a tenth of the rows or more have one value that is far more frequent than
            those around it.
    """

    source: str
    rows: int
    columns: int
    labelled: int = 0
    missing: float = 0.0
    question: Question = "predict"
    target: str | None = None
    classes: int = 0
    rarest: float = 1.0
    unlabelled: float = 0.0
    counts: bool = False
    sequences: int = 1
    steps: int = 0
    in_time: bool = False
    image: bool = False
    text: bool = False
    spiked: tuple[str, ...] = ()

    @property
    def follows(self) -> bool:
        """Whether rows follow one another."""
        return self.sequences > 1 or self.in_time


class Rule(NamedTuple):
    """When a rule holds, and what it says.

    Attributes:
        name: of the rule, in docs/compare.md too.
        holds: of which facts.
        first: the word of the system to start with.
        second: of the one to hold it against.
        why: the reason.
    """

    name: str
    holds: Callable[[Facts], bool]
    first: str
    second: str
    why: str


def _classes(facts: Facts) -> bool:
    return facts.target is not None and facts.classes > 0


def _number(facts: Facts) -> bool:
    return facts.target is not None and not facts.classes


def _open(facts: Facts) -> bool:
    return facts.target is None


RULES = (
    Rule(
        "text",
        lambda f: f.text and _open(f),
        "transformer",
        "gmm",
        "free text is a sequence of characters, which other systems leave out",
    ),
    Rule(
        "images to predict",
        lambda f: f.image and not _open(f),
        "cnn",
        "mlp",
        "neighbouring pixels belong together, which convolutions know and dense layers do not",
    ),
    Rule(
        "images",
        lambda f: f.image and _open(f),
        "vae",
        "gmm",
        "images lie near a curved surface, which a decoder follows and a mixture covers in patches",
    ),
    Rule(
        "sequences to predict",
        lambda f: f.follows and not _open(f),
        "rnn",
        "mlp",
        "what is predicted depends on the rows before; the second tells whether it does",
    ),
    Rule(
        "sequences",
        lambda f: f.follows and _open(f),
        "hmm",
        "rnn",
        "rows follow one another; hidden states say in which regime, a network forecasts what has none",
    ),
    Rule(
        "labels missing",
        lambda f: _classes(f) and f.unlabelled >= 0.5,
        "gmm",
        "logistic",
        "most rows have no label: a joint model learns from them all, a conditional one from the rest",
    ),
    Rule(
        "cells missing",
        lambda f: _classes(f) and f.missing >= 0.1,
        "gmm",
        "logistic",
        "many cells are missing: a joint model integrates them out, a conditional one has them filled in",
    ),
    Rule(
        "counts",
        lambda f: _number(f) and f.counts,
        "glm:family=negative_binomial",
        "mlp",
        "the target counts things: a log link and a variance that grows with the mean",
    ),
    Rule(
        "few numbers",
        lambda f: _number(f) and f.rows < 200,
        "glm",
        "mlp",
        "a network has little to learn curves from in so few rows",
    ),
    Rule(
        "numbers",
        _number,
        "mlp",
        "glm",
        "curves and interactions are found by themselves; the second tells whether there are any",
    ),
    Rule(
        "few rows of a class",
        lambda f: _classes(f) and f.rows * f.rarest < 30,
        "logistic",
        "gmm:components=1",
        "few rows of a class: a prior on few coefficients; a joint model needs the fewest rows of all",
    ),
    Rule(
        "few columns",
        lambda f: _classes(f) and f.columns <= 20 and not f.labelled and f.rows <= 10_000,
        "svm",
        "logistic",
        "few numbers as predictors: a kernel finds curved boundaries; the second tells whether they are",
    ),
    Rule(
        "many rows",
        lambda f: _classes(f) and f.rows > 5_000,
        "mlp",
        "logistic",
        "enough rows for interactions to be learned; the second tells whether there are any",
    ),
    Rule(
        "classes",
        _classes,
        "logistic",
        "svm",
        "the conditional model that is hardest to mislead, and a kernel for boundaries that are curved",
    ),
    Rule(
        "much to generate",
        lambda f: f.question == "generate" and f.rows > 5_000,
        "gan",
        "gmm:components=20",
        "only samples are asked for, of many rows",
    ),
    Rule(
        "rows",
        _open,
        "gmm",
        "vae",
        "groups, densities, missing cells and samples from one joint model; a decoder where columns are many",
    ),
)
"""In the order in which they are tried; the first that holds, and whose systems are installed, decides."""


@dataclass(frozen=True)
class Advice:
    """What to start with.

    Attributes:
        facts: what was looked at.
        rule: which rule decided.
        why: its reason.
        first: the word of the first system.
        second: of the second.
        commands: what to type: both fits, and the comparison of them.
        notes: what else is to be known.
    """

    facts: Facts
    rule: str
    why: str
    first: str
    second: str
    commands: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        from dataclasses import asdict

        return asdict(self)

    def text(self) -> str:
        """For a terminal."""
        f = self.facts
        what = f"{f.classes} classes" if f.classes else "a number" if f.target else "no target"
        missing = f", {f.missing:.0%} of cells missing" if f.missing else ""
        lines = [
            f"{f.source}: {f.rows:,} rows, {f.columns} columns ({f.labelled} of labels), {what}{missing}",
            "",
            f"start with {self.first}, and hold {self.second} against it",
            f"because {self.why} (rule: {self.rule})",
            "",
            *(f"  {each}" for each in self.commands),
        ]
        return "\n".join([*lines, *([""] if self.notes else []), *(f"note: {each}" for each in self.notes)])

    def __repr__(self) -> str:
        return self.text()


def recommend(data: Any, target: Any = None, *, question: Question | None = None, **reading: Any) -> Advice:
    """Which two systems to start with, and why: by types, missing cells, size, balance, order, question.

    Args:
        data: as for `fit`.
        target: the column that is to be predicted, if there is one.
        question: what is asked; `predict` with a target, else `groups`.
        **reading: options of `ppl_models.data.read`.

    Raises:
        UsageError: to predict, a target is needed.
        DataError: the data cannot be read.
    """
    if isinstance(data, Dataset):
        found = data
    else:
        found = read(data, **({} if target is None else {"target": target}), **reading)
    facts = facts_of(found, question)
    rule = decide(facts)
    first, second = (_apart(word, facts) for word in (rule.first, rule.second))
    commands = _commands(data, facts, first, second, reading)
    return Advice(facts, rule.name, rule.why, first, second, commands, _notes(facts))


def _apart(word: str, facts: Facts) -> str:
    """The word of a system, with what sets apart values of many rows, if there are such and it can."""
    if not facts.spiked:
        return word
    own = {field.name: field.default for field in fields(find(word.partition(":")[0]))}
    if own.get("marginals") != "plain":
        return word
    return f"{word}{',' if ':' in word else ':'}marginals=auto"


def decide(facts: Facts, installed: Sequence[str] | None = None) -> Rule:
    """The first rule that holds and whose systems are installed.

    Args:
        facts: of the data.
        installed: names of systems; those of the registry if None.
    """
    there = {*(names() if installed is None else installed)}
    for rule in RULES:
        if rule.holds(facts) and {word.partition(":")[0] for word in (rule.first, rule.second)} <= there:
            return rule
    raise UsageError("no rule says what to start with; ppl models lists the systems")


def facts_of(data: Dataset, question: Question | None = None) -> Facts:
    """What the rules look at.

    Args:
        data: as it was read.
        question: what is asked.

    Raises:
        UsageError: to predict, a target is needed.
    """
    schema = data.schema
    if question == "predict" and schema.target is None:
        raise UsageError("to predict, say which column: --target COL")
    own = [c for c in schema.columns if c.name != schema.target]
    target = next((c for c in schema.columns if c.name == schema.target), None)
    classes, rarest, unlabelled = 0, 1.0, 0.0
    if target is not None:
        y = np.asarray(data.column(target.name))
        known = y[~np.isnan(y)]
        unlabelled = 1 - len(known) / max(len(y), 1)
        if target.labelled:
            classes = len(target.levels)
            rarest = float(np.bincount(known.astype(int), minlength=classes).min() / max(len(known), 1))
    return Facts(
        data.source,
        data.rows,
        len(own),
        sum(c.labelled for c in own),
        sum(c.missing for c in own) / max(data.rows * len(own), 1),
        question or ("groups" if target is None else "predict"),
        schema.target,
        classes,
        rarest,
        unlabelled,
        target is not None and target.kind is Kind.COUNT,
        len(data.lengths),
        data.steps,
        schema.time is not None,
        schema.shape is not None,
        any("left out" in note and "text" in note for note in data.notes),
        tuple(c.name for c in own if c.kind is Kind.CONTINUOUS and _spiked(data.column(c.name))),
    )


def _spiked(cells: np.ndarray) -> bool:
    found = marginal(cells, "auto")
    return found is not None and bool(found.spikes)


def _notes(facts: Facts) -> tuple[str, ...]:
    found = []
    if facts.classes and facts.rarest < 0.1:
        found.append(
            f"the rarest class is {facts.rarest:.1%} of the rows: look at log loss and AUC, not at accuracy"
        )
    if facts.missing and facts.target is not None:
        found.append("cells are missing: ppl compare … --missing-cells shows what that costs each system")
    if facts.spiked:
        more = f" and {len(facts.spiked) - 3} more" if facts.spiked[3:] else ""
        some = ", ".join(facts.spiked[:3]) + more
        found.append(f"one value has many of the rows of {some}: joint models set it apart, --marginals auto")
    if facts.text:
        found.append("a column of text was left out; systems of tables do not read it")
    return tuple(found)


def _commands(data: Any, facts: Facts, first: str, second: str, reading: Any) -> tuple[str, ...]:
    """Both fits, and the comparison."""
    name = shlex.quote(str(data)) if isinstance(data, str) or hasattr(data, "__fspath__") else "DATA"
    said = {"target": facts.target} | dict(reading)
    options = ""
    for key, value in said.items():
        if isinstance(value, str) and value:
            options += f" --{key.replace('_', '-')} {shlex.quote(value)}"
    fits = []
    for word in (first, second):
        system, _, rest = word.partition(":")
        more = "".join(f" --{o.partition('=')[0]} {o.partition('=')[2]}" for o in rest.split(",") if o)
        fits.append(f"ppl fit {system} {name}{options}{more}")
    return (*fits, f"ppl compare {name}{options} {first} {second}")


def checked_words() -> list[Own]:
    """The entries that the rules name, as far as their systems are installed."""
    there = {*names()}
    words = {word for rule in RULES for word in (rule.first, rule.second)}
    return [parsed(word)[0][1] for word in sorted(words) if word.partition(":")[0] in there]  # type: ignore[misc]
