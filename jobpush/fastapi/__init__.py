"""
jobpush for FastAPI and Starlette: a token endpoint, the tags of a page, and methods to await.

Example::

    push = AsyncJobPush(jobpush, root="https://push.example.com")
    app.include_router(push.router(current_user))

    @app.post("/greet/{user_id}")
    async def greet(user_id: str):
        await push.notify(user_id, "greeting", {"text": "hello"})
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Response
from fastapi.responses import JSONResponse
from markupsafe import Markup, escape
from starlette.concurrency import run_in_threadpool

from ..web.flask.assets import script_name

if TYPE_CHECKING:
    from ..api import JobPush
    from ..events import TaskEvent, TaskState
    from ..store import Receipt

__all__ = ["AsyncJobPush"]

#: Name of the route of the token endpoint.
TOKEN_ROUTE = "jobpush_token"  # noqa: S105 - a name
_TOKEN_PATH = "/jobpush/token"  # noqa: S105 - a path


class AsyncJobPush:
    """
    A :class:`jobpush.JobPush` for an asynchronous application.

    Args:
        jobpush: Publishes and queries; its calls run in a thread.
        root: The URL of the gateway, empty if a proxy serves it on the application's own origin.
        path: Path of the token endpoint.
        ttl: Seconds that a connection token is valid.
    """

    def __init__(self, jobpush: JobPush, *, root: str = "", path: str = _TOKEN_PATH, ttl: float = 900) -> None:
        self._jobpush = jobpush
        self._root = root
        self._token_url = path
        self._ttl = ttl

    def router(self, user: Callable[..., Any]) -> APIRouter:
        """
        Return a router with the token endpoint.

        Args:
            user: A dependency that returns the id of the request's user, or ``None``.
        """
        router = APIRouter()

        def token(user_id: Annotated[Any, Depends(user)]) -> Response:
            if user_id is None:
                error = {"code": "not_signed_in", "message": "nobody is signed in"}
                return JSONResponse({"error": error}, 401, headers={"Cache-Control": "no-store"})
            made = self._jobpush.token(user_id, ttl=self._ttl)
            return JSONResponse({"token": made}, headers={"Cache-Control": "no-store"})

        token.__annotations__ = {"user_id": Annotated[Any, Depends(user)], "return": Response}
        token.jobpush = self._jobpush  # type: ignore[attr-defined]  # jobpush doctor finds the endpoint by it
        router.add_api_route(self._token_url, token, name=TOKEN_ROUTE, include_in_schema=False, response_model=None)
        return router

    def tags(self) -> Markup:
        """Return the tags that a page needs in its head: the gateway's address, the token endpoint and the script."""
        root, key, url = escape(self._root), escape(self._jobpush.config.key), escape(self._token_url)
        return Markup(  # noqa: S704 - all are escaped
            f'<meta name="jobpush" data-key="{key}" data-root="{root}" data-token-url="{url}">\n'
            f'<script type="module" src="{root}/jobpush/static/{script_name()}"></script>'
        )

    async def notify(
        self, user: object, event: str, data: object = None, *, keep: bool = False, title: str = "", url: str = ""
    ) -> Receipt:
        """Await :meth:`jobpush.JobPush.notify`."""
        return await run_in_threadpool(self._jobpush.notify, user, event, data, keep=keep, title=title, url=url)

    async def trigger(
        self, channels: str | Iterable[str], event: str, data: object = None, *, exclude: str | None = None
    ) -> Receipt:
        """Await :meth:`jobpush.JobPush.trigger`."""
        return await run_in_threadpool(self._jobpush.trigger, channels, event, data, exclude=exclude)

    async def tasks(self, user: object, *, start: int = 0, limit: int | None = None) -> list[TaskEvent]:
        """Await :meth:`jobpush.JobPush.tasks`."""
        return await run_in_threadpool(self._jobpush.tasks, user, start=start, limit=limit)

    async def cancel(self, task_id: str) -> TaskState:
        """Await :meth:`jobpush.JobPush.cancel`."""
        return await run_in_threadpool(self._jobpush.cancel, task_id)

    async def sign_out(self, user: object) -> int:
        """Await :meth:`jobpush.JobPush.sign_out`."""
        return await run_in_threadpool(self._jobpush.sign_out, user)

    async def disconnect(self, user: object) -> int:
        """Await :meth:`jobpush.JobPush.disconnect`."""
        return await run_in_threadpool(self._jobpush.disconnect, user)

    async def erase(self, user: object) -> int:
        """Await :meth:`jobpush.JobPush.erase`."""
        return await run_in_threadpool(self._jobpush.erase, user)

    async def is_online(self, user: object) -> bool:
        """Await :meth:`jobpush.JobPush.is_online`."""
        return await run_in_threadpool(self._jobpush.is_online, user)
