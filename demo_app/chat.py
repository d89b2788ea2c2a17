"""
A chat: the users that are present, those that are typing, and the last messages.

The members of a presence channel are present, and client events on it show that a user types: the gateway does both
alone. The last messages are kept in Redis (``recent.py``) for later visitors.
"""

from __future__ import annotations

from flask import Blueprint, abort, jsonify, render_template, request, session
from flask.typing import ResponseReturnValue

from .recent import Recent
from .tasks import jobpush

CHANNEL = "presence-chat"
#: Characters of a message.
MAX_LENGTH = 500

messages = Recent("messages", size=50)
pages = Blueprint("chat", __name__, url_prefix="/chat")


def may_join(user_id: str | None, channel: str) -> dict[str, str] | bool:
    """Let every signed-in user join, with a name that the others see."""
    return {"name": user_id} if user_id is not None and channel == CHANNEL else False


@pages.get("")
def page() -> ResponseReturnValue:
    """Show the chat."""
    return render_template("chat.html", user_id=session["user_id"], max_length=MAX_LENGTH)


@pages.get("/messages")
def list_messages() -> ResponseReturnValue:
    """Return the last messages, oldest first."""
    return jsonify(messages.all())


@pages.post("/messages")
def send() -> ResponseReturnValue:
    """Send a message to everybody, including the other tabs of the sender."""
    text = request.form.get("text", "").strip()
    if not 0 < len(text) <= MAX_LENGTH:
        abort(400, f"A message has 1 to {MAX_LENGTH} characters.")
    jobpush.trigger(CHANNEL, "message", messages.add(name=session["user_id"], text=text))
    return "", 204
