"""The engine that takes a summary's sentences out of the messages, by the core's rules: no network, no model.

Bodies are parsed in a thread, one message at a time in the whole process, so that a long or hostile thread delays the
event loop by a switch of threads and never by a parse.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from agent_mail_core.digests import digest
from agent_mail_core.remarks import notes_of
from agent_mail_core.summaries import EXTRACTIVE, Digest, MessageNotes, SourceMessage, Summarizer, SummarySource

BATCH_CHARACTERS = 8 * 1024
"""Of bodies between two turns of other threads' owners: a call to a thread costs 0.1 ms."""


class ExtractiveSummarizer(Summarizer):
    """One a process."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def note(self, messages: Sequence[SourceMessage]) -> list[MessageNotes]:
        notes: list[MessageNotes] = []
        for batch in _batches(messages):
            async with self._turn:
                notes += await asyncio.to_thread(_notes, batch)
        return notes

    async def digest(self, source: SummarySource) -> tuple[str, Digest]:
        async with self._turn:
            return EXTRACTIVE, await asyncio.to_thread(digest, source)


def _batches(messages: Sequence[SourceMessage]) -> list[list[SourceMessage]]:
    batches: list[list[SourceMessage]] = []
    size = BATCH_CHARACTERS
    for message in messages:
        if size + len(message.body_md) > BATCH_CHARACTERS:
            batches.append([])
            size = 0
        batches[-1].append(message)
        size += len(message.body_md)
    return batches


def _notes(messages: Sequence[SourceMessage]) -> list[MessageNotes]:
    # The parsers take 5 MB that most workers of a cluster never use: they are loaded with the first summary.
    from agent_mail_summaries.reading import read

    return [notes_of(message, read(message.body_md)) for message in messages]
