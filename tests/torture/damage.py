"""Runs that are damaged, and manifests that ask for more than they hold."""

import copy
import hashlib
import json
import os
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ppl_models import store
from ppl_models.errors import RunError
from torture.forks import heard, many, ppl
from torture.kills import write_data
from torture.trials import Tries, fault, trial

DAMAGED = fault("a flipped bit or a truncated file in a run", "refused, with the name of the file")
HOSTILE = fault(
    "a run that asks for more than it holds, or for anything else",
    "used, or refused in one line; memory and time are bounded, nothing in it is executed",
)
ELSEWHERE = fault("a pipe, a device, a directory or a link in place of a file", "refused by name, at once")

FITS = {
    "hmm": "hmm table.csv --columns x,kind --states 2 --restarts 1",
    "vae": "vae table.csv --columns x,y --latent 1 --hidden 4 --steps 30",
    "logistic": "logistic table.csv --target kind",
    "mlp": "mlp table.csv --target kind --hidden 4 --members 2 --steps 30",
}


def _run(tries: Tries, name: str = "hmm") -> Path:
    """A run, as a directory that is copied for each try."""
    write_data(tries.place)
    ended = ppl("fit", *FITS[name].split(), "--out", "run", "--quiet", cwd=tries.place)
    if wrong := ended.fault(0):
        raise AssertionError(wrong)
    return tries.place / "run"


def _refused(run: Path, name: str) -> str | None:
    """What is wrong, if a run with a damaged file is not refused with its name."""
    try:
        store.read_run(run).verify()
    except RunError as error:
        return None if name in str(error) and str(error).isprintable() else f"{name} is not named: {error}"
    return f"{name}: nobody noticed"


def _damage(tries: Tries, name: str, spoil: str) -> None:
    run = _run(tries, name)
    files = sorted(path.name for path in run.iterdir())
    per_file, sound = tries.number, {each: (run / each).read_bytes() for each in files}
    tries.number *= len(files)

    def one(number: int) -> tuple[str | None, str]:
        each, rng = files[number // per_file], random.Random(f"{name} {spoil} {number}")
        content, turn = sound[each], number % per_file
        if spoil == "flip":
            at = rng.randrange(len(content))
            bad = bytearray(content)
            bad[at] ^= 1 << rng.randrange(8)
        else:
            bad = content[: [0, 1, len(content) - 1][turn] if turn < 3 else rng.randrange(len(content))]
        (run / each).write_bytes(bad)
        wrong = _refused(run, each)
        if turn % 20 == 0 and not wrong:
            wrong = heard("check", run).fault(74) if each != "posterior.nc" and "draws" not in each else None
        (run / each).write_bytes(content)
        return wrong and f"{each}: {wrong}", "refused"

    many(tries, one)


def _declare(name: str) -> None:
    @trial(
        f"flip-{name}", DAMAGED, f"a bit of each file of a run of `{name}`, 200 times", 200, "flips a file"
    )
    def flips(tries: Tries) -> None:
        _damage(tries, name, "flip")

    @trial(f"cut-{name}", DAMAGED, f"each file of a run of `{name}` cut at 50 places", 50, "cuts a file")
    def cuts(tries: Tries) -> None:
        _damage(tries, name, "cut")


for _name in ("hmm", "vae"):
    _declare(_name)


def forge(run: Path, manifest: dict[str, Any]) -> None:
    """Write a manifest with a checksum of its own that matches, as an attacker would."""
    text = json.dumps({k: v for k, v in manifest.items() if k != "manifest_sha256"}, indent=2)
    body = text.rstrip().removesuffix("}").rstrip().encode("utf-8", "surrogatepass")
    digest = hashlib.sha256(body).hexdigest()
    (run / "run.json").write_bytes(body + f',\n  "manifest_sha256": "{digest}"\n}}\n'.encode())


EXTREMES: list[Any] = [
    0, 1, -1, 2, 10**5, 10**9, 2**31, 2**63, -(2**63), 2**64, 10**30, 0.5, -0.0, 1e308, -1e308, 1e-308,
    {"$float": "nan"}, {"$float": "inf"}, {"$float": "-inf"}, True, False, None, "", "a", "x" * 100_000,
    "../x", "/dev/zero", "/etc/passwd", "os:system", "\x00", "\x1b[2J", "<script>", "\ud800", [], [[]], {},
    {"a": 1}, [0] * 1000, ["x"] * 1000, [None], [1e308, -1e308], {"x": {"y": [1]}}, "cuda", "1" * 400,
    "nan", [[1, 2], [3]], -5, 3,
]  # fmt: skip


def _places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """The path of every value, whole ones and parts of them."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _places(each, (*path, key))
    elif isinstance(value, list):
        for i, each in enumerate(value[:4]):
            yield from _places(each, (*path, i))


def _changed(manifest: dict[str, Any], rng: random.Random) -> tuple[dict[str, Any], str]:
    found = copy.deepcopy(manifest)
    said = []
    for _ in range(rng.choice((1, 1, 1, 2))):
        path = rng.choice([p for p in _places(found) if p[0] not in ("files", "schema_version")])
        held = found
        for key in path[:-1]:
            held = held[key]
        if rng.random() < 0.1:
            del held[path[-1]]
            said.append(f"{path} left out")
        else:
            held[path[-1]] = copy.deepcopy(rng.choice(EXTREMES))
            said.append(f"{path} = {str(held[path[-1]])[:40]!a}")
    return found, ", ".join(said)


def _hostile(tries: Tries, name: str, verbs: tuple[str, ...]) -> None:
    run = _run(tries, name)
    sound = json.loads((run / "run.json").read_text())
    os.chdir(tries.place)

    def one(number: int) -> tuple[str | None, str]:
        rng = random.Random(f"{name} {number}")
        manifest, said = _changed(sound, rng)
        forge(run, manifest)
        began, ended = time.process_time(), heard(rng.choice(verbs), run)
        wrong, spent = ended.fault(0, 2, 3, 65, 74), time.process_time() - began
        if not wrong and ended.code and spent > 5:
            wrong = f"refused only after {spent:.0f} s"
        return wrong and f"{said}: {wrong}", f"exit code {ended.code}"

    many(tries, one, memory=3 << 30, seconds=120.0, kept=lambda number: f"[{name} {number}]")


def _declare_hostile(name: str, verbs: tuple[str, ...]) -> None:
    @trial(
        f"forged-{name}",
        HOSTILE,
        f"a run of `{name}` with one or two fields of run.json at their extremes, sealed as it should be, "
        f"and one of `{'`, `'.join(verbs)}`, in 3 GB",
        1_000,
        "runs",
    )
    def body(tries: Tries) -> None:
        _hostile(tries, name, verbs)


_declare_hostile("hmm", ("check", "summary", "predict", "score", "forecast", "sample"))
_declare_hostile("vae", ("check", "predict", "score", "sample", "transform"))


def _spoilt(array: Any, rng: random.Random) -> Any:
    """Of another type, shape or value."""
    import numpy as np

    way, values = rng.randrange(7), np.random.default_rng(rng.randrange(2**31))
    if way == 0:
        return array.astype(rng.choice(["f4", "i8", "u1", "bool", "f2"]))
    if way == 1:
        return array[..., :-1].copy() if array.ndim and array.shape[-1] else array
    if way == 2:
        return array.ravel()[: rng.randrange(array.size + 1)]
    if way == 3:
        return np.zeros((0, *array.shape[1:]), array.dtype)
    if way == 4:
        return np.full_like(array, rng.choice([0, 1, 255])) if array.dtype.kind in "iub" else -np.abs(array)
    bad = array.copy()
    if bad.size and bad.dtype.kind == "f":
        bad.flat[values.integers(bad.size)] = rng.choice([np.nan, np.inf, -np.inf, 1e308, -1e308, 0.0, -1.0])
    elif bad.size:
        bad.flat[values.integers(bad.size)] = np.array(rng.choice([-1, 0, 2**40])).astype(bad.dtype)
    return bad


def _forged_arrays(tries: Tries, name: str, verbs: tuple[str, ...]) -> None:
    import numpy as np
    from safetensors.numpy import load, save

    run = _run(tries, name)
    sound = json.loads((run / "run.json").read_text())
    names = [path.name for path in sorted(run.glob("*.safetensors"))]
    content = {each: (run / each).read_bytes() for each in names}
    os.chdir(tries.place)

    def one(number: int) -> tuple[str | None, str]:
        rng = random.Random(f"arrays {name} {number}")
        file = rng.choice(names)
        arrays = load(content[file])
        key = rng.choice(sorted(arrays))
        if rng.random() < 0.1:
            del arrays[key]
        else:
            arrays[key] = np.ascontiguousarray(_spoilt(arrays[key], rng))
        bad = save(arrays)
        (run / file).write_bytes(bad)
        manifest = copy.deepcopy(sound)
        manifest["files"][file] = {"sha256": hashlib.sha256(bad).hexdigest(), "size": len(bad)}
        forge(run, manifest)
        verb = rng.choice(verbs)
        ended = heard(verb, run)
        (run / file).write_bytes(content[file])
        wrong = ended.fault(0, 2, 3, 65, 74)
        return wrong and f"{file}, {key}, {verb}: {wrong}", f"exit code {ended.code}"

    many(tries, one, memory=3 << 30, seconds=120.0)


def _declare_arrays(name: str, verbs: tuple[str, ...]) -> None:
    @trial(
        f"forged-arrays-{name}",
        HOSTILE,
        f"arrays of a run of `{name}` with other shapes, types and values, sealed, and one of "
        f"`{'`, `'.join(verbs)}`",
        300,
        "runs",
    )
    def body(tries: Tries) -> None:
        _forged_arrays(tries, name, verbs)


_declare_arrays("hmm", ("check", "summary", "predict", "score", "forecast", "sample"))
_declare_arrays("logistic", ("check", "summary", "predict", "score", "sample", "transform"))
_declare_arrays("mlp", ("check", "summary", "predict", "score", "sample", "transform"))
_declare_arrays("vae", ("check", "summary", "predict", "score", "sample", "transform"))


@trial(
    "no-file", ELSEWHERE, "each file of a run, and data of several suffixes, as each of these", 1, "rounds"
)
def no_file(tries: Tries) -> None:
    run = _run(tries)
    names, cases = sorted(path.name for path in run.iterdir()), []
    for name in names:
        cases += [(name, kind) for kind in ("pipe", "/dev/zero", "directory", "link", "nothing")]
    suffixes = (".csv", ".jsonl", ".parquet", ".arrow", ".npy", ".npz", ".xlsx", ".duckdb", ".idx")
    cases += [
        (f"d{suffix}", kind) for suffix in suffixes for kind in ("pipe", "/dev/zero", "directory", "nothing")
    ]
    tries.number = len(cases)

    def put(path: Path, kind: str) -> None:
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "directory":
            path.mkdir()
        elif kind != "nothing":
            path.symlink_to("run.copy" if kind == "link" else kind)

    def one(number: int) -> tuple[str | None, str]:
        name, kind = cases[number]
        if name in names:
            target = tries.place / "other" / name
            shutil.copytree(run, target.parent)
            target.unlink()
            put(target, kind)
            wrong = _refused(target.parent, name)
            shutil.rmtree(target.parent)
            return wrong and f"{name} as {kind}: {wrong}", "refused"
        path = tries.place / name
        put(path, kind)
        wrong = heard("data", path).fault(65)
        path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
        return wrong and f"{name} as {kind}: {wrong}", "refused"

    many(tries, one, memory=3 << 30, seconds=20.0)
