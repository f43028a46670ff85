"""What is written is what is read, and what was there is replaced only when it is a run and meant."""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppl_models import store
from ppl_models.errors import OutputError, UsageError
from ppl_models.store._json import dumps, loads


def write(run, manifest=None, params=None, history=(), **options) -> store.StoredRun:
    return store.write_run(run, manifest=manifest or {}, params=params or {}, history=history, **options)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["nan", "inf", "-inf"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text().filter(lambda key: key != "$float"), inner),
    max_leaves=10,
)


@given(VALUES)
@settings(deadline=None)
def test_json_round_trip(value):
    back = loads(dumps(value, "value"))
    assert repr(back) == repr(value)  # tells -0.0 from 0.0 and 1 from 1.0, and NaN is NaN


def test_manifest_round_trip(tmp_path):
    manifest = {
        "model": "hmm",
        "loss": math.nan,
        "levels": ("nan", "inf", "\x1b[2J", "</script>", "é"),
        "means": np.array([[1.0, -np.inf]]),
        "n": np.int64(3),
        "step": np.float32(0.5),
        "ok": np.bool_(True),
    }
    run = write(tmp_path / "run", manifest)
    back = store.read_run(tmp_path / "run").manifest
    assert math.isnan(back.pop("loss"))
    files = back.pop("files")
    assert back == {
        "schema_version": store.SCHEMA_VERSION,
        "model": "hmm",
        "levels": ["nan", "inf", "\x1b[2J", "</script>", "é"],
        "means": [[1.0, -math.inf]],
        "n": 3,
        "step": 0.5,
        "ok": True,
    }
    assert set(files) == {"params.safetensors", "history.jsonl"}
    assert run.name == "run"
    assert run.posterior_path() is None


def test_manifest_of_a_run_can_be_written_again(tmp_path):
    first = write(tmp_path / "run", {"seed": 1})
    second = write(tmp_path / "run", {**first.manifest, "verdict": "good"}, {"w": np.ones(2)}, force=True)
    second.verify()
    assert second.manifest["verdict"] == "good"
    assert second.manifest["seed"] == 1


def test_params_round_trip(tmp_path):
    params = {
        "matrix": np.arange(6.0).reshape(2, 3).T,
        "strided": np.arange(10)[::3],
        "scalar": np.float64(math.pi),
        "empty": np.zeros((0, 3), np.float32),
        "big endian": np.arange(3, dtype=">f8"),
        "non-finite": np.array([np.nan, np.inf, -0.0]),
        "": np.array([True, False]),
        "été\n": np.array(1 + 2j, np.complex64),
    }
    back = write(tmp_path / "run", params=params).params()
    assert back.keys() == params.keys()
    for name, array in params.items():
        np.testing.assert_array_equal(back[name], array, strict=False)
        assert back[name].shape == np.shape(array)
        assert back[name].dtype == np.asarray(array).dtype.newbyteorder("=")
        assert back[name].flags.writeable


def test_history_round_trip(tmp_path):
    history = [{"step": i, "elbo": -1 / (i + 1), "size": np.float32(i)} for i in range(5)] + [
        {"elbo": math.inf}
    ]
    assert write(tmp_path / "run", history=iter(history)).history() == history


def test_netcdf_as_bytes(tmp_path):
    xarray = pytest.importorskip("xarray")
    tree = xarray.DataTree.from_dict({"posterior": xarray.Dataset({"mu": ("draw", np.arange(5.0))})})
    run = write(tmp_path / "run", files={"posterior.nc": tree.to_netcdf(engine="h5netcdf")})
    with xarray.open_datatree(run.posterior_path(), engine="h5netcdf") as back:
        assert back["posterior"]["mu"].sum() == 10


def test_extra_files_and_arrays(tmp_path):
    inner = write(tmp_path / "inner", params={"m": np.ones(3)})
    content = inner.file("params.safetensors").read_bytes()
    run = write(tmp_path / "run", files={"checkpoint.safetensors": lambda path: path.write_bytes(content)})
    assert run.arrays("checkpoint.safetensors")["m"].sum() == 3
    assert run.file("checkpoint.safetensors").read_bytes() == content


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"manifest": {"model": object()}}, r"manifest\.model is a object"),
        ({"manifest": {"a": [{1: 2}]}}, r"manifest\.a\[0\] has the key 1"),
        ({"manifest": {"a": {"$float": "nan"}}}, "float"),
        ({"manifest": {"a": 1j}}, "complex"),
        ({"manifest": {"a": np.longdouble(1)}}, "longdouble"),
        ({"manifest": {"a": np.datetime64("2020-01-01")}}, "date"),
        ({"manifest": {"a": 10**5000}}, "limit"),
        ({"manifest": {"a": "x" * 2**24}}, "at most"),
        ({"params": {"w": np.array([object()])}}, "dtype object"),
        ({"params": {"w": np.array(["a"])}}, "dtype"),
        ({"params": {"__metadata__": np.ones(1)}}, "__metadata__"),
        ({"params": {1: np.ones(1)}}, "key 1"),
        ({"history": [{"a": 1}, [2]]}, r"history\[1\]"),
        ({"files": {"a": lambda path: None}}, "wrote no file"),
        ({"files": {"a": Path.mkdir}}, "wrote no file"),
        ({"files": {"a": lambda path: (path.touch(), path.with_name("b").touch())}}, "also wrote b"),
        ({"files": {"params.safetensors": Path.touch}}, "cannot name"),
        ({"files": {f"f{i}": Path.touch for i in range(63)}}, "at most 64"),
    ],
)
def test_what_cannot_be_stored(tmp_path, arguments, reason):
    with pytest.raises(UsageError, match=reason) as refused:
        write(tmp_path / "run", **arguments)
    assert str(refused.value).isprintable()
    assert not os.listdir(tmp_path)


def test_a_manifest_that_holds_itself(tmp_path):
    loop: dict = {}
    loop["loop"] = loop
    with pytest.raises(UsageError, match="holds itself"):
        write(tmp_path / "run", loop)


def test_replaced_only_with_force(tmp_path):
    write(tmp_path / "run", {"value": 1})
    for call in (store.check_target, write):
        with pytest.raises(OutputError, match="--force"):
            call(tmp_path / "run")
    assert store.read_run(tmp_path / "run").manifest["value"] == 1
    store.check_target(tmp_path / "run", force=True)
    write(tmp_path / "run", {"value": 2}, force=True)
    assert store.read_run(tmp_path / "run").manifest["value"] == 2
    assert os.listdir(tmp_path) == ["run"]


@pytest.mark.parametrize("manifest", [None, "{}", "not json", '{"schema_version": 1}', "[" * 10**5])
def test_foreign_directory_is_left_alone(tmp_path, manifest):
    foreign = tmp_path / "project"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("precious")
    if manifest is not None:
        (foreign / "run.json").write_text(manifest)
    before = sorted(os.listdir(foreign))
    for call in (store.check_target, write):
        with pytest.raises(OutputError, match="no run"):
            call(foreign, force=True)
    assert sorted(os.listdir(foreign)) == before
    assert os.listdir(tmp_path) == ["project"]


def test_damaged_or_newer_run_can_be_replaced(tmp_path):
    write(tmp_path / "run", {"seed": 1})
    text = (tmp_path / "run" / "run.json").read_text()
    (tmp_path / "run" / "run.json").write_text(text.replace('"schema_version": 1', '"schema_version": 9'))
    (tmp_path / "run" / "history.jsonl").unlink()
    write(tmp_path / "run", {"seed": 2}, force=True).verify()


def test_what_others_put_into_a_run_is_kept(tmp_path):
    write(tmp_path / "run", files={"posterior.nc": Path.touch})
    (tmp_path / "run" / "notes.md").write_text("mine")
    (tmp_path / "run" / "plots").mkdir()
    (tmp_path / "run" / "plots" / "a.png").touch()
    write(tmp_path / "run", force=True)
    assert sorted(os.listdir(tmp_path / "run")) == [
        *("history.jsonl", "notes.md", "params.safetensors", "plots", "run.json")
    ]
    assert os.listdir(tmp_path / "run" / "plots") == ["a.png"]


def test_links_and_files_are_not_replaced(tmp_path):
    write(tmp_path / "run", {"value": 1})
    (tmp_path / "latest").symlink_to("run")
    (tmp_path / "file").touch()
    for name in ("latest", "file"):
        with pytest.raises(OutputError, match="not a directory"):
            write(tmp_path / name, force=True)
    assert store.read_run(tmp_path / "latest").manifest["value"] == 1
    assert [run.name for run in store.list_runs(tmp_path)] == ["run"]


def test_working_directory_is_not_replaced(tmp_path, monkeypatch):
    (tmp_path / "run" / "below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "run" / "below")
    for path in (".", "..", tmp_path / "run"):
        with pytest.raises(OutputError, match="working directory"):
            write(path)


def test_empty_directory_is_filled(tmp_path):
    (tmp_path / "run").mkdir()
    store.check_target(tmp_path / "run")
    write(tmp_path / "run").verify()


def test_list_runs(tmp_path):
    assert store.list_runs(tmp_path / "none") == []
    for name in ("b", "a", "c"):
        write(tmp_path / name, {"model": name})
    (tmp_path / "b" / "run.json").unlink()
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "x.md").touch()
    (tmp_path / "file").touch()
    a, b, c = store.list_runs(tmp_path)
    assert (a.name, a.manifest["model"], c.name) == ("a", "a", "c")
    assert isinstance(b, store.DamagedRun)
    assert b.name == "b"
    assert "run.json is missing" in b.reason


def test_import_is_light():
    script = "import sys, ppl_models.store; print({'torch', 'safetensors', 'xarray'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_arrays_in_any_order_of_memory_are_stored_as_they_are():
    from safetensors.numpy import load

    x = np.arange(24.0).reshape(2, 3, 4)
    for array in (x, x.T, np.asfortranarray(x), x[:, ::2], x.transpose(0, 2, 1)):
        np.testing.assert_array_equal(load(store.pack({"x": array}))["x"], array)
