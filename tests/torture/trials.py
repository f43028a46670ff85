"""What a trial is, and the list of them."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random


@dataclass
class Tries:
    """How often a trial is tried, where, and what came of it.

    Attributes:
        number: how many times to try.
        place: an empty directory.
        random: what is random about it.
        done: how many times it was tried.
        faults: what was not as it must be, in words.
        seen: how often each outcome was seen, for the table.
    """

    number: int
    place: Path
    random: Random = field(default_factory=lambda: Random(0))
    done: int = 0
    faults: list[str] = field(default_factory=list)
    seen: Counter = field(default_factory=Counter)

    def tried(self, fault: str | None = None, outcome: str = "") -> None:
        """Count a try, with the fault that it found, if it did."""
        self.done += 1
        if fault:
            self.faults.append(fault)
        if outcome:
            self.seen[outcome] += 1

    @contextmanager
    def trying(self, what: str, outcome: str = "") -> Iterator[None]:
        """Count the block as a try; what is raised in it is a fault."""
        try:
            yield
        except Exception as error:
            self.tried(f"{what}: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
        else:
            self.tried(outcome=outcome)


@dataclass(frozen=True)
class Trial:
    """One way to try one fault.

    Attributes:
        name: of the trial, for `--only`.
        fault: the row of the page.
        how: how it is tried, in words.
        number: how many times.
        unit: of what, in the plural.
        body: tries.
    """

    name: str
    fault: str
    how: str
    number: int
    unit: str
    body: Callable[[Tries], None]


FAULTS: dict[str, str] = {}
"""Every fault, in the order of the page, and what must happen."""

TRIALS: dict[str, Trial] = {}


def fault(name: str, promise: str) -> str:
    """Declare a fault; its name again."""
    FAULTS[name] = promise
    return name


def trial(
    name: str, fault: str, how: str, number: int, unit: str
) -> Callable[[Callable[[Tries], None]], Callable[[Tries], None]]:
    """Declare a trial of a fault."""

    def declared(body: Callable[[Tries], None]) -> Callable[[Tries], None]:
        assert fault in FAULTS, fault
        assert name not in TRIALS, name
        TRIALS[name] = Trial(name, fault, how, number, unit, body)
        return body

    return declared
