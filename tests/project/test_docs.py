"""Everything public is documented: names, commands, options, fields, and what the README tells to type."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import click
import pytest

import ppl_models
from ppl_models.capabilities import Conditional, Regresses
from ppl_models.cli.root import ppl
from ppl_models.errors import PplError
from ppl_models.families.registry import Priors
from ppl_models.latent.model import LatentModel
from ppl_models.models.program.model import PyroModel
from ppl_models.registry import BUILT_IN, find
from ppl_models.verbs import VERBS
from ppl_models.verbs.base import extent, options_of

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands(
    group: click.Group, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


COMMANDS = dict(commands(ppl))
OPTIONS = sorted(
    {
        flag
        for command in [ppl, *COMMANDS.values()]
        for parameter in command.get_params(click.Context(command))
        if isinstance(parameter, click.Option)
        for flag in [*parameter.opts, *parameter.secondary_opts]
    }
)


@pytest.mark.parametrize("name", ppl_models.__all__)
def test_a_public_name_is_documented(name):
    assert re.search(rf"\b{name}\b", TEXT)
    assert (getattr(ppl_models, name).__doc__ or "").strip()


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_a_command_is_documented(path):
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert re.search(rf"`(ppl )?{' '.join(path)}`|\b{path[-1]}\b", page)
    if len(path) == 1:
        assert f"| `{path[0]}` |" in page
        assert f"ppl {path[0]}" in README
    assert COMMANDS[path].help


def _when(verb, forms) -> str:
    """Whether a verb is there only with a target, or only without."""
    if extent(verb, forms) == 1:
        return ""
    having = [form for form in forms if issubclass(form, verb.needs)]
    predicts = all(issubclass(form, Conditional | Regresses) for form in having)
    return " with a target" if predicts else " without a target"


def verb_rows() -> list[str]:
    """The rows of the table of verbs in docs/cli.md: what each says of itself, who has it, its options."""
    bounds = {f"`{name}`": find(name).bounds() for name in BUILT_IN} | {"own models": PyroModel.bounds()}
    rows = []
    for name, verb in VERBS.items():
        has = {who: extent(verb, forms) for who, forms in bounds.items()}
        systems = ", ".join(who + _when(verb, bounds[who]) for who, share in has.items() if share)
        options = ", ".join(f"`--{each.replace('_', '-')}`" for each in options_of(verb))
        first = " ".join(str(verb.__doc__).partition("\n\n")[0].split()).rstrip(".")
        rows.append(f"| `{name}` | {first[0].lower()}{first[1:]} | {systems} | {options} |")
    return rows


def test_the_table_of_verbs_is_what_they_say_of_themselves():
    """The rows follow from the functions: what fails here is to be copied into docs/cli.md."""
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    table = page.partition("| verb |")[2].partition("\n\n")[0].splitlines()[2:]
    assert table == verb_rows()


@pytest.mark.parametrize("flag", OPTIONS)
def test_an_option_is_documented(flag):
    assert re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", TEXT), f"{flag} is in no page of docs/"


PRIORS = {field.name for field in fields(Priors)}
FIELDS = [(name, field.name) for name in BUILT_IN for field in fields(find(name))]


@pytest.mark.parametrize(("name", "field"), FIELDS, ids=map(".".join, FIELDS))
def test_a_field_is_documented_with_its_default(name, field):
    of_families = field in PRIORS and issubclass(find(name), LatentModel)
    page = (ROOT / "docs" / f"{'families' if of_families else name}.md").read_text(encoding="utf-8")
    row = re.search(rf"^\| `{field}` \| ([^|]+) \|", page, re.MULTILINE)
    assert row, f"{field} is not in the table of docs/{name}.md"
    default = getattr(find(name)(), field)
    if default is not None:
        shown = row[1].strip(" `")
        text = ",".join(map(str, default)) if isinstance(default, tuple) else str(default).lower()
        assert shown == (f"{default:g}" if type(default) in (int, float) else text)


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_table_of_fields_has_no_others(name):
    page = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    table = page.partition("## Fields")[2].partition("## ")[0]
    named = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    of_families = PRIORS if issubclass(find(name), LatentModel) else set()
    assert sorted(named) == sorted(
        field.name for field in fields(find(name)) if field.name not in of_families
    )


def test_exit_codes_are_documented():
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    kinds, codes = [PplError], set()
    while kinds:
        kind = kinds.pop()
        codes.add(kind.exit_code)
        kinds += kind.__subclasses__()
    for code in codes:
        assert re.search(rf"^\| (\d+, )?{code}\b", page, re.MULTILINE), f"exit code {code}"


def typed() -> list[list[str]]:
    """Commands of console blocks and of indented lines, up to what is done with their output.

    Lines such as `ppl VERB RUN [DATA]` say what may stand there, and are left out.
    """
    found = []
    for line in re.findall(r"^(?:\$|   ) (ppl .*)$", TEXT, re.MULTILINE):
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split = True
        words = [*lexer]
        ends = [i for i, word in enumerate(words) if set(word) <= set("|&;<>")]
        if not re.search(r"\[|\b(VERB|MODEL|PROMPT|FILE)\b", line):
            found.append(words[: min(ends, default=len(words))])
    return found


def test_the_commands_that_are_shown_exist():
    assert len(typed()) > 50
    for line in typed():
        _, name, *arguments = line
        context = click.Context(ppl)
        command = ppl.get_command(context, name)
        assert command is not None, line
        if isinstance(command, click.Group):
            command = command.get_command(click.Context(command), arguments.pop(0))
            assert command is not None, line
        command.make_context(name, arguments, resilient_parsing=False).close()


def test_the_make_targets_that_are_named_exist():
    made = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    pages = README + (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:`|^    )make ([a-z-]+)", pages, re.MULTILINE))
    assert {"demo", "test"} <= named <= made


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_contributors_are_told_of_every_folder():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    folders = [path.parent.name for path in (ROOT / "ppl_models").glob("*/__init__.py")]
    assert not [name for name in folders if f"{name}/" not in text]
