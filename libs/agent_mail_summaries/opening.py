"""Opening the summarizer that the settings name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from agent_mail_core.settings import Settings
from agent_mail_core.summaries import Summarizer
from agent_mail_summaries.extractive import ExtractiveSummarizer


@asynccontextmanager
async def open_summarizer(settings: Settings) -> AsyncIterator[Summarizer]:
    """With LLM_BASE_URL and LLM_MODEL a language model, else the rules; open while the block lasts."""
    if settings.llm_base_url is None or settings.llm_model is None:
        yield ExtractiveSummarizer()
        return
    # Most installations have no model, and start without the HTTP client.
    from agent_mail_summaries.chat_completions import ChatCompletions, LanguageModel
    from agent_mail_summaries.language_model import LanguageModelSummarizer

    model = LanguageModel(settings.llm_base_url, settings.llm_model, settings.llm_api_key)
    endpoint = ChatCompletions(model)
    try:
        yield LanguageModelSummarizer(endpoint, model.model, model.input_characters)
    finally:
        await endpoint.close()
