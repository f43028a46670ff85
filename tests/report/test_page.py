"""The report: what is in it, that nothing of the data can break out of it, and that it stays small."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

import ppl_models as ppl
from ppl_models.errors import UsageError
from ppl_models.report.canvas import COLOURS
from ppl_models.report.page import command, formula, shown

BAD = '</style><script>alert("1")</script> <img src=x onerror=alert(1)> {{ 7*7 }}'


class Parsed(HTMLParser):
    """Tags, attributes and identifiers of a page."""

    VOID = {"meta", "link", "img", "br", "image", "use", "path", "rect"}

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def page(place):
    rng = np.random.default_rng(0)
    kind = rng.choice([f"a{BAD}", "b & <c>"], 80)
    x = rng.normal(size=80) + (kind == "b & <c>")
    data = {BAD: x, "other": rng.normal(size=80), "kind": kind}
    fit = ppl.fit(ppl.Logistic(), data, target="kind")
    return fit, fit.to_html(place / "page.html")


def test_labels_cannot_break_out(page):
    _, text = page
    found = Parsed(text)
    assert not found.all("script")
    assert not [a for _, a in found.tags if any(name.startswith("on") for name in a)]
    assert not found.all("img")
    assert "alert(" in found.text  # it is there, as text
    assert "{{ 7*7 }}" in found.text


def test_nothing_is_fetched(page):
    found = Parsed(page[1])
    links = [
        v for _, a in found.tags for n, v in a.items() if n in ("src", "href", "xlink:href", "data", "poster")
    ]
    assert all(v.startswith(("#", "data:")) for v in links)
    urls = re.findall(r"url\(([^)]*)\)|@import", page[1])
    assert all(url.startswith("#") for url in urls)


def test_identifiers_are_there_once_and_lead_somewhere(page):
    found = Parsed(page[1])
    ids = [a["id"] for _, a in found.tags if "id" in a]
    assert len(ids) == len({*ids})
    used = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)|aria-(?:labelledby|describedby)="([^"]+)"', page[1])
    assert {name for group in used for name in group if name} <= {*ids}


def test_colours_of_pictures_are_variables(page):
    body = page[1].partition("</style>")[2]
    assert not any(c in body.lower() for c in COLOURS)
    assert body.count("var(--c0)") > 3
    defined = set(re.findall(r"(--\w+):", page[1]))
    assert set(re.findall(r"var\((--\w+)\)", page[1])) <= defined


def test_every_picture_has_a_name_a_table_and_words(page):
    found = Parsed(page[1])
    pictures = [a for a in found.all("svg") if a.get("role") == "img"]
    assert len(pictures) > 6
    assert all("aria-labelledby" in a for a in pictures)
    assert len(found.all("figure")) == len(found.all("figcaption")) == len(pictures)
    assert len(found.all("table")) >= len(pictures)
    assert all(a.get("tabindex") == "0" for a in found.all("div") if "scroll" in (a.get("class") or ""))


def test_the_verdict_comes_first_and_all_is_said(page):
    fit, text = page
    body = Parsed(text).text
    positions = [
        text.index(f'id="r1-{name}"') for name in ("model", "data", "posterior", "checks", "predictions")
    ]
    assert positions == sorted(positions)
    assert text.index('class="verdict') < positions[0]
    for each in fit.report.checks:
        assert each.name in body
    assert fit.data.sha256 in body
    assert "accuracy" in body


@pytest.mark.slow
def test_two_runs_are_put_side_by_side(page):
    fit, _ = page
    text = fit.to_html(other=fit)
    assert "Side by side" in text
    assert text.count('class="verdict') == 2
    assert len(text) < 1_000_000


@pytest.mark.slow
def test_its_size_does_not_depend_on_the_rows():
    rng = np.random.default_rng(0)
    sizes = []
    for rows in (300, 6_000):
        x = rng.normal(size=(rows, 2)) + 4 * (np.arange(rows) % 2)[:, None]
        fit = ppl.fit(ppl.GMM(components=2), x, restarts=1)
        sizes.append(len(fit.to_html()))
    assert abs(sizes[1] - sizes[0]) < 0.15 * sizes[0]
    assert max(sizes) < 600_000


def test_it_is_written_whole_or_not_at_all(page, place):
    fit, text = page
    assert [p.name for p in place.iterdir()] == ["page.html"]
    assert (place / "page.html").read_text(encoding="utf-8") == text
    with pytest.raises(UsageError, match="must end in .html"):
        fit.to_html(place / "page.pdf")


def test_how_it_is_made_again(page):
    fit, _ = page
    again = ppl.fit(
        ppl.Logistic(prior_scale=2.0), {"x": np.arange(9.0), "y": ["a", "b", "a"] * 3}, target="y", seed=3
    )
    assert (
        command(again)
        == f"ppl fit logistic {again.data.source} --target y --columns x,y --prior-scale 2 --seed 3"
    )
    assert "~" in formula(fit.model)


def test_cells_as_people_read_them():
    assert [shown(v) for v in (None, True, 12345, 0.123456, float("nan"), 2.5e7, "a\x1b")] == [
        "", "yes", "12,345", "0.1235", "", "25,000,000", "a\\x1b",
    ]  # fmt: skip
