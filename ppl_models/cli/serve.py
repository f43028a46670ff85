"""`ppl serve RUN`: a run behind HTTP, on this machine."""

import socket
from typing import Any

import click

from ppl_models.capabilities import Importance
from ppl_models.cli.base import Command
from ppl_models.cli.options import option, run_argument, together
from ppl_models.cli.output import note
from ppl_models.cli.verbs import ABOUT_RUN, opened
from ppl_models.errors import UsageError

FEW = 400
"""Draws of the parameters that answers are averaged over: within a twentieth of a posterior sd of all."""


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens; what it accepts sends at once, or an answer's second packet waits for 40 ms.

    Raises:
        UsageError: the address is not of this machine, or the port is taken.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        found = socket.create_server((host, port), family=family, backlog=128)
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return found
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"cannot listen at {host}:{port} ({reason}); give another --port or --host"
        ) from None


@click.command(
    cls=Command,
    help='Answer verbs on rows over HTTP: POST /predict, /score, … with {"rows": [{…}]}.\n\n'
    "GET / says what there is, /openapi.json the same for machines, /health whether it is up. Requests are "
    f"bounded in rows, bytes, seconds and number; nothing of them is executed. {ABOUT_RUN}",
    example='ppl serve latest --port 8000\ncurl -d \'{"rows": [{"age": 30}]}\' localhost:8000/predict',
)
@together(
    run_argument(),
    option("--host", default="127.0.0.1", metavar="NAME", help="Address to listen at; only this machine can "
           "reach the default."),
    option("--port", type=click.IntRange(0, 65_535), default=8_000, help="Port to listen at; 0: a free one."),
    option("--draws", type=click.IntRange(min=1), help="Draws to average over, 400 if not given."),
    option("--most-rows", type=click.IntRange(min=1), default=1_000, help="Rows of a request at most."),
    option("--most-bytes", type=click.IntRange(min=1), default=1 << 20, help="Bytes of a request at most."),
    option("--timeout", type=click.FloatRange(min=0, min_open=True), default=10.0, metavar="SECONDS",
           help="Until a request is answered, at most."),
    option("--concurrency", type=click.IntRange(min=1), default=32, help="Requests at once at most."),
)  # fmt: skip
def serve(run: str, **options: Any) -> None:
    """Serve a run until it is stopped."""
    try:
        import uvicorn

        from ppl_models.serving.app import Bounds, application
    except ImportError:
        raise UsageError(
            "serving takes starlette and uvicorn, which are not installed; pip install 'ppl_models[serve]'"
        ) from None
    fit = opened(run, options)
    bounds = Bounds(
        rows=options["most_rows"],
        size=options["most_bytes"],
        seconds=options["timeout"],
        waiting=options["concurrency"],
    )
    own = options["draws"] or (None if isinstance(fit.bound, Importance) else FEW)
    app = application(fit, {} if own is None else {"draws": own}, bounds)
    config = uvicorn.Config(
        app, log_level="warning", timeout_keep_alive=30, h11_max_incomplete_event_size=1 << 16,
        limit_concurrency=4 * bounds.waiting,  # connections, those included that ask for nothing
    )  # fmt: skip
    with listening(options["host"], options["port"]) as door:
        note(f"{fit.name} of {run} at http://{options['host']}:{door.getsockname()[1]}/ until it is stopped")
        uvicorn.Server(config).run(sockets=[door])
