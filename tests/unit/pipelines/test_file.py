"""Pipeline files as people write them: what is wrong is said with the step and the field, and purposes follow from use."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from model_training.client import pipeline_file
from model_training.client.client import Client
from model_training.contracts.files import FilePurpose
from model_training.errors import UserError

TRAIN = {
    "name": "train",
    "kind": "train",
    "body": {"model": "gemma-3-270m", "training_file": "{{ files.rows }}"},
}


class FakeFiles:
    """Remembers uploads and numbers them."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, FilePurpose]] = []

    def upload(self, path: Path, purpose: FilePurpose) -> Any:
        self.sent.append((path.name, purpose))
        return type("File", (), {"id": f"file_{len(self.sent)}"})()


class FakeClient:
    """A client that only uploads."""

    def __init__(self) -> None:
        self.files = FakeFiles()


def write(directory: Path, text: str) -> Path:
    path = directory / "pipeline.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def pipeline(*steps: Any, **more: Any) -> str:
    return yaml.safe_dump({"name": "test", "files": {"rows": "rows.jsonl"}, "steps": list(steps), **more})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [", "is not valid YAML"),
        ("- 1", "holds no pipeline"),
        ("name: x", "steps: Field required"),
        (pipeline({**TRAIN, "body": {"model": "m"}}), "steps.train.body.training_file: Field required"),
        (pipeline({**TRAIN, "kind": "dance"}), "steps.train: Input tag 'dance'"),
        (pipeline({"kind": "train"}), "steps.0.name: Field required"),
        (pipeline(TRAIN, files={}), "steps.train.body.training_file: there is no file named 'rows'"),
        (pipeline(TRAIN, dataset=["attrs"]), "must name packages"),
        (pipeline(TRAIN, dataset={"packages": ["attrs"], "rows": "many"}), "must name packages"),
        (pipeline(TRAIN, dataset={"packages": ["attrs"], "rwos": 3}), "must name packages"),
    ],
)
def test_a_file_that_cannot_be_used_says_where(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UserError) as complaint:
        pipeline_file.read(write(tmp_path, text))
    assert says in complaint.value.message


def test_the_example_can_be_read(tmp_path: Path) -> None:
    read = pipeline_file.read(write(tmp_path, pipeline_file.example()))
    assert (read.packages, read.options.rows) == (["attrs"], 600)
    client = FakeClient()
    for name in pipeline_file.DATASET.values():
        (tmp_path / name).write_text("{}\n", encoding="utf-8")
    request = pipeline_file.with_uploads(cast("Client", client), read, tmp_path)
    assert dict(client.files.sent) == {
        "train.jsonl": FilePurpose.FINE_TUNE,
        "chunks.jsonl": FilePurpose.CHUNKS,
        "evaluation.jsonl": FilePurpose.EVALUATION,
    }
    assert set(request.files) == {"train", "chunks", "evaluation"}
    assert all(id.startswith("file_") for id in request.files.values())


def test_a_file_is_uploaded_for_what_steps_use_it_as(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{}\n", encoding="utf-8")
    rows = str(tmp_path / "rows.jsonl")
    read = pipeline_file.read(write(tmp_path, pipeline(TRAIN, files={"rows": rows, "known": "file_9"})))
    client = FakeClient()
    request = pipeline_file.with_uploads(cast("Client", client), read, None)
    assert request.files == {"rows": "file_1", "known": "file_9"}
    assert client.files.sent == [("rows.jsonl", FilePurpose.FINE_TUNE)]


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ([{**TRAIN, "body": {**TRAIN["body"], "training_file": "file_1"}}], "no step uses it"),
        (
            [TRAIN, {"name": "i", "kind": "index", "body": {"name": "d", "files": ["{{ files.rows }}"]}}],
            "as chunks and as fine-tune",
        ),
    ],
)
def test_a_file_of_unclear_use_is_not_uploaded(tmp_path: Path, steps: list[Any], says: str) -> None:
    client = FakeClient()
    with pytest.raises(UserError, match=says):
        pipeline_file.with_uploads(
            cast("Client", client), pipeline_file.read(write(tmp_path, pipeline(*steps))), None
        )
    assert client.files.sent == []
