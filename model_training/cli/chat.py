"""`mt chat`: ask a model, once or in a conversation."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from model_training.cli.console import err, out
from model_training.client.client import Client
from model_training.contracts.chat import ChatMessage


def chat(
    question: Annotated[
        str | None, typer.Argument(help="What to ask; without it, a conversation begins.")
    ] = None,
    model: Annotated[
        str, typer.Option("--model", "-m", help="A base, a tuned id, or rag:<index>@<model>.")
    ] = "gemma-3-270m",
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer in tokens.")] = 256,
    temperature: Annotated[float, typer.Option(min=0, max=2, help="0 takes the likeliest token.")] = 0.0,
) -> None:
    """Ask a model."""
    with Client() as client:
        turns: list[ChatMessage] = []
        while (text := question if question is not None else _ask()) is not None:
            turns.append(ChatMessage(role="user", content=text))
            answer = _answer(client, model, turns, max_tokens, temperature)
            turns.append(ChatMessage(role="assistant", content=answer))
            if question is not None:
                return


def _ask() -> str | None:
    try:
        if sys.stdin.isatty():
            err.print("[bold]you>[/] ", end="")
        line = input()
    except EOFError:
        return None
    return line.strip() or None


def _answer(client: Client, model: str, turns: list[ChatMessage], max_tokens: int, temperature: float) -> str:
    if model.startswith("rag:"):  # sources come with the whole answer
        reply = client.chat.create(model, turns, max_tokens=max_tokens, temperature=temperature)
        text = reply.choices[0].message.content
        out.print(text, markup=False, soft_wrap=True)
        for number, source in enumerate(reply.sources or [], 1):
            err.print(f"  [{number}] {source.get('title') or source.get('id')}", markup=False, style="dim")
        return text
    pieces: list[str] = []
    for piece in client.chat.stream(model, turns, max_tokens=max_tokens, temperature=temperature):
        pieces.append(piece)
        out.out(piece, end="")
    out.print()
    return "".join(pieces)
