"""Each trial, small: that it can be run, and that it would notice a fault."""

import json
from pathlib import Path

import pytest

from torture import damage, files, forks, page
from torture.registry import FAULTS, TRIALS
from torture.run import RESULTS, ran
from torture.trials import Tries

FEW = {
    "kill": 0.02,
    "stop": 0.1,
    "fuzz": 0.02,
    "flip": 0.02,
    "cut": 0.1,
    "forged": 0.02,
    "tables": 0.1,
    "later": 0.05,
}
SHARE = {
    "streams": 0.05,
    "bare": 0.02,
    "memory": 0.01,
    "million-steps": 0.003,
    "disk-full": 0.1,
    "processes": 0.1,
}
SMALL = [name for name, trial in TRIALS.items() if trial.unit != "tests"]


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_a_trial_can_be_run_and_nothing_is_wrong(name):
    kind = name.partition(".")[0].partition("-")[0]
    found = ran(TRIALS[name], SHARE.get(name, FEW.get(kind, SHARE.get(kind, 1.0))))
    assert found["times"]
    assert not found["faults"], found["first"]


def test_damaged_files_are_the_same_each_time_and_damaged():
    for suffix in (".csv", ".json", ".npy", ".npz", ".png"):
        made = [files.damaged(suffix, number) for number in range(20)]
        assert made == [files.damaged(suffix, number) for number in range(20)]
        assert len({*made} - {*files.sound(suffix)}) > 15


def test_what_crashes_hangs_or_is_wrong_is_counted_and_the_rest_is_tried(tmp_path):
    def one(number: int) -> tuple[str | None, str]:
        if number == 1:
            import os

            os.kill(os.getpid(), 11)
        if number == 3:
            import time

            time.sleep(60)
        return ("not right" if number == 4 else None), "fine"

    tries = Tries(6, tmp_path)
    forks.many(tries, one, seconds=1.0)
    assert tries.done == 6
    assert dict(tries.seen) == {"fine": 3, "crashed": 1, "hung": 1, "wrong": 1}
    assert [fault.partition(" ")[0] for fault in tries.faults] == ["1:", "3:", "4:"]
    assert "signal 11" in tries.faults[0]


def test_a_traceback_a_wrong_code_and_many_lines_are_faults():
    assert forks.Ended(0, "", "").fault(0) is None
    assert forks.Ended(65, "", "ppl: one line\n").fault(0, 65) is None
    for ended in (
        forks.Ended(-6, "", ""),
        forks.Ended(1, "", "ppl: internal error: x"),
        forks.Ended(65, "", "ppl: one\nppl: two\n"),
        forks.Ended(0, "", "Traceback (most recent call last)"),
        forks.Ended(0, "", "", late=True),
    ):
        assert ended.fault(0, 65)


def test_the_page_is_of_the_results_and_names_every_fault():
    results = json.loads(RESULTS.read_text())
    said = page.PAGE.read_text(encoding="utf-8")
    assert said == page.text(results)
    assert not results.keys() - TRIALS.keys()
    for fault in FAULTS:
        assert f"{fault[0].upper()}{fault[1:]}" in said
    assert {trial.fault for trial in TRIALS.values()} == FAULTS.keys()


def test_forging_a_manifest_works(tmp_path):
    from ppl_models import store

    run = store.write_run(tmp_path / "run", manifest={"a": 1}, params={}, history=[]).path
    manifest = json.loads((Path(run) / "run.json").read_text())
    damage.forge(Path(run), manifest | {"a": 2})
    assert store.read_run(run).manifest["a"] == 2
