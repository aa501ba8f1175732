"""Clean-up never takes what something still leads to: said again in other words than the rules', on made-up platforms."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from model_training.operations.gc_rules import Found, Job, Retention, Rows, as_text, garbage

HASHES = [f"{n:064x}" for n in range(8)]
KINDS = {
    "train": "ftjob",
    "index": "idx",
    "evaluate": "eval",
    "compare": "cmp",
    "pipeline": "pipe",
    "sweep": "sweep",
}
RETENTION = Retention(fresh=1, workdirs=7, logs=30)


@st.composite
def platforms(draw: st.DrawFn) -> tuple[Rows, Found, dict[str, dict[str, object]]]:
    """Rows that refer to each other at random, and a disk with all of it and more."""
    kinds = draw(st.lists(st.sampled_from(list(KINDS)), max_size=8))
    ids = [f"{KINDS[kind]}_{n:026d}" for n, kind in enumerate(kinds)]
    jobs: list[Job] = []
    bodies: dict[str, dict[str, object]] = {}
    models: dict[str, str] = {}
    for kind, id in zip(kinds, ids, strict=True):
        artifact = draw(st.none() | st.sampled_from(HASHES))
        body: dict[str, object] = {
            "artifact": artifact,
            "uses": draw(st.none() | st.sampled_from(ids)),
            "parent": draw(st.none() | st.sampled_from(ids)),
            "ended": draw(st.none() | st.floats(0, 100)),
            "kind": kind,
        }
        if kind == "train" and artifact is not None:
            body["model"] = f"model_{id.partition('_')[2]}"
            if draw(st.booleans()):
                models[str(body["model"])] = artifact
        bodies[id] = body
        texts = as_text({name: body.get(name) for name in ("artifact", "uses", "model")})
        jobs.append(Job(id, kind, body["ended"], texts, body["parent"]))  # type: ignore[arg-type]
    for n in range(draw(st.integers(0, 2))):  # adapters that were brought in
        models[f"model_in{n}"] = draw(st.sampled_from(HASHES))
    listed = frozenset(draw(st.lists(st.sampled_from(HASHES))))
    indexes = frozenset(id for id, body in bodies.items() if body["kind"] == "index" and draw(st.booleans()))
    rows = Rows(jobs, models, json.dumps([]), listed, indexes)
    ages = st.floats(0, 100)
    disk = [*ids, "ftjob_gone", "idx_gone"]
    found = Found(
        artifacts={name: draw(ages) for name in HASHES},
        files={name: draw(ages) for name in [*HASHES, ".upload-x"]},
        workdirs={name: draw(ages) for name in disk},
        indexes={name: draw(ages) for name in disk if name.startswith("idx")},
        snapshots={f"{name}-2026.tar": draw(ages) for name in disk if name.startswith("idx")},
        logs={name: draw(ages) for name in disk},
    )
    return rows, found, bodies


@settings(max_examples=60, deadline=None)
@given(platforms())
def test_nothing_that_is_needed_goes(platform: tuple[Rows, Found, dict[str, dict[str, object]]]) -> None:
    rows, found, bodies = platform
    gone = garbage(rows, found, RETENTION)
    for artifact in rows.models.values():
        assert artifact not in gone.artifacts, "a model's, and so whatever an alias points to"
    for id, body in bodies.items():
        unfinished = body["ended"] is None
        if unfinished or body["kind"] != "train":
            assert body["artifact"] not in gone.artifacts, "an unfinished job's, or a comparison's report"
        if unfinished:
            for busy in (id, body["uses"]):
                assert busy not in gone.workdirs
                assert busy not in gone.logs
                assert busy not in gone.indexes
        parent = bodies.get(str(body["parent"]))
        if parent is not None and parent["ended"] is None:
            assert id not in gone.workdirs, "a part of an unfinished sweep or pipeline"
    assert not rows.files & set(gone.files)
    assert not rows.indexes & set(gone.indexes)
    assert not [name for name in gone.snapshots if name.partition("-")[0] in rows.indexes]


@settings(max_examples=60, deadline=None)
@given(platforms())
def test_nothing_fresh_goes_and_what_goes_is_there(
    platform: tuple[Rows, Found, dict[str, dict[str, object]]],
) -> None:
    rows, found, _ = platform
    gone = garbage(rows, found, RETENTION)
    for kind, least in {
        "artifacts": 1,
        "files": 1,
        "indexes": 1,
        "snapshots": 1,
        "workdirs": 7,
        "logs": 30,
    }.items():
        ages = getattr(found, kind)
        for name in getattr(gone, kind):
            assert ages[name] >= least
    assert garbage(rows, found, RETENTION) == gone, "asked again, the same"


@settings(max_examples=40, deadline=None)
@given(platforms())
def test_what_is_left_after_a_clean_up_is_clean(
    platform: tuple[Rows, Found, dict[str, dict[str, object]]],
) -> None:
    rows, found, _ = platform
    gone = garbage(rows, found, RETENTION)
    left = Found(**{
        kind: {name: age for name, age in getattr(found, kind).items() if name not in getattr(gone, kind)}
        for kind in ("artifacts", "files", "workdirs", "indexes", "snapshots", "logs")
    })  # fmt: skip
    assert not any(vars(garbage(rows, left, RETENTION)).values())


def test_what_nothing_needs_goes() -> None:
    """The rules do take something away."""
    deleted = Job("ftjob_1", "train", 50, as_text({"artifact": HASHES[1], "model_id": "model_gone"}))
    rows = Rows([deleted], {"model_1": HASHES[0]}, "", frozenset({HASHES[2]}), frozenset({"idx_1"}))
    found = Found(
        artifacts={HASHES[0]: 9, HASHES[1]: 9, HASHES[3]: 0.5},
        files={HASHES[2]: 9, HASHES[4]: 9, ".upload-x": 2},
        workdirs={"ftjob_1": 9},
        indexes={"idx_1": 9, "idx_2": 9},
        snapshots={"idx_1-a.tar": 9, "idx_2-a.tar": 9},
        logs={"ftjob_1": 40},
    )
    gone = garbage(rows, found, RETENTION)
    assert gone.artifacts == (HASHES[1],)
    assert gone.files == (".upload-x", HASHES[4])
    assert gone.workdirs == ("ftjob_1",)
    assert gone.indexes == ("idx_2",)
    assert gone.snapshots == ("idx_2-a.tar",)
    assert gone.logs == ("ftjob_1",)
