"""What is damaged, foreign or malicious is refused by name, in one line, and never executed."""

import hashlib
import json
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppl_models import store
from ppl_models.errors import PplError, RunError, UsageError

FILES = ("run.json", "params.safetensors", "history.jsonl", "posterior.nc")


@pytest.fixture
def run(tmp_path) -> Path:
    store.write_run(
        tmp_path / "run",
        manifest={"model": "hmm", "seed": 1},
        params={"w": np.arange(6.0).reshape(2, 3)},
        history=[{"step": 1, "elbo": -2.5}, {"step": 2, "elbo": -1.5}],
        files={"posterior.nc": lambda path: path.write_bytes(b"\x89HDF" + bytes(200))},
    )
    return tmp_path / "run"


def read_everything(run: Path) -> None:
    found = store.read_run(run)
    found.params()
    found.history()
    found.posterior_path()


def assert_refused(run: Path, match: str = "") -> None:
    with pytest.raises(RunError, match=match) as refused:
        read_everything(run)
    assert str(refused.value).isprintable()
    listed = store.list_runs(run.parent)
    assert len(listed) == 1
    if isinstance(listed[0], store.StoredRun):  # checksums are only compared when a file is opened
        with pytest.raises(RunError, match=match):
            listed[0].verify()
    else:
        assert listed[0].name == "run"
        assert listed[0].reason.isprintable()


def read_or_refuse(read, *arguments) -> None:
    try:
        read(*arguments)
    except RunError as error:
        reason = str(error)
    else:
        return
    assert reason.isprintable()


def forge(run: Path, text: str) -> None:
    """Write a manifest with a checksum of its own that matches, as an attacker would."""
    body = text.rstrip().removesuffix("}").rstrip().encode()
    digest = hashlib.sha256(body).hexdigest()
    (run / "run.json").write_bytes(body + f',\n  "manifest_sha256": "{digest}"\n}}\n'.encode())


def forge_file(run: Path, name: str, content: bytes) -> None:
    """Replace a file and make the manifest vouch for it."""
    (run / name).write_bytes(content)
    files = entries(run)
    files[name] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    forge(run, json.dumps({"schema_version": 1, "files": files}))


def entries(run: Path) -> dict:
    return json.loads((run / "run.json").read_text())["files"]


def test_forging_works(run):
    forge_file(run, "history.jsonl", b'{"step": 7}\n')
    assert store.read_run(run).history() == [{"step": 7}]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("where", [0.0, 0.1, 0.33, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("bit", [0, 5, 7])
def test_flipped_bit(run, name, where, bit):
    content = bytearray((run / name).read_bytes())
    content[int(where * (len(content) - 1))] ^= 1 << bit
    (run / name).write_bytes(content)
    assert_refused(run, match=name)


def test_every_flipped_bit_of_the_manifest(run):
    content = (run / "run.json").read_bytes()
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << (place % 8)
        (run / "run.json").write_bytes(flipped)
        with pytest.raises(RunError):
            store.read_run(run)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("keep", [0, 1, 20, -1])
def test_truncated(run, name, keep):
    content = (run / name).read_bytes()
    (run / name).write_bytes(content[:keep])
    assert_refused(run, match=name)


@pytest.mark.parametrize("name", FILES)
def test_longer(run, name):
    with open(run / name, "ab") as file:
        file.write(b"\n")
    assert_refused(run, match=name)


@pytest.mark.parametrize("name", FILES)
def test_missing(run, name):
    (run / name).unlink()
    assert_refused(run, match=name)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["link", "directory", "pipe"])
def test_not_a_regular_file(run, name, kind):
    content = (run / name).read_bytes()
    (run / name).unlink()
    if kind == "link":
        (run.parent / "elsewhere").write_bytes(content)
        (run / name).symlink_to(run.parent / "elsewhere")
    elif kind == "directory":
        (run / name).mkdir()
    else:
        os.mkfifo(run / name)
    assert_refused(run, match=name)


def test_checksums_are_compared_once(run, monkeypatch):
    found = store.read_run(run)
    found.verify()
    calls = []
    monkeypatch.setattr(hashlib, "sha256", lambda *a, **k: calls.append(a))
    monkeypatch.setattr(hashlib, "file_digest", lambda *a, **k: calls.append(a))
    found.params()
    found.history()
    found.posterior_path()
    assert not calls


def test_replaced_while_open(run):
    found = store.read_run(run)
    store.write_run(run, manifest={}, params={"w": np.zeros((2, 3))}, history=[], force=True)
    with pytest.raises(RunError, match="replaced while it was open"):
        found.params()


BAD_NAMES = [
    "../x",
    "/etc/passwd",
    "..",
    ".",
    "",
    "a/b",
    "a\\b",
    "x\0y",
    ".hidden",
    "C:x",
    "run.json",
    "RUN.JSON",
]


@pytest.mark.parametrize("name", [*BAD_NAMES, "a\n", "\x1b[2J", "é", "x" * 101, "\ud800"])
def test_bad_names(run, name):
    forge(run, json.dumps({"schema_version": 1, "files": {name: {"size": 0, "sha256": "0" * 64}}}))
    assert_refused(run, match="not a plain file name")
    with pytest.raises(UsageError, match="cannot name a file"):
        store.write_run(run, manifest={}, params={}, history=[], files={name: Path.touch}, force=True)


@given(st.text(min_size=1) | st.from_regex(r"(\.\.?/?|/|\\|[a-z]){1,8}", fullmatch=True))
@settings(max_examples=100, deadline=None)
def test_no_name_leads_out(tmp_path_factory, name):
    run = tmp_path_factory.getbasetemp() / "hostile-names" / "run"
    run.mkdir(parents=True, exist_ok=True)
    forge(run, json.dumps({"schema_version": 1, "files": {name: {"size": 0, "sha256": "0" * 64}}}))
    with pytest.raises(RunError) as refused:
        store.read_run(run).file(name)
    assert str(refused.value).isprintable()
    if "not a plain file name" not in str(refused.value):
        assert os.path.dirname(os.path.normpath(run / name)) == str(run)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(max_size=5) | st.sampled_from(["files", "schema_version", "sha256", "size", "$float"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.fixed_dictionaries({}, optional={"schema_version": JSON | st.just(1), "files": JSON, "seed": JSON}))
@settings(max_examples=100, deadline=None)
def test_any_manifest_is_read_or_refused(tmp_path_factory, manifest):
    run = tmp_path_factory.getbasetemp() / "hostile-manifests" / "run"
    run.mkdir(parents=True, exist_ok=True)
    forge(run, json.dumps(manifest) if manifest else '{"a": 1}')
    read_or_refuse(store.read_run, run)


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_refused(tmp_path_factory, content):
    run = tmp_path_factory.getbasetemp() / "hostile-bytes" / "run"
    run.mkdir(parents=True, exist_ok=True)
    (run / "run.json").write_bytes(content)
    with pytest.raises(RunError):
        store.read_run(run)
    forge_file_in_empty(run, content)
    found = store.read_run(run)
    for read in (found.params, found.history):
        read_or_refuse(read)


def forge_file_in_empty(run: Path, content: bytes) -> None:
    entry = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    for name in ("params.safetensors", "history.jsonl"):
        (run / name).write_bytes(content)
    files = dict.fromkeys(("params.safetensors", "history.jsonl"), entry)
    forge(run, json.dumps({"schema_version": 1, "files": files}))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"schema_version": 2, "files": {}}', "upgrade"),
        ('{"schema_version": 0, "files": {}}', "positive integer"),
        ('{"schema_version": true, "files": {}}', "positive integer"),
        ('{"schema_version": "1", "files": {}}', "positive integer"),
        ('{"schema_version": 1, "files": []}', "object"),
        ('{"schema_version": 1}', "not the manifest"),
        ('{"schema_version": 1, "files": {}, "x": NaN}', "NaN is not JSON"),
        ('{"schema_version": 1, "files": {}, "x": -Infinity}', "-Infinity is not JSON"),
        ('{"schema_version": 1, "files": {}, "x": 1e999}', "too large"),
        ('{"schema_version": 1, "files": {}, "x": ' + "1" * 5000 + "}", "limit"),
        ('{"schema_version": 1, "files": {}, "files": {}}', "twice"),
        ('{"schema_version": 1, "files": {}, "x": {"$float": "1"}}', "float"),
        ('{"schema_version": 1, "files": {}, "x": {"$float": []}}', "float"),
        ('{"schema_version": 1, "files": {}, "x": ' + "[" * 100_000 + "}", "nested too deeply"),
        ('{"schema_version": 1, "files": {"a": {"size": -1, "sha256": "' + "0" * 64 + '"}}}', "size"),
        ('{"schema_version": 1, "files": {"a": {"size": 1, "sha256": "x"}}}', "sha256"),
        ('{"schema_version": 1, "files": {"a": 3}}', "sha256"),
        ('{"schema_version": 1, "files": {' + ",".join(f'"f{i}": 0' for i in range(65)) + "}}", "at most 64"),
        ("[1, 2", "run.json"),
    ],
)
def test_hostile_manifest(run, text, reason):
    forge(run, text)
    assert_refused(run, match=reason)


def test_manifest_without_its_checksum(run):
    (run / "run.json").write_text('{"schema_version": 1, "files": {}}')
    assert_refused(run, match="own checksum")


def test_manifest_too_large(run):
    with open(run / "run.json", "r+b") as file:
        file.truncate(2**34)
    assert_refused(run, match="larger than")


def safetensors(header: bytes, data: bytes = b"", *, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def tensor(**fields) -> bytes:
    return json.dumps({"w": {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]} | fields}).encode()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(safetensors(b"{}", length=2**63), id="huge header"),
        pytest.param(safetensors(b"{}", length=100_000_001), id="header over the limit"),
        pytest.param(safetensors(b"{}", length=3), id="header past the end"),
        pytest.param(b"", id="empty"),
        pytest.param(b"1234567", id="too short"),
        pytest.param(safetensors(b"[" * 50_000), id="deep header"),
        pytest.param(safetensors(b"\xff\xfe"), id="not UTF-8"),
        pytest.param(safetensors(tensor(), b"1234"), id="cut data"),
        pytest.param(safetensors(tensor(data_offsets=[8, 0]), b"12345678"), id="backward offsets"),
        pytest.param(safetensors(tensor(shape=[2**62]), b"12345678"), id="huge shape"),
        pytest.param(safetensors(tensor(shape=[2**32, 2**32, 2**32]), b"12345678"), id="overflowing shape"),
        pytest.param(safetensors(tensor(dtype="O"), b"12345678"), id="no such dtype"),
        pytest.param(safetensors(tensor(dtype="BF16", shape=[4]), b"12345678"), id="dtype NumPy lacks"),
        pytest.param(safetensors(tensor(), b"1234567890"), id="trailing data"),
    ],
)
def test_hostile_safetensors(run, content):
    forge_file(run, "params.safetensors", content)
    with pytest.raises(RunError, match=r"params\.safetensors is not a safetensors file") as refused:
        store.read_run(run).params()
    assert str(refused.value).isprintable()


class Payload:
    executed = False

    def __reduce__(self):
        return exec, ("import os; os.environ['PAYLOAD_EXECUTED'] = '1'",)


def test_nothing_is_executed(run, monkeypatch):
    monkeypatch.delenv("PAYLOAD_EXECUTED", raising=False)
    payload = pickle.dumps(Payload())
    forge_file(run, "history.jsonl", payload)
    with pytest.raises(RunError, match=r"history\.jsonl, line 1"):
        read_everything(run)
    forge_file(run, "params.safetensors", payload)
    with pytest.raises(RunError, match=r"params\.safetensors is not"):
        read_everything(run)
    (run / "run.json").write_bytes(payload)
    with pytest.raises(RunError, match=r"run\.json"):
        read_everything(run)
    assert "PAYLOAD_EXECUTED" not in os.environ
    pickle.loads(payload)
    assert os.environ.pop("PAYLOAD_EXECUTED") == "1"  # so the test would have noticed


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"step": 1}\n{"step": NaN}\n', "line 2: NaN"),
        (b"[1]\n", "line 1: not a JSON object"),
        (b'{"a": 1}\n\n', "line 2"),
        (b'{"a": "\xff"}\n', "line 1"),
    ],
)
def test_hostile_history(run, content, reason):
    forge_file(run, "history.jsonl", content)
    with pytest.raises(RunError, match=reason):
        store.read_run(run).history()


def test_names_are_escaped_in_messages(tmp_path):
    strange = tmp_path / "a\x1b[2J\nb\u202e"
    for call in (store.read_run, store.list_runs):
        if call is store.list_runs:
            strange.touch()
        with pytest.raises(PplError) as refused:
            call(strange)
        assert str(refused.value).isprintable()


@pytest.mark.parametrize("path", ["", "a\0b", b"bytes", "/", "x/.run.ppl-old"])
def test_paths_that_name_no_run(path):
    for call in (store.read_run, store.check_target):
        with pytest.raises(UsageError) as refused:
            call(path)
        assert str(refused.value).isprintable()
    with pytest.raises(UsageError):
        store.write_run(path, manifest={}, params={}, history=[])


def test_a_file_is_no_run(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match="a run is a directory"):
        store.read_run(tmp_path / "file")
    with pytest.raises(RunError, match="there is no run"):
        store.read_run(tmp_path / "missing")
    with pytest.raises(RunError):
        store.read_run(tmp_path / "file" / "below")
    with pytest.raises(RunError, match="too long"):
        store.read_run(tmp_path / ("x" * 300))
