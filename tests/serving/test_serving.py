"""Requests of a fit that stays: answers are those of the verb, and what is wrong or too much is refused."""

import asyncio
import io
import json
import re
import signal
import socket
import subprocess
import sys
import time
from urllib.request import urlopen

import httpx
import numpy as np
import pandas as pd
import pytest

import ppl_models as ppl
from ppl_models.cli.serve import listening
from ppl_models.errors import DataError, Unsupported, UsageError
from ppl_models.serving import app as apps
from ppl_models.serving.answers import answered, answers
from ppl_models.serving.app import Bounds, application
from ppl_models.serving.lines import LONGEST, batches, stream
from ppl_models.verbs import VERBS


class Client:
    """Asks an application without a socket."""

    def __init__(self, app):
        self.app = app

    def ask(self, method, path, **request):
        async def answer():
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
                return await client.request(method, path, **request)

        return asyncio.run(answer())

    def get(self, path):
        return self.ask("GET", path)

    def post(self, path, **request):
        return self.ask("POST", path, **request)


@pytest.fixture(scope="module")
def fit():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=200), "kind": rng.choice(["a", "b"], 200)})
    frame["y"] = np.where(frame.x + rng.logistic(size=200) > 0, "yes", "no")
    return ppl.fit(ppl.Logistic(), frame, target="y")


ROWS = [{"x": 0.5, "kind": "a"}, {"x": -1.0, "kind": "b"}, {"x": None, "kind": "b"}]


def test_answers_are_those_of_the_verb(fit):
    found = answers(fit, VERBS["predict"], ROWS, {"level": 0.5})
    table = fit.predict(pd.DataFrame(ROWS), level=0.5)
    assert list(found[0]) == list(table.columns)
    for row, (_, expected) in zip(found, table.iterrows(), strict=True):
        for name, cell in row.items():
            assert cell == (None if pd.isna(expected[name]) else pytest.approx(expected[name]))


def test_a_row_that_is_wrong_does_not_stop_the_others(fit):
    rows = [{"x": float(i), "kind": "a" if i != 3 else "never seen"} for i in range(7)]
    found = answers(fit, VERBS["predict"], rows, {})
    assert "never seen" in found[3]["error"]
    assert [i for i, row in enumerate(found) if "error" in row] == [3]
    assert found[6] == answers(fit, VERBS["predict"], rows[6:], {})[0]


def test_options_that_cannot_be_meant_are_no_fault_of_rows(fit):
    for option in ({"level": "x"}, {"level": 2.0}, {"threshold": [1]}, {"draws": 0.5}):
        with pytest.raises(UsageError, match="must be"):
            answers(fit, VERBS["predict"], ROWS, option)


def test_lines_in_lines_out(fit):
    lines = [json.dumps(row) for row in ROWS] + ["{", "[1]", '{"x": [1]}', "", json.dumps(ROWS[0])]
    said = []
    source = io.BytesIO("\n".join(lines).encode())
    stream(source, said.append, lambda rows: answers(fit, VERBS["predict"], rows, {}))
    found = [json.loads(line) for line in "".join(said).splitlines()]
    assert len(found) == 7
    assert [row["error"].split(" (")[0] for row in found[3:6]] == [
        "not JSON",
        "not an object with a value for each column",
        "column 'x': a list or an object; give plain values",
    ]
    assert found[0] == found[6]


def test_a_line_without_an_end_is_refused():
    with pytest.raises(DataError, match="a line of over"):
        list(batches(io.BytesIO(b"x" * (3 * LONGEST))))


def test_sequences_are_not_answered_row_by_row():
    fit = ppl.fit(ppl.HMM(states=1), np.random.default_rng(0).normal(size=(20, 1)))
    with pytest.raises(Unsupported, match="rows of hmm are not independent"):
        answered(fit)


def test_the_service(fit):
    client = Client(application(fit, bounds=Bounds(rows=5, size=2_000)))
    done = client.post("/predict", json={"rows": ROWS, "options": {"level": 0.5}})
    assert done.status_code == 200
    assert done.json()["rows"] == answers(fit, VERBS["predict"], ROWS, {"level": 0.5})
    assert client.post("/predict", json=ROWS).status_code == 200
    assert client.get("/health").json() | {"run": 0} == {
        "status": "ok",
        "requests": 0,
        "model": "logistic",
        "run": 0,
        "verdict": fit.check().verdict,
    }
    described = client.get("/openapi.json").json()
    assert {*described["paths"]} == {"/health", "/predict", "/score", "/transform"}
    row = described["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert row["properties"]["rows"]["items"]["properties"]["kind"] == {"enum": ["a", "b", None]}
    assert "POST /predict" in client.get("/").text
    for status, path, body in [
        (404, "/sample", ROWS),
        (422, "/predict", {"rows": 3}),
        (422, "/predict", []),
        (413, "/predict", ROWS * 2),
        (422, "/predict", {"rows": ROWS, "options": []}),
        (422, "/predict", {"rows": ROWS, "extra": 3}),
        (422, "/predict", {"rows": ROWS, "options": {"data": "/etc/passwd"}}),
        *((422, "/predict", {"rows": ROWS, "options": {"level": level}}) for level in (7, "x", [0.9])),
        (413, "/predict", [{"x": "1" * 3_000}]),
    ]:
        found = client.post(path, json=body)
        assert found.status_code == status, body
        assert "error" in found.json()
    found = client.post("/predict", json=[ROWS[0], 1, {"x": {"__reduce__": 1}}, None]).json()["rows"]
    assert ["error" in row for row in found] == [False, True, True, True]
    assert client.post("/predict", content=b"{").status_code == 400
    assert client.get("/predict").status_code == 405


def test_too_many_and_too_slow_requests(fit, monkeypatch):
    monkeypatch.setattr(apps, "answers", lambda *each: time.sleep(0.5))
    service = apps.Service(fit, bounds=Bounds(waiting=1, seconds=0.1))

    class Asked:
        path_params = {"verb": "predict"}

        async def stream(self):
            yield json.dumps(ROWS).encode()

    async def both():
        return await asyncio.gather(service.ask(Asked()), service.ask(Asked()))

    first, second = asyncio.run(both())
    assert (first.status_code, second.status_code) == (504, 503)
    assert service.open == 0


def test_answers_do_not_wait_for_one_another():
    """Nagle's algorithm would hold back the second packet of an answer for the 40 ms of a delayed receipt."""
    with listening("127.0.0.1", 0) as door, socket.create_connection(door.getsockname()):
        accepted, _ = door.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_port_that_is_taken_is_told():
    with listening("127.0.0.1", 0) as door:
        port = door.getsockname()[1]
        with pytest.raises(ppl.UsageError, match=f"cannot listen at 127.0.0.1:{port} .*another --port"):
            listening("127.0.0.1", port)


@pytest.mark.slow
def test_the_commands(fit, tmp_path):
    fit.save(tmp_path / "run")
    command = [sys.executable, "-m", "ppl_models"]
    lines = "\n".join(json.dumps(row) for row in ROWS)
    done = subprocess.run(
        [*command, "predict", str(tmp_path / "run"), "-", "--stream"],
        input=lines,
        capture_output=True,
        text=True,
        check=True,
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    for row, expected in zip(found, answers(fit, VERBS["predict"], ROWS, {}), strict=True):
        assert row.pop("class") == expected.pop("class")
        assert row == pytest.approx(expected)
    with subprocess.Popen(
        [*command, "serve", str(tmp_path / "run"), "--port", "0"], stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stderr is not None
        url = re.search(r"http://\S+/", server.stderr.readline())[0]  # type: ignore[index]
        try:
            with urlopen(f"{url}health", timeout=60) as answer:
                assert json.load(answer)["status"] == "ok"
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(20)
