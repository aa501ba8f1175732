"""A stand-in for a Qdrant server: the part of its HTTP API that the adapter uses, over Qdrant's own engine in this process.

It ranks as the server does, since it is the same engine, but it is not the server: strict mode, replication, snapshots,
access keys and the real JSON parser are not here. `MT_TEST_QDRANT_URL` runs the same tests against a real one.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import qdrant_edge as qdrant
from fastapi import Body, FastAPI
from fastapi.responses import JSONResponse

from libs.common.service import BackgroundServer
from tests.conftest import free_ports

Json = dict[str, Any]


class FakeQdrant:
    """Collections by name, aliases, and the requests that came."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.shards: dict[str, Any] = {}
        self.configs: dict[str, Json] = {}
        self.indexed: dict[str, list[tuple[str, int]]] = {}
        self.aliases: dict[str, str] = {}
        self.fail_upserts_after: int | None = None
        self.upserts = 0
        self._names = itertools.count()

    def find(self, name: str) -> str | None:
        """The collection of a name or an alias."""
        name = self.aliases.get(name, name)
        return name if name in self.shards else None

    def create(self, name: str, body: Json) -> None:
        """A new collection."""
        dense = body["vectors"]["dense"]
        config = qdrant.EdgeConfig(
            vectors={"dense": qdrant.EdgeVectorParams(size=dense["size"], distance=qdrant.Distance.Cosine)},
            sparse_vectors={"bm25": qdrant.EdgeSparseVectorParams(modifier=qdrant.Modifier.Idf)},
            wal_enabled=False,
        )
        self.shards[name] = qdrant.EdgeShard.create(str(self.root / str(next(self._names))), config)
        self.configs[name] = body
        self.indexed[name] = []

    def query(self, name: str, body: Json) -> list[Json]:
        """Points found, as the server writes them."""
        common: Json = {"limit": body.get("limit", 10), "with_payload": True}
        common["with_vector"] = bool(body.get("with_vector"))
        if "prefetch" not in body:
            request = qdrant.QueryRequest(**common, **_leg(body))
        else:
            legs = [qdrant.Prefetch(limit=leg["limit"], **_leg(leg)) for leg in body["prefetch"]]
            request = qdrant.QueryRequest(query=_fusion(body["query"]), prefetches=legs, **common)
        return [_written(p) | {"version": 0, "score": p.score} for p in self.shards[name].query(request)]


def _fusion(query: Json) -> Any:
    if "rrf" in query:
        return qdrant.Fusion.Rrf(k=query["rrf"]["k"], weights=query["rrf"]["weights"])
    assert query == {"fusion": "dbsf"}
    return qdrant.Fusion.Dbsf()


def _leg(body: Json) -> Json:
    query = body["query"]
    query = query.get("nearest", query) if isinstance(query, dict) else query
    vector = qdrant.SparseVector(query["indices"], query["values"]) if isinstance(query, dict) else query
    exact = bool((body.get("params") or {}).get("exact"))
    return {
        "query": qdrant.Query.Nearest(vector, using=body["using"]),
        "filter": _filter(body.get("filter")),
        "params": qdrant.SearchParams(exact=exact),
    }


def _filter(body: Json | None) -> Any:
    if body is None:
        return None
    return qdrant.Filter(
        must=[
            qdrant.FieldCondition(part["key"], match=qdrant.MatchAny(part["match"]["any"]))
            for part in body["must"]
        ]
    )


def _written(record: Any) -> Json:
    written: Json = {"id": record.id, "payload": record.payload}
    if record.vector:
        sparse = record.vector["bm25"]
        written["vector"] = {
            "dense": list(record.vector["dense"]),
            "bm25": {"indices": list(sparse.indices), "values": list(sparse.values)},
        }
    return written


def _ok(result: Any = True) -> Json:
    return {"result": result, "status": "ok", "time": 0.0}


def _missing(name: str) -> JSONResponse:
    return JSONResponse({"status": {"error": f"Not found: Collection `{name}` doesn't exist!"}}, 404)


def make_app(fake: FakeQdrant) -> FastAPI:
    """The routes."""
    app = FastAPI()
    _add_points(app, fake)
    _add_aliases(app, fake)

    @app.get("/collections")
    def collections() -> Json:
        return _ok({"collections": [{"name": name} for name in fake.shards]})

    @app.put("/collections/{name}")
    def create(name: str, body: Json = Body()) -> Json:
        fake.create(name, body)
        return _ok()

    @app.delete("/collections/{name}")
    def delete(name: str) -> Json:
        shard = fake.shards.pop(name, None)
        if shard is not None:
            shard.close()
        return _ok(shard is not None)

    @app.get("/collections/{name}", response_model=None)
    def info(name: str) -> Json | JSONResponse:
        found = fake.find(name)
        return _missing(name) if found is None else _ok(_info(fake.configs[found]))

    @app.put("/collections/{name}/index")
    def index(name: str, body: Json = Body()) -> Json:
        kind = qdrant.PayloadSchemaType.Keyword
        fake.shards[name].update(qdrant.UpdateOperation.create_field_index(body["field_name"], kind))
        fake.indexed[name].append((body["field_name"], fake.upserts))
        return _ok({"operation_id": 0, "status": "completed"})

    return app


def _add_points(app: FastAPI, fake: FakeQdrant) -> None:
    @app.put("/collections/{name}/points", response_model=None)
    def upsert(name: str, body: Json = Body()) -> Json | JSONResponse:
        fake.upserts += 1
        if fake.fail_upserts_after is not None and fake.upserts > fake.fail_upserts_after:
            return JSONResponse({"status": {"error": "No space left on device"}}, 500)
        points = [
            qdrant.Point(
                point["id"],
                {"dense": point["vector"]["dense"], "bm25": qdrant.SparseVector(**point["vector"]["bm25"])},
                point["payload"],
            )
            for point in body["points"]
        ]
        fake.shards[name].update(qdrant.UpdateOperation.upsert_points(points))
        return _ok({"operation_id": 0, "status": "completed"})

    @app.post("/collections/{name}/points/query", response_model=None)
    def query(name: str, body: Json = Body()) -> Json | JSONResponse:
        found = fake.find(name)
        return _missing(name) if found is None else _ok({"points": fake.query(found, body)})

    @app.post("/collections/{name}/points/scroll", response_model=None)
    def scroll(name: str, body: Json = Body()) -> Json | JSONResponse:
        found = fake.find(name)
        if found is None:
            return _missing(name)
        request = qdrant.ScrollRequest(
            offset=body.get("offset"), limit=body["limit"], with_payload=True, with_vector=True
        )
        records, following = fake.shards[found].scroll(request)
        return _ok({"points": [_written(record) for record in records], "next_page_offset": following})


def _add_aliases(app: FastAPI, fake: FakeQdrant) -> None:
    @app.get("/aliases")
    def aliases() -> Json:
        known = [{"alias_name": alias, "collection_name": name} for alias, name in fake.aliases.items()]
        return _ok({"aliases": known})

    @app.post("/collections/aliases")
    def change_aliases(body: Json = Body()) -> Json:
        for action in body["actions"]:
            if "delete_alias" in action:
                fake.aliases.pop(action["delete_alias"]["alias_name"], None)
            else:
                new = action["create_alias"]
                fake.aliases[new["alias_name"]] = new["collection_name"]
        return _ok()


def _info(config: Json) -> Json:
    return {
        "status": "green",
        "optimizer_status": "ok",
        "segments_count": 1,
        "payload_schema": {},
        "config": {
            "params": {"vectors": config["vectors"], "sparse_vectors": config["sparse_vectors"]},
            "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000},
            "optimizer_config": {
                "deleted_threshold": 0.2,
                "vacuum_min_vector_number": 1000,
                "default_segment_number": 0,
                "flush_interval_sec": 5,
            },
            "metadata": config["metadata"],
        },
    }


@contextmanager
def serving() -> Iterator[tuple[str, FakeQdrant]]:
    """The stand-in, listening; its URL and itself."""
    with tempfile.TemporaryDirectory(prefix="mt-qdrant-") as directory:
        fake = FakeQdrant(Path(directory))
        url = f"http://127.0.0.1:{free_ports(1)}"
        server = BackgroundServer(make_app(fake), url)
        server.start()
        try:
            yield url, fake
        finally:
            server.stop()
