"""One writer a run, and names that nobody gets twice."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ppl_models import store
from ppl_models.errors import OutputError, UsageError
from ppl_models.store import _locking

HOLD = """
import sys
from ppl_models import store
with store.lock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def write(run, **options) -> store.StoredRun:
    return store.write_run(run, manifest={}, params={"w": np.zeros(3)}, history=[], **options)


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_second_process_is_refused_until_the_first_ends(tmp_path, holder):
    with pytest.raises(OutputError, match=f"process {holder.pid} on "):
        write(tmp_path / "run")
    write(tmp_path / "other")  # another run in the same parent is nobody's business
    holder.communicate("")
    write(tmp_path / "run")
    assert sorted(os.listdir(tmp_path)) == ["other", "run"]


def test_lock_dies_with_its_holder(tmp_path, holder):
    holder.kill()
    holder.wait()
    assert (tmp_path / ".run.ppl-lock").exists()
    write(tmp_path / "run")
    assert os.listdir(tmp_path) == ["run"]


def test_what_a_killed_process_left_for_another_run_is_cleared(tmp_path, holder):
    for name in (".gone.ppl-new", ".gone.ppl-old", ".run.ppl-new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "params.safetensors").touch()
    (tmp_path / ".gone.ppl-lock").touch()
    write(tmp_path / "other")
    assert sorted(os.listdir(tmp_path)) == [".run.ppl-lock", ".run.ppl-new", "other"]  # that one is alive
    holder.kill()
    holder.wait()
    write(tmp_path / "more")
    assert sorted(os.listdir(tmp_path)) == ["more", "other"]


def test_links_beside_a_run_are_not_followed(tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "data").touch()
    runs = tmp_path / "runs"
    runs.mkdir()
    for kind in ("new", "old"):
        (runs / f".run.ppl-{kind}").symlink_to(precious)
    write(runs / "run")
    assert os.listdir(runs) == ["run"]
    assert os.listdir(precious) == ["data"]
    (runs / ".run.ppl-lock").symlink_to(tmp_path / "made")
    with pytest.raises(OutputError):
        write(runs / "run", force=True)
    assert not (tmp_path / "made").exists()


def test_lock_is_taken_again_by_its_thread_only(tmp_path):
    refused = []

    def other():
        try:
            write(tmp_path / "run")
        except OutputError as error:
            refused.append(str(error))

    with store.lock(tmp_path / "run"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        write(tmp_path / "run")
        with store.lock(tmp_path / "run"):
            pass
        assert (tmp_path / ".run.ppl-lock").exists()
    assert "another thread" in refused[0]
    assert os.listdir(tmp_path) == ["run"]


def test_lock_that_is_held_for_a_moment_is_waited_for(tmp_path):
    held = _locking.acquire(tmp_path / "run")
    timer = threading.Timer(0.05, _locking.release, (tmp_path / "run", held))
    timer.start()
    write(tmp_path / "run")
    timer.join()


def test_lock_is_on_the_file_that_others_see(tmp_path, monkeypatch):
    try_lock = _locking._try_lock
    path = tmp_path / ".run.ppl-lock"

    def the_holder_leaves_just_before(handle):
        monkeypatch.setattr(_locking, "_try_lock", try_lock)
        path.unlink()
        return try_lock(handle)

    monkeypatch.setattr(_locking, "_try_lock", the_holder_leaves_just_before)
    with store.lock(tmp_path / "run"):
        assert path.exists()
        assert _locking.acquire(tmp_path / "run") is None


def test_lock_knows_a_run_by_every_path(tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    with store.lock("run"):
        write(tmp_path / "link" / "run")
    assert store.read_run("link/../" + tmp_path.name + "/run").manifest["schema_version"] == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_worker_does_not_keep_the_lock(tmp_path):
    script = """
import os, sys, time
from ppl_models import store
with store.lock(sys.argv[1]):
    if os.fork() == 0:
        os.close(1)
        sys.stdin.read()  # a worker that outlives its parent
        os._exit(0)
    os._exit(0)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "run")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert process.wait(timeout=20) == 0
        process.stdout.read()
        write(tmp_path / "run")
    finally:
        process.communicate(b"")


def test_many_threads_write_one_parent(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: write(tmp_path / f"run{i % 8}-{i}"), range(40)))
    assert len(store.list_runs(tmp_path)) == 40
    assert len(os.listdir(tmp_path)) == 40


def test_next_names(tmp_path):
    runs = tmp_path / "new" / "runs"
    assert store.next_run_directory(runs, "hmm", "returns").name == "hmm-returns-001"
    assert store.next_run_directory(runs, "hmm", "returns").name == "hmm-returns-002"
    assert store.next_run_directory(runs, "hmm", "returns-2").name == "hmm-returns-2-001"
    (runs / "hmm-returns-999").mkdir()
    (runs / ".hmm-returns-1000.ppl-old").mkdir()
    assert store.next_run_directory(runs, "hmm", "returns").name == "hmm-returns-1001"


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("../../etc/passwd", "hmm-etc-passwd-001"),
        ("", "hmm-data-001"),
        ("-", "hmm-data-001"),
        ("a b\0\n\x1b[2Jé.csv", "hmm-a-b-2J-csv-001"),
        ("x" * 500, f"hmm-{'x' * 64}-001"),
    ],
)
def test_next_name_is_plain(tmp_path, stem, name):
    assert store.next_run_directory(tmp_path, "hmm", stem) == tmp_path / name
    assert os.listdir(tmp_path) == [name]


def test_names_are_given_once(tmp_path):
    script = """
import sys
from ppl_models import store
print("ready", flush=True)
sys.stdin.readline()
for _ in range(50):
    print(store.next_run_directory(sys.argv[1], "hmm", "x").name)
"""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        process.stdout.readline()
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    names = [name for process in processes for name in process.communicate()[0].split()]
    assert len(names) == 150
    assert len(set(names)) == 150


def test_a_reserved_name_is_given_back_when_nothing_was_written(tmp_path):
    reserved = store.next_run_directory(tmp_path, "hmm", "x")
    with pytest.raises(ZeroDivisionError), store.lock(reserved):
        raise ZeroDivisionError
    assert not os.listdir(tmp_path)

    reserved = store.next_run_directory(tmp_path, "hmm", "x")
    with store.lock(reserved):
        write(reserved)
    assert os.listdir(tmp_path) == ["hmm-x-001"]

    (tmp_path / "mine").mkdir()  # not reserved here, so not ours to remove
    with store.lock(tmp_path / "mine"):
        pass
    assert (tmp_path / "mine").exists()


def test_next_name_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        store.next_run_directory(tmp_path / "file", "hmm", "x")
    with pytest.raises(UsageError):
        store.next_run_directory("a\0b", "hmm", "x")
