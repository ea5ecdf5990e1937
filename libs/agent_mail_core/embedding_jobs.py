"""The job that embeds a project's mail, and the sweep that finds what nobody told it of.

Sends never wait for it. Which messages lack a vector is read from the messages themselves, from the project's position
on, so that a lost wake-up, a crash, a retry or another model needs nothing special: what is missing is embedded.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from time import monotonic

from agent_mail_core.embeddings import (
    TEXT_CHARACTERS,
    Embedder,
    EmbeddingModel,
    NewVector,
    TextRefused,
    UnembeddedMessage,
    embedded_text,
)
from agent_mail_core.errors import Unavailable
from agent_mail_core.ids import ProjectId, TeamId
from agent_mail_core.jobs import NOW, Job
from agent_mail_core.ports import App

TEXTS_AT_ONCE = 64
RUN_SECONDS = 20.0
"""After which a job gives way to others."""

SETTLED = timedelta(seconds=60)
"""Longer than any transaction lives: an id below one that is so old will not appear any more."""

PROJECTS_AT_ONCE = 500
NEWEST_MESSAGES = 300
UNUSED = timedelta(hours=1)
"""After which a model's vectors go. Servers with another model may run side by side meanwhile."""
FORGOTTEN_AT_ONCE = 500


async def embed_project(app: App, job: Job) -> timedelta | None:
    """Embed what a project's mail lacks. A project that is gone lacks nothing."""
    if app.query_vectors is None or job.team_id is None:
        raise Unavailable("No embeddings are made in this process.")
    embedder = app.query_vectors.embedder
    project_id = ProjectId(job.subject_id)
    model = await _model(app, embedder, job, job.team_id)
    until = monotonic() + RUN_SECONDS
    while monotonic() < until:
        async with app.store.read() as db:
            messages = await db.embeddings.missing(model.id, project_id, TEXTS_AT_ONCE)
        vectors = await _embedded(embedder, messages) if messages else []
        async with app.store.write() as db:
            await db.jobs.hold(job)
            await db.embeddings.keep(model.id, vectors)
            await db.embeddings.advance(model.id, project_id, len(vectors), SETTLED)
        if len(messages) < TEXTS_AT_ONCE:
            return None
    return NOW


async def _model(app: App, embedder: Embedder, job: Job, team_id: TeamId) -> EmbeddingModel:
    async with app.store.read() as db:
        model = await db.embeddings.model(team_id, embedder.model, embedder.dimensions)
    if model is not None:
        return model
    async with app.store.write() as db:
        await db.jobs.hold(job)
        return await db.embeddings.use(team_id, embedder.model, embedder.dimensions)


async def _embedded(embedder: Embedder, messages: Sequence[UnembeddedMessage]) -> list[NewVector]:
    """A vector of each. When the model refuses them, it is asked by halves, so that one text keeps back no other."""
    texts = [embedded_text(message.subject, message.body_md[:TEXT_CHARACTERS]) for message in messages]
    try:
        vectors = await embedder.embed(texts)
    except TextRefused:
        if len(messages) == 1:
            return [NewVector(messages[0].id, None)]
        half = len(messages) // 2
        return [*await _embedded(embedder, messages[:half]), *await _embedded(embedder, messages[half:])]
    return [NewVector(message.id, vector) for message, vector in zip(messages, vectors, strict=True)]


async def want_newest_embedded(app: App) -> None:
    """Find projects with mail just sent: whoever hears of new events calls it."""
    if app.query_vectors is None:
        return
    embedder = app.query_vectors.embedder
    async with app.store.read() as db:
        projects = await db.embeddings.lately(embedder.model, embedder.dimensions, NEWEST_MESSAGES)
    await _want(app, projects)


async def _want(app: App, projects: Sequence[tuple[ProjectId, TeamId]]) -> None:
    if not projects:
        return
    async with app.store.write() as db:
        for project_id, team_id in sorted(projects):  # in one order, so that nobody waits for each other
            await db.jobs.want("embedding", project_id, team_id)
    for project_id, _ in projects:
        app.jobs.wake("embedding", project_id)


async def sweep_embeddings(app: App) -> bool:
    """Find projects with mail that lacks vectors, see whether the model is ready, and let go of unused ones."""
    if app.query_vectors is None:
        return False
    embedder = app.query_vectors.embedder
    name, dimensions = embedder.model, embedder.dimensions
    async with app.store.read() as db:
        projects = await db.embeddings.behind(name, dimensions, PROJECTS_AT_ONCE)
    await _want(app, projects)
    async with app.store.write() as db:
        await db.embeddings.used(name, dimensions)
    async with app.store.write() as db:
        await db.embeddings.complete(name, dimensions, SETTLED)
    async with app.store.write() as db:
        return await db.embeddings.forget(UNUSED, FORGOTTEN_AT_ONCE) >= FORGOTTEN_AT_ONCE
