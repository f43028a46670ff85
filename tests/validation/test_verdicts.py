"""The verdict on fits of which it is known whether they are to be trusted."""

from pathlib import Path

import pytest
from validation.verdict_cases import CASES, UNSEEN, judged, matrix

PAGE = Path(__file__).resolve().parents[2] / "docs" / "trust.md"


def test_there_are_cases_of_all_sorts_and_the_page_has_each():
    names = [case.name for case in CASES]
    assert len(names) == len(set(names)) >= 40
    page = PAGE.read_text(encoding="utf-8")
    for case in CASES:
        assert f"| {case.about} |" in page, case.name
    assert set(names) >= UNSEEN.keys()


@pytest.mark.slow
def test_no_wrong_fit_is_trusted_and_few_right_ones_are_not():
    found = [judged(case) for case in CASES]
    right = [each for each in found if each.truth == "right"]
    trusted = {each.case.name for each in found if each.truth == "wrong" and each.verdict == "trusted"}
    assert trusted <= UNSEEN.keys(), matrix(found)
    lost = [each.case.name for each in right if each.verdict not in ("trusted", "use with care")]
    assert len(lost) <= 0.1 * len(right), lost
