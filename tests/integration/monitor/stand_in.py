"""An inference service that answers without a model, as a process: `python -m tests.integration.monitor.stand_in URL`."""

from __future__ import annotations

import sys
from typing import Any

from libs.common.service import create_app, serve


def answer(body: dict[str, Any]) -> dict[str, Any]:
    """A reply in OpenAI's shape."""
    choice = {"index": 0, "message": {"role": "assistant", "content": "Yes."}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    kind = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1}
    return {**kind, "model": body["model"], "choices": [choice], "usage": usage}


if __name__ == "__main__":
    app = create_app("inference")
    app.add_api_route("/v1/chat/completions", answer, methods=["POST"])
    serve(app, sys.argv[1])
