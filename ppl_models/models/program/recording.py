"""A function of u recorded once, and repeated with the operations that are alike made at once.

A model that goes through steps, `for t in pyro.markov(range(T))`, executes the same few operations T times
over. Its operations on tensors are recorded; what does not depend on u is computed once; what is
computed twice is computed once; and operations of the same kind, on tensors of the same shapes, none of which
needs another, become one on stacked tensors (Neubig, Goldberg & Dyer 2017, On-the-fly operation batching in
dynamic computation graphs, NeurIPS, https://arxiv.org/abs/1705.07860). The repetition is an ordinary function
of tensors: it has gradients, and goes under `torch.func.vmap`.
"""

import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_unflatten

aten: Any = torch.ops.aten

FLAT = {aten.view.default: aten.reshape.default, aten._unsafe_view.default: aten.reshape.default}
"""Operations that ask how a tensor lies in memory, and what does not."""

SAME = {aten.alias.default, aten.clone.default, aten.lift_fresh_copy.default, aten.lift_fresh.default}
"""Operations whose result is their argument, where nothing is written into."""

FEW = 8
"""Tensors that a stacked one is put together from, beyond which it is made of single ones."""


Run = Callable[[Callable[[int], Any], dict[int, Any]], Any]
"""Executes something, given what gives single results, and the stacked ones."""


class Unrecorded(Exception):
    """The function writes into tensors, or draws random numbers."""


@dataclass(frozen=True)
class _Ref:
    """The result of an operation, or a constant."""

    at: int


@dataclass
class _Operation:
    """One operation: `target(*args, **kwargs)` with references in place of tensors."""

    target: Any
    leaves: list[Any]
    form: Any
    level: int
    shape: Any

    def refs(self) -> Iterator[int]:
        return (leaf.at for leaf in self.leaves if isinstance(leaf, _Ref))


@dataclass
class _Batch:
    """Operations that are executed at once: where they are, and how their arguments are put together."""

    at: list[int]
    run: "Run"


def recorded(function: Callable[[Tensor], Sequence[Tensor]], u: Tensor) -> "Recording":
    """Record a function of a tensor.

    Args:
        function: gives some tensors.
        u: where it is executed: what it does may depend on the shape, but not on the values.

    Raises:
        Unrecorded: it writes into tensors, or draws random numbers.
    """
    log = _Log(u)
    with torch.no_grad(), log:
        found = list(torch.func.functionalize(lambda u: list(function(u)))(u))
    return Recording(log, found)


class _Log(TorchDispatchMode):
    """Writes down every operation on tensors, those left out that do not depend on u."""

    def __init__(self, u: Tensor) -> None:
        super().__init__()
        self.u = 0
        self.constants: dict[int, Any] = {}
        self.operations: dict[int, _Operation] = {}
        self._seen: dict[Any, _Ref] = {}
        self._refs, self._kept, self._number = {id(u): _Ref(0)}, [u], 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The operation, written down."""
        if func._schema.is_mutable or torch.Tag.nondeterministic_seeded in func.tags:
            raise Unrecorded(str(func))
        kwargs = kwargs or {}
        found = func(*args, **kwargs)
        leaves, form = tree_flatten((list(args), kwargs))
        own = [leaf for leaf in leaves if isinstance(leaf, Tensor) and id(leaf) in self._refs]
        if any(self._refs[id(leaf)].at not in self.constants for leaf in own):
            target = FLAT.get(func, func)
            leaves = [self.ref(leaf) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
            if target in SAME:
                self._keep(found, leaves[0])
            else:
                self._write(target, leaves, form, found)
        return found

    def ref(self, value: Tensor) -> _Ref:
        """What was written down of a tensor; one that was not is a constant."""
        if id(value) not in self._refs:
            key = ("constant", value.dtype, tuple(value.shape), value.detach().numpy().tobytes())
            if key not in self._seen:
                self._number += 1
                self.constants[self._number] = value.detach()
                self._seen[key] = _Ref(self._number)
            self._keep(value, self._seen[key])
        return self._refs[id(value)]

    def _keep(self, value: Tensor, ref: _Ref) -> None:
        self._kept.append(value)  # so that no other tensor gets its id
        self._refs[id(value)] = ref

    def _write(self, target: Any, leaves: list[Any], form: Any, found: Any) -> None:
        key = (
            target,
            tuple(leaf if isinstance(leaf, _Ref) else (type(leaf), leaf) for leaf in leaves),
            str(form),
        )
        if key not in self._seen:
            self._number += 1
            levels = [self.operations[leaf.at].level for leaf in leaves
                      if isinstance(leaf, _Ref) and leaf.at in self.operations]  # fmt: skip
            shape = (found.shape, found.dtype) if isinstance(found, Tensor) else None
            self.operations[self._number] = _Operation(
                target, leaves, form, 1 + max(levels, default=0), shape
            )
            self._seen[key] = _Ref(self._number)
        ref = self._seen[key]
        if isinstance(found, Tensor):
            self._keep(found, ref)
            return
        for i, part in enumerate(found):
            if isinstance(part, Tensor):
                self._write(operator.getitem, [ref, i], _PAIR, part)


_PAIR = tree_flatten(([0, 0], {}))[1]


class Recording:
    """The operations of a recorded function, those that are alike together.

    Attributes:
        operations: how many were recorded that depend on u.
        batches: how many are executed.
    """

    def __init__(self, log: _Log, found: list[Tensor]) -> None:
        self._outputs = [log.ref(tensor) for tensor in found]
        self._constants, self._operations, self._u = log.constants, log.operations, log.u
        self._needed()
        self._batches = self._planned()
        self.operations, self.batches = len(self._operations), len(self._batches)

    def __call__(self, u: Tensor) -> list[Tensor]:
        """What the function gives at u (d,)."""
        single: dict[int, Any] = {self._u: u}
        stacked: dict[int, Any] = {}

        def get(at: int) -> Any:
            if at in self._constants:
                return self._constants[at]
            if at not in single:
                group, place = self._place[at]
                single[at] = stacked[group][place]
            return single[at]

        for number, batch in enumerate(self._batches):
            found = batch.run(get, stacked)
            if len(batch.at) == 1:
                single[batch.at[0]] = found
            else:
                stacked[number] = found
        zero = 0 * u.sum()
        return [get(ref.at) + (zero if ref.at in self._constants else 0) for ref in self._outputs]

    def _needed(self) -> None:
        """Leave out what no output needs."""
        need, todo = set(), [ref.at for ref in self._outputs]
        while todo:
            at = todo.pop()
            if at in self._operations and at not in need:
                need.add(at)
                todo += self._operations[at].refs()
        self._operations = {at: op for at, op in self._operations.items() if at in need}

    # What is executed together

    def _planned(self) -> list[_Batch]:
        groups: dict[Any, list[int]] = {}
        for at, op in self._operations.items():
            groups.setdefault((op.level, *self._signature(at, op)), []).append(at)
        ordered = sorted(groups.values(), key=lambda group: (self._operations[group[0]].level, group[0]))
        self._place = {
            at: (number, place)
            for number, group in enumerate(ordered)
            if len(group) > 1
            for place, at in enumerate(group)
        }
        self._sizes = {number: len(group) for number, group in enumerate(ordered)}
        return [_Batch(group, self._run(group)) for group in ordered]

    def _signature(self, at: int, op: _Operation) -> tuple[Any, ...]:
        """What operations have in common that become one."""
        if op.shape is None or any(
            isinstance(leaf, _Ref) and self._shape(leaf.at) is None for leaf in op.leaves
        ):
            return (at,)
        if _moves(op):
            source, dim, *cut = op.leaves
            length = cut[1] - cut[0] if op.target is aten.slice.Tensor else 1
            return (op.target, source, dim, length)
        return (op.target, str(op.form), op.shape, *(
            self._shape(leaf.at) if isinstance(leaf, _Ref) else ("is", type(leaf), leaf) for leaf in op.leaves
        ))  # fmt: skip

    def _shape(self, at: int) -> Any:
        if at == self._u:
            return "u"
        if at in self._constants:
            value = self._constants[at]
            return (value.shape, value.dtype) if isinstance(value, Tensor) else None
        return self._operations[at].shape

    def _run(self, group: list[int]) -> Run:
        op = self._operations[group[0]]
        if len(group) == 1:
            return self._alone(op)
        if _moves(op):
            return self._cuts(group)
        parts: list[Any] = []
        for leaves in zip(*(self._operations[at].leaves for at in group), strict=True):
            parts.append(self._stacked([leaf.at for leaf in leaves]) if isinstance(leaves[0], _Ref) else None)
        rank = max((len(self._shape(ref)[0]) for ref in op.refs() if ref != self._u), default=0)
        wide = torch.Tag.pointwise in op.target.tags
        target, form = op.target, op.form
        at = [i for i, part in enumerate(parts) if part is not None]
        dims = [0 if parts[i][0] else None for i in at]

        def call(*tensors: Tensor) -> Any:
            leaves = list(op.leaves)
            for i, tensor in zip(at, tensors, strict=True):
                leaves[i] = tensor
            args, kwargs = tree_unflatten(leaves, form)
            return target(*args, **kwargs)

        def run(get: Callable[[int], Any], stacked: dict[int, Any]) -> Any:
            tensors = [parts[i][1](get, stacked) for i in at]
            if wide:
                return call(*(
                    t.reshape(t.shape[0], *[1] * (rank + 1 - t.dim()), *t.shape[1:]) if dim == 0 else t
                    for t, dim in zip(tensors, dims, strict=True)
                ))  # fmt: skip
            return torch.func.vmap(call, in_dims=tuple(dims))(*tensors)

        if all(dim is None for dim in dims):  # cannot be: equal operations are one
            raise Unrecorded
        return run

    def _alone(self, op: _Operation) -> Run:
        if op.target in (aten.stack.default, aten.cat.default) and isinstance(op.leaves[0], _Ref):
            listed = [leaf for leaf in op.leaves if isinstance(leaf, _Ref)]
            shapes = {self._shape(ref.at) for ref in listed}
            rest = [leaf for leaf in op.leaves if not isinstance(leaf, _Ref)]
            if len(listed) > 1 and len(shapes) == 1 and "u" not in shapes and rest in ([], [0]):
                many, part = self._stacked([ref.at for ref in listed])
                flat = op.target is aten.cat.default
                if many:
                    return lambda get, stacked: (
                        part(get, stacked).flatten(0, 1) if flat else part(get, stacked)
                    )

        def run(get: Callable[[int], Any], stacked: dict[int, Any]) -> Any:
            leaves = [get(leaf.at) if isinstance(leaf, _Ref) else leaf for leaf in op.leaves]
            args, kwargs = tree_unflatten(leaves, op.form)
            return op.target(*args, **kwargs)

        return run

    def _cuts(self, group: list[int]) -> Run:
        """Elements or slices of one tensor, at once."""
        op = self._operations[group[0]]
        source, dim = op.leaves[0].at, op.leaves[1]
        first = torch.tensor([self._operations[at].leaves[2] for at in group])
        if op.target is aten.select.int:
            return lambda get, stacked: get(source).movedim(dim, 0)[first]
        index = first[:, None] + torch.arange(op.leaves[3] - op.leaves[2])
        return lambda get, stacked: get(source).movedim(dim, 0)[index].movedim(1, dim + 1)

    def _stacked(self, refs: list[int]) -> tuple[bool, Run]:
        """Whether tensors differ, and what stacks them, or gives the one that they are."""
        if len(set(refs)) == 1:
            only = refs[0]
            return False, lambda get, stacked: get(only)
        if all(ref in self._constants for ref in refs):
            value = torch.stack([self._constants[ref] for ref in refs])
            return True, lambda get, stacked: value
        sources: dict[Any, list[int]] = {}
        for i, ref in enumerate(refs):
            source = "constant" if ref in self._constants else self._place.get(ref, (None, 0))[0]
            sources.setdefault(("single", ref) if source is None else source, []).append(i)
        if len(sources) > FEW:
            return True, lambda get, stacked: torch.stack([get(ref) for ref in refs])
        parts = [self._part(source, [refs[i] for i in at]) for source, at in sources.items()]
        if len(parts) == 1:
            return True, parts[0]
        order = torch.tensor([i for at in sources.values() for i in at]).argsort()
        return True, lambda get, stacked: torch.cat([part(get, stacked) for part in parts])[order]

    def _part(self, source: Any, refs: list[int]) -> Run:
        if source == "constant":
            value = torch.stack([self._constants[ref] for ref in refs])
            return lambda get, stacked: value
        if isinstance(source, tuple):
            return lambda get, stacked: torch.stack([get(ref) for ref in refs])
        places = [self._place[ref][1] for ref in refs]
        first, size = places[0], len(places)
        if places == list(range(first, first + size)):
            if size == self._sizes[source]:
                return lambda get, stacked: stacked[source]
            return lambda get, stacked: stacked[source][first : first + size]
        index = torch.tensor(places)
        return lambda get, stacked: stacked[source][index]


def _moves(op: _Operation) -> bool:
    """Whether it is an element or a slice of a tensor."""
    if op.target is aten.select.int:
        return op.leaves[1] >= 0
    whole = op.target is aten.slice.Tensor and len(op.leaves) == 4
    return whole and op.leaves[1] >= 0 and all(isinstance(i, int) and 0 <= i < 2**31 for i in op.leaves[2:])
