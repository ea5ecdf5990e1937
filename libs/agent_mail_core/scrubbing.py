"""Scrubbing: what must not leave with an export is replaced by what it was, and counted.

Every pattern is linear in the text's length. It finds what has a recognisable form; a password in a sentence has none.
"""

from __future__ import annotations

import re
from collections import Counter
from ipaddress import ip_address
from typing import Any

_SECRET = re.compile(
    r"""
    -----BEGIN[ ][A-Z0-9 ]{0,40}PRIVATE[ ]KEY(?:[ ]BLOCK)?-----      # PEM, PGP; cut off: what may be its rest
        (?:
            (?:[^-]++|-(?!----))*+-----END[ ][A-Z0-9 ]{0,40}PRIVATE[ ]KEY(?:[ ]BLOCK)?-----
            | (?:[^-]|-(?!----)){0,20000}+
        )
    | (?<![A-Za-z0-9])(?:
        gh[pousr]_[A-Za-z0-9]{16,}+ | github_pat_[A-Za-z0-9_]{16,}+
        | glpat-[A-Za-z0-9_-]{16,}+ | xox[a-z]-[A-Za-z0-9-]{10,}+ | xapp-[A-Za-z0-9-]{10,}+
        | (?:sk|pk|rk)[-_][A-Za-z0-9_-]{16,}+ | (?:AKIA|ASIA|AGPA|AROA)[A-Z0-9]{16}
        | AIza[A-Za-z0-9_-]{30,60} | ya29\.[A-Za-z0-9_-]{16,}+ | npm_[A-Za-z0-9]{16,}+
        | pypi-[A-Za-z0-9_-]{16,}+ | hf_[A-Za-z0-9]{16,}+ | dop_v1_[a-f0-9]{16,}+
        | am[a-z]{0,6}_[A-Za-z0-9_-]{24,}+ | whsec_[A-Za-z0-9+/=]{16,}+
        | SG\.[A-Za-z0-9_-]{8,64}\.[A-Za-z0-9_-]{8,128}
        | (?:0x)?[A-Fa-f0-9]{64,}+(?![A-Za-z0-9])
    )
    """,
    re.VERBOSE,
)
# JSON Web Tokens. What only begins like one is matched as well, so that no piece of it is looked at again and again.
_WEB_TOKEN = re.compile(r"(?<![A-Za-z0-9])eyJ[A-Za-z0-9_-]{8,}+(?P<rest>\.[A-Za-z0-9_-]{2,}+(?:\.[A-Za-z0-9_-]*+)?)?")
# What stands before a secret stays, so that a reader sees what was there. A password may hold any punctuation, and
# between quotes blanks too.
_NAME = r"(?:password|passwd|passphrase|secret|api[_-]?key|access[_-]?key|private[_-]?key|token|credential)s?"
_NAMED_SECRET = re.compile(
    rf"""
    (?P<name>
        (?:{_NAME}|\bauthorization)[*_`"'\\]{{0,4}}[ \t]{{0,4}}(?::=|=>|[=:])\*{{0,2}}[ \t]{{0,4}}
            (?:(?:bearer|basic|token)[ \t]{{1,4}})?
        | --(?:[a-z]{{1,20}}-){{0,3}}{_NAME}[ \t]{{1,4}}(?!-)
        | \b(?:bearer|basic|token)[ \t]{{1,4}}(?=[A-Za-z0-9._~+/=-]{{16}})
    )
    (?P<quote>\\{{0,2}}["'`])?
    (?P<value>(?!\[secret\])(?:
        (?<=")(?:[^"\\\n]|\\[^"\n])++(?=\\?") | (?<=')(?:[^'\\\n]|\\[^'\n])++(?=\\?') | (?<=`)[^`\n]++(?=`)
        | (?:[^\s"'`]|["'`](?=\w))++
    ))
    """,
    re.VERBOSE | re.IGNORECASE,
)
_PLACED_SECRET = re.compile(
    rf"""
    (?P<name>
        ://[^\s:/@]{{0,100}}:(?=[^\s/]{{1,200}}@)        # of a URL, up to its last @
        | (?P<element><{_NAME}>)
        | hooks\.slack\.com/services/
    )
    (?P<value>(?(element)[^<\n]++(?=</)|(?:(?<=/)\S++|[^\s/]{{1,200}}(?=@))))
    """,
    re.VERBOSE | re.IGNORECASE,
)
_EMAIL = re.compile(
    r"(?<![\w.+-])[\w.+%-]{1,64}@(?:[\w-]{1,63}\.){1,8}(?:xn--[A-Za-z0-9-]{1,59}|[^\W\d_]{2,24})(?![\w-])"
)
_IPV4 = re.compile(r"(?<![\w.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![\w]|\.[0-9])")
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}(?:[0-9A-Fa-f]{0,4}|(?:[0-9]{1,3}\.){3}[0-9]{1,3})(?![\w:])")

SECRET, EMAIL, ADDRESS = "secret", "email", "ip_address"


class Scrubber:
    """Replaces secrets, e-mail addresses and IP addresses in texts, and counts them by kind."""

    def __init__(self) -> None:
        self.replaced: Counter[str] = Counter({SECRET: 0, EMAIL: 0, ADDRESS: 0})

    def text(self, text: str) -> str:
        """The text without them."""
        text = _WEB_TOKEN.sub(lambda found: self._mark(SECRET) if found["rest"] is not None else found[0], text)
        text = _SECRET.sub(lambda _: self._mark(SECRET), text)
        text = _PLACED_SECRET.sub(lambda found: found["name"] + self._mark(SECRET), text)
        text = _NAMED_SECRET.sub(lambda found: found["name"] + (found["quote"] or "") + self._mark(SECRET), text)
        text = _EMAIL.sub(lambda _: self._mark(EMAIL), text)
        text = _IPV4.sub(self._address, text)
        return _IPV6.sub(self._address, text)

    def value(self, value: Any) -> Any:
        """The same for all texts in lists and dictionaries; keys stay."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {key: self.value(item) for key, item in value.items()}
        return [self.value(item) for item in value] if isinstance(value, list | tuple) else value

    def _address(self, found: re.Match[str]) -> str:
        """Times and version numbers look like addresses too: only what is one is replaced."""
        try:
            ip_address(found[0])
        except ValueError:
            return found[0]
        return self._mark(ADDRESS)

    def _mark(self, kind: str) -> str:
        self.replaced[kind] += 1
        return f"[{kind}]"
