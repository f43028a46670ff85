"""Run the console blocks of README.md and docs/*.md, and write what they print in place of what stands there.

    python docs/consoles.py [PAGE ...]

Blocks of a page run one after the other in a copy of the clone, so that later ones find the runs of
earlier ones. A block with a command that fails, as of a file that is not there, is left as it is.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"(```console\n)(.*?)(```)", re.DOTALL)


def printed(command: str, folder: Path) -> str | None:
    """Both streams of a command, or None if it failed otherwise than by its verdict."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "COLUMNS": "100", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    return done.stdout if done.returncode in (0, 3) else None


def block(text: str, folder: Path) -> str:
    """A block with what its commands print now."""
    commands = [line[2:] for line in text.splitlines() if line.startswith("$ ")]
    found = [(command, printed(command, folder)) for command in commands]
    if any(out is None for _, out in found):
        return text
    return "".join(
        f"$ {command}\n" + "".join(f"{line.rstrip()}\n" for line in str(out).splitlines())
        for command, out in found
    )


def main() -> None:
    """All pages, or those that are named."""
    pages = [ROOT / name for name in sys.argv[1:]] or [
        ROOT / "README.md",
        *sorted((ROOT / "docs").glob("*.md")),
    ]
    with tempfile.TemporaryDirectory() as temporary:
        for page in pages:
            folder = Path(temporary) / f"{page.parent.name}-{page.stem}"
            shutil.copytree(ROOT / "examples", folder / "examples")
            text = page.read_text(encoding="utf-8")
            new = BLOCK.sub(lambda m, folder=folder: m[1] + block(m[2], folder) + m[3], text)
            page.write_text(new, encoding="utf-8")
            print(page.name, "as it was" if new == text else "changed")


if __name__ == "__main__":
    main()
