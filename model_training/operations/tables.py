"""The database in and out, table by table, as PostgreSQL's own COPY text. Needs no program of PostgreSQL's, and no rights
beyond those of the tables' owner."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VERSION_TABLE = "alembic_version"
_TABLES = """
    select c.oid::int, c.relname from pg_class c
    where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace and c.relname <> 'alembic_version'
    order by c.relname
"""
_REFERENCES = (
    "select conrelid::int, confrelid::int from pg_constraint where contype = 'f' and conrelid <> confrelid"
)
_COLUMNS = """
    select attname from pg_attribute
    where attrelid = %s::regclass and attnum > 0 and not attisdropped and attgenerated = '' order by attnum
"""


@dataclass(frozen=True)
class Table:
    """A table's content in a file. The hash is of the rows' text, whatever compressed it."""

    name: str
    columns: tuple[str, ...]
    rows: int
    sha256: str


def revision(connection: Any) -> str | None:
    """Which migration the database is at; None for an empty one."""
    if connection.execute("select to_regclass(%s)", [f"public.{VERSION_TABLE}"]).fetchone()[0] is None:
        return None
    row = connection.execute(f"select version_num from {VERSION_TABLE}").fetchone()  # nosec B608 # names come from the database's own catalogue
    return row[0] if row else None


def names(connection: Any) -> list[str]:
    """All tables with data, those that others refer to first.

    Raises:
        ValueError: tables refer to each other in a circle.
    """
    found = dict(connection.execute(_TABLES).fetchall())
    waits = {oid: set[int]() for oid in found}
    for here, there in connection.execute(_REFERENCES).fetchall():
        if here in waits and there in waits:
            waits[here].add(there)
    ordered: list[str] = []
    while waits:
        free = sorted((found[oid], oid) for oid, others in waits.items() if not others)
        if not free:
            raise ValueError(f"these tables refer to each other: {', '.join(found[oid] for oid in waits)}")
        for name, oid in free:
            ordered.append(name)
            del waits[oid]
            for others in waits.values():
                others.discard(oid)
    return ordered


def copy_out(connection: Any, name: str, target: Path) -> Table:
    """Write a table to a gzip file, in a stable order."""
    columns = tuple(row[0] for row in connection.execute(_COLUMNS, [f'public."{name}"']).fetchall())
    digest, rows = hashlib.sha256(), 0
    # The order of rows is that of the text: two dumps of the same rows are the same bytes.
    query = f'copy (select {_list(columns)} from "{name}" t order by t::text collate "C") to stdout'  # nosec B608 # names come from the database's own catalogue
    with (
        gzip.GzipFile(target, "wb", compresslevel=1, mtime=0) as file,
        connection.cursor() as cursor,
        cursor.copy(query) as copy,
    ):
        for block in copy:
            digest.update(block)
            rows += bytes(block).count(b"\n")
            file.write(block)
    return Table(name, columns, rows, digest.hexdigest())


def copy_in(connection: Any, table: Table, source: Path) -> None:
    """Read a table from a gzip file into an empty table of the same columns."""
    command = f'copy "{table.name}" ({_list(table.columns)}) from stdin'
    with gzip.open(source, "rb") as file, connection.cursor() as cursor, cursor.copy(command) as copy:
        while block := file.read(1 << 20):
            copy.write(block)


def set_sequences(connection: Any) -> None:
    """Let every counter go on after the largest number that is there."""
    owned = connection.execute("""
        select t.relname, a.attname, s.relname from pg_class s
        join pg_depend d on d.objid = s.oid and d.deptype in ('a', 'i')
        join pg_class t on t.oid = d.refobjid join pg_attribute a on a.attrelid = t.oid and a.attnum = d.refobjsubid
        where s.relkind = 'S' and s.relnamespace = 'public'::regnamespace
    """).fetchall()
    for table, column, sequence in owned:
        connection.execute(
            f'select setval(\'"{sequence}"\', coalesce(max("{column}"), 0) + 1, false) from "{table}"'  # nosec B608 # names come from the database's own catalogue
        )


def _list(columns: tuple[str, ...]) -> str:
    return ", ".join(f'"{column}"' for column in columns)
