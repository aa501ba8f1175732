"""Clients that others wrote, unmodified, against the door of each engine: LangChain's chat client and guidellm.

Each lives in an environment of its own: `MT_TEST_CLIENTS=/path/to/venv` (`pip install langchain-openai`) and
`MT_TEST_GUIDELLM=/path/to/venv/bin/guidellm` (`pip install guidellm`, 6 GB). `MT_TEST_VLLM` adds the real vLLM, see `rigs`.
The `openai` package is in `test_service`.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from libs.common.db.engine import Database
from libs.common.models.prepare import default_model_dir
from libs.common.models.store import ModelStore
from tests.conftest import Stores
from tests.integration.inference.rigs import REAL_VLLM, real_vllm_settings, write_fake_vllm
from tests.integration.inference.serving import BASE, Served, serving

CLIENTS = os.environ.get("MT_TEST_CLIENTS")
GUIDELLM = os.environ.get("MT_TEST_GUIDELLM")
needs_clients = pytest.mark.skipif(CLIENTS is None, reason="MT_TEST_CLIENTS names no environment")
needs_guidellm = pytest.mark.skipif(GUIDELLM is None, reason="MT_TEST_GUIDELLM names no guidellm")
needs_vllm = pytest.mark.skipif(REAL_VLLM is None, reason="MT_TEST_VLLM names no vllm")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        CLIENTS is GUIDELLM is None, reason="neither MT_TEST_CLIENTS nor MT_TEST_GUIDELLM is set"
    ),
]

REQUESTS, TOGETHER, PROMPT_TOKENS, ANSWER_TOKENS = 8, 2, 48, 16
FIGURES = (
    "request_latency",
    "time_to_first_token_ms",
    "inter_token_latency_ms",
    "prompt_token_count",
    "output_token_count",
)
LANGCHAIN = """
import json, sys
from langchain_openai import ChatOpenAI

llm = ChatOpenAI(base_url=sys.argv[1], api_key=sys.argv[2], model=sys.argv[3], temperature=0, max_tokens=12)
whole = llm.invoke("What is a list?")
chunks = list(llm.stream("What is a list?"))
batch = llm.batch(["What is a list?", "What is a set?"])
scored = llm.bind(logprobs=True, top_logprobs=2).invoke("What is a list?")
print(json.dumps({
    "whole": whole.content,
    "usage": whole.usage_metadata,
    "streamed": "".join(chunk.content for chunk in chunks),
    "batch": [answer.content for answer in batch],
    "logprobs": len(scored.response_metadata["logprobs"]["content"]),
}))
"""


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("transformers", marks=pytest.mark.weights),
        "fake-vllm",
        pytest.param("vllm", marks=[pytest.mark.weights, needs_vllm]),
    ],
)
def served(
    request: pytest.FixtureRequest,
    stores: Stores,
    database: Database,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Served]:
    """The stand-in of vLLM with a tiny base; the others with the real one."""
    options: dict[str, Any] = {}
    if request.param == "fake-vllm":
        models = tmp_path_factory.mktemp("models")
        options = {"inference_engine": "vllm", "inference_vllm_command": write_fake_vllm(models / "bin")}
    else:
        models = default_model_dir()
        ModelStore(models).prepare(BASE)
    if request.param == "vllm":
        options = real_vllm_settings()
    with serving(stores, database, models, **options) as served:
        yield served


def run(command: list[str], **environment: str) -> str:
    surroundings = os.environ | {"HF_HUB_OFFLINE": "1"} | environment
    done = subprocess.run(command, env=surroundings, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-3000:]
    return done.stdout


@needs_clients
def test_langchain_chats(served: Served, request: pytest.FixtureRequest) -> None:
    python = str(Path(CLIENTS or "") / "bin" / "python")
    found = json.loads(
        run([python, "-c", LANGCHAIN, f"{served.url}/v1", served.token, BASE]).splitlines()[-1]
    )
    print(json.dumps(found, indent=1))  # noqa: T201 (seen with -s, and when it fails)
    assert found["whole"]
    assert all(found["batch"])
    if "[vllm]" not in request.node.name:
        # In bfloat16 the company of a request may decide between two words that are equally likely.
        assert found["whole"] == found["streamed"] == found["batch"][0] != found["batch"][1]
    assert 0 < found["usage"]["output_tokens"] == found["logprobs"] <= 12


@needs_guidellm
@pytest.mark.parametrize("route", ["/v1/chat/completions", "/v1/completions"])
def test_guidellm_loads_the_door_and_no_request_fails(served: Served, tmp_path: Path, route: str) -> None:
    report = tmp_path / "report.json"
    backend = (
        f"kind=openai_http,target={served.url},model={BASE},api_key={served.token},request_format={route}"
    )
    options = {
        "--backend": f"{backend},api_routes./health=readyz",
        "--tokenizer": f"kind=huggingface_auto,model={served.base}",
        "--data": f"kind=synthetic_text,prompt_tokens={PROMPT_TOKENS},output_tokens={ANSWER_TOKENS}",
        "--profile": f"kind=concurrent,streams={TOGETHER}",
        "--constraint": f"kind=max_requests,count={REQUESTS}",
        "--output": f"kind=json,path={report}",
    }
    run([GUIDELLM or "", "run", "--disable-progress", *(part for pair in options.items() for part in pair)])
    (load,) = json.loads(report.read_text(encoding="utf-8"))["benchmarks"]
    seen = load["metrics"]
    print(json.dumps({name: seen[name]["successful"]["median"] for name in FIGURES}, indent=1))  # noqa: T201
    assert seen["request_totals"] == {
        "successful": REQUESTS,
        "errored": 0,
        "incomplete": 0,
        "total": REQUESTS,
    }
    answers = seen["output_token_count"]["successful"]
    assert 0 < answers["min"] <= answers["max"] <= ANSWER_TOKENS
    assert all(request["output"] for request in load["requests"]["successful"])
