"""check_paths: who holds files, whatever the number of files and of reservations."""

import pytest

from agent_mail_core.errors import InvalidPath
from agent_mail_core.path_checks import HOLDERS_IN_ALL, HOLDERS_SHOWN
from tests.contract.leasing import check, reserve
from tests.contract.office import Office


async def test_paths_are_free_yours_or_held(office: Office) -> None:
    await reserve(office, "Ann", "src/**", reason="rewriting")
    await reserve(office, "Bob", "docs/*.md", exclusive=False)
    await reserve(office, "Cid", "notes", advisory=True)
    answer = (await check(office, "src/a.py", "./docs/a.md", "notes/x", "free", agent_name="Bob")).paths
    assert [(one.path, one.status) for one in answer] == [
        ("src/a.py", "held"),
        ("./docs/a.md", "yours"),
        ("notes/x", "free"),
        ("free", "free"),
    ]
    [holder] = answer[0].holders
    assert (holder.holder, holder.pattern, holder.reason, holder.exclusive) == ("Ann", "src/**", "rewriting", True)
    assert [(one.holder, one.advisory) for one in answer[2].holders] == [("Cid", True)]
    assert [one.status for one in (await check(office, "src/a.py", "docs/a.md")).paths] == ["held", "held"]
    assert [one.status for one in (await check(office, "docs/a.md", agent_name="Ann")).paths] == ["held"]


async def test_shared_paths_are_yours_when_you_share_them(office: Office) -> None:
    await reserve(office, "Ann", "src", exclusive=False)
    await reserve(office, "Bob", "src", exclusive=False)
    [shown] = (await check(office, "src/a.py", agent_name="Bob")).paths
    assert (shown.status, [one.holder for one in shown.holders]) == ("yours", ["Ann", "Bob"])


async def test_who_stands_in_the_way_is_shown_first_however_many_do_not(office: Office) -> None:
    many = [f"src/{'a' * number}*" for number in range(HOLDERS_SHOWN)]
    await reserve(office, "Ann", *many, advisory=True)
    await reserve(office, "Bob", "src")
    await reserve(office, "Cid", "src/**", advisory=True)
    [checked] = (await check(office, f"src/{'a' * 30}", agent_name="Dot")).paths
    assert (checked.status, checked.holders[0].holder, len(checked.holders)) == ("held", "Bob", 20)


async def test_an_answer_about_many_paths_shows_fewer_holders_of_each(office: Office) -> None:
    await reserve(office, "Ann", "**", "*", "?*", advisory=True)
    await reserve(office, "Bob", "a0", "a999")
    answer = (await check(office, *(f"a{number}" for number in range(1000)))).paths
    assert sum(len(one.holders) for one in answer) == HOLDERS_IN_ALL
    assert [one.holders[0].holder for one in answer if one.status == "held"] == ["Bob", "Bob"]


async def test_checked_paths_are_literal(office: Office) -> None:
    await reserve(office, "Ann", "app/[id]/x", literal=True)
    assert [one.status for one in (await check(office, "app/[id]/x", "app/*/x")).paths] == ["held", "free"]
    with pytest.raises(InvalidPath):
        await check(office, "../x")


async def test_a_thousand_paths_are_checked_against_a_thousand_reservations(office: Office) -> None:
    for start in range(0, 1000, 100):
        await reserve(office, "Ann", *(f"src/{number}/*.py" for number in range(start, start + 100)))
    answer = await check(office, *(f"src/{number}/a.{'py' if number % 2 else 'rs'}" for number in range(1000)))
    assert [one.status for one in answer.paths] == ["free", "held"] * 500
