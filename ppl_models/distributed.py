"""One fit by several processes: rank 0 leads it, and sums over rows are taken where the rows lie.

Everything that a fit does with many rows is a sum over them: expected statistics and log evidence of a
mixture or a chain, log likelihood, gradient and Hessian of a regression, the gradient of a mini-batch. Rank 0
runs the fit as it always does. Each rank holds a share of the rows, and where a sum is wanted rank 0 says at
which parameters, every rank adds up its own rows, and one reduction brings the total to rank 0:

    rank 0   tell("expect", η) ──►  Ŝ₀ = Σ_{n ∈ share 0} E[t | x_n, η]  ──┐
    rank r        hears       ──►  Ŝ_r = Σ_{n ∈ share r} E[t | x_n, η]  ──┴─►  Σ_r Ŝ_r at rank 0

So all decisions (steps, restarts, when to stop) are of one process and cannot come apart, only rank 0 writes
and speaks, and what travels is as large as the parameters whatever the number of rows.

How ranks are started is `ppl_models.forming`. Messages are tensors in the safetensors format with a JSON
header, by gloo: nothing that is received is executed.
"""

import json
import math
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple, NoReturn, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from ppl_models.data import Dataset, Schema
from ppl_models.data.spill import Spill, stays_on_disk
from ppl_models.errors import DataError, Lost, PplError, UsageError
from ppl_models.inference.ranks import Share, Tensors
from ppl_models.inference.signals import Whole

MATTER = ("ppl_models", "torch", "numpy", "pyro-ppl")
"""Packages whose versions must be those of rank 0."""

BLOCK = 1 << 21
"""Numbers of rows that are sent at a time."""

TEXT = 600
"""Bytes of the message of a rank that failed."""

_ERRORS: tuple[type[Exception], ...] = (
    DataError,
    torch.linalg.LinAlgError,  # pyright: ignore[reportPrivateImportUsage]
    UsageError,
    PplError,
    RuntimeError,
)
"""What the error of a rank is at the others; one that is none of these is the last."""


class Message(NamedTuple):
    """What rank 0 tells the others: what is to be done, with what."""

    what: str
    about: dict[str, Any]
    tensors: dict[str, Tensor]


class Heard(Exception):
    """A message that ends what a rank was doing."""

    def __init__(self, message: Message) -> None:
        super().__init__(message.what)
        self.message = message


@runtime_checkable
class Divided(Protocol):
    """A bound model whose rows may lie with several ranks."""

    def deal(self, data: Dataset, size: int) -> Iterator[Tensors]:
        """The share of each rank in turn, together all rows.

        Raises:
            UsageError: the rows cannot be divided among so many.
        """
        ...

    def share(self, rows: Tensors) -> Share:
        """What can be summed over a share."""
        ...


class Team:
    """The ranks of one job, as one of them sees them; `torch.distributed` has its default group set up.

    Args:
        rank: of this process; 0 leads.
        size: how many ranks there are.
        local: how many of them are on this machine, which share its processors.
    """

    def __init__(self, rank: int, size: int, local: int) -> None:
        self.rank, self.size = rank, size
        self.threads = max(1, (os.cpu_count() or 1) // max(local, 1))
        self.lost = False

    # Messages

    def tell(self, what: str, about: Mapping[str, Any] | None = None, tensors: Tensors | None = None) -> None:
        """Rank 0 to all others.

        Args:
            what: is to be done.
            about: plain values that go with it.
            tensors: on whatever device.
        """
        from safetensors.torch import save

        parts = {name: value.detach().cpu().contiguous() for name, value in (tensors or {}).items()}
        content = save(parts, {"say": json.dumps({"what": what, "about": about or {}})})
        payload = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        with self._noticing():
            import torch.distributed as dist

            dist.broadcast(torch.tensor([len(payload)]), 0)
            dist.broadcast(payload, 0)

    def hear(self) -> Message:
        """The next message of rank 0."""
        from safetensors.torch import load

        with self._noticing():
            import torch.distributed as dist

            length = torch.zeros(1, dtype=torch.int64)
            dist.broadcast(length, 0)
            payload = torch.empty(int(length), dtype=torch.uint8)
            dist.broadcast(payload, 0)
        content = payload.numpy().tobytes()
        head = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        said = json.loads(head["__metadata__"]["say"])
        return Message(said["what"], said["about"], load(content))

    def hand(self, rank: int, rows: Tensors) -> None:
        """Rank 0 to one other: tensors of any size, block by block."""
        import torch.distributed as dist

        head = {name: [list(v.shape), str(v.dtype).removeprefix("torch.")] for name, v in rows.items()}
        self.tell("rows", {"rank": rank, "tensors": head})
        with self._noticing():
            for name in head:
                for lo, hi in _blocks(head[name][0]):
                    dist.send(rows[name][lo:hi].contiguous(), rank)

    def receive(self, head: Mapping[str, Any]) -> dict[str, Tensor]:
        """What rank 0 hands to this one: in memory, or on disk where a table is better not held in memory."""
        import torch.distributed as dist

        found: dict[str, Tensor] = {}
        for name, (shape, kind) in head.items():
            dtype = getattr(torch, kind)
            spilled = len(shape) == 2 and dtype == torch.float64 and stays_on_disk(math.prod(shape))
            spill = Spill(f"rank {self.rank}", *shape) if spilled else None
            whole = torch.empty(shape if spill is None else (0,), dtype=dtype)
            with self._noticing():
                for lo, hi in _blocks(shape):
                    if spill is None:
                        part = whole[lo:hi]
                        dist.recv(part, 0)
                    else:
                        part = torch.empty((hi - lo, *shape[1:]), dtype=dtype)
                        dist.recv(part, 0)
                        spill.append(part.numpy())
            if spill is not None:
                with spill:
                    whole = as_tensor(spill.array())
            found[name] = whole
        return found

    def gather(self, own: Callable[[], Tensors]) -> dict[str, Tensor]:
        """The sum over ranks of what each of them finds, on the CPU; of meaning at rank 0 alone.

        Args:
            own: what this rank finds: the same names and shapes at every rank.

        Raises:
            Exception: a rank failed; the same error at all of them.
        """
        import torch.distributed as dist

        found: dict[str, Tensor] = {}
        error: Exception | None = None
        before = torch.get_num_threads()
        torch.set_num_threads(max(1, min(before, self.threads)))
        try:
            found = {name: value.detach().cpu() for name, value in sorted(own().items())}
        except Exception as failure:  # whatever it is: the others wait for what this one has to say
            error = failure
        finally:
            torch.set_num_threads(before)
        self._agree(error)
        flat = torch.cat([value.reshape(-1).to(torch.float64) for value in found.values()])
        with self._noticing():
            dist.reduce(flat, 0)
        parts = flat.split([value.numel() for value in found.values()])
        return {
            name: part.reshape(value.shape).to(value.dtype)
            for (name, value), part in zip(found.items(), parts, strict=True)
        }

    def _agree(self, error: Exception | None) -> None:
        """Raise the error of any rank at all of them.

        Raises:
            Exception: of the first rank that has one.
        """
        import torch.distributed as dist

        kind = next((i for i, each in enumerate(_ERRORS) if isinstance(error, each)), len(_ERRORS) - 1)
        code = 0 if error is None else 1 + kind
        codes = torch.zeros(self.size, dtype=torch.int64)
        codes[self.rank] = code
        with self._noticing():
            dist.all_reduce(codes)
        if not codes.any():
            return
        first = int(codes.nonzero()[0])
        text = torch.zeros(TEXT, dtype=torch.uint8)
        if self.rank == first:
            said = (str(error) or type(error).__name__).encode()[:TEXT]
            text[: len(said)] = torch.frombuffer(bytearray(said), dtype=torch.uint8)
        with self._noticing():
            dist.broadcast(text, first)
        if error is not None:
            raise error
        said = bytes(text.tolist()).rstrip(b"\0").decode(errors="replace")
        raise _ERRORS[int(codes[first]) - 1](said)

    @contextmanager
    def _noticing(self) -> Iterator[None]:
        """Within it, an error of the connection is a rank that is gone."""
        try:
            yield
        except (RuntimeError, ConnectionError) as error:
            self.lost = True
            if self.rank:
                raise Lost(f"rank {self.rank}: rank 0 is gone") from error
            raise Lost("a process of the fit is gone, and with it its rows") from error

    def agree(self, action: Callable[[], None]) -> None:
        """Do something at every rank; where one fails, all do.

        Raises:
            Exception: of the first rank that failed.
        """
        error: Exception | None = None
        try:
            action()
        except Exception as failure:
            error = failure
        self._agree(error)

    def serve(self, share: Share) -> NoReturn:
        """Add up what rank 0 asks for, as long as it is of this share.

        Raises:
            Heard: with the first message that is not.
        """
        while (message := self.hear()).what in share:
            with suppress(Exception):  # of any rank: rank 0 raises it, and decides what follows
                self.gather(lambda m=message: share[m.what](m.tensors))
        raise Heard(message)

    # What a leader does

    def sum(self, what: str, given: Tensors, own: Share) -> dict[str, Tensor]:
        """A sum over all rows, at rank 0: see the module.

        Args:
            what: name of the sum.
            given: at which parameters.
            own: the share of rank 0.
        """
        given = {name: value.detach().cpu() for name, value in given.items()}
        with Whole():
            self.tell(what, None, given)
            return self.gather(lambda: own[what](given))

    def introduce(self, about: Mapping[str, Any]) -> None:
        """Tell the others of a fit, and hear whether they can take part in it.

        Raises:
            UsageError: a rank has other versions, other data under the same name, or no such model.
        """
        with Whole():
            self.tell("fit", dict(about) | {"versions": versions(), "arguments": sys.argv[1:]})
            self.agree(lambda: None)

    def deal(self, shares: Iterator[Tensors]) -> dict[str, Tensor]:
        """Hand each rank its share, and return that of rank 0."""
        with Whole():
            own = dict(next(shares))
            for rank in range(1, self.size):
                self.hand(rank, next(shares))
        return own

    def end(self) -> None:
        """Let the others go."""
        if not self.lost:
            with suppress(PplError):
                self.tell("end")


class Shares(NamedTuple):
    """Who has which part of the rows of a data set.

    Attributes:
        team: the ranks.
        own: the share of this one.
    """

    team: Team
    own: Share

    def sum(self, what: str, given: Tensors) -> dict[str, Tensor]:
        """A sum over all rows: see `Team.sum`."""
        return self.team.sum(what, given, self.own)


def _blocks(shape: list[int]) -> Iterator[tuple[int, int]]:
    """Rows from and to, a block after another."""
    step = max(1, BLOCK // max(math.prod(shape[1:]), 1))
    for lo in range(0, shape[0], step):
        yield lo, min(lo + step, shape[0])


def as_tensor(values: np.ndarray) -> Tensor:
    """An array as a tensor without copying; it is not written to."""
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(values)


ARRAY = "array/"
"""Begins the names of arrays beside the rows."""


def packed(data: Dataset) -> dict[str, Tensor]:
    """All rows of a data set, for a message."""
    found = {"values": data.values, "lengths": np.asarray(data.lengths, np.int64)}
    if data.weight is not None:
        found["weight"] = data.weight
    found |= {f"{ARRAY}{name}": np.array(array, np.float64) for name, array in data.arrays.items()}
    return {name: torch.from_numpy(np.array(value)) for name, value in found.items()}


def unpacked(schema: Schema, message: Message) -> Dataset:
    """The data set of such a message."""
    rows = {name: value.numpy() for name, value in message.tensors.items()}
    return Dataset(
        rows["values"],
        schema,
        rows["lengths"],
        tuple(message.about["sequence_ids"]),
        source=message.about["source"],
        weight=rows.get("weight"),
        arrays={name.removeprefix(ARRAY): v for name, v in rows.items() if name.startswith(ARRAY)},
    )


def versions() -> dict[str, str]:
    """Of Python and the packages that change numbers."""
    found = {"Python": ".".join(platform.python_version_tuple()[:2])}
    for name in MATTER:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


def check_versions(rank: int, leader: Mapping[str, str]) -> None:
    """Refuse to take part with other versions than those of rank 0.

    Raises:
        UsageError: naming the first that differs.
    """
    for name, own in versions().items():
        if leader.get(name) != own:
            raise UsageError(
                f"rank {rank} has {name} {own}, and rank 0 {leader.get(name)}; "
                "install the same on every machine"
            )
