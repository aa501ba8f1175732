"""Parts of a page that are asked for until they are whole, and forms' choices of models and files."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from nicegui import ui

from model_training.client import ApiError, Client
from model_training.errors import UserError
from services.dashboard.app import View
from services.dashboard.parts import states

T = TypeVar("T")
EVERY_S = 2.0
GONE_STATUS = 404


def until(
    view: View, ask: Callable[[Client], T], draw: Callable[[T], None], is_whole: Callable[[T], bool]
) -> None:
    """Ask, draw, and ask again until the answer is whole, or the page is gone. Drawn anew only when it has changed.

    While nobody answers, what was drawn stays; the page's banner says why.
    """
    box = ui.element("div").classes("live")
    with box:
        states.loading()

    async def run() -> None:
        shown: list[T] = []
        while not view.client.is_deleted:
            try:
                found = await view.call(ask)
            except UserError as error:
                if not shown and not box.is_deleted:
                    box.clear()
                    with box:
                        states.error(error)
                if isinstance(error, ApiError) and error.status == GONE_STATUS:
                    return
                await asyncio.sleep(EVERY_S)
                continue
            if found not in shown and not box.is_deleted:
                shown[:] = [found]
                box.clear()
                with box:
                    draw(found)
            if is_whole(found):
                return
            await asyncio.sleep(EVERY_S)

    view.later(run())
