"""How text becomes search tokens: one rule for messages and queries, for SQLite and Postgres alike.

The stores only store and compare what these functions return, so both engines find the same messages. Equal input gives
equal tokens on one Python minor version (Unicode tables move with it): reindex when that changes. Any string is taken,
no function here raises, and all run in time linear in the text.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

MAX_TOKEN = 128
MAX_TOKENS = 65_536
MAX_UNIQUE_BYTES = 512 * 1024
_ROOMY = MAX_TOKENS // 8
"""So many characters make at most twice as many tokens, of eight times as many bytes: there is room for all."""

# NFKC may turn one character into 18; honest text hardly grows.
_MAX_SWELLING = 32 * 1024
_MAX_UNIT = 512

# Default_Ignorable_Code_Point (soft hyphen, joiners, variation selectors, …) as in Unicode's NFKC_Casefold, but for
# U+200B, the zero-width space, which does part words.
_IGNORABLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200c-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
# Blocks of scripts that are written without spaces, or with endings glued to words (Hangul).
_SPACELESS_BLOCKS = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1100, 0x11FF),  # Hangul letters
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19DF),  # Tai Le, New Tai Lue
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x2E80, 0x9FFF),  # radicals, kana, bopomofo, Han
    (0xA960, 0xA97F),  # Hangul letters
    (0xAC00, 0xD7FF),  # Hangul
    (0xF900, 0xFAFF),  # Han
    (0xFF66, 0xFFDC),  # half-width kana and Hangul: only met before NFKC
    (0x16FE0, 0x18DFF),  # Tangut, Khitan
    (0x1AFF0, 0x1B2FF),  # kana, Nushu
)
_SPACELESS_PLANES = "\U00020000-\U0003ffff"  # Han, assigned or not yet
_EMOJI_PLANE = (0x1F300, 0x1FAFF)  # whole, so that an emoji younger than this Python is found too
_SKIN_TONES = range(0x1F3FB, 0x1F400)
_LINE_DRAWING = range(0x2500, 0x25A0)  # tables and directory trees: punctuation, though Unicode calls them symbols
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_SEPARATORS = r"_\-./\\:@#+~"


def _ranges(codes: Iterable[int]) -> str:
    """The inside of a regular expression's character class."""
    runs: list[list[int]] = []
    for code in codes:
        if runs and runs[-1][1] == code - 1:
            runs[-1][1] = code
        else:
            runs.append([code, code])
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in runs)


def _character_classes() -> tuple[str, str, str, str]:
    """Marks, spaceless letters, symbols, and other non-letters that NFKC turns into letters (``™``, ``㎏``).

    Takes about 20 ms, once.
    """
    marks: list[int] = []
    spaceless: list[int] = []
    symbols: list[int] = []
    unfolding: list[int] = []
    is_spaceless = bytearray(0x20000)  # a set of them would take 5 MB
    for first, last in _SPACELESS_BLOCKS:
        is_spaceless[first : last + 1] = b"\x01" * (last + 1 - first)
    emoji = range(_EMOJI_PLANE[0], _EMOJI_PLANE[1] + 1)
    for code in chain(range(0x80, 0x20000), range(0xE0100, 0xE01F0)):
        character = chr(code)
        category = unicodedata.category(character)
        if category[0] == "M":
            marks.append(code)
        if category[0] == "L" or category == "Nl":
            if code < 0x20000 and is_spaceless[code]:
                spaceless.append(code)
            continue
        if (category == "So" or code in emoji) and code not in _SKIN_TONES and code not in _LINE_DRAWING:
            symbols.append(code)
        if category[0] in "SPM" and re.search(r"[^\W_]", unicodedata.normalize("NFKC", character).casefold()):
            unfolding.append(code)
    return _ranges(marks), _ranges(spaceless) + _SPACELESS_PLANES, _ranges(symbols), _ranges(unfolding)


_MARKS, _SPACELESS, _SYMBOLS, _UNFOLDING = _character_classes()
# Two half-width marks are letters until NFKC makes combining marks of them.
_COMBINING = _MARKS + "\uff9e\uff9f"
# What may melt into the character before it under NFKC: marks, two vowels that begin with one, all Hangul letters.
_MELTING = _COMBINING + _IGNORABLE + "\u0e33\u0eb3\u1100-\u11ff\u3130-\u318f\ua960-\ua97f\ud7b0-\ud7ff\uffa0-\uffdc"

# The large classes cost 100 ns a character. This guard before them makes mostly-ASCII text three times faster.
_BEYOND_ASCII = r"(?=[^\x00-\x7f])"
_LETTER = rf"[^\W_{_SPACELESS}]"
_REST = rf"[^\W_]*+(?:{_BEYOND_ASCII}[{_MARKS}]++[^\W_]*+)*+"

_IGNORED = re.compile(f"[{_IGNORABLE}]+")
_CROWDED = re.compile(rf"[^\x00-\u02ff](?<=[{_COMBINING}])[{_COMBINING}]{{30,}}")
_ASCII_PART = re.compile(r"[a-z0-9]+")
_PART = re.compile(
    rf"[a-z0-9]++(?![^\x00-\x7f])"
    rf"|{_LETTER}++(?:{_BEYOND_ASCII}[{_MARKS}]++{_LETTER}*+)*+"
    rf"|{_BEYOND_ASCII}(?:[{_SPACELESS}][{_MARKS}]*+|[{_SYMBOLS}])"
)
_UNIT = re.compile(
    rf"[A-Za-z0-9]++(?![^\x00-\x7f])"
    rf"|(?:{_LETTER}++|{_BEYOND_ASCII}[{_UNFOLDING}]{_LETTER}*+)(?:{_BEYOND_ASCII}[{_MELTING}{_UNFOLDING}]++{_LETTER}*+)*+"
    rf"|{_BEYOND_ASCII}[{_SPACELESS}{_SYMBOLS}][{_MELTING}]*+"
)
# Prose holds none, which takes a fifth of the time to see.
_ASCII_JOINT = re.compile(rf"[{_SEPARATORS}](?<=[a-z0-9].)[a-z0-9]")
# Possessive, and entered only where a run of letters begins: otherwise a long run is walked once per character.
_ASCII_WHOLE = re.compile(rf"(?<![a-z0-9])[a-z0-9]++(?:[{_SEPARATORS}][a-z0-9]++)++")
_WHOLE = re.compile(
    rf"[^\W_](?<![^\W_].)(?:(?<![^\x00-\x7f].)|(?<![{_MARKS}].)){_REST}"
    rf"(?:[{_SEPARATORS}][^\W_]{_REST})++"
)


@dataclass(frozen=True, slots=True)
class IndexedText:
    """The tokens of one message, parts in the order of the text, wholes each once.

    Together at most 65,536 tokens, and at most 512 KiB of UTF-8 in distinct ones. That keeps a Postgres tsvector below
    its 1 MiB even with every position stored: per distinct token one byte of padding and a two-byte count, and two
    bytes per position, make 832 KiB. There is room to add the index of a subject to the index of a full body.
    """

    subject_parts: list[str]
    body_parts: list[str]
    wholes: list[str]


def parts(text: str) -> list[str]:
    """The searchable parts of a text, in order, repeats kept.

    NFKC, case folded, NFKC again (folding can leave decomposed text), invisible characters dropped; then split at
    everything that is not a letter or digit. Composed and decomposed spellings give the same parts.

    - Combining marks and vowel signs belong to the letter before them; without one they are ignored, and past 30 in a
      row dropped (sorting longer rows takes quadratic time).
    - In scripts without spaces between words (Han, kana, Hangul, Thai, Lao, Khmer, Myanmar, …) each letter with its
      marks is a part, so that a phrase of them is found inside a longer run.
    - Each pictorial symbol (emoji, ``✓``, ``©``) is a part; line-drawing characters and skin tones are not.
    - A part longer than 128 characters is its first 128: longer words that begin alike are one to the search.
    - Where NFKC makes a text more than 32 Ki characters longer, what lies past that is dropped, and so are parts past
      65,536.
    """
    return _parts(_normal(text))


def wholes(text: str) -> list[str]:
    """Paths, ids, snake_case and the like: letters and digits joined by single characters of ``_-./\\:@#+~``.

    Each once, in order of first sight, normalised as ``parts``; only those with a joint inside. One longer than 128
    characters is left out rather than cut, so that whoever has a whole also has its parts in sequence.
    """
    return _wholes(_normal(text))


def index_text(subject: str, body: str) -> IndexedText:
    """What both engines store for a message.

    Room is given to the subject's parts, then the body's, then the wholes; at the first token that has no room, that
    one and all behind it are dropped. In honest mail that is the end of a body of more than 65,536 words or Han
    characters: it stays readable but is not found.
    """
    normal_subject, normal_body = _normal(subject), _normal(body)
    if len(normal_subject) + len(normal_body) <= _ROOMY:
        joined = _wholes(normal_subject) + _wholes(normal_body)
        return IndexedText(_parts(normal_subject), _parts(normal_body), list(dict.fromkeys(joined)))
    room = _Room()
    subject_parts = room.take(_parts(normal_subject))
    body_parts = room.take(_parts(normal_body))
    joined = _wholes(normal_subject) + _wholes(normal_body)
    return IndexedText(subject_parts, body_parts, room.take(list(dict.fromkeys(joined))))


def phrase_text(parts: Sequence[str]) -> str:
    """``" a b c "``: a phrase lies in a text when its phrase text lies in the text's, character by character.

    Without the last space it finds the phrase with its last part as a prefix.
    """
    return f" {' '.join(parts)} "


def encode(token: str) -> str:
    """The token in ``[a-z0-9_]``, one token to FTS5's ``ascii`` tokenizer with ``tokenchars '_'``.

    Letters a–z and digits stay, every other character is ``_`` and six hex digits. Different tokens never meet, and
    one is a prefix of another exactly when their encoded forms are.
    """
    if token.isascii() and token.isalnum() and token.islower():
        return token
    return token.translate(_ENCODED)


def places(text: str, limit: int) -> list[tuple[str, int, int]]:
    """The first parts of a text, each with where it stands in the text as written: ``(part, start, end)``.

    Parts that come from one written unit (``½`` is ``1`` and ``2``) share its place, and of a unit longer than 512
    characters the rest is not read; else these are the same as `parts`. (Not always around U+0345, a mark that folds to
    a letter, behind anything but Greek.)
    """
    if unicodedata.is_normalized("NFKC", text):
        normal = _normal(text)
        # Folding goes character by character and shortens none: of equal length, each stands where it stood.
        if len(normal) == len(text) and normal == text.casefold():
            pattern = _ASCII_PART if normal.isascii() else _PART
            return [(found[0][:MAX_TOKEN], *found.span()) for found in islice(pattern.finditer(normal), limit)]
    return list(islice(_unit_places(text), limit))


def _unit_places(text: str) -> Iterator[tuple[str, int, int]]:
    known: dict[str, list[str]] = {}
    for found in _UNIT.finditer(text):
        unit = found[0]
        unit_parts = known.get(unit)
        if unit_parts is None:
            unit_parts = known[unit] = parts(unit[:_MAX_UNIT])
        start, end = found.span()
        for part in unit_parts:
            yield part, start, end


def _normal(text: str) -> str:
    if text.isascii():
        return text.lower()
    text = _CROWDED.sub(lambda crowd: crowd[0][:30], _IGNORED.sub("", text))
    text = unicodedata.normalize("NFKC", text)[: len(text) + _MAX_SWELLING]
    return unicodedata.normalize("NFKC", text.casefold())


def _parts(normal: str) -> list[str]:
    found: list[str] = (_ASCII_PART if normal.isascii() else _PART).findall(normal)
    if len(found) <= MAX_TOKENS and max(map(len, found), default=0) <= MAX_TOKEN:
        return found
    return [part[:MAX_TOKEN] for part in found[:MAX_TOKENS]]


def _wholes(normal: str) -> list[str]:
    is_ascii = normal.isascii()
    if is_ascii and not _ASCII_JOINT.search(normal):
        return []
    found: list[str] = (_ASCII_WHOLE if is_ascii else _WHOLE).findall(normal)
    return [whole for whole in dict.fromkeys(found) if len(whole) <= MAX_TOKEN]


class _Encoded(dict[int, str]):
    """Each character's encoded form, made when first met."""

    def __missing__(self, code: int) -> str:
        self[code] = encoded = chr(code) if chr(code) in _PLAIN else f"_{code:06x}"
        return encoded


_ENCODED = _Encoded()


class _Room:
    """What is left of a message's two limits."""

    def __init__(self) -> None:
        self._tokens = MAX_TOKENS
        self._bytes = MAX_UNIQUE_BYTES
        self._known: set[str] = set()

    def take(self, tokens: list[str]) -> list[str]:
        """The longest beginning of the tokens that fits. When one did not fit, nothing behind it does either."""
        taken = tokens[: self._tokens]
        size = _byte_length("".join(set(taken) - self._known))
        if size > self._bytes:
            taken = taken[: self._fitting(taken)]
        self._tokens = self._tokens - len(taken) if len(taken) == len(tokens) else 0
        self._bytes -= min(size, self._bytes)
        self._known.update(taken)
        return taken

    def _fitting(self, tokens: list[str]) -> int:
        known, left = set(self._known), self._bytes
        for count, token in enumerate(tokens):
            if token not in known:
                known.add(token)
                left -= _byte_length(token)
                if left < 0:
                    return count
        return len(tokens)


def _byte_length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
