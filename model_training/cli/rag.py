"""`mt rag`: build indexes from files, folders and packages; search, change, delete, back up and restore them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.text import Text

from model_training.cli import rag_measure
from model_training.cli.console import err, out, print_json, print_table, size, when_short
from model_training.cli.group import Group
from model_training.cli.progress import watch
from model_training.cli.session import connect
from model_training.client.client import Client
from model_training.contracts.files import FilePurpose
from model_training.contracts.indexes import Chunk, Index
from model_training.errors import UserError

app = typer.Typer(cls=Group, help="Search your own documents and code.", no_args_is_help=True)
app.command("evaluate")(rag_measure.evaluate)
app.command("tune")(rag_measure.tune)

IndexName = Annotated[str, typer.Argument(help="An index's name or id.")]
Sources = Annotated[list[str], typer.Argument(help="Files, folders, or installed packages by import name.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
Detach = Annotated[bool, typer.Option("--detach", "-d", help="Do not follow it.")]
Capacity = Annotated[int, typer.Option(min=100, max=20_000, help="Characters of a passage at most.")]
DEFAULT_CAPACITY = 800
EXCERPT = 300


@app.command()
def index(
    name: Annotated[str, typer.Argument(help="What to call it; a taken name gets its next version.")],
    sources: Sources,
    embedder: Annotated[str, typer.Option(help="The model that embeds.")] = "all-minilm-l6-v2",
    capacity: Capacity = DEFAULT_CAPACITY,
    detach: Detach = False,
    as_json: AsJson = False,
) -> None:
    """Build an index, or its next version: what has not changed is not embedded again, what is gone goes."""
    chunks, chunker = _cut(sources, capacity)
    with connect() as client:
        file = _upload(client, chunks)
        made = client.indexes.create(name, [file], embedder=embedder, chunker=chunker)
        _follow(client, made, detach=detach, as_json=as_json)


@app.command()
def add(
    name: IndexName,
    sources: Sources,
    capacity: Capacity = DEFAULT_CAPACITY,
    detach: Detach = False,
    as_json: AsJson = False,
) -> None:
    """Add sources to an index as its next version, or replace their passages; the others stay."""
    chunks, chunker = _cut(sources, capacity)
    # A file that lost a section must lose its passage: everything of the paths that are read again goes first.
    paths = sorted({chunk.source.path for chunk in chunks if chunk.source.path})
    with connect() as client:
        base = find(client, name)
        made = client.indexes.change(base, files=[_upload(client, chunks)], remove=paths, chunker=chunker)
        _follow(client, made, detach=detach, as_json=as_json)


@app.command()
def remove(
    name: IndexName,
    what: Annotated[list[str], typer.Argument(help="Ids of passages, or paths of sources.")],
    detach: Detach = False,
    as_json: AsJson = False,
) -> None:
    """Remove passages from an index, as its next version."""
    with connect() as client:
        made = client.indexes.change(find(client, name), files=[], remove=what, chunker="as uploaded")
        _follow(client, made, detach=detach, as_json=as_json)


@app.command()
def chunk(
    sources: Sources,
    output: Annotated[Path, typer.Option("--out", "-o", help="The JSON Lines file to write.")],
    capacity: Capacity = DEFAULT_CAPACITY,
) -> None:
    """Cut sources into passages and write them to a file, to look at or to edit before indexing."""
    chunks, chunker = _cut(sources, capacity)
    _write(output, chunks)
    out.print(f"{output}: {len(chunks)} passages ({chunker})", soft_wrap=True)


@app.command("list")
def list_indexes(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many of the newest.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List indexes and their versions, newest first."""
    with Client() as client:
        found = client.indexes.list(limit=limit).data
    if as_json:
        print_json(found)
        return
    print_table(
        ("index", "name", "state", "passages", "embedder", "created"),
        ((i.id, i.name, i.state.value, i.chunks, i.embedder, when_short(i.created_at)) for i in found),
        "There are no indexes; `mt rag index NAME SOURCE…` builds one.",
    )


@app.command()
def show(name: IndexName, as_json: AsJson = False) -> None:
    """Show an index and how it is searched."""
    with Client() as client:
        found = client.indexes.get(find(client, name).id)
    if as_json:
        print_json(found)
        return
    dimension = f" ({found.dimension} numbers)" if found.dimension else ""
    out.print(f"[bold]{found.name}[/] {found.id} · {found.state.value}", soft_wrap=True)
    out.print(f"{found.chunks} passages, embedded by {found.embedder}{dimension}")
    tuned = (
        rag_measure.described(found.search)
        if found.search
        else "the platform's default; `mt rag tune` measures"
    )
    out.print(f"search: {tuned}", soft_wrap=True)
    if found.error is not None:
        out.print(Text(found.error.message, style="red"))


@app.command()
def search(
    name: IndexName,
    query: Annotated[str, typer.Argument(help="What to look for.")],
    limit: Annotated[int, typer.Option(min=1, max=100, help="Passages at most.")] = 5,
    mode: Annotated[
        Literal["hybrid", "dense", "bm25"] | None, typer.Option(help="The index's own default if not given.")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option("--where", "-w", help="field=value, such as package=toolz; may repeat."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Search an index."""
    with Client() as client:
        reply = client.indexes.query(name, query, limit=limit, mode=mode, filter=conditions(where or []))
    if as_json:
        print_json(reply)
        return
    if not reply.hits:
        out.print("Nothing was found.")
    for hit in reply.hits:
        out.print(
            Text.assemble((f"{hit.rank}. {hit.chunk.title}", "bold"), f"  {hit.score:.3f}"), soft_wrap=True
        )
        out.print(Text(_place(hit.chunk), style="dim"), soft_wrap=True)
        out.print(Text(hit.chunk.text[:EXCERPT].strip() + "\n"), soft_wrap=True)


@app.command()
def delete(name: IndexName) -> None:
    """Delete an index by id, or the newest version of a name, which then leads to the version before."""
    with Client() as client:
        found = find(client, name)
        client.indexes.delete(found.id)
    out.print(f"{found.id} deleted")


@app.command()
def snapshot(name: IndexName, as_json: AsJson = False) -> None:
    """Write an index's passages and vectors into a file on the platform's disk."""
    with Client() as client:
        taken = client.indexes.snapshot(name)
    if as_json:
        print_json(taken)
        return
    out.print(f"{taken.name}: {taken.chunks} passages, {size(taken.bytes)}", soft_wrap=True)
    out.print(f"Put it back with `mt rag restore {name} {taken.name}`.", soft_wrap=True)


@app.command()
def restore(
    name: IndexName, taken: Annotated[str, typer.Argument(metavar="SNAPSHOT", help="Its name.")]
) -> None:
    """Put an index back from a snapshot, also into another vector store than it was taken from."""
    with Client() as client:
        put = client.indexes.restore(name, taken)
    out.print(f"{put.name} ({put.id}): {put.chunks} passages are back", soft_wrap=True)


def find(client: Client, name: str) -> Index:
    """The index of an id, or the newest of a name that can be searched.

    Raises:
        UserError: there is none.
    """
    after: str | None = None
    while True:
        page = client.indexes.list(after=after, limit=100)
        for found in page.data:
            if found.id == name or (found.name == name and found.chunks):
                return found
        if not page.has_more:
            raise UserError(f"There is no finished index {name!r}.", hint="`mt rag list` shows them.")
        after = page.last_id


def conditions(where: Iterable[str]) -> dict[str, list[str]]:
    """`field=value` as a filter; several values of one field mean any of them.

    Raises:
        UserError: one has another form.
    """
    wanted: dict[str, list[str]] = {}
    for condition in where:
        name, equals, value = condition.partition("=")
        if not equals or not name or not value:
            raise UserError(
                f"{condition!r} is no condition.", hint="Write field=value, such as package=toolz."
            )
        wanted.setdefault(name, []).append(value)
    return wanted


def _cut(names: list[str], capacity: int) -> tuple[list[Chunk], str]:
    try:
        from model_training.chunking.build import build_passages, chunker_name
        from model_training.chunking.sources import Skipped, read_sources
    except ImportError as error:
        raise UserError(
            f"The parts that cut documents are not installed ({error.name} is missing).",
            hint="pip install 'model-training[data]'",
        ) from error
    skipped = Skipped()
    chunks = list(build_passages(read_sources(names, skipped), capacity))
    for reason, paths in skipped.reasons.items():
        err.print(
            f"{len(paths)} files left out, {reason}: {paths[0]}{', …' if len(paths) > 1 else ''}",
            soft_wrap=True,
        )
    if not chunks:
        raise UserError(
            "The sources hold no passage.", hint="Give Markdown, HTML, text, code or chunks as JSON Lines."
        )
    return chunks, chunker_name(capacity)


def _upload(client: Client, chunks: list[Chunk]) -> str:
    with tempfile.TemporaryDirectory(prefix="mt-rag-") as directory:
        path = Path(directory) / "passages.jsonl"
        _write(path, chunks)
        return client.files.upload(path, FilePurpose.CHUNKS).id


def _write(path: Path, chunks: list[Chunk]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(chunk.model_dump_json(exclude_none=True) + "\n" for chunk in chunks)


def _follow(client: Client, made: Index, *, detach: bool, as_json: bool) -> None:
    if not detach:
        job = watch(client, made.id, err, title="Index")
        made = client.indexes.get(made.id)
        if not as_json:
            result = job.result or {}
            counts = ", ".join(f"{result.get(name, 0)} {name}" for name in ("embedded", "reused", "removed"))
            out.print(f"[bold]{made.name}[/] {made.id}: {made.chunks} passages ({counts})", soft_wrap=True)
            return
    if as_json:
        print_json(made)
    else:
        out.print(made.id)


def _place(chunk: Chunk) -> str:
    source = chunk.source
    lines = f":{source.line_start}-{source.line_end}" if source.line_start else ""
    return f"{source.path or chunk.id}{lines}"
