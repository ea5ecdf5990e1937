"""Threads of agent mail, labelled by hand: what a reader would call decided, still open, and to be done by whom.

Written before the rules were measured on them, in the manner of several agents, and with things that no rule can see.
A label is a piece of the sentence that it stands for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from agent_mail_core.ids import MessageId
from agent_mail_core.summaries import SourceMessage

BEGIN = datetime(2026, 11, 20, 9, tzinfo=UTC)


def mail(number: int, sender: str, body: str, to: str | None = None, answers: int | None = None) -> SourceMessage:
    """A message as summaries read it."""
    return SourceMessage(
        id=MessageId(number),
        parent_id=MessageId(answers) if answers else None,
        sender_name=sender,
        addressee=to,
        body_md=body,
        is_cut=False,
        priority="normal",
        ack_required=False,
        created_at=BEGIN + timedelta(minutes=number),
    )


@dataclass(frozen=True)
class LabelledThread:
    """Messages, and what is to be found in them. Actions have their owner, or None."""

    subject: str
    messages: list[SourceMessage]
    decisions: list[str] = field(default_factory=list)
    open_questions: list[str] = field(default_factory=list)
    actions: dict[str, str | None] = field(default_factory=dict)

    @property
    def participants(self) -> list[str]:
        """Who wrote, or is written to alone."""
        named: Iterable[str | None] = [*(m.sender_name for m in self.messages), *(m.addressee for m in self.messages)]
        return sorted({name for name in named if name})


THREADS = [
    LabelledThread(
        "Session storage",
        [
            mail(
                1,
                "BlueLake",
                """Hi GreenHill,

the session table grows by 2 GB a day. I see two options: move sessions to Redis, or prune them every hour.
Which one do you prefer? And do we have a limit on how long a session may live?

The numbers:

| day | rows |
|---|---|
| Mon | 1.2 M |
| Tue | 2.4 M |
""",
                "GreenHill",
            ),
            mail(
                2,
                "GreenHill",
                """> Which one do you prefer?

Redis. Pruning would lock the table for minutes. Let's go with Redis and keep the table for audits only.

I'll write the migration this afternoon. Could you look at the connection settings in `config/redis.toml`?
""",
                "BlueLake",
                1,
            ),
            mail(3, "BlueLake", "Sure, on it. I will open a pull request by tonight.", "GreenHill", 2),
        ],
        decisions=["Let's go with Redis"],
        open_questions=["do we have a limit on how long a session may live"],
        actions={
            "write the migration this afternoon": "GreenHill",
            "look at the connection settings": "BlueLake",
            "open a pull request by tonight": "BlueLake",
        },
    ),
    LabelledThread(
        "Release 4.2",
        [
            mail(
                10,
                "RedStone",
                """# Release plan

We ship on Thursday unless the load test fails.

## Decisions
- No new endpoints after Wednesday noon
- The old `/v1/export` stays until 5.0

## Action items
- [ ] @BlueLake update the changelog
- [ ] GreenHill: run the load test on staging
- [x] tag the release branch
- translate the release notes

## Open questions
- Who is on call on Friday?
- Do we announce the deprecation now or with 5.0?
""",
            ),
            mail(
                11,
                "GreenHill",
                """Load test is green: p95 41 ms at 3,000 requests a second.

> Who is on call on Friday?

Me.
""",
                None,
                10,
            ),
            mail(
                12,
                "BlueLake",
                "Changelog is done. One more thing: RedStone, please bump the version in `pyproject.toml` before you "
                "tag.",
                "RedStone",
                10,
            ),
        ],
        decisions=["No new endpoints", "The old `/v1/export` stays"],
        open_questions=["Do we announce the deprecation now"],
        actions={
            "update the changelog": "BlueLake",
            "run the load test": "GreenHill",
            "tag the release branch": None,
            "translate the release notes": None,
            "bump the version": "RedStone",
        },
    ),
    LabelledThread(
        "Flaky test in checkout",
        [
            mail(
                20,
                "QuietRiver",
                """`test_total_with_coupon` failed 3 of 40 runs on main. Stack trace:

```
AssertionError: expected 12.00, got 11.99
# TODO: why does this happen?
```

It looks like a rounding problem, e.g. in `cart/total.py` line 88. Does anybody know why we round twice?""",
            ),
            mail(
                21,
                "BlueLake",
                "We round twice because the tax service wants net amounts. It was added in March. If we drop the first "
                "rounding, the invoice no longer matches.",
                None,
                20,
            ),
            mail(
                22,
                "QuietRiver",
                """Thanks! Then we should use Decimal all the way.

Decision: amounts are Decimal from the parser to the database; no float anywhere.

TODO (BlueLake): convert the tax client.
I'm going to fix the cart.
""",
                None,
                21,
            ),
            mail(23, "BlueLake", "Agreed. Is there a deadline for the tax client?", "QuietRiver", 22),
        ],
        decisions=["amounts are Decimal from the parser", "Agreed"],
        open_questions=["Is there a deadline for the tax client"],
        actions={"convert the tax client": "BlueLake", "fix the cart": "QuietRiver"},
    ),
    LabelledThread(
        "Who edits src/api",
        [
            mail(
                30,
                "GreenHill",
                "I reserved `src/api/**` until 15:00. Please don't push there before that. "
                "Is anyone blocked by it? I can split the reservation.",
            ),
            mail(
                31,
                "RedStone",
                "I need `src/api/errors.py` for ten minutes. Can you release that one file? "
                "We agreed last week that error codes are mine.",
                "GreenHill",
                30,
            ),
            mail(32, "GreenHill", "Released. Ping me when you are done.", "RedStone", 31),
            mail(
                33,
                "RedStone",
                "Done, all yours. By the way, QuietRiver needs to regenerate the client afterwards, and somebody has "
                "to tell the docs team.",
                "GreenHill",
                32,
            ),
            mail(34, "QuietRiver", "Will do tomorrow.", "RedStone", 33),
        ],
        decisions=["We agreed last week that error codes are mine"],
        open_questions=[],
        actions={
            "don't push there": None,
            "release that one file": "GreenHill",
            "Ping me when you are done": "RedStone",
            "QuietRiver needs to regenerate the client": "QuietRiver",
        },
    ),
    LabelledThread(
        "Index for search",
        [
            mail(
                40,
                "BlueLake",
                "I compared GIN and RUM indexes. RUM is 30 % faster to rank but five times larger. "
                "I propose GIN. Objections?",
            ),
            mail(41, "RedStone", "None from me. How large is the GIN index at 10 million messages?", "BlueLake", 40),
            mail(42, "BlueLake", "About 4.1 GB, see the table in docs/search.md.", "RedStone", 41),
            mail(
                43,
                "GreenHill",
                "We haven't decided on the tokenizer yet, have we? Otherwise fine: we'll use GIN, and RUM is ruled "
                "out.",
                None,
                40,
            ),
            mail(
                44,
                "BlueLake",
                "Right, the tokenizer is open. It has been decided that trigrams are out, though. "
                "GreenHill, could you benchmark the two candidates? Next step: I write the ADR.",
                "GreenHill",
                43,
            ),
        ],
        decisions=["we'll use GIN", "trigrams are out"],
        open_questions=[],
        actions={"benchmark the two candidates": "GreenHill", "I write the ADR": "BlueLake"},
    ),
    LabelledThread(
        "Nightly status",
        [
            mail(
                50,
                "QuietRiver",
                """Status of the night:

1. 312 tests pass, 2 are skipped.
2. Coverage went from 81 % to 83 %.
3. The build took 6 min 12 s, which is 40 s more than yesterday. Why? The cache was cold.

Please note that I will be away until Monday. I'll be back by nine. If we decide to split the suite, RedStone has a
script for that. Maybe we should, but I have no strong opinion.

Have a look at the dashboard when you like; it is at http://ci.example/board?tab=2.""",
            ),
            mail(
                51,
                "RedStone",
                """On Fri, QuietRiver wrote:
> The build took 6 min 12 s, which is 40 s more than yesterday.
> Could you warm the cache?

I was not asked before, but yes: the cache is warm again since 07:10. I have not touched the suite.
Whether we split it is another question. It would help, I guess.""",
                "QuietRiver",
                50,
            ),
            mail(
                52,
                "BlueLake",
                "Splitting was rejected in March, for good reasons. We will not revisit that before the release. "
                "What I need instead is the script: RedStone, where is it? Also @QuietRiver add the cold-cache case to "
                "the runbook when you are back.",
                None,
                50,
            ),
        ],
        decisions=["Splitting was rejected in March", "We will not revisit that"],
        open_questions=["RedStone, where is it"],
        actions={"add the cold-cache case": "QuietRiver"},
    ),
    LabelledThread(
        "Umzug der Datenbank",
        [
            mail(
                60,
                "GrünerHügel",
                """Hallo zusammen,

wir haben uns für Postgres 18 entschieden. Wer übernimmt die Umstellung der Replikate?

- [ ] Sicherung prüfen
- [x] Lesezugriff z. B. auf Knoten 3 umgelegt

Viele Grüße""",
            ),
            mail(61, "BlueLake", "Die Replikate übernehme ich. Reicht Donnerstag?", "GrünerHügel", 60),
        ],
        decisions=["wir haben uns für Postgres 18 entschieden"],
        open_questions=["Reicht Donnerstag"],
        actions={"Sicherung prüfen": None, "Lesezugriff": None, "Die Replikate übernehme ich": "BlueLake"},
    ),
]
