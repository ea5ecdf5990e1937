"""Who calls: the one place where a credential becomes a Caller."""

from __future__ import annotations

import hmac

from pydantic import SecretStr

from agent_mail_core.errors import Unauthenticated
from agent_mail_core.ids import Principal, TeamId
from agent_mail_core.ports import Caller, Role
from agent_mail_core.settings import Settings
from agent_mail_server.client_address import ClientAddresses, shown
from agent_mail_server.http_request import HttpRequest

DEFAULT_TEAM = TeamId(1)
LOCAL, STATIC, METRICS, NOBODY = Principal("local"), Principal("static"), Principal("metrics"), Principal("")


class Callers:
    """Makes callers from the Authorization header.

    With AUTH_MODE=none everybody is the principal `local`; with bearer the holder of HTTP_BEARER_TOKEN is `static`.
    Both administrate: there is nobody else.
    """

    def __init__(self, settings: Settings) -> None:
        self._is_open = settings.auth_mode == "none"
        self._is_limited = settings.rate_limit_enabled
        self._addresses = ClientAddresses(settings.trusted_proxies)
        self._token = _bytes(settings.http_bearer_token)
        self._metrics_token = _bytes(settings.metrics_token)

    def caller(self, http: HttpRequest) -> Caller:
        """The caller of a request. Raises Unauthenticated."""
        if self._is_open:
            counts_for = self._counted_address(http) if self._is_limited else None
            return Caller(DEFAULT_TEAM, LOCAL, Role.admin, http.request_id, counts_for)
        given = _bearer(http.headers)
        if given is None:
            raise Unauthenticated
        if self._token is None or not hmac.compare_digest(given, self._token):
            raise Unauthenticated("This token is not valid here.")
        return Caller(DEFAULT_TEAM, STATIC, Role.admin, http.request_id, STATIC if self._is_limited else None)

    def address(self, http: HttpRequest) -> str:
        """Where a request comes from, as the key of a limit."""
        return shown(self._addresses.of(http.scope))

    def _counted_address(self, http: HttpRequest) -> str | None:
        """Who calls when nobody says so; on this machine it is its owner, who is not limited."""
        address = self._addresses.of(http.scope)
        return None if address is not None and address.is_loopback else shown(address)

    def metrics_reader(self, http: HttpRequest) -> Caller:
        """The caller of a request for metrics, which METRICS_TOKEN opens too. Raises Unauthenticated."""
        given = _bearer(http.headers)
        if self._metrics_token is not None and given is not None and hmac.compare_digest(given, self._metrics_token):
            return Caller(DEFAULT_TEAM, METRICS, Role.reader, http.request_id)
        return self.caller(http)

    def nobody(self, request_id: str) -> Caller:
        """The caller of what is public: it may read, and owns nothing."""
        return Caller(DEFAULT_TEAM, NOBODY, Role.reader, request_id)


def _bytes(secret: SecretStr | None) -> bytes | None:
    return secret.get_secret_value().encode() if secret is not None else None


def _bearer(headers: dict[bytes, bytes]) -> bytes | None:
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" and token.strip() else None
