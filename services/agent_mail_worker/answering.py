"""Answering servers for as long as a block lasts: they have no archive, and job workers do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from agent_mail_core.archive_answering import answer_archive
from agent_mail_core.ports import App
from agent_mail_core.questions import Questions


@asynccontextmanager
async def answering(app: App, questions: Questions | None) -> AsyncIterator[None]:
    """Answer inside the block; without a cluster nobody asks."""
    if questions is None:
        yield
        return
    hearing = asyncio.create_task(questions.hear(partial(answer_archive, app)))
    try:
        yield
    finally:
        hearing.cancel()
        await asyncio.wait({hearing})
