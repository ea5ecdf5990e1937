"""Signatures of webhooks, judged by the library of Standard Webhooks and by the example in its specification."""

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from agent_mail_core.webhook_signing import SECRET_BYTES, key_of, new_secret, signed_headers

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def now() -> datetime:
    return datetime.now(UTC)


def test_the_example_of_the_standard_is_signed_as_there() -> None:
    at = datetime.fromtimestamp(1614265330, UTC)
    headers = signed_headers(SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", at, b'{"test": 2432232314}')
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@given(st.binary(min_size=24, max_size=64), st.dictionaries(st.text(), st.text()))
def test_the_library_of_the_standard_takes_every_signature(key: bytes, payload: dict[str, str]) -> None:
    secret = f"whsec_{base64.b64encode(key).decode()}"
    body = json.dumps(payload).encode()
    headers = signed_headers(secret, "msg_1", now(), body)
    assert Webhook(secret).verify(body, headers) == payload
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body + b" ", headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body, {**headers, "webhook-id": "msg_2"})


def test_the_time_is_when_it_was_sent() -> None:
    headers = signed_headers(SECRET, "msg_1", now() - timedelta(minutes=6), b"{}")
    with pytest.raises(WebhookVerificationError, match="too old"):
        Webhook(SECRET).verify(b"{}", headers)


def test_secrets_that_are_made_are_random_and_of_full_length() -> None:
    made = {new_secret() for _ in range(100)}
    assert len(made) == 100
    assert {len(key_of(secret)) for secret in made} == {SECRET_BYTES}


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        SECRET.removeprefix("whsec_"),
        "whsec_" + base64.b64encode(b"x" * 23).decode(),
        "whsec_" + base64.b64encode(b"x" * 65).decode(),
        SECRET + "!",
        SECRET[:-1],
        "whsk_" + "A" * 44,
    ],
)
def test_what_is_no_secret_is_refused(secret: str) -> None:
    with pytest.raises(ValueError, match=r"not|base64"):
        key_of(secret)
