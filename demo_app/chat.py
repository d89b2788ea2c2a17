"""
A chat: who is here, who is typing, and what was said last.

Who is here are the members of a presence channel, and who is typing is told by client events on it: both are the
gateway's work alone. The last messages are kept in Redis (``recent.py``) for those who come later.
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
    """Let everyone who is signed in join, with a name that the others see."""
    return {"name": user_id} if user_id is not None and channel == CHANNEL else False


@pages.get("")
def page() -> ResponseReturnValue:
    """The chat."""
    return render_template("chat.html", user_id=session["user_id"], max_length=MAX_LENGTH)


@pages.get("/messages")
def list_messages() -> ResponseReturnValue:
    """What was said last, oldest first."""
    return jsonify(messages.all())


@pages.post("/messages")
def say() -> ResponseReturnValue:
    """Say something to all, the other tabs of who says it included."""
    text = request.form.get("text", "").strip()
    if not 0 < len(text) <= MAX_LENGTH:
        abort(400, f"A message has 1 to {MAX_LENGTH} characters.")
    jobpush.trigger(CHANNEL, "message", messages.add(name=session["user_id"], text=text))
    return "", 204
