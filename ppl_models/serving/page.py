"""What a service says of itself: a description in OpenAPI 3.1, and a page for people."""

from html import escape
from typing import Any

from ppl_models.annotations import Hint
from ppl_models.api import Fit
from ppl_models.data.schema import Column
from ppl_models.verbs.base import Verb, available, options_of

_TYPES = {int: "integer", float: "number", str: "string", bool: "boolean"}


def openapi(fit: Fit, verbs: dict[str, Verb], version: str) -> dict[str, Any]:
    """The description: a path for each verb, with the columns of a row and the options of the verb."""
    paths: dict[str, Any] = {
        "/health": {"get": _operation("Whether the service is up, and which fit it has")}
    }
    for name, verb in verbs.items():
        first = " ".join((verb.__doc__ or name).partition("\n\n")[0].split())
        operation = _operation(first)
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _request(fit, verb)}},
        }
        operation["responses"] |= {
            code: {"description": said}
            for code, said in (
                ("413", "More rows or bytes than are taken"),
                ("422", "Rows or options that cannot be meant"),
                ("503", "Too many requests at once"),
                ("504", "Not answered in time"),
            )
        }
        paths[f"/{name}"] = {"post": operation}
    about = f"{fit.name} with {fit.bound.describe}, fitted to {fit.data.source}"
    return {
        "openapi": "3.1.0",
        "info": {"title": f"ppl: {fit.name}", "version": version, "description": about},
        "paths": paths,
    }


def _operation(summary: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"type": "object"}}}
    return {"summary": summary, "responses": {"200": {"description": "The answer", "content": content}}}


def _request(fit: Fit, verb: Verb) -> dict[str, Any]:
    row = {"type": "object", "properties": {c.name: _cell(c) for c in fit.data.schema.columns}}
    about = options_of(verb)
    options = {name: _option(*about[name]) for name in available(verb, fit.bound)}
    return {
        "type": "object",
        "required": ["rows"],
        "properties": {
            "rows": {"type": "array", "items": row},
            "options": {"type": "object", "properties": options},
        },
    }


def _cell(column: Column) -> dict[str, Any]:
    if column.labelled:
        return {"enum": [*column.levels, None]}
    return {"type": ["number", "null"]}


def _option(about: Hint, default: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"description": about.help or ""}
    if about.type in _TYPES:
        found["type"] = _TYPES[about.type]
    return found if default is None else found | {"default": default}


def page(described: dict[str, Any], example: str) -> str:
    """The same for people, as one page that loads nothing.

    Args:
        described: what `openapi` gave.
        example: a request, as a command.
    """
    rows = "".join(
        f"<tr><td><code>{method.upper()} {escape(path)}</code></td><td>{escape(each['summary'])}</td></tr>"
        for path, methods in described["paths"].items()
        for method, each in methods.items()
    )
    info = described["info"]
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(info['title'])}</title>"
        "<style>body{font:16px/1.5 system-ui;max-width:50em;margin:2em auto;padding:0 1em}"
        "td{padding:.2em 1em .2em 0;vertical-align:top}pre{background:#f4f4f4;padding:1em;overflow:auto}"
        f"</style><h1>{escape(info['title'])}</h1><p>{escape(info['description'])}</p>"
        f"<table>{rows}</table><h2>For instance</h2><pre>{escape(example)}</pre>"
        "<p>Everything in <a href=openapi.json>OpenAPI</a>.</p></html>"
    )
