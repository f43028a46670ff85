"""DuckDB databases: what a query gives, or a table; opened for reading only."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ppl_models.data.messages import clean, listed
from ppl_models.data.readers.base import File, Option, Reader, Request
from ppl_models.data.table import Table
from ppl_models.errors import DataError, UsageError

if TYPE_CHECKING:
    import duckdb


def _read(file: File, request: Request) -> Table:
    """The rows of a query, in the order in which it gives them; all of them are held in memory.

    Raises:
        UsageError: The query is not one statement that reads.
        DataError: It is no database, the query fails, or there is not one table to take without a query.
    """
    import duckdb

    from ppl_models.data.columnar import by_name, from_stream

    with _connected(file.path, file.name) as connection:
        query = request.options["query"]
        if query is None:
            query = f"from {_only_table(connection, file.name)}"
        else:
            _check_reads(connection, query, file.name)
        try:
            relation = connection.sql(query)
            names = relation.columns
            chosen = request.chosen(names)
            if len({name.lower() for name in names}) == len(names) != len(chosen) > 0:
                relation = relation.project(", ".join(f'"{_doubled(name)}"' for name in chosen))
            table = from_stream(relation, file.name)
        except duckdb.Error as error:
            raise DataError(f"{file.name}: {_said(error)}") from None
    columns = {name: cells for name, cells in by_name(table).items() if name in chosen}
    return Table(file.name, columns, table.num_rows, names=names, typed=True)


def _connected(path: Path, name: str) -> "duckdb.DuckDBPyConnection":
    """A connection that changes nothing, downloads nothing, and does not see variables of this program."""
    import duckdb

    try:
        connection = duckdb.connect(
            str(path), read_only=True, config={"autoinstall_known_extensions": "false"}
        )
        connection.execute("set python_enable_replacements = false")
    except duckdb.ConnectionException:
        raise DataError(
            f"{name}: is open in this program; close that connection, or read what it gives: "
            "read(connection.sql(...))"
        ) from None
    except duckdb.Error as error:
        raise DataError(f"{name}: {_said(error)}") from None
    return connection


def _only_table(connection: "duckdb.DuckDBPyConnection", source: str) -> str:
    """The table of a database that has one, or the view of one that has but a view, as SQL names it."""
    found: list[tuple[str, str]] = []
    for kind in ("table", "view"):
        question = f"select schema_name, {kind}_name from duckdb_{kind}s() where not internal order by all"
        found = found or connection.execute(question).fetchall()
    if len(found) == 1:
        return ".".join(f'"{_doubled(part)}"' for part in found[0])
    if not found:
        raise DataError(f"{source}: has no tables")
    names = [table if schema == "main" else f"{schema}.{table}" for schema, table in found]
    which = f"say which with --query 'select * from {clean(names[0])}'"
    raise DataError(f"{source}: has the tables {listed(names, 12)}; {which}")


def _check_reads(connection: "duckdb.DuckDBPyConnection", query: str, source: str) -> None:
    """Refuse whatever is not one query: `copy`, for one, writes files also from a read-only connection."""
    import duckdb

    try:
        statements = connection.extract_statements(query)
    except duckdb.Error as error:
        raise DataError(f"{source}: {_said(error)}") from None
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise UsageError(f"query must be one select statement, got '{clean(query)}'")


def _doubled(name: str) -> str:
    return name.replace('"', '""')


def _said(error: Any) -> str:
    """DuckDB's message in one line, without the picture of where it is wrong."""
    return clean(" ".join(str(error).partition("\n\nLINE ")[0].split()), 300)


READER = Reader(
    name="DuckDB",
    description="a DuckDB database: its only table, or what a query gives",
    suffixes=(".duckdb", ".ddb"),
    read=_read,
    options=(
        Option(
            name="query",
            help="What to ask a database, in SQL; its only table if not given.",
            metavar="SQL",
        ),
    ),
    extra="sql",
    module="duckdb",
)
