"""A stand-in for vLLM's server on a tiny model: the paths, bodies and answers of 0.32 that the door uses, and its manners.

Its manners count most: it takes an adapter whose names match nothing, says "added successfully", and answers as the base.
The real server passes the same tests with `MT_TEST_VLLM=/path/to/venv/bin/vllm`. Run as `vllm serve <model> ...`.
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import json
import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from prometheus_client import Counter, Histogram, generate_latest
from safetensors.torch import load_file
from starlette.responses import Response
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

REQUESTS = Counter("vllm:request_success", "Answers.", ["model_name"])
FIRST_TOKEN = Histogram("vllm:time_to_first_token_seconds", "Until the first token.", ["model_name"])


class Server:
    """The models by name; one thread computes."""

    def __init__(self, path: Path, name: str, max_rank: int) -> None:
        self.base_name = name
        self.max_rank = max_rank
        self.tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
        self.models: dict[str, Any] = {name: AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)}
        self.roots = {name: str(path)}
        self.aborted = 0

    def add(self, name: str, path: Path) -> str | None:
        """Load an adapter; names that match no layer are passed over without a word. Returns a complaint or None."""
        config = json.loads((path / "adapter_config.json").read_text(encoding="utf-8"))
        if config["r"] > self.max_rank:
            return f"LoRA rank {config['r']} is greater than max_lora_rank {self.max_rank}."
        model = copy.deepcopy(self.models[self.base_name])
        modules = dict(model.named_modules())
        weights = load_file(path / "adapter_model.safetensors")
        for key in [key for key in weights if key.endswith("lora_A.weight")]:
            module = modules.get(key.removeprefix("base_model.model.").removesuffix(".lora_A.weight"))
            if module is not None:
                change = weights[key.replace("lora_A", "lora_B")] @ weights[key]
                module.weight.data = module.weight.data + config["lora_alpha"] / config["r"] * change
        self.models[name], self.roots[name] = model, str(path)
        return None

    @torch.inference_mode()
    def log_probabilities(self, name: str, ids: list[int]) -> torch.Tensor:
        """[token, vocabulary]"""
        return self.models[name](torch.tensor([ids])).logits[0].float().log_softmax(-1)


def make_app(server: Server, key: str | None) -> FastAPI:
    app = FastAPI()
    guard(app, key)
    describe(app, server)
    adapters(app, server)

    @app.post("/v1/completions")
    async def complete(body: dict[str, Any]) -> Response:
        if body["model"] not in server.models:
            return error(404, f"The model `{body['model']}` does not exist.")
        if body.get("structured_outputs", {}).get("json", {}).get("type") == "nonsense":
            return error(400, "Invalid JSON schema")
        if body.get("stream"):
            return StreamingResponse(stream(server, body), media_type="text/event-stream")
        scores = await asyncio.to_thread(server.log_probabilities, body["model"], body["prompt"])
        rows = [{str(t): {"logprob": float(scores[i, t])}} for i, t in enumerate(body["prompt"][1:])]
        return JSONResponse({"choices": [{"prompt_logprobs": [None, *rows], "text": "?"}]})

    return app


def guard(app: FastAPI, key: str | None) -> None:
    @app.middleware("http")
    async def authenticate(request: Request, call_next: Any) -> Response:
        guarded = key and request.url.path.startswith("/v1")
        if guarded and request.headers.get("authorization") != f"Bearer {key}":
            return JSONResponse({"error": "Unauthorized"}, 401)
        return await call_next(request)


def describe(app: FastAPI, server: Server) -> None:
    @app.get("/health")
    def health() -> Response:
        return Response()

    @app.get("/metrics")
    def metrics() -> Response:
        return PlainTextResponse(generate_latest())  # its process's too, as vLLM's

    @app.get("/version")
    def version() -> dict[str, str]:
        return {"version": "0.32.0+fake"}

    @app.get("/v1/models")
    def models() -> dict[str, Any]:
        parents = {name: None if name == server.base_name else server.base_name for name in server.models}
        return {"data": [{"id": n, "root": server.roots[n], "parent": p} for n, p in parents.items()]}

    @app.post("/tokenize")
    def tokenize(body: dict[str, Any]) -> dict[str, Any]:
        found = server.tokenizer.encode(
            body["prompt"], add_special_tokens=body.get("add_special_tokens", True)
        )
        return {"tokens": found.ids, "count": len(found.ids)}


def adapters(app: FastAPI, server: Server) -> None:
    @app.post("/v1/load_lora_adapter")
    def load(body: dict[str, Any]) -> Response:
        name, path = body["lora_name"], Path(body["lora_path"])
        if name in server.models:
            return error(400, f"The lora adapter '{name}' has already been loaded.")
        if not path.is_dir():
            return error(404, f"No adapter found for '{path}'")
        if complaint := server.add(name, path):
            return error(400, complaint)
        return PlainTextResponse(f"Success: LoRA adapter '{name}' added successfully.")

    @app.post("/v1/unload_lora_adapter")
    def unload(body: dict[str, Any]) -> Response:
        if server.models.pop(body["lora_name"], None) is None:
            return error(404, f"The lora adapter '{body['lora_name']}' cannot be found.")
        return PlainTextResponse("Success")


async def stream(server: Server, body: dict[str, Any]) -> AsyncGenerator[str]:
    ids, written = list(body["prompt"]), 0
    generator = torch.Generator().manual_seed(body["seed"]) if body.get("seed") is not None else None
    forced = forced_tokens(server, body)
    finished = False
    try:
        while not finished:
            scores = (await asyncio.to_thread(server.log_probabilities, body["model"], ids))[-1]
            token = forced.pop(0) if forced else pick(scores, body, generator)
            ids.append(token)
            written += 1
            stopped = token in body["stop_token_ids"] or ("structured_outputs" in body and not forced)
            finished = stopped or written >= body["max_tokens"]
            choice = {"index": 0, "text": server.tokenizer.decode([token]), "token_ids": [token]}
            if body.get("logprobs") is not None:
                choice["logprobs"] = logprobs(scores, token, body["logprobs"])
            choice["finish_reason"] = ("stop" if stopped else "length") if finished else None
            yield event({"choices": [choice]})
        REQUESTS.labels(body["model"]).inc()
        FIRST_TOKEN.labels(body["model"]).observe(0.001)
        metrics = {"queue_time_ms": 0.5, "time_to_first_token_ms": 1.0}
        usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": written}
        yield event({"choices": [], "usage": usage, "metrics": metrics})
        yield "data: [DONE]\n\n"
    finally:
        server.aborted += not finished


def pick(scores: torch.Tensor, body: dict[str, Any], generator: torch.Generator | None) -> int:
    if body["temperature"] == 0:
        return int(scores.argmax())
    probabilities, order = torch.sort(torch.softmax(scores / body["temperature"], -1), descending=True)
    inside = probabilities.cumsum(0) - probabilities < body["top_p"]
    return int(order[torch.multinomial(probabilities[inside], 1, generator=generator)])


def logprobs(scores: torch.Tensor, token: int, top: int) -> dict[str, Any]:
    best, order = scores.topk(max(top, 1))
    tops = {f"token_id:{i}": s for i, s in zip(order.tolist(), best.tolist(), strict=True)}
    tops.setdefault(f"token_id:{token}", float(scores[token]))
    return {
        "tokens": [f"token_id:{token}"],
        "token_logprobs": [float(scores[token])],
        "top_logprobs": [tops],
        "text_offset": [0],
    }


def forced_tokens(server: Server, body: dict[str, Any]) -> list[int]:
    """A grammar's only answer: every property of the schema with a number."""
    schema = body.get("structured_outputs", {}).get("json")
    if schema is None:
        return []
    answer = json.dumps({name: 1 for name in schema["properties"]})
    return list(server.tokenizer.encode(answer, add_special_tokens=False).ids)


def event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data)}\n\n"


def error(status: int, message: str) -> Response:
    return JSONResponse({"error": {"message": message, "type": "BadRequestError", "code": status}}, status)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=["serve"])
    parser.add_argument("model", type=Path)
    parser.add_argument("--served-model-name", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--max-lora-rank", type=int, default=16)
    arguments, _ = parser.parse_known_args()
    torch.set_num_threads(1)
    server = Server(arguments.model, arguments.served_model_name, arguments.max_lora_rank)
    app = make_app(server, os.environ.get("VLLM_API_KEY"))
    uvicorn.run(app, host="127.0.0.1", port=arguments.port, log_level="warning")


if __name__ == "__main__":
    main()
