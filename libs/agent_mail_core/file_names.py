"""File names as they may be stored and offered for download: no path, nothing that a file system trips over."""

from __future__ import annotations

import mimetypes
import re
import unicodedata

LONGEST = 255
"""Characters, and bytes of UTF-8: what common file systems take."""

UNNAMED = "attachment"
_RESERVED = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³]) *(?:\..*)?", re.IGNORECASE)
_FORBIDDEN = re.compile(r'[<>:"|?*]')
_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,62}/[a-z0-9][a-z0-9!#$&^_.+-]{0,62}")
_GUESSES = mimetypes.MimeTypes()  # the tables of the language, not those of the machine
_GUESSES.add_type("text/markdown", ".md")  # which it learned late
OCTETS = "application/octet-stream"

_RUNNABLE = frozenset(
    "text/html text/xml text/javascript text/css text/vtt application/xml application/xhtml+xml application/javascript"
    " application/ecmascript application/x-javascript application/pdf application/x-shockwave-flash"
    " multipart/related message/rfc822 text/cache-manifest".split()
)


def safe_file_name(name: str) -> str:
    """The name of the file itself, made harmless: it keeps its extension where it can, and is never empty.

    Path parts, control and format characters (which may turn the reading direction) go; what Windows forbids becomes
    `_`, and its device names get one before them.
    """
    text = unicodedata.normalize("NFC", name).replace("\\", "/").rsplit("/", 1)[-1]
    text = "".join(c for c in text if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))
    text = _FORBIDDEN.sub("_", text).strip().rstrip(". ")
    if not text.strip("."):
        return UNNAMED
    return _shortened(f"_{text}" if _RESERVED.fullmatch(text) else text)


def _shortened(name: str) -> str:
    if len(name) <= LONGEST and len(name.encode()) <= LONGEST:
        return name
    stem, dot, extension = name.rpartition(".")
    if not dot or len(extension.encode()) > 20:
        stem, dot, extension = name, "", ""
    room = LONGEST - len((dot + extension).encode())
    short = stem[:LONGEST].encode()[:room].decode("utf-8", "ignore").rstrip(". ")
    return f"{short}{dot}{extension}"


def media_type_of(declared: str | None, file_name: str, content: bytes) -> str:
    """What a file is said to be, or what its name says; else text where it is UTF-8, else just octets."""
    named = (declared or "").partition(";")[0].strip().lower()
    if _MEDIA_TYPE.fullmatch(named):
        return named
    guessed, encoding = _GUESSES.guess_type(f"/{file_name}")
    if guessed is not None and encoding is None:
        return guessed
    return "text/plain" if encoding is None and _is_text(content) else OCTETS


def _is_text(content: bytes) -> bool:
    if b"\0" in content:
        return False
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def served_media_type(media_type: str) -> str:
    """As what a file is served: whatever a browser might run or draw for this origin is just octets."""
    if media_type in _RUNNABLE or media_type.endswith("+xml") or media_type.startswith(("multipart/", "message/")):
        return OCTETS
    return media_type
