"""A fit behind HTTP, as an ASGI application: JSON in, JSON out, within bounds.

    GET  /              a page that says what there is
    GET  /openapi.json  the same for machines
    GET  /health        {"status": "ok", …}
    POST /VERB          {"rows": [{…}, …], "options": {…}}  ->  {"rows": [{…}, …]}

Rows are data: nothing of a request is executed or kept, and no file is read or written for it. One request is
computed at a time, as the fit has all processors; others wait, up to `waiting` of them.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from ppl_models.api import Fit
from ppl_models.errors import PplError
from ppl_models.serving.answers import ERROR, Row, answered, answers, each
from ppl_models.serving.page import openapi, page
from ppl_models.verbs.base import Verb, available


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What a request may be.

    Attributes:
        rows: of a request, at most.
        size: bytes of it, at most.
        seconds: until it is answered, its waiting included.
        waiting: requests at once, at most.
    """

    rows: int = 1_000
    size: int = 1 << 20
    seconds: float = 10.0
    waiting: int = 32


class Refused(Exception):
    """A request that is not answered, and the status that says why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(eq=False)
class Service:
    """A fit, and the requests that it is answering.

    Attributes:
        fit: which is asked.
        options: of its verbs, where a request gives none.
        bounds: of requests.
    """

    fit: Fit
    options: Mapping[str, Any] = field(default_factory=dict)
    bounds: Bounds = field(default_factory=Bounds)

    def __post_init__(self) -> None:
        self.verbs = answered(self.fit)
        self.one = asyncio.Lock()
        self.open = 0

    async def health(self, request: Request) -> Response:
        """That it is up, and with which fit."""
        about = {"model": self.fit.name, "run": self.fit.path, "verdict": self.fit.check().verdict}
        return JSONResponse({"status": "ok", "requests": self.open, **about})

    async def described(self, request: Request) -> Response:
        """OpenAPI."""
        return JSONResponse(openapi(self.fit, self.verbs, version("ppl_models")))

    async def page(self, request: Request) -> Response:
        """For people."""
        first = next(iter(self.verbs))
        names = [c.name for c in self.fit.data.schema.columns if c.name != self.fit.data.schema.target]
        body = json.dumps({"rows": [dict.fromkeys(names[:4])]})
        example = f"curl -H 'content-type: application/json' -d '{body}' {request.base_url}{first}"
        return HTMLResponse(page(openapi(self.fit, self.verbs, version("ppl_models")), example))

    async def ask(self, request: Request) -> Response:
        """Answer a verb."""
        verb = self.verbs.get(request.path_params["verb"])
        if verb is None:
            return _refusal(404, f"there is no such verb; there are {', '.join(self.verbs)}")
        if self.open >= self.bounds.waiting:
            return _refusal(503, "too many requests at once; try again later")
        self.open += 1
        try:
            async with asyncio.timeout(self.bounds.seconds):
                rows, options = self._asked(verb, await self._body(request))
                async with self.one:
                    found = await asyncio.to_thread(self._answers, verb, rows, options)
        except TimeoutError:
            return _refusal(504, f"not answered within {self.bounds.seconds:g} seconds; ask for fewer rows")
        except Refused as error:
            return _refusal(error.status, str(error))
        except PplError as error:
            return _refusal(422, str(error))
        except ClientDisconnect:
            return _refusal(400, "the request ended early")
        finally:
            self.open -= 1
        return JSONResponse({"rows": found})

    def _answers(self, verb: Verb, rows: list[Any], options: dict[str, Any]) -> list[Row]:
        return each(rows, lambda some: answers(self.fit, verb, some, options))

    async def _body(self, request: Request) -> Any:
        """The JSON value of a request.

        Raises:
            Refused: it is too large, or no JSON.
        """
        content = bytearray()
        async for piece in request.stream():
            content += piece
            if len(content) > self.bounds.size:
                raise Refused(413, f"a request has at most {self.bounds.size:,} bytes")
        try:
            return json.loads(bytes(content))
        except (ValueError, RecursionError) as error:
            raise Refused(400, f"not JSON ({getattr(error, 'msg', error)})") from None

    def _asked(self, verb: Verb, body: Any) -> tuple[list[Any], dict[str, Any]]:
        """Rows and options of a request.

        Raises:
            Refused: it is something else.
        """
        body = {"rows": body} if isinstance(body, list) else body
        if not isinstance(body, dict) or not isinstance(body.get("rows"), list):
            raise Refused(422, 'give {"rows": [{"column": value, …}, …]}')
        if others := {*body} - {"rows", "options"}:
            raise Refused(422, f"a request has rows and options, not {', '.join(sorted(others))}")
        rows, given = body["rows"], body.get("options")
        given = {} if given is None else given
        if not rows or len(rows) > self.bounds.rows:
            raise Refused(413 if rows else 422, f"a request has 1 to {self.bounds.rows:,} rows")
        has = available(verb, self.fit.bound)
        if not isinstance(given, dict) or not {*given} <= {*has}:
            raise Refused(422, f"options of {verb.__name__} are {', '.join(has)}")
        plain = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}
        return rows, {name: v for name, v in self.options.items() if name in has} | plain


def _refusal(status: int, reason: str) -> Response:
    return JSONResponse({ERROR: reason}, status)


def application(
    fit: Fit, options: Mapping[str, Any] | None = None, bounds: Bounds | None = None
) -> Starlette:
    """The ASGI application of a fit.

    Args:
        fit: which is asked.
        options: of its verbs, `draws` say, where a request gives none.
        bounds: of requests.

    Raises:
        Unsupported: rows of the model follow one another.
    """
    service = Service(fit, options or {}, bounds or Bounds())
    _ = fit.check().verdict  # and the draws, before the first request needs them
    return Starlette(
        routes=[
            Route("/", service.page),
            Route("/openapi.json", service.described),
            Route("/health", service.health),
            Route("/{verb}", service.ask, methods=["POST"]),
        ]
    )
