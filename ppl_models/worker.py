"""A process that takes part in the fit of another: it holds a share of the rows, and adds up what is asked.

`python -m ppl_models.worker` is started by `ppl_models.forming.formed`; ranks of torchrun come here from
the command line. See `ppl_models.distributed` for who does what.
"""

import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch

from ppl_models import registry
from ppl_models.bound import Bound
from ppl_models.data import Schema
from ppl_models.data.files import file_of
from ppl_models.distributed import (
    Divided,
    Heard,
    Message,
    Share,
    Team,
    Tensors,
    check_versions,
    unpacked,
)
from ppl_models.errors import Lost, UsageError
from ppl_models.forming import worker
from ppl_models.inference.loop import Course
from ppl_models.inference.settings import settings_of
from ppl_models.model import Model


def serve(team: Team) -> None:
    """Take part in fits until rank 0 has no more.

    Args:
        team: the ranks.

    Raises:
        Lost: rank 0 is gone.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # rank 0 gets it too, and ends the others after its step
        with suppress(ValueError, OSError):
            signal.signal(number, signal.SIG_IGN)
    about: dict[str, Any] = {}
    share: Share = {}
    failure: Exception | None = None
    message = team.hear()
    while message.what != "end":
        try:
            if message.what == "fit":
                about, share, failure = message.about, {}, None
                team.agree(lambda told=about: _check(team.rank, told))
            elif message.what == "rows":
                if message.about["rank"] == team.rank:  # those of other ranks come before and after
                    share = _share(about, team.receive(message.about["tensors"]))
            elif message.what == "train":
                _train(team, about, message)
            elif message.what in share:
                with suppress(Exception):  # of any rank: rank 0 raises it, and decides what follows
                    team.gather(lambda own=share, m=message: own[m.what](m.tensors))
            else:  # a sum, of rows that could not be made ready
                team.gather(lambda error=failure: _fail(error))
        except Heard as heard:
            message = heard.message
            continue
        except Lost:
            raise
        except Exception as error:  # rank 0 hears of it where it asks for a sum, and says it
            failure = error
        message = team.hear()


def _fail(error: Exception | None) -> Tensors:
    """Raise the error that kept this rank from having rows."""
    raise UsageError("a rank has no rows") if error is None else error


def _model(about: Mapping[str, Any]) -> Model:
    """The model that rank 0 fits, from its name and fields."""
    kind = registry.find(about["model"])
    registry.complete(kind, kind.__name__.lower())
    return kind(**about["fields"])


def _bound(about: Mapping[str, Any]) -> Bound:
    """The same over the columns of its data."""
    return _model(about).bind(Schema.from_dict(about["schema"]))


def _check(rank: int, about: Mapping[str, Any]) -> None:
    """Refuse to take part where this process would not compute what rank 0 does.

    Raises:
        UsageError: versions or arguments differ, or a file of data that both see.
    """
    check_versions(rank, about["versions"])
    if about["launched"] and sys.argv[1:] != about["arguments"]:
        raise UsageError(
            f"rank {rank} was started with {' '.join(sys.argv[1:])}, and rank 0 with "
            f"{' '.join(about['arguments'])}; start all ranks with the same command"
        )
    path, file = about["path"], about["file"]
    own = None if path is None else file_of(path)
    if own is not None and file is not None and "sha256" in file and own != file:
        raise UsageError(
            f"rank {rank} sees another {path} than rank 0 ({own['size']:,} bytes, and {file['size']:,}); "
            "give all machines the same file"
        )
    _model(about)


def _share(about: Mapping[str, Any], rows: Tensors) -> Share:
    """What can be summed over rows that were dealt to this rank."""
    bound = _bound(about)
    assert isinstance(bound, Divided)
    return bound.share(rows)


def _train(team: Team, about: Mapping[str, Any], message: Message) -> None:
    """Set up the training of rank 0 up to the first gradient, then give those of parts of mini-batches."""
    data = unpacked(Schema.from_dict(about["schema"]), message)
    settings = settings_of(type(_model(about)).settings, about["settings"])
    torch.manual_seed(settings.seed)
    _bound(about).prepare(data).train(data, settings, Course(team=team))


def main() -> None:
    """A worker of `formed`."""
    try:
        with worker() as team:
            serve(team)
    except Lost:
        os._exit(1)  # nothing of this process is of use without rank 0


if __name__ == "__main__":
    main()
