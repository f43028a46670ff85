"""Whatever kills or refuses a write, the last complete run is there and loads."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ppl_models import store
from ppl_models.errors import OutputError

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX processes")

# A helper process that forks, so that a hundred deaths cost one import.
HELPER = """
import errno, os, random, signal, sys, time
from pathlib import Path
import numpy as np
import safetensors.numpy
from ppl_models import store
from ppl_models.errors import OutputError, RunError

parent = Path(sys.argv[1])
run = parent / "run"
WATCHED = {"open", "fcntl.flock"}
WATCHED |= {"os." + name for name in ("mkdir", "rename", "remove", "rmdir", "listdir", "scandir", "fsync")}

def write(version):
    store.write_run(
        run,
        manifest={"version": version},
        params={"w": np.full(5000, version)},
        history=[{"step": version}] * 3,
        files={"posterior.nc": lambda path: path.write_bytes(bytes([version % 256]) * 50_000)},
        force=True,
    )

def version():
    found = store.read_run(run)
    found.verify()
    number = found.manifest["version"]
    assert (found.params()["w"] == number).all() and found.history()[0]["step"] == number
    assert found.posterior_path().read_bytes()[0] == number % 256
    return number

def hidden():
    return sorted(name for name in os.listdir(parent) if name.startswith("."))

def at(number, act):
    "Call act() just before the system call of that number."
    count = 0
    def event(name, arguments=()):
        nonlocal count
        if name in WATCHED and (name != "open" or str(parent) in str(arguments[0])):
            count += 1
            if count == number:
                act()
    def fsync(handle):
        event("os.fsync")
    os.fsync = fsync
    sys.addaudithook(event)

def in_child(body):
    child = os.fork()
    if child == 0:
        code = 9
        try:
            code = body() or 0
        except BaseException as error:
            print(repr(error), file=sys.stderr)
        finally:
            os._exit(code)
    return child

def code_of(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""


def run_helper(body: str, parent: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", HELPER + body, str(parent)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


def write(run: Path, value: int = 1, **options) -> store.StoredRun:
    return store.write_run(
        run,
        manifest={"value": value},
        params={"w": np.full(10, value)},
        history=[{"step": value}],
        files={"posterior.nc": lambda path: path.write_bytes(b"netcdf")},
        **options,
    )


def assert_untouched(run: Path) -> None:
    """The first run is there, verified, and nothing lies beside it."""
    assert os.listdir(run.parent) == [run.name]
    found = store.read_run(run)
    found.verify()
    assert found.manifest["value"] == 1


def test_killed_before_every_system_call(tmp_path):
    output = run_helper(
        """
os.fsync = lambda handle: None
states = []
for number in range(1, 1000):
    write(1)
    def body():
        at(number, lambda: os.kill(os.getpid(), signal.SIGKILL))
        write(2)
    code = code_of(in_child(body))
    states.append(tuple(hidden()))
    assert version() in (1, 2)
    write(3)
    assert version() == 3 and not hidden(), hidden()
    if code == 0:
        break
    assert code == -signal.SIGKILL
print(number, len(set(states)))
""",
        tmp_path,
    )
    kills, states = map(int, output.split())
    assert kills > 30
    assert states >= 4  # with .ppl-new, .ppl-old, .ppl-lock in several combinations


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path):
    run_helper(
        """
os.fsync = lambda handle: None
rng = random.Random(0)
write(0)
seen = [0]
for _ in range(40):
    reading, writing = os.pipe()
    def body():
        number = version()
        while True:
            number += 1
            write(number)
            os.write(writing, b".")
    child = in_child(body)
    os.read(reading, 1)  # it has written once, and is at it again
    time.sleep(rng.uniform(0, 0.02))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(reading)
    os.close(writing)
    seen.append(version())
    assert seen[-1] > seen[-2], seen
write(1)
assert version() == 1 and not hidden()
""",
        tmp_path,
    )


def test_refused_at_every_system_call(tmp_path):
    output = run_helper(
        """
failures = 0
for number in range(1, 1000):
    os.fsync = lambda handle: None
    write(1)
    def body():
        reached = []
        def refuse():
            reached.append(True)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        at(number, refuse)
        try:
            write(2)
        except OutputError as error:
            assert "No space left" in str(error), error
            return 73
        except RunError:
            return 74  # written, but it could not be read back
        return 0 if reached else 1
    code = code_of(in_child(body))
    left = set(hidden()) - {".run.ppl-lock"}
    now = version()
    if code == 73:
        failures += 1
        assert now == 1 and not left, (number, now, left)
    else:
        assert code in (0, 1, 74) and now == 2, (number, code, now)
        assert left <= {".run.ppl-old"}, (number, left)
    write(3)
    assert version() == 3 and not hidden(), hidden()
    if code == 1:
        break
print(failures)
""",
        tmp_path,
    )
    assert int(output) > 15


def test_readers_never_see_a_gap(tmp_path):
    run_helper(
        """
os.fsync = lambda handle: None
write(0)
def body():
    number = 0
    while True:
        number += 1
        write(number)
child = in_child(body)
before = 0
give_up = time.monotonic() + 30
try:
    while before < 50 and time.monotonic() < give_up:
        found = store.read_run(run).manifest["version"]
        assert found >= before, (found, before)
        before = found
finally:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
assert before > 5, before
""",
        tmp_path,
    )


@pytest.mark.parametrize("what", ["params", "history", "posterior", "netcdf"])
def test_file_size_limit(tmp_path, what):
    write(tmp_path / "run")
    script = f"""
import resource, sys
import numpy as np
import safetensors.numpy, xarray, h5netcdf
from ppl_models import store
from ppl_models.errors import OutputError
big = {what!r}
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
writers = {{
    "posterior": lambda path: path.write_bytes(bytes(10**6)),
    "netcdf": xarray.Dataset({{"x": ("n", np.arange(10.0**4))}}).to_netcdf(engine="h5netcdf"),
}}
try:
    store.write_run(
        sys.argv[1],
        manifest={{"value": 2}},
        params={{"w": np.zeros(10**6 if big == "params" else 1)}},
        history=[{{"step": 1}}] * (10**4 if big == "history" else 1),
        files={{"posterior.nc": writers[big]}} if big in writers else None,
        force=True,
    )
except OutputError as error:
    assert "File too large" in str(error) and "\\n" not in str(error), error
    raise SystemExit(error.exit_code)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "run")], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 73, done.stderr
    assert_untouched(tmp_path / "run")


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EXDEV])
def test_rename_refused(tmp_path, monkeypatch, code):
    write(tmp_path / "run")

    def refuse(*arguments):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", refuse)
        with pytest.raises(OutputError, match=os.strerror(code)):
            write(tmp_path / "run", 2, force=True)
        with pytest.raises(OutputError, match=os.strerror(code)):
            write(tmp_path / "other", 2)
    assert_untouched(tmp_path / "run")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_parent(tmp_path):
    write(tmp_path / "run")
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="Permission denied"):
            write(tmp_path / "run", 2, force=True)
        assert_untouched(tmp_path / "run")
    finally:
        tmp_path.chmod(0o700)


def test_second_rename_refused_puts_the_first_back(tmp_path, monkeypatch):
    write(tmp_path / "run")
    rename = os.rename

    def refuse_new(source, target):
        if Path(source).name == ".run.ppl-new":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse_new)
    with pytest.raises(OutputError):
        write(tmp_path / "run", 2, force=True)
    assert_untouched(tmp_path / "run")


def test_a_writer_that_fails_or_is_interrupted(tmp_path):
    write(tmp_path / "run")

    def interrupt(path):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    def break_down(path):
        path.mkdir()
        raise ZeroDivisionError

    for writer, error in ((interrupt, KeyboardInterrupt), (break_down, ZeroDivisionError)):
        with pytest.raises(error):
            store.write_run(
                tmp_path / "run", manifest={}, params={}, history=[], files={"x.nc": writer}, force=True
            )
        assert_untouched(tmp_path / "run")


def test_a_library_that_hides_the_reason_of_the_system(tmp_path):
    write(tmp_path / "run")

    def as_hdf5(path):
        raise RuntimeError("Can't decrement id ref count (errno = 28, error message = 'No space left\n')")

    def chained(path):
        try:
            raise OSError(errno.ENOSPC, "a reason\nof two lines")
        except OSError as error:
            raise ValueError("cannot write") from error

    for writer in (as_hdf5, chained):
        with pytest.raises(OutputError, match="No space left on device") as refused:
            store.write_run(
                tmp_path / "run", manifest={}, params={}, history=[], files={"x.nc": writer}, force=True
            )
        assert str(refused.value).isprintable()
        assert_untouched(tmp_path / "run")


def test_half_removed_run_is_not_taken_for_a_run(tmp_path, monkeypatch):
    write(tmp_path / "run")

    def die(directory):
        if Path(directory).name == ".run.ppl-old":
            raise KeyboardInterrupt
        rmtree(directory)

    rmtree = shutil.rmtree
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", die)
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path / "run", 2, force=True)
    assert store.read_run(tmp_path / "run").manifest["value"] == 2
    rmtree(tmp_path / "run")
    assert store.list_runs(tmp_path) == []
    write(tmp_path / "run")
    assert_untouched(tmp_path / "run")


def test_old_run_is_put_back_for_a_reader(tmp_path):
    write(tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / ".run.ppl-old")
    assert [run.name for run in store.list_runs(tmp_path)] == ["run"]
    assert_untouched(tmp_path / "run")


def test_old_run_is_read_in_place_where_nothing_may_be_renamed(tmp_path, monkeypatch):
    write(tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / ".run.ppl-old")

    def refuse(*arguments):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "rename", refuse)
    run = store.read_run(tmp_path / "run")
    assert run.name == "run"
    assert run.params()["w"][0] == 1


def test_files_are_on_disk_before_the_manifest_and_the_rename(tmp_path, monkeypatch):
    order = []
    fsync, rename = os.fsync, os.rename

    def spy_fsync(handle):
        order.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name if sys.platform == "linux" else "?")
        fsync(handle)

    def spy_rename(source, target):
        order.append("rename")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(os, "rename", spy_rename)
    write(tmp_path / "run")
    if sys.platform == "linux":
        assert order == [
            *("params.safetensors", "history.jsonl", "posterior.nc", "run.json"),
            *(".run.ppl-new", "rename", tmp_path.name),
        ]
