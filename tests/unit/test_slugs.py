"""Slugs: the worked examples of SPEC §2, and what holds for every key."""

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_mail_core.slugs import RESERVED_SLUGS, SLUG_LENGTH, project_slug, slugify


def hash_of(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:8]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("Shop Front", "shop-front"),
        ("  a__b..c  ", "a-b-c"),
        ("Café Zürich", "cafe-zurich"),
        ("ﬁx №5", "fix-no5"),
        ("東京", ""),
        ("---", ""),
        ("A" * 300, "a" * 300),
    ],
)
def test_slugify_keeps_lower_case_letters_digits_and_single_hyphens(text: str, expected: str) -> None:
    assert slugify(text) == expected


@pytest.mark.parametrize(
    "key, expected",
    [
        ("shop", "shop"),
        ("My Shop", "my-shop"),
        ("/code/shop", "shop-" + hash_of("/code/shop")),
        ("work/Shop Front", "shop-front-" + hash_of("work/Shop Front")),
        ("/", hash_of("/")),
        ("/code/東京", hash_of("/code/東京")),
        ("東京", hash_of("東京")),
        ("list", "list-" + hash_of("list")),
        ("Product!", "product-" + hash_of("Product!")),
        ("/code/list", "list-" + hash_of("/code/list")),
        ("a" * 300, "a" * 100),
        ("a" * 99 + " b", "a" * 99),
        ("x/" + "a" * 300, "a" * 91 + "-" + hash_of("x/" + "a" * 300)),
        ("x/" + "a" * 90 + " b", "a" * 90 + "-" + hash_of("x/" + "a" * 90 + " b")),
    ],
)
def test_the_slug_of_a_key(key: str, expected: str) -> None:
    assert project_slug(key) == expected


def test_a_taken_slug_gets_the_hash_of_its_key() -> None:
    assert project_slug("shop", with_suffix=True) == "shop-" + hash_of("shop")
    assert project_slug("/code/shop", with_suffix=True) == project_slug("/code/shop")


@given(key=st.text(min_size=1, max_size=1024), with_suffix=st.booleans())
def test_every_key_has_a_slug_that_urls_and_the_database_take(key: str, with_suffix: bool) -> None:
    slug = project_slug(key, with_suffix)
    assert re.fullmatch(r"[a-z0-9](?:[a-z0-9-]{0,98}[a-z0-9])?", slug)
    assert len(slug) <= SLUG_LENGTH
    assert slug not in RESERVED_SLUGS
    assert project_slug(key, with_suffix) == slug
    if with_suffix or "/" in key:
        assert slug.endswith(hash_of(key))
