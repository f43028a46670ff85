"""docs/reliability.md from the results of trials."""

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torture.registry import FAULTS, TRIALS

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"

HEAD = """# How reliable it is

Each fault that a user may meet, what must happen, how it was tried, how many times, and what came of it.
`make torture` tries all of them again, which takes hours, and writes this page; `tests/torture/run.py --only
fuzz` tries some. What happens in each case is said in words in [faults.md](faults.md).

A file, a kill or a table that is not as promised counts, with what was seen. Where fewer were tried than are
planned the table says so, and so it does of what was not run. Times are of processors, not of the clock.
"""


def versions() -> str:
    """What the results are of."""
    names = ("ppl_models", "torch", "pyarrow", "numpy")
    return ", ".join(
        [f"Python {platform.python_version()}", *(f"{n} {version(n).partition('+')[0]}" for n in names)]
    )


def write(results: dict[str, Any]) -> None:
    """Write the page."""
    PAGE.write_text(text(results), encoding="utf-8")


def text(results: dict[str, Any]) -> str:
    """The page: a table for each fault, and what was not as promised."""
    run = [results[name] for name in TRIALS if name in results]
    faults = sum(each["faults"] for each in run)
    tries = sum(each["times"] for each in run if each["times"] < 10**6)  # a step is no try
    parts = [
        HEAD,
        f"{len(run)} of {len(TRIALS)} trials were run: {tries:,} tries, {faults:,} not as promised, "
        f"{sum(each['cpu'] for each in run) / 60:.0f} minutes of a processor.\n",
    ]
    for fault, promise in FAULTS.items():
        parts.append(f"## {fault[0].upper()}{fault[1:]}\n\nMust happen: {promise}.\n")
        parts.append("| tried by | times | not as promised | seen | date |\n|---|---|---|---|---|")
        for trial in TRIALS.values():
            if trial.fault == fault:
                parts.append(_row(trial.how, trial.unit, results.get(trial.name)))
        parts.append("")
    said = sorted({each["versions"] for each in run})
    parts.append("## Versions\n")
    parts += [f"- {each}" for each in said]
    open_ = [(name, line) for name in TRIALS if name in results for line in results[name]["first"][:3]]
    if open_:
        parts.append("\n## What was not as promised\n")
        parts += [f"- {name}: `{_plain(line)[:300]}`" for name, line in open_]
    return "\n".join(parts).rstrip() + "\n"


def _row(how: str, unit: str, found: dict[str, Any] | None) -> str:
    if found is None:
        return f"| {_cell(how)} | not run | | | |"
    whole = found.get("share", 1.0) >= 1.0
    times = f"{found['times']:,} {unit}" + (
        "" if whole else f", {100 * found['share']:.0f} % of what is planned"
    )
    often = sorted(found["seen"].items(), key=lambda item: (-item[1], item[0]))  # however they were stored
    seen = ", ".join(f"{key}: {value:,}" if value > 1 else key for key, value in often)
    return f"| {_cell(how)} | {times} | {found['faults']:,} | {_cell(seen)} | {found['date']} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text).replace("`", "'")
