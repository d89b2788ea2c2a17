"""Inboxes of users: kept notifications, unseen, seen or read; bounded and expiring."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..channels import user_topic
from ..events import decode, encode
from .base import StoreClient
from .malformed import malformed
from .scripts import KEEP_INBOX, MARK_INBOX

#: Id of an item, as Redis gives it; Redis refuses numbers of more than 64 bits.
_ITEM_ID = re.compile(r"\d{1,19}-\d{1,19}", re.ASCII)
#: Items that one call of the script marks.
_ITEMS_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class InboxItem:
    """
    A kept notification.

    Args:
        id: Its place in the inbox.
        event: Name of its event.
        data: Data of its event.
        title: What the inbox shows.
        url: Where it leads; empty: nowhere.
        at: Unix seconds, of Redis.
        seen: Whether the user has opened the inbox since.
        read: Whether the user has opened or marked it; then it is seen too.
    """

    id: str
    event: str
    data: Any
    title: str
    url: str
    at: float
    seen: bool
    read: bool


class InboxStore(StoreClient):
    """Keeps, reads and marks notifications; every change is published as ``jobpush:inbox``."""

    def keep_notification(self, user_id: object, event: str, data: object, *, title: str = "", url: str = "") -> str:
        """
        Keep a notification in a user's inbox.

        Returns:
            The id of the item.

        Raises:
            InvalidData: If the data has no JSON form.
        """
        topic = user_topic(user_id)
        call = KEEP_INBOX(
            (*self.keys.inbox(topic), self.keys.topic(topic)),
            item=encode({"event": event, "data": data, "title": title, "url": url}),
            ttl=self.config.inbox_ttl,
            max_items=self.config.inbox_size,
        )
        (item_id,) = self.run([call])
        return str(item_id.decode())

    def inbox(self, user_id: object, *, limit: int | None = None) -> list[InboxItem]:
        """Return the items of a user's inbox, newest first."""
        inbox, states = self.keys.inbox(user_topic(user_id))
        count = self.config.inbox_size if limit is None else limit
        (entries,) = self.run([("XREVRANGE", inbox, "+", "-", "COUNT", count)])
        if not entries:
            return []
        (found,) = self.run([("HMGET", states, *(item_id for item_id, _ in entries))])
        items = [(*entry, state) for entry, state in zip(entries, found, strict=True)]
        return malformed.read("items of inboxes", items, lambda item: _item(*item), inbox)

    def mark_inbox(self, user_id: object, state: str, ids: Sequence[str] | None = None) -> int:
        """
        Mark items as ``seen`` or ``read``; an item that was read stays read.

        Args:
            user_id: The user.
            state: ``seen`` or ``read``.
            ids: The items; ``None``: all. Unknown ids are ignored.

        Returns:
            The number of items that have changed.

        Raises:
            ValueError: If there is no such state.
        """
        if state not in ("seen", "read"):
            raise ValueError(f"{state!r} is not a state of a notification; use seen or read")
        topic = user_topic(user_id)
        names = (*self.keys.inbox(topic), self.keys.topic(topic))
        options: dict[str, str | int] = {"state": state, "ttl": self.config.inbox_ttl, "limit": _ITEMS_AT_ONCE}
        if ids is not None:
            known = [one for one in ids if _ITEM_ID.fullmatch(one)]
            parts = [known[start : start + _ITEMS_AT_ONCE] for start in range(0, len(known), _ITEMS_AT_ONCE)]
            replies = self.run([MARK_INBOX(names, part, after="-", **options) for part in parts])
            return sum(changed for changed, _ in replies)
        total, after = 0, "-"
        while after:
            ((changed, last),) = self.run([MARK_INBOX(names, (), after=after, **options)])
            total, after = total + changed, f"({last.decode()}" if last else ""
        return total


def _item(item_id: bytes, fields: dict[bytes, bytes], state: bytes | None) -> InboxItem:
    item = decode(fields[b"d"])
    return InboxItem(
        id=item_id.decode(),
        event=str(item["event"]),
        data=item.get("data"),
        title=str(item.get("title", "")),
        url=str(item.get("url", "")),
        at=int(item_id.partition(b"-")[0]) / 1000,
        seen=state is not None,
        read=state == b"read",
    )
