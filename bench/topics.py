"""Mail about topics, and a model of static vectors in which the words of a topic are near each other.

Half of a mail's words are frequent and of no topic; the others are mostly of one topic, some of a second one. A few
topics are written of often, most seldom. So the vectors of mail lie in clusters of many sizes that overlap, as those of
real mail do.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import accumulate
from pathlib import Path

import numpy
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from agent_mail_embeddings.static_vectors import TENSORS, TOKENIZER
from bench.scenarios import vocabulary

DIMENSIONS = 384
TOPICS = 300
GENERAL_WORDS = 200
TOPIC_WORDS = 40
"""Of each; most words belong to several."""

SUBJECT_WORDS, BODY_WORDS = 6, 70
"""About 40 and 500 bytes."""

IN_SUBJECT, IN_BODY = (0.2, 0.6, 0.2), (0.5, 0.35, 0.15)
"""How much is general, of the first and of the second topic."""

GENERAL_WEIGHT = 0.1
"""Models weigh frequent words so that they hardly move a text."""

NOISE = 1.0
"""What a word has of its own, as a multiple of what it has of a topic."""


class Topics:
    """The words, and who uses them; the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(f"{seed}:topics")
        self._words = vocabulary(seed)
        self._general, special = self._words[:GENERAL_WORDS], self._words[GENERAL_WORDS:]
        self._topics = [self._chance.sample(special, TOPIC_WORDS) for _ in range(TOPICS)]
        self._seed = seed

    def mail(self, count: int) -> Iterator[tuple[str, str]]:
        """Subjects and bodies. A subject ends with the mail's number, by which a hit is known again."""
        often = _falling(TOPICS, 10)
        for number in range(count):
            chance = random.Random(f"{self._seed}:mail:{number}")
            sources = [self._general, *chance.choices(self._topics, cum_weights=often, k=2)]
            subject = _text(chance, sources, IN_SUBJECT, SUBJECT_WORDS)
            yield f"{subject} {number}", _text(chance, sources, IN_BODY, BODY_WORDS)

    def write_model(self, folder: Path) -> None:
        """The files of EMBEDDINGS_PATH."""
        tokenizer = Tokenizer(WordLevel({"[UNK]": 0} | {word: at for at, word in enumerate(self._words, 1)}, "[UNK]"))
        tokenizer.pre_tokenizer = Whitespace()
        tokenizer.save(str(folder / TOKENIZER))
        chance = numpy.random.default_rng(self._seed)
        at = {word: number for number, word in enumerate(self._words, 1)}
        uses = numpy.zeros((len(at) + 1, TOPICS), numpy.float32)
        for topic, words in enumerate(self._topics):
            uses[[at[word] for word in words], topic] = 1
        uses /= numpy.sqrt(numpy.maximum(uses.sum(axis=1, keepdims=True), 1))
        table = uses @ chance.standard_normal((TOPICS, DIMENSIONS), numpy.float32)
        table += NOISE * chance.standard_normal(table.shape, numpy.float32)
        weights = numpy.ones(len(table), numpy.float32)
        weights[1 : GENERAL_WORDS + 1] = GENERAL_WEIGHT
        save_file({"embeddings": table, "weights": weights}, folder / TENSORS)

    def queries(self, count: int, mails: int) -> list[str]:
        """One word or two of a mail's subject each, so that each finds something; ValueError for too little mail."""
        found: dict[str, None] = {}
        chance = random.Random(f"{self._seed}:queries")
        for subject, _ in self.mail(mails):
            words = chance.sample(subject.split()[:-1], 1 + len(found) % 2)
            found[" ".join(dict.fromkeys(words))] = None
            if len(found) == count:
                return list(found)
        raise ValueError(f"{mails} mails give only {len(found)} queries")

    def is_about_something(self, query: str) -> bool:
        """Whether it has a word that is not merely frequent."""
        return not set(query.split()) <= set(self._general)


def _text(chance: random.Random, sources: Sequence[Sequence[str]], shares: Sequence[float], length: int) -> str:
    """So many words; of each source the first ones are used most."""
    words = [_any(chance, source) for source in chance.choices(sources, shares, k=length)]
    return " ".join(words)


def _any(chance: random.Random, words: Sequence[str]) -> str:
    return words[bisect_left(sums := _falling(len(words), 4), chance.random() * sums[-1])]


@cache
def _falling(count: int, after: int) -> list[float]:
    """Running sums of weights that fall as 1/rank does, but for the first ones."""
    return list(accumulate(1 / (rank + after) for rank in range(count)))
