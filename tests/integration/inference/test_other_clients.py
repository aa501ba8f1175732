"""Clients that others wrote, unmodified, against the door of each engine: LangChain's chat client and guidellm.

They live in an environment of their own (`pip install langchain-openai guidellm`), named by `MT_TEST_CLIENTS=/path/to/venv`.
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
from tests.conftest import Stores
from tests.integration.inference.rigs import write_fake_vllm
from tests.integration.inference.serving import BASE, Served, serving

CLIENTS = os.environ.get("MT_TEST_CLIENTS")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(CLIENTS is None, reason="MT_TEST_CLIENTS names no environment"),
]

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


@pytest.fixture(scope="module", params=["transformers", "vllm"])
def served(
    request: pytest.FixtureRequest,
    stores: Stores,
    database: Database,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("models")
    options: dict[str, Any] = {}
    if request.param == "vllm":
        options = {"inference_engine": "vllm", "inference_vllm_command": write_fake_vllm(folder / "bin")}
    with serving(stores, database, folder, **options) as served:
        yield served


def run(command: list[str], **environment: str) -> str:
    surroundings = os.environ | {"HF_HUB_OFFLINE": "1"} | environment
    done = subprocess.run(command, env=surroundings, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-3000:]
    return done.stdout


def test_langchain_chats(served: Served) -> None:
    python = str(Path(CLIENTS or "") / "bin" / "python")
    found = json.loads(
        run([python, "-c", LANGCHAIN, f"{served.url}/v1", served.token, BASE]).splitlines()[-1]
    )
    assert found["whole"]
    assert found["whole"] == found["streamed"] == found["batch"][0] != found["batch"][1]
    assert found["usage"]["output_tokens"] == found["logprobs"] == 12
