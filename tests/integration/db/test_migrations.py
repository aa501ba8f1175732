"""The one history of the database: it ends where the models are, and every step of it can be taken back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, inspect, make_url, text

from libs.common.db.tables import Base
from migrations.upgrade import configuration, upgrade
from tests.conftest import Stores

REVISIONS = [script.revision for script in ScriptDirectory.from_config(configuration("")).walk_revisions()][
    ::-1
]


@pytest.fixture
def empty(stores: Stores) -> Iterator[Engine]:
    """A database of its own without a table."""
    url = make_url(stores.settings.database_url)
    with create_engine(url, isolation_level="AUTOCOMMIT").connect() as admin:
        admin.execute(text("create database migrations_test"))
        engine = create_engine(url.set(database="migrations_test"))
        yield engine
        engine.dispose()
        admin.execute(text("drop database migrations_test with (force)"))


def url_of(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=False)


@dataclass(frozen=True)
class Shape:
    """A table: type, nullability and default by column; its indexes and foreign keys."""

    columns: dict[str, tuple[str, bool, str | None]]
    indexes: set[str | None]
    foreign_keys: set[str]


def shape(engine: Engine) -> dict[str, Shape]:
    """Every table of a database."""
    look = inspect(engine)
    return {
        table: Shape(
            {c["name"]: (str(c["type"]), c["nullable"], c["default"]) for c in look.get_columns(table)},
            {index["name"] for index in look.get_indexes(table)},
            {str(key["constrained_columns"]) for key in look.get_foreign_keys(table)},
        )
        for table in look.get_table_names()
        if table != "alembic_version"
    }


def test_the_history_ends_where_the_models_are(empty: Engine) -> None:
    upgrade(url_of(empty))
    with empty.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_server_defaults_are_those_of_the_models(empty: Engine) -> None:
    upgrade(url_of(empty))
    migrated = shape(empty)
    with empty.begin() as connection:
        connection.execute(text("drop schema public cascade"))
        connection.execute(text("create schema public"))
    Base.metadata.create_all(empty)
    assert migrated == shape(empty)


def test_every_step_can_be_taken_back(empty: Engine) -> None:
    before = [shape(empty)]
    for revision in REVISIONS:
        upgrade(url_of(empty), revision)
        before.append(shape(empty))
    for revision, wanted in zip([*REVISIONS[:-1][::-1], "base"], before[:-1][::-1], strict=True):
        command.downgrade(configuration(url_of(empty)), revision)
        assert shape(empty) == wanted, revision
    upgrade(url_of(empty))
    assert shape(empty) == before[-1]


@pytest.mark.parametrize("revision", REVISIONS[1:])
def test_an_upgrade_runs_beside_the_code_before_it(empty: Engine, revision: str) -> None:
    """What the older code writes, naming its own columns only, is still taken after the upgrade, and kept by it."""
    upgrade(url_of(empty), REVISIONS[REVISIONS.index(revision) - 1])
    old = shape(empty)
    with empty.begin() as connection:
        connection.execute(text("insert into projects (id, name) values ('p', 'before')"))
    upgrade(url_of(empty), revision)
    new = shape(empty)
    for table, columns in ((name, was.columns) for name, was in old.items()):
        assert table in new, f"{table} is gone, but older code still reads it"
        now = new[table].columns
        assert columns.keys() <= now.keys(), f"{table} has lost a column that older code still reads"
        for name in now.keys() - columns.keys():
            _, nullable, default = now[name]
            assert nullable or default is not None, f"older code does not fill {table}.{name}"
    with empty.begin() as connection:
        connection.execute(text("insert into projects (id, name) values ('q', 'after')"))
        assert connection.execute(text("select count(*) from projects")).scalar_one() == 2
