"""The short way of an inbox's rows to JSON writes what the models write, byte for byte."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_mail_core.attachments import AttachmentInfo
from agent_mail_core.fields import PriorityWord, RecipientKind
from agent_mail_core.ids import MessageId
from agent_mail_core.inbox_items import InboxItem, InboxMessage
from agent_mail_core.mailboxes import Inbox
from agent_mail_core.waiting import WaitedMessages

LAST_MICROSECOND = 253_402_300_799_999_999
"""Of the year 9999."""

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
ids = st.integers(1, 2**53 - 1)
times = st.integers(0, LAST_MICROSECOND) | st.sampled_from([0, 1, 60_000_000, 59_999_999, LAST_MICROSECOND])
files = st.builds(AttachmentInfo, attachment_id=texts, file_name=texts, media_type=texts, size=ids)
items = st.builds(
    InboxItem,
    position=ids,
    message_id=ids,
    thread_id=texts,
    parent_id=st.none() | ids,
    sender_name=texts,
    subject=texts,
    body_md=st.none() | texts,
    kind=st.sampled_from(get_args(RecipientKind)),
    priority=st.sampled_from(get_args(PriorityWord)),
    ack_required=st.booleans(),
    created=times,
    read=st.none() | times,
    acknowledged=st.none() | times,
    has_attachments=st.booleans(),
    attachments=st.none() | st.lists(files, max_size=2),
)
SUBJECT = '"\\/\b\f\n\r\t\x00\x1f\x7f\x80\u2028 <é>\U0001f600'


@given(items=st.lists(items, max_size=3), older=st.none() | texts)
def test_rows_and_models_of_an_inbox_make_the_same_json(items: list[InboxItem], older: str | None) -> None:
    inbox = Inbox.with_items(items, unread_count=3, cursor="c", older_cursor=older)
    models = [InboxMessage.model_validate(item, from_attributes=True) for item in items]
    expected = Inbox(messages=models, unread_count=3, cursor="c", older_cursor=older)
    assert inbox.to_json() == expected.to_json() == expected.model_dump_json(exclude_none=True).encode()
    assert inbox.model_dump_json() == expected.model_dump_json()
    assert inbox.model_dump() == expected.model_dump()


@pytest.mark.parametrize("timed_out", [True, False])
def test_what_was_waited_for_is_written_in_the_same_way(timed_out: bool) -> None:
    item = InboxItem(9, MessageId(5), "T-1", None, "Ann", SUBJECT, SUBJECT, "bcc", "high", True, 1, None, 60_000_000)
    waited = WaitedMessages.with_items([item], unread_count=1, cursor="c", timed_out=timed_out)
    assert waited.to_json().decode() == waited.model_dump_json(exclude_none=True)
    assert WaitedMessages.model_validate_json(waited.to_json()).messages[0].body_md == SUBJECT


def test_the_schema_of_an_inbox_is_that_of_its_models() -> None:
    properties = Inbox.model_json_schema()["properties"]
    assert properties["messages"]["items"] == {"$ref": "#/$defs/InboxMessage"}
    assert list(properties) == ["messages", "unread_count", "cursor", "older_cursor"]
    assert Inbox.model_json_schema(mode="serialization")["properties"]["messages"]["items"] == {
        "$ref": "#/$defs/InboxMessage"
    }
