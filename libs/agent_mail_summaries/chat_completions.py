"""Asking a language model: one call of an OpenAI-compatible `/chat/completions`, within its bounds.

No redirect is followed (it would carry the key elsewhere), no compressed answer is taken (a few bytes could become
gigabytes), no proxy or credential is read from the environment.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
from pydantic import BaseModel, SecretStr, ValidationError

MOST_ANSWER_BYTES = 256 * 1024
TRIES = 2
PAUSE_SECONDS = 0.5
RETRIED = frozenset({408, 409, 425, 429})
MINUTE = 60.0


class NoAnswer(Exception):
    """The model gave no usable answer; the message says why, without a word of what was asked or answered."""


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """Which model to ask, and how much of it may be used."""

    base_url: str
    """Up to and without `/chat/completions`."""
    model: str
    api_key: SecretStr | None = None
    timeout_seconds: float = 30.0
    """For a summary, retries included."""
    calls_a_minute: int = 20
    """Of this process."""
    input_characters: int = 48_000
    output_tokens: int = 2_000
    at_once: int = 2


class _Message(BaseModel):
    content: str


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Completion(BaseModel):
    choices: list[_Choice]


class _Retry(Exception):
    """Worth another try."""


class ChatCompletions:
    """One model's endpoint. Close it at the end."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._places = asyncio.Semaphore(model.at_once)
        self._called: deque[float] = deque()
        headers = {"accept": "application/json", "accept-encoding": "identity"}
        if model.api_key is not None:
            headers["authorization"] = f"Bearer {model.api_key.get_secret_value()}"
        self._client = httpx.AsyncClient(
            headers=headers,
            timeout=model.timeout_seconds,
            follow_redirects=False,
            trust_env=False,
            limits=httpx.Limits(max_connections=model.at_once, max_keepalive_connections=model.at_once),
        )

    async def close(self) -> None:
        """End the connections."""
        await self._client.aclose()

    async def ask(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The text of the model's answer, which should be one JSON object. Raises NoAnswer."""
        try:
            async with asyncio.timeout(self._model.timeout_seconds), self._places:
                return await self._asked(messages)
        except TimeoutError:
            raise NoAnswer("no answer in time") from None

    async def _asked(self, messages: Sequence[Mapping[str, str]]) -> str:
        for attempt in range(1, TRIES + 1):
            self._count_call()
            try:
                return await self._once(messages)
            except _Retry as fault:
                if attempt == TRIES:
                    raise NoAnswer(str(fault)) from None
                await asyncio.sleep(PAUSE_SECONDS * attempt)
        raise AssertionError("unreachable")

    def _count_call(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._called and self._called[0] <= now - MINUTE:
            self._called.popleft()
        if len(self._called) >= self._model.calls_a_minute:
            raise NoAnswer("the calls of this minute are used up")
        self._called.append(now)

    async def _once(self, messages: Sequence[Mapping[str, str]]) -> str:
        body = {
            "model": self._model.model,
            "messages": list(messages),
            "temperature": 0,
            "max_tokens": self._model.output_tokens,
            "response_format": {"type": "json_object"},
        }
        url = self._model.base_url.rstrip("/") + "/chat/completions"
        try:
            async with self._client.stream("POST", url, json=body) as response:
                status = response.status_code
                if status in RETRIED or status >= 500:
                    raise _Retry(f"status {status}")
                if status != 200:
                    raise NoAnswer(f"status {status}")
                if response.headers.get("content-encoding", "identity") != "identity":
                    raise NoAnswer("a compressed answer")
                content = await _bounded(response)
        except httpx.TransportError as error:
            raise _Retry(type(error).__name__) from None
        except httpx.InvalidURL:
            raise NoAnswer("an invalid URL") from None
        return _text_of(content)


async def _bounded(response: httpx.Response) -> bytes:
    content = bytearray()
    async for chunk in response.aiter_raw():
        content += chunk
        if len(content) > MOST_ANSWER_BYTES:
            raise NoAnswer("too large an answer")
    return bytes(content)


def _text_of(content: bytes) -> str:
    try:
        decoded: Any = json.loads(content)
        completion = _Completion.model_validate(decoded)
    except (ValueError, RecursionError, ValidationError):
        raise NoAnswer("not a completion") from None
    if not completion.choices:
        raise NoAnswer("no choice")
    choice = completion.choices[0]
    if choice.finish_reason == "length":
        raise NoAnswer("a truncated answer")
    return choice.message.content
