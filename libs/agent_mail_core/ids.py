"""Identifiers as types, so that an agent's id is never passed where a message's belongs."""

from typing import NewType

TeamId = NewType("TeamId", int)
ProjectId = NewType("ProjectId", int)
AgentId = NewType("AgentId", int)
MessageId = NewType("MessageId", int)
ThreadId = NewType("ThreadId", int)
"""A thread's row; agents only ever see its key."""

ContactId = NewType("ContactId", int)
ReservationId = NewType("ReservationId", int)
SlotId = NewType("SlotId", int)
SlotLeaseId = NewType("SlotLeaseId", int)
ReviewId = NewType("ReviewId", int)
ProductId = NewType("ProductId", int)
WebhookId = NewType("WebhookId", int)
WebhookDeliveryId = NewType("WebhookDeliveryId", int)
AttachmentId = NewType("AttachmentId", int)
"""An attachment's row; agents only ever see its public id, a random text."""

Principal = NewType("Principal", str)
"""Who a credential stands for: `token:{id}`, `jwt:{iss}|{sub}`, `static` or `local` (SPEC §2)."""

LARGEST_ID = 2**53 - 1
"""Ids on the wire stay below this, so that JSON readers with only doubles keep them exact."""

LARGEST_INTEGER = 2**63 - 1
"""Of both engines. As an upper bound that is left out itself it lies behind every id, position and transaction."""
