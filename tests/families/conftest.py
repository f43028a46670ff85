"""Fixtures over every emission family that there is, in each of its forms."""

import pytest
from family_cases import CASES, Case


@pytest.fixture(params=list(CASES))
def family(request) -> Case:
    return CASES[request.param]


@pytest.fixture(params=[name for name, case in CASES.items() if case.cells])
def column_family(request) -> Case:
    return CASES[request.param]
