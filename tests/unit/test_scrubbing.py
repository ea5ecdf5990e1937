"""Scrubbing: secrets and addresses go, what only looks like them stays, however long or hostile the text."""

import time

import pytest

from agent_mail_core.scrubbing import Scrubber

SECRETS = [
    "ghp_" + "a1B2" * 9,
    "github_pat_" + "a1B2_" * 10,
    "glpat-" + "abcdefghij0123456789",
    "xoxb-" + "123456789012-abcdef",
    "sk-proj-" + "abcDEF123456789012345",
    "AKIA" + "IOSFODNN7EXAMPLE",
    "AIza" + "SyA1234567890abcdefghijklmnopqrstuv",
    "npm_" + "abcdefghijklmnop0123456789",
    "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxIn0",
    "0123456789abcdef" * 4,
    "-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc\n-----END RSA PRIVATE KEY-----",
    "-----BEGIN OPENSSH PRIVATE KEY-----\nno end",
    "ghs_" + "a1B2" * 130,
    "eyJhbGciOiJIUzI1NiJ9." + "eyJz" * 2600 + ".c2lnbmF0dXJl",
]

KEY_LINES = "MIIEpAIBAAKCAQEA7bq0n8\n" * 30
KEYS = {
    "with headers": f"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0\n\n{KEY_LINES}"
    "-----END RSA PRIVATE KEY-----",
    "with a comment": f"-----BEGIN PGP PRIVATE KEY BLOCK-----\nComment: a-b\n\n{KEY_LINES}"
    "-----END PGP PRIVATE KEY BLOCK-----",
    "quoted": "-----BEGIN PRIVATE KEY-----\n> " + KEY_LINES.replace("\n", "\n> ") + "-----END PRIVATE KEY-----",
    "in a string": "-----BEGIN PRIVATE KEY-----\\n" + KEY_LINES.replace("\n", "\\n") + "-----END PRIVATE KEY-----",
}


@pytest.mark.parametrize("secret", SECRETS, ids=lambda secret: secret[:12])
@pytest.mark.parametrize("around", ["{}", "key {} here", "`{}`", '"{}",', "({})"])
def test_a_secret_goes(secret: str, around: str) -> None:
    scrubber = Scrubber()
    text = scrubber.text(around.format(secret))
    assert secret not in text
    assert "[secret]" in text
    assert scrubber.replaced["secret"] >= 1


@pytest.mark.parametrize("name", KEYS)
def test_a_private_key_goes_to_its_end_and_no_further(name: str) -> None:
    assert Scrubber().text(f"The key:\n{KEYS[name]}\nKeep it.") == "The key:\n[secret]\nKeep it."


def test_two_keys_are_two_secrets_and_what_stands_between_them_stays() -> None:
    key = KEYS["with headers"]
    assert Scrubber().text(f"{key} and {key}") == "[secret] and [secret]"


@pytest.mark.parametrize(
    "text, scrubbed",
    [
        ("password=hunter22", "password=[secret]"),
        ("DB_PASSWORD=P@ssw0rd123!", "DB_PASSWORD=[secret]"),
        ("password=ab,cdefgh;i>j", "password=[secret]"),
        ("password: abc", "password: [secret]"),
        ('passphrase = "correct horse battery staple".', 'passphrase = "[secret]".'),
        ("{'password': 'it is', 'user': 'ann'}", "{'password': '[secret]', 'user': 'ann'}"),
        ("**password**: hunter22, `token`: `hunter22`", "**password**: [secret] `token`: `[secret]`"),
        ("mysql --password hunter22 -u ann", "mysql --password [secret] -u ann"),
        ("<password>hunter22</password>", "<password>[secret]</password>"),
        ("Authorization: Basic dXNlcjpwYXNz", "Authorization: Basic [secret]"),
        ("authorization: Bearer abc123", "authorization: Bearer [secret]"),
        ("Authorization: token abc123", "Authorization: token [secret]"),
        ("postgres://ann:pw@db:5432/x", "postgres://ann:[secret]@db:5432/x"),
        ("postgres://ann:p@ss@db.internal/x", "postgres://ann:[secret]@db.internal/x"),
        ("https://ann:it's-,;a>b@host/x", "https://ann:[secret]@host/x"),
        ("redis://:hunter2@cache:6379/0", "redis://:[secret]@cache:6379/0"),
        ("https://hooks.slack.com/services/T0A/B0B/Xx0123456789", "https://hooks.slack.com/services/[secret]"),
        ("a@xn--e1afmkfd.xn--p1ai and b@m\u00fcller.de", "[email] and [email]"),
        ("DB_PASSWORD: 'hunter22'", "DB_PASSWORD: '[secret]'"),
        ('{"api_key": "abcd1234"}', '{"api_key": "[secret]"}'),
        ("export TOKEN=abcd1234", "export TOKEN=[secret]"),
        ("Authorization: Bearer abcdef0123456789", "Authorization: Bearer [secret]"),
        ("postgres://ann:hunter2@db/shop", "postgres://ann:[secret]@db/shop"),
        ("write to ann.lee+x@mail.example.co.uk.", "write to [email]."),
        ("<bob@example.org>", "<[email]>"),
        ("at 10.0.0.7:8080, 192.168.1.1.", "at [ip_address]:8080, [ip_address]."),
        ("[::1] and 2001:db8::ff00:42:8329", "[[ip_address]] and [ip_address]"),
        ("fe80::1%eth0", "[ip_address]%eth0"),
        ("eyJhbGciOiJI_ghp_" + "a1B2" * 9, "eyJhbGciOiJI_[secret]"),
        ("key_eyJhbGciOiJI.eyJzdWIi", "key_[secret]"),
    ],
)
def test_it_is_replaced_by_what_it_was(text: str, scrubbed: str) -> None:
    assert Scrubber().text(text) == scrubbed


@pytest.mark.parametrize(
    "text",
    [
        "at 13:41:00 on 2026-11-22T13:41:00Z",
        "version 1.2.3, 1.2.3.4.5 and 300.1.2.3",
        "commit 4402c39d0c1b and 0d48d0c",
        "the token is gone; ask for the password",
        "std::vector a::b::c",
        "user@host and @ann",
        "libs/agent_mail_core/events.py:12:3",
        "thread FEAT-123",
        "am_i_late and skip-this-one",
        "http://localhost:8080/users/@ann",
        "basic understanding and bearer instruments",
        "-----BEGIN CERTIFICATE-----",
    ],
)
def test_what_is_none_stays(text: str) -> None:
    scrubber = Scrubber()
    assert scrubber.text(text) == text
    assert scrubber.replaced.total() == 0


def test_texts_inside_values_are_scrubbed_and_counted() -> None:
    scrubber = Scrubber()
    record = {"a@example.org": ["x a@example.org", {"b": "10.0.0.1"}, 7, None], "paths": ("b@example.org",)}
    assert scrubber.value(record) == {
        "a@example.org": ["x [email]", {"b": "[ip_address]"}, 7, None],
        "paths": ["[email]"],
    }
    assert scrubber.replaced == {"secret": 0, "email": 2, "ip_address": 1}


@pytest.mark.parametrize(
    "piece",
    [
        "a",
        "a.",
        "a@",
        "1.",
        ":",
        "1:",
        "-----BEGIN ",
        "eyJaaaaaaaa.",
        "token=",
        "x_",
        "://",
        "http://a:",
        "sk-",
        "A" * 64,
        " ",
        "password",
        "a-",
        "@a.",
        "-eyJ",
        "_eyJaaaa",
        "_eyJaaaaaaaa.a",
        "_SG.aaaaaaaa",
        "-----BEGIN RSA PRIVATE KEY-----",
        "-----BEGIN RSA PRIVATE KEY----- - ",
        "token='",
        'secret="a',
        "<token>a",
        "authorization: ",
        "--token ",
        "a@xn--",
    ],
)
def test_hostile_texts_take_about_as_long_as_prose(piece: str) -> None:
    """256 KiB, which is the longest body: whoever exports pays for it, not all agents."""
    prose = seconds("The quick brown fox jumps over the lazy dog. ")
    assert seconds(piece) < 5 * prose


def seconds(piece: str) -> float:
    """CPU time, which does not depend on what else the machine does."""
    text = (piece * 262_144)[:262_144]
    best = 1e9
    for _ in range(2):
        began = time.thread_time()
        Scrubber().text(text)
        best = min(best, time.thread_time() - began)
    return best
