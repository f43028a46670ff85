"""Faults that tests elsewhere try: these are run, slow ones included, and counted."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

from torture.trials import Tries, fault, trial

TESTS = Path(__file__).parents[1]

ROWS: list[tuple[str, str, str, str]] = [
    (
        "resume-changed",
        "resumed after data, fields or the version changed",
        "refused with what differs, unless --force",
        "cli/test_resume.py",
    ),
    (
        "not-finite",
        "a loss or gradient that is not finite",
        "the step is not applied, smaller ones are tried, then `diverged`, with site, column and row",
        "inference/test_gradient_rule.py inference/test_adversarial_rule.py "
        "models/program/test_program_faults.py",
    ),
    (
        "gpu-memory",
        "a GPU out of memory",
        "the batch is halved, the step is the same (the error is injected: no GPU is needed)",
        "inference/test_gradient_rule.py::test_out_of_memory_halves_the_batch_and_takes_the_same_step",
    ),
    (
        "larger-than-memory",
        "data larger than memory",
        "streamed, or refused with an estimate",
        "data/test_on_disk.py data/test_streaming.py "
        "data/test_refusals.py::test_larger_than_the_memory_is_refused_with_an_estimate",
    ),
    (
        "store",
        "a run killed, refused or overtaken while it is written",
        "the old run or the new one, whole; a lock goes with its holder",
        "store",
    ),
    (
        "markup",
        "markup and control codes in names, labels and cells; cells that are formulas",
        "escaped; text cells are prefixed, numbers untouched",
        "report/test_page.py report/test_browser.py data/test_writers.py",
    ),
    (
        "refusals",
        "ragged rows, unclosed quotes, wrong encodings, delimiters or decimal marks, words among numbers",
        "refused with column and line, and the option that would help",
        "data/test_refusals.py data/test_exports.py",
    ),
    (
        "sequences",
        "sequences of length 1, ids that come back, unsorted times",
        "length 1 fits; the others are refused by name",
        "data/test_sequences.py",
    ),
    (
        "plug-ins",
        "a plug-in that cannot be imported",
        "left out with a warning, an error only where it is named",
        "cli/test_registry.py",
    ),
    (
        "one-bad-start",
        "one bad start, a draw that is not finite, a precision that is not positive definite",
        "left out and counted, the fit goes on",
        "models/program/test_program_faults.py inference/test_calibration.py",
    ),
    (
        "terminals",
        "terminals of 20 columns, dumb ones, none",
        "works, no traceback",
        "cli/test_process.py cli/test_streams.py",
    ),
]


def _declare(name: str, what: str, promise: str, nodes: str) -> None:
    @trial(name, fault(what, promise), f"tests/{nodes.replace(' ', ', tests/')}", 1, "tests")
    def body(tries: Tries) -> None:
        report = tries.place / "report.xml"
        done = subprocess.run(
            [
                sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "slow or not slow",
                f"--junitxml={report}", *(str(TESTS / node) for node in nodes.split()),
            ],
            cwd=TESTS.parent, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if not report.exists():
            raise AssertionError(done.stdout[-300:] + done.stderr[-300:])
        for case in ElementTree.parse(report).iter("testcase"):
            failed = [each for each in case if each.tag in ("failure", "error")]
            called = f"{case.get('classname')}.{case.get('name')}"
            tries.tried(f"{called}: {failed[0].get('message', '')[:200]}" if failed else None)


for _row in ROWS:
    _declare(*_row)
