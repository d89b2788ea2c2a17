"""The options of ``track()``: the user, the title and the error texts of a task."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from string import Formatter
from typing import TYPE_CHECKING, Any

from celery.exceptions import Reject, Retry, SoftTimeLimitExceeded, TimeLimitExceeded, WorkerLostError

from ...channels import checked_user_id
from ...errors import ConfigurationError, InvalidUserId, UnknownArgument
from ...events import CodedText, error_text
from ...reporting.identity import TaskIdentity
from .arguments import ResultIsUnknown, bound_arguments
from .headers import ROOT_HEADER, TITLE_HEADER, USER_HEADER, max_attempts_of, relations_of

if TYPE_CHECKING:
    from ...reporting.services import Services

logger = logging.getLogger(__name__)

#: Name of an argument, or a callable that receives the task's arguments by name and returns the user's id.
User = str | Callable[..., object] | None

#: Error text of a task that was rejected without a reason.
REJECTED = CodedText("The task was rejected", "rejected")

_TOO_LONG = CodedText("The task took too long and was stopped", "too_long")
#: Error texts in place of Celery's, which are for operators.
_SENTENCES: Mapping[type[BaseException], str] = {
    WorkerLostError: CodedText("The process that ran the task died", "process_died"),
    TimeLimitExceeded: _TOO_LONG,
    SoftTimeLimitExceeded: _TOO_LONG,
}

_ASYNC = (inspect.iscoroutinefunction, inspect.isasyncgenfunction)

#: Attribute of a task's function that holds its :class:`TrackOptions`.
_ATTRIBUTE = "__jobpush_options__"


@dataclass(frozen=True)
class TrackOptions:
    """How a task is shown. Created by ``track()``, found by :func:`options_of`."""

    runtime: Services
    user: User = None
    title: str | None = None
    result: bool = False
    errors: Mapping[type[BaseException], str] = field(default_factory=dict)
    #: Whether ``update_state()`` moves the bar.
    adopt: bool = True
    #: Whether the task's ``logging`` records are appended to its log.
    capture: bool = False
    #: Whether the user's inbox keeps the end of the task.
    notifies_end: bool = False
    #: Whether the task is tracked only as a member of a workflow.
    is_for_members: bool = False

    def check(self, function: Callable[..., Any]) -> None:
        """
        Check that the task takes all named arguments.

        Raises:
            UnknownArgument: For the first argument that it does not take.
            ConfigurationError: If ``user`` is neither a name nor a callable, the title can't be formatted, or the task
                is an ``async def``.
        """
        if not (self.user is None or isinstance(self.user, str) or callable(self.user)):
            raise ConfigurationError(f"user must be the name of an argument or callable, not {self.user!r}")
        if not (self.title is None or isinstance(self.title, str)):
            raise ConfigurationError(f"the title must be text, not {self.title!r}")
        call = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004
        if any(kind(one) for kind in _ASYNC for one in (function, call)):
            name = getattr(function, "__name__", repr(function))
            raise ConfigurationError(
                f"the task {name} is an async def, which Celery does not await: make it a def that calls asyncio.run()"
            )
        named = self._named_arguments()
        parameters = inspect.signature(function).parameters
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            return
        known = [name for name in parameters if name != "self"]
        for name in named:
            if name not in known:
                raise UnknownArgument(function.__name__, name, known)

    def identify(
        self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any], headers: Mapping[str, Any]
    ) -> TaskIdentity | None:
        """
        Find the user and the title of a message's task.

        Args:
            task: The Celery task.
            args: Its positional arguments.
            kwargs: Its keyword arguments.
            headers: Of the message; ``jobpush_user`` applies if ``track()`` names no user, or if the task was planned
                as a member of a workflow. A task that a member publishes is a member too, unless ``track()`` finds
                another user for it.

        Returns:
            ``None`` if the task has no user, or an invalid one (which is logged).
        """
        if self.is_for_members and not headers.get(ROOT_HEADER):
            return None
        arguments = bound_arguments(task, args, kwargs)
        relations = relations_of(headers)
        owner = headers.get(USER_HEADER)
        membership = relations.get("membership")
        if membership is not None and membership.is_planned:
            user_id: str | None = str(owner)
        else:
            user_id = self._user_id(task, arguments, headers)
            if membership is not None and user_id != str(owner):
                del relations["root_id"], relations["membership"]
        if user_id is None or (self.is_for_members and "root_id" not in relations):
            return None
        return TaskIdentity(
            task_id=str(headers["id"]),
            user_id=user_id,
            name=task.name,
            title=str(headers.get(TITLE_HEADER) or self._title(task, arguments)),
            created_at=self.runtime.published_at(),
            attempt=int(headers.get("retries") or 0) + 1,
            max_attempts=max_attempts_of(task),
            **relations,
        )

    def has_user(self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any], headers: Mapping[str, Any]) -> bool:
        """
        Return whether a call of the task has a user; not if the user follows from an unknown result.

        The arguments are those of :meth:`identify`.
        """
        return self._user_id(task, bound_arguments(task, args, kwargs), headers) is not None

    def error_text(self, exc: BaseException) -> str:
        """Return the error text of an exception: the one for its most specific type, or its own first line."""
        sentences = {**_SENTENCES, **self.errors}
        if isinstance(exc, Reject):  # Celery's wrapper around the reason, an exception or text
            exc = exc.reason if isinstance(exc.reason, BaseException) else Exception(exc.reason or REJECTED)
        if isinstance(exc, Retry) and exc.exc is not None:  # raised by ``apply(throw=True)``
            exc = exc.exc
        for kind in type(exc).__mro__:
            if kind in sentences:
                return sentences[kind]
        return error_text(exc)

    def _named_arguments(self) -> list[str]:
        formatter = Formatter()
        try:
            parts = list(formatter.parse(self.title or ""))
            for _, _, _, conversion in parts:
                formatter.convert_field("", conversion)
        except ValueError as exc:
            raise ConfigurationError(f"the title {self.title!r} can't be filled in: {exc}") from exc
        fields = [name for _, name, _, _ in parts if name is not None]
        names = [name.partition(".")[0].partition("[")[0] for name in fields]
        return [self.user, *names] if isinstance(self.user, str) else names

    def _user_id(self, task: Any, arguments: Mapping[str, Any], headers: Mapping[str, Any]) -> str | None:
        try:
            if self.user is None:
                user = headers.get(USER_HEADER)
            elif isinstance(self.user, str):
                user = arguments.get(self.user)
            else:
                user = self.user(**arguments)
            return None if user is None else checked_user_id(user)
        except InvalidUserId as exc:
            logger.warning("task %s is not shown to anybody: %s", task.name, exc)
            return None
        except ResultIsUnknown:
            return None
        except SoftTimeLimitExceeded:  # headers of the task that publishes this one
            raise
        except Exception:  # the application's own callable
            logger.exception("task %s is not shown to anybody: its user can't be found", task.name)
            return None

    def _title(self, task: Any, arguments: Mapping[str, Any]) -> str:
        try:
            return (self.title or task.name).format(**arguments)
        except SoftTimeLimitExceeded:
            raise
        except Exception as exc:  # raised by a __format__ or an attribute of the application's objects
            logger.warning("the title of task %s can't be made, its name is shown: %r", task.name, exc)
            return str(task.name)


def attach(options: TrackOptions, function: Callable[..., Any]) -> None:
    """Attach ``options`` for :func:`options_of`. ``functools.wraps`` copies it to wrappers."""
    setattr(function, _ATTRIBUTE, options)


def options_of(task: Any) -> TrackOptions | None:
    """Return the options of a Celery task; ``None`` if it is not tracked."""
    return getattr(task.run, _ATTRIBUTE, None)
