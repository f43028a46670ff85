"""Threads over blocks of rows."""

import os
import signal

import pytest

from ppl_models.regression.workers import spread


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_has_threads_of_its_own():
    """It inherits a pool without its threads, which would never answer."""
    parts = [range(2), range(3)]
    assert spread(len, parts) == [2, 3]
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(20)
        os._exit(0 if spread(len, parts) == [2, 3] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
