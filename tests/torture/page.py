"""docs/reliability.md from the results of trials."""

import platform
from importlib.metadata import version
from pathlib import Path


def versions() -> str:
    return f"Python {platform.python_version()}, torch {version('torch').partition('+')[0]}, pyarrow {version('pyarrow')}"


def write(results):
    pass
