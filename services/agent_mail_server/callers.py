"""Who calls: the one place where a credential becomes a Caller."""

from __future__ import annotations

import hmac

from pydantic import SecretStr

from agent_mail_core.errors import Unauthenticated
from agent_mail_core.ids import Principal, TeamId
from agent_mail_core.ports import Caller, Role
from agent_mail_core.settings import Settings

DEFAULT_TEAM = TeamId(1)
LOCAL, STATIC, METRICS, NOBODY = Principal("local"), Principal("static"), Principal("metrics"), Principal("")


class Callers:
    """Makes callers from the Authorization header.

    With AUTH_MODE=none everybody is the principal `local`; with bearer the holder of HTTP_BEARER_TOKEN is `static`.
    Both administrate: there is nobody else.
    """

    def __init__(self, settings: Settings) -> None:
        self._is_open = settings.auth_mode == "none"
        self._token = _bytes(settings.http_bearer_token)
        self._metrics_token = _bytes(settings.metrics_token)

    def caller(self, headers: dict[bytes, bytes], request_id: str) -> Caller:
        """The caller of a request. Raises Unauthenticated."""
        if self._is_open:
            return Caller(DEFAULT_TEAM, LOCAL, Role.admin, request_id)
        given = _bearer(headers)
        if given is None:
            raise Unauthenticated
        if self._token is None or not hmac.compare_digest(given, self._token):
            raise Unauthenticated("This token is not valid here.")
        return Caller(DEFAULT_TEAM, STATIC, Role.admin, request_id)

    def metrics_reader(self, headers: dict[bytes, bytes], request_id: str) -> Caller:
        """The caller of a request for metrics, which METRICS_TOKEN opens too. Raises Unauthenticated."""
        given = _bearer(headers)
        if self._metrics_token is not None and given is not None and hmac.compare_digest(given, self._metrics_token):
            return Caller(DEFAULT_TEAM, METRICS, Role.reader, request_id)
        return self.caller(headers, request_id)

    def nobody(self, request_id: str) -> Caller:
        """The caller of what is public: it may read, and owns nothing."""
        return Caller(DEFAULT_TEAM, NOBODY, Role.reader, request_id)


def _bytes(secret: SecretStr | None) -> bytes | None:
    return secret.get_secret_value().encode() if secret is not None else None


def _bearer(headers: dict[bytes, bytes]) -> bytes | None:
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" and token.strip() else None
