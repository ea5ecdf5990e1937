"""Project slugs: the one function that makes them (SPEC §2)."""

import hashlib
import re
import unicodedata

RESERVED_SLUGS = frozenset({"list", "ensure", "product"})
SLUG_LENGTH = 100
_SUFFIX_LENGTH = 9


def slugify(text: str) -> str:
    """`text` as `[a-z0-9-]`: accents dropped, runs of anything else one hyphen; may be empty."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def project_slug(human_key: str, with_suffix: bool = False) -> str:
    """The slug of a project's key, at most 100 characters.

    A key with a `/` gives its last component and a hash of the whole key; another gives itself, and the hash too when
    that would be empty or reserved, or when `with_suffix` says that it is taken.
    """
    is_path = "/" in human_key
    stem = slugify(human_key.rsplit("/", 1)[-1] if is_path else human_key)
    if not (is_path or with_suffix or not stem or stem in RESERVED_SLUGS):
        return stem[:SLUG_LENGTH].rstrip("-")
    digest = hashlib.sha256(human_key.encode()).hexdigest()[:8]
    stem = stem[: SLUG_LENGTH - _SUFFIX_LENGTH].rstrip("-")
    return f"{stem}-{digest}" if stem else digest
