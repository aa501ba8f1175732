"""The main job through the front door: data set, index, training, evaluation, comparison, report."""

from __future__ import annotations

import json
from pathlib import Path

import openai
import pytest

from model_training.client import ApiError, Client
from model_training.contracts.comparisons import ArmSpec, ComparisonCreate, ComparisonReport
from model_training.contracts.evaluations import EvaluationCreate, PromptSpec, SuiteSpec
from model_training.contracts.files import FilePurpose
from model_training.contracts.jobs import JobState
from model_training.datasets.package.build import build_from_packages
from model_training.datasets.package.records import Options
from model_training.embedded.platform import Platform
from tests.e2e.conftest import REAL, TINY


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set from a real library."""
    directory = tmp_path_factory.mktemp("dataset")
    build_from_packages(["toolz"], directory, Options(tasks=6, questions=6, rows=40))
    return directory


@pytest.fixture(scope="module")
def files(platform: Platform, dataset: Path) -> dict[str, str]:
    """Ids of the data set's files."""
    with Client(home=platform.home.root) as client:
        return {
            "train": client.files.upload(dataset / "train.jsonl", FilePurpose.FINE_TUNE).id,
            "chunks": client.files.upload(dataset / "chunks.jsonl", FilePurpose.CHUNKS).id,
            "evaluation": client.files.upload(dataset / "evaluation.jsonl", FilePurpose.EVALUATION).id,
        }


@pytest.fixture(scope="module")
def index(platform: Platform, files: dict[str, str]) -> str:
    """A finished index over the library's documentation."""
    with Client(home=platform.home.root) as client:
        index = client.indexes.create("toolz", [files["chunks"]])
        assert client.jobs.wait(index.id, timeout_s=120).state == JobState.SUCCEEDED
        return index.id


@pytest.fixture(
    scope="module",
    params=[pytest.param(TINY, marks=pytest.mark.slow), pytest.param(REAL, marks=pytest.mark.weights)],
)
def tuned(request: pytest.FixtureRequest, platform: Platform, files: dict[str, str]) -> tuple[str, str]:
    """A base and the id of a model that was tuned from it for a few steps."""
    with Client(home=platform.home.root) as client:
        job = client.fine_tuning.create(
            request.param,
            files["train"],
            training={"max_steps": 2, "batch_size": 4, "eval_steps": 2, "generate_rows": 2},
        )
        done = client.jobs.wait(job.id, timeout_s=280)
        assert done.state == JobState.SUCCEEDED, done.error
        return request.param, str(client.fine_tuning.get(job.id).fine_tuned_model)


def test_four_arms_are_compared(
    client: Client, files: dict[str, str], index: str, tuned: tuple[str, str], tmp_path: Path
) -> None:
    base, model = tuned
    comparison = client.comparisons.create(
        ComparisonCreate(
            arms=[
                ArmSpec(name="base", model=base),
                ArmSpec(name="rag", model=f"rag:{index}@{base}"),
                ArmSpec(name="tuned", model=model),
                ArmSpec(name="tuned+rag", model=f"rag:{index}@{model}"),
            ],
            suites=[
                SuiteSpec(name="code_generation", file=files["evaluation"], limit=3),
                SuiteSpec(name="qa_accuracy", file=files["evaluation"], limit=3),
            ],
            prompt=PromptSpec(examples_file=files["train"], max_tokens=16),
        )
    )
    done = client.jobs.wait(comparison.id, timeout_s=280)
    assert done.state == JobState.SUCCEEDED, done.error
    report = ComparisonReport.model_validate_json(client.comparisons.report(comparison.id, "json"))
    assert [arm.name for arm in report.arms] == ["base", "rag", "tuned", "tuned+rag"]
    assert {arm.n for arm in report.arms} == {6}
    assert all(arm.completion_tokens > 0 and arm.cost_usd > 0 for arm in report.arms)
    assert {(pair.a, pair.b) for pair in report.pairs} >= {("base", "rag"), ("base", "tuned")}
    assert report.verdict.confidence == "cannot_tell"  # six items can show nothing
    html = client.comparisons.report(comparison.id, "html").decode("utf-8")
    assert "<script src" not in html
    assert "https://cdn" not in html
    items = list(client.comparisons.items(comparison.id))
    assert len(items) == 6
    assert all(set(item.answers) == {"base", "rag", "tuned", "tuned+rag"} for item in items)
    assert any(item.answers["rag"].sources for item in items)


def test_training_left_its_traces(client: Client, tuned: tuple[str, str]) -> None:
    base, model = tuned
    listed = {entry.id: entry for entry in client.models.list().data}
    assert listed[model].root == base
    job_id = str(listed[model].job_id)
    points = client.jobs.metrics(job_id).data
    assert {"loss", "learning_rate", "grad_norm"} <= {name for point in points for name in point.values}
    assert [point.values["eval_pass_rate"] for point in points if "eval_loss" in point.values] == [0.0]
    sequences = [event.sequence for event in client.jobs.events(job_id).data]
    assert sequences == list(range(1, len(sequences) + 1))


def test_the_openai_package_streams_from_base_and_tuned(
    client: Client, platform: Platform, tuned: tuple[str, str]
) -> None:
    door = openai.OpenAI(base_url=f"{client.base_url}/v1", api_key=platform.home.api_key())
    for model in tuned:
        messages = [{"role": "user", "content": "What does toolz.take do?"}]
        whole = door.chat.completions.create(model=model, messages=messages, max_tokens=8, temperature=0)  # type: ignore[arg-type]
        stream = door.chat.completions.create(
            model=model,
            messages=messages,
            max_tokens=8,
            temperature=0,
            stream=True,  # type: ignore[arg-type]
        )
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
        assert text == whole.choices[0].message.content
        assert whole.usage is not None
        assert 0 < whole.usage.completion_tokens <= 8


@pytest.mark.usefixtures("index")
def test_bad_names_are_answered_and_nothing_is_queued(client: Client, files: dict[str, str]) -> None:
    before = [job.id for job in client.jobs.list(limit=5).data]
    suites = [SuiteSpec(name="qa_accuracy", file=files["evaluation"])]
    for model in ("gemma-9", "model_nope", "rag:nope@gemma-3-270m", "rag:toolz"):
        with pytest.raises(ApiError) as refused:
            client.evaluations.create(EvaluationCreate(model=model, suites=suites))
        assert refused.value.param == "model"
    assert [job.id for job in client.jobs.list(limit=5).data] == before


def test_the_data_set_holds_what_was_asked(dataset: Path) -> None:
    with (dataset / "evaluation.jsonl").open(encoding="utf-8") as lines:
        suites = [json.loads(line)["suite"] for line in lines]
    assert (suites.count("code_generation"), suites.count("qa_accuracy")) == (6, 6)
