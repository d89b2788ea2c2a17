"""
jobpush for FastAPI and Starlette: a token endpoint, the tags of a page, and awaitable methods.

Example::

    push = AsyncJobPush(jobpush, root="https://push.example.com")
    app.include_router(push.router(current_user))

    @app.post("/greet/{user_id}")
    async def greet(user_id: str):
        await push.notify(user_id, "greeting", {"text": "hello"})
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Annotated, Any, Concatenate, ParamSpec, TypeVar

from fastapi import APIRouter, Depends, Response
from fastapi.responses import JSONResponse
from markupsafe import Markup
from starlette.concurrency import run_in_threadpool

from ..api import JobPush
from ..web.flask.assets import page_tags

__all__ = ["AsyncJobPush"]

P = ParamSpec("P")
R = TypeVar("R")

#: Name of the route of the token endpoint.
TOKEN_ROUTE = "jobpush_token"  # noqa: S105 - a name
_TOKEN_PATH = "/jobpush/token"  # noqa: S105 - a path


def _awaitable(
    method: Callable[Concatenate[JobPush, P], R],
) -> Callable[Concatenate[AsyncJobPush, P], Coroutine[Any, Any, R]]:
    """Return an awaitable method that runs a blocking one in a thread."""

    @wraps(method)
    async def call(self: AsyncJobPush, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await run_in_threadpool(method, self._jobpush, *args, **kwargs)

    call.__doc__ = f"Await :meth:`jobpush.JobPush.{method.__name__}`."
    return call


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

    def tags(self, nonce: str | None = None) -> Markup:
        """
        Return the tags that a page needs in its head: the gateway's address, the token endpoint and the script.

        Args:
            nonce: Of the page's Content-Security-Policy, if scripts need one.
        """
        return page_tags(self._jobpush.config.key, self._root, self._token_url, nonce)

    notify = _awaitable(JobPush.notify)
    trigger = _awaitable(JobPush.trigger)
    tasks = _awaitable(JobPush.tasks)
    cancel = _awaitable(JobPush.cancel)
    sign_out = _awaitable(JobPush.sign_out)
    disconnect = _awaitable(JobPush.disconnect)
    erase = _awaitable(JobPush.erase)
    is_online = _awaitable(JobPush.is_online)
