"""`ppl new NAME`: a file with a user-defined model to start from."""

import keyword
import re
from pathlib import Path
from typing import Any

import click

from ppl_models.cli.base import Command
from ppl_models.cli.options import option
from ppl_models.cli.output import say
from ppl_models.errors import OutputError, UsageError

DATA = "x,y\n0.5,1.9\n1.0,3.2\n1.5,3.8\n2.0,5.3\n2.5,5.9\n3.0,7.1\n3.5,7.8\n4.0,9.2\n4.5,9.9\n5.0,11.1\n"
"""Ten rows about y = 1 + 2x, with noise of sd 0.2."""

TEMPLATE = '''"""{title}: a line through points.

    intercept, slope ~ Normal(0, scale)
    noise ~ HalfNormal(scale)
    y_n ~ Normal(intercept + slope x_n, noise)

    ppl fit {file}:{title} {data}
    ppl summary latest --model {file}:{title}
"""

from dataclasses import dataclass
from typing import Annotated

import pyro
import pyro.distributions as dist

import ppl_models as ppl


@dataclass(frozen=True)
class {title}(ppl.PyroModel):
    """A line through points: y ~ Normal(intercept + slope x, noise)."""

    # Fields are hyperparameters: each is an option of `ppl fit`, here --scale, with its help.
    scale: Annotated[float, "sd of the priors"] = 10.0

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ppl.UsageError(f"scale must be positive, got {{self.scale}}")

    def model(self, data):
        """The density, line by line."""
        # Sites without obs are what is not known; give each a proper prior. Discrete ones are summed out.
        intercept = pyro.sample("intercept", dist.Normal(0.0, self.scale))
        slope = pyro.sample("slope", dist.Normal(0.0, self.scale))
        noise = pyro.sample("noise", dist.HalfNormal(self.scale))
        # A plate says that rows are independent given these. data["x"] is a column as a tensor.
        with pyro.plate("rows", len(data)):
            pyro.sample("y", dist.Normal(intercept + slope * data["x"], noise), obs=data["y"])
'''


@click.command(cls=Command, example="ppl new growth")
@click.argument("name", metavar="NAME")
@option("--force", is_flag=True, help="Replace files that are there.")
def new(name: str, force: bool, **options: Any) -> None:
    """Write NAME.py, a model of your own to start from, and NAME.csv, ten rows that it can be fitted to.

    NAME is that of the file, in small letters with _ between words.
    """
    stem = name.removesuffix(".py")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", stem) or keyword.iskeyword(stem):
        raise UsageError(f"NAME must be small letters, digits and _, and begin with a letter, got {name!r}")
    title = "".join(part.capitalize() for part in stem.split("_"))
    file, data = Path(f"{stem}.py"), Path(f"{stem}.csv")
    for path in (file, data):
        if path.exists() and not force:
            raise OutputError(f"{path} exists; use --force to replace it, or another name")
    try:
        file.write_text(TEMPLATE.format(title=title, file=file, data=data), encoding="utf-8")
        data.write_text(DATA, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write {file}: {error.strerror}") from None
    say(f"wrote {file} and {data}")
    say(f"next  ppl fit {file}:{title} {data}")
