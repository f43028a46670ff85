"""Runs that several processes of pytest need: each is made once, by the first of them that gets to it."""

import fcntl
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest


def together(
    factory: pytest.TempPathFactory, name: str, makers: Mapping[str, Callable[[Path], None]]
) -> Path:
    """A directory with all of these in it by their names.

    Args:
        factory: pytest's.
        name: of the directory.
        makers: what writes each, given its path; processes share the work.
    """
    base = factory.getbasetemp()
    base = base.parent if base.name.startswith("popen-") else base
    place = base / name
    place.mkdir(exist_ok=True)
    for mode in (fcntl.LOCK_EX | fcntl.LOCK_NB, fcntl.LOCK_EX):  # first those that nobody makes, then wait
        for key, make in makers.items():
            done = base / f"{name}-{key}.done"
            with (base / f"{name}-{key}.lock").open("w") as lock:
                try:
                    fcntl.flock(lock, mode)
                except BlockingIOError:
                    continue
                if not done.exists():
                    make(place / key)
                    done.touch()
    return place
