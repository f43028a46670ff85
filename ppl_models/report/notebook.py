"""A fit for people, as HTML for a notebook: with its most telling picture."""

from base64 import b64encode
from html import escape

from ppl_models.errors import PplError
from ppl_models.record import Record
from ppl_models.report.plot import most_telling
from ppl_models.report.text import heading, printable, states
from ppl_models.report.vector import thumbnail


def fit_html(fit: Record) -> str:
    """Heading, notes, states and verdict, self-contained and escaped."""
    said = "".join(f"<li>{escape(printable(note))}</li>" for note in fit.notes)
    said = f"<ul>{said}</ul>" if said else ""
    cells = states(fit)
    table, note = cells.to_html(index=False, border=0, escape=True), cells.attrs.get("note", "")
    left = f"<p>({escape(note)})</p>" if note else ""
    seen = f"{table}{left}{_picture(fit)}{fit.report._repr_html_()}"
    return f"<div><p>{escape(heading(fit))}</p>{said}{seen}</div>"


def _picture(fit: Record) -> str:
    """The most telling picture, small; nothing where there is none."""
    try:
        picture = most_telling(fit)
    except PplError:
        return ""
    text = b64encode(thumbnail(picture)).decode("ascii")
    about = escape(f"{picture.title}. {picture.reading}", quote=True)
    return f'<img src="data:image/png;base64,{text}" alt="{about}" title="{about}" style="max-width: 100%">'
