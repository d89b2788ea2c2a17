"""``JobPush``: the Python API of applications, tasks and workers. Imports neither Celery nor Flask."""

from __future__ import annotations

import inspect
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar, cast

from .channels import (
    checked_user_id,
    escape_mark,
    escape_user_id,
    id_text,
    parse_channel,
    user_channel,
    validate_channel,
    validate_event,
)
from .config import Config, variable_of
from .errors import ConfigurationError, EventError, InvalidData, TaskNotFound
from .events import TaskEvent, TaskState, encode, is_safe_url, shortened, text_for_users
from .queues.celery.broker import redis_url_of
from .reporting.identity import MAX_TITLE_LENGTH
from .reporting.services import Services
from .signing import channel_auth, user_auth
from .store import Receipt
from .tokens import make_token

if TYPE_CHECKING:
    from celery.canvas import Signature

    from .queues.celery.workflow import TrackedWorkflow
    from .store.directory import ChannelInfo, RedisDirectory

F = TypeVar("F", bound=Callable[..., Any])

#: Pusher Channels protocol 7: two numbers.
_SOCKET_ID = re.compile(r"\d+\.\d+", re.ASCII)


class JobPush:
    """
    Live progress of an application's tasks, and notifications to its users.

    Example::

        from celery import Celery
        from jobpush import JobPush, progress

        celery_app = Celery("video", broker="redis://localhost")
        jobpush = JobPush(celery_app)

        @celery_app.task
        @jobpush.track(user="user_id", title="Encode {filename}")
        def encode(user_id, filename):
            for frame in progress.iter(range(4000), message="encoding"):
                ...

        encode.delay("42", "cat.mov")    # user 42 sees it at once
    """

    def __init__(self, celery_app: Any = None, **settings: Any) -> None:
        """
        Args:
            celery_app: The Celery app; ``None``: call :meth:`init_celery` later, or never in a program without tasks.
            settings: Settings of :class:`jobpush.config.Config`, by name. They take precedence over
                ``celery_app.conf.jobpush_…``, which takes precedence over the environment (``JOBPUSH_…``). Those two
                are read on first use.

        Raises:
            ConfigurationError: If a keyword is not a setting, or its value has the wrong type.
        """
        Config.load(settings, {})  # a misspelled setting fails here, not at the first task
        self._settings = settings
        self._celery_app: Any = None
        self._runtime = Services(self._load_config)
        if celery_app is not None:
            self.init_celery(celery_app)

    def init_celery(self, app: Any) -> None:
        """Track the tasks of a Celery app. Connects to nothing."""
        from .queues.celery import publishing, registry, signals
        from .webhooks import WebhookRelay, register_delivery

        self._celery_app = app
        registry.register(app, self._runtime, lambda: WebhookRelay(app, self._runtime.config).start())
        publishing.wrap_send_task(app)
        register_delivery(app, lambda: self._runtime.config)
        signals.connect()

    @property
    def config(self) -> Config:
        """The settings in effect."""
        return self._runtime.config

    # -- tasks ---------------------------------------------------------------------------------------

    def track(
        self,
        user: str | Callable[..., object] | None = None,
        title: str | None = None,
        *,
        result: bool = False,
        errors: Mapping[type[BaseException], str] | None = None,
        adopt: bool = True,
        capture: bool = False,
        notify: str | None = None,
    ) -> Callable[[F], F]:
        """
        Let a user watch a task. Stands above or below ``@app.task``; ``@jobpush.track`` alone is ``track()``.

        Args:
            user: The user of the task: the name of an argument, or a callable that receives the arguments by name
                (without ``self``) and returns the user's id. ``None``: the message's header ``jobpush_user``, else the
                user of the task that publishes it. A task whose user is ``None`` is not shown.
            title: Text that the user reads, with arguments in braces. ``None``: the task's name.
            result: Whether the user sees the return value, as ``data["result"]``.
            errors: Text that the user reads instead of an exception's own first line, by type; the nearest type counts.
            adopt: Whether the task's ``update_state()`` moves the bar too, and so celery-progress's
                ``ProgressRecorder``.
            capture: Whether the task's log also takes what the task writes to :mod:`logging`.
            notify: ``"end"``: keep the end of the task (SUCCESS, FAILURE, REVOKED) in the user's inbox, as the event
                ``jobpush:end``. ``None``: keep nothing.

        Raises:
            UnknownArgument: If the task has no argument that ``user`` or ``title`` names.
            ConfigurationError: If an argument of ``track()`` is invalid.
        """
        from .queues.celery.decorator import is_task_or_function, track, track_bare
        from .queues.celery.track_options import TrackOptions

        if not isinstance(errors or {}, Mapping):
            raise ConfigurationError(f"errors must be a mapping {{Type: 'sentence'}}, not {errors!r}")
        if notify not in (None, "end"):
            raise ConfigurationError(f"notify must be 'end' or None, not {notify!r}")
        is_task = callable(user) and not inspect.isfunction(user) and is_task_or_function(user)
        options = TrackOptions(
            self._runtime,
            None if is_task else user,
            title,
            result=result,
            errors=dict(errors or {}),
            adopt=adopt,
            capture=capture,
            notifies_end=notify == "end",
        )
        if is_task:
            return cast("Callable[[F], F]", track(options, user))
        if inspect.isfunction(user) and user.__name__ != "<lambda>" and title is None and not result and errors is None:
            return cast("Callable[[F], F]", track_bare(options, user))
        return lambda target: track(options, target)

    def track_workflow(
        self,
        canvas: Signature | Callable[..., Signature],
        user: object,
        title: str | None = None,
        *,
        weights: Mapping[str, float] | None = None,
    ) -> TrackedWorkflow:
        """
        Show all tasks of a canvas as one bar: of groups, chains, chords, maps and chunks, nested ones, and the tasks
        that they publish or that replace them. Needs a result backend only where Celery does.

        Args:
            canvas: A signature, or a callable that receives the arguments of ``delay()`` and returns one.
            user: Id of the user who sees the bar. The tasks need no ``track()``; with it their progress counts too.
            title: Text that the user reads.
            weights: Share of the bar of a task, by Celery's name of the task; the default is 1. A signature's header
                ``jobpush_weight`` takes precedence.

        Returns:
            An object with the ``delay()`` and ``apply_async()`` of the canvas, and the ``task_id`` of the bar.

        Raises:
            InvalidUserId: If ``user`` is not an id.
            ConfigurationError: If a weight is not a number of at least 0; or if there is no Celery app yet.

        Example::

            album = group(encode.s(name) for name in names) | publish.s()
            jobpush.track_workflow(album, user="42", title="Album", weights={"video.publish": 0.1}).delay()
        """
        from .queues.celery.workflow import TrackedWorkflow

        if self._celery_app is None:
            raise ConfigurationError("track_workflow() needs a Celery app: call init_celery() first")
        return TrackedWorkflow(
            self._celery_app,
            self._runtime,
            canvas,
            user_id=checked_user_id(user),
            title=title,
            weights={name: _checked_weight(name, weight) for name, weight in (weights or {}).items()},
        )

    def children(self, task_id: str, *, start: int = 0, limit: int | None = None) -> list[TaskEvent]:
        """
        Return the tasks of a workflow: failed and lost ones first, else in the order in which they were published.

        Args:
            task_id: Id of the workflow's bar.
            start: Number of tasks to skip.
            limit: Number of tasks to read at most; ``None``: all.

        Raises:
            TaskNotFound: If the workflow is not stored.
            StoreError: If Redis does not answer.
        """
        return self._runtime.store.children(_task_id(task_id), start=start, limit=limit)

    def tasks(self, user: object, *, start: int = 0, limit: int | None = None) -> list[TaskEvent]:
        """
        Return a page of a user's tasks: running ones first, then waiting, then ended ones, each newest first.

        Args:
            user: The user's id.
            start: Number of tasks to skip.
            limit: Number of tasks to read at most; ``None``: ``Config.tasks_per_page``.

        Raises:
            InvalidUserId: If ``user`` is not an id.
            StoreError: If Redis does not answer.
        """
        return self._runtime.store.tasks(checked_user_id(user), start=start, limit=limit)

    def cancel(self, task_id: str) -> TaskState:
        """
        Cancel a task, or all tasks of a workflow. A waiting task never starts. A running task gets
        :class:`TaskCancelled` at its next report, and is terminated after ``cancel_grace`` seconds if its worker can.

        Returns:
            The state afterwards: REVOKED; STARTED or PROGRESS while the task ends; or the final state of a task that
            had ended before.

        Raises:
            TaskNotFound: If the task is not stored.
            StoreError: If Redis does not answer.
        """
        return self._runtime.store.cancel(_task_id(task_id))

    # -- notifications -------------------------------------------------------------------------------

    def notify(
        self, user: object, event: str, data: object = None, *, keep: bool = False, title: str = "", url: str = ""
    ) -> Receipt:
        """
        Send an event to all connections of one user or several, in one round trip; and keep it in their inboxes.

        Args:
            user: An id, or an iterable of ids.
            event: An event name of the application.
            data: Text, or a value that Celery's JSON serializer takes; at most ``max_data`` bytes.
            keep: Whether the inbox of each user keeps it.
            title: Text that the inbox shows; at most 200 characters, the rest is cut. Needs ``keep``.
            url: Where the item of the inbox leads: ``https://…``, ``http://…`` or a path. Needs ``keep``.

        Returns:
            The number of connections that received it.

        Raises:
            EventError: If an id, the event, the data or the URL is invalid.
            StoreError: If Redis does not answer.
        """
        users = [checked_user_id(one) for one in _ids(user)]
        if (title or url) and not keep:
            raise EventError("title and url are for the inbox: give keep=True too")
        if not is_safe_url(url):
            raise EventError(
                f"url must be a path, or http(s)://… of at most 2,048 characters: {shortened(repr(url), 80)}"
            )
        receipt = self.trigger([user_channel(one) for one in users], event, data)
        for one in dict.fromkeys(users) if keep else ():
            title = text_for_users(str(title), MAX_TITLE_LENGTH)
            self._runtime.store.keep_notification(one, event, data, title=title, url=url)
        return receipt

    def trigger(
        self, channels: str | Iterable[str], event: str, data: object = None, *, exclude: str | None = None
    ) -> Receipt:
        """
        Send an event to all subscribers of one channel or several, in one round trip.

        Args:
            channels: A name, or an iterable of names.
            event: An event name of the application.
            data: Text, or a value that Celery's JSON serializer takes; at most ``max_data`` bytes.
            exclude: The ``socket_id`` of a connection that does not receive it, usually the sender's.

        Returns:
            The number of connections that received it.

        Raises:
            EventError: If a channel, the event or the data is invalid.
            StoreError: If Redis does not answer.
        """
        names = [channels] if isinstance(channels, str) else list(channels)
        for name in names:
            validate_channel(name)
        validate_event(event)
        size = len((data if isinstance(data, str) else encode(data)).encode("utf-8", "surrogatepass"))
        if size > self.config.max_data:
            raise InvalidData(f"the data of an event has {size} bytes; {self.config.max_data} are allowed")
        if exclude is not None:
            _ensure_socket_id(exclude)
        return self._runtime.store.trigger(names, event, data, exclude=exclude)

    # -- presence ------------------------------------------------------------------------------------

    def is_online(self, user: object) -> bool:
        """
        Whether a user has a connection to any gateway. A user between two pages counts as online.

        Raises:
            InvalidUserId: If ``user`` is not an id.
            StoreError: If Redis does not answer.
        """
        return self._directory.is_online(user)

    def online_users(self) -> Iterator[str]:
        """
        Yield the ids of all users who are online, in a stable order. Pages are read from Redis when they are needed.

        Raises:
            StoreError: If Redis does not answer.
        """
        return self._directory.all_online_users()

    def users_in(self, channel: str) -> list[str]:
        """
        Return the ids of the members of a presence channel; other channels have none.

        Raises:
            InvalidChannelName: If the name is invalid.
            StoreError: If Redis does not answer.
        """
        return self._directory.users_in(validate_channel(channel))

    def channels(self, prefix: str = "") -> dict[str, ChannelInfo]:
        """
        Return the occupied channels by name, with their numbers of connections and members.

        Args:
            prefix: Prefix of the names. Channels of single users are not listed; see :meth:`online_users`.

        Raises:
            StoreError: If Redis does not answer.
        """
        return self._directory.channels(prefix)

    def sign_out(self, user: object) -> int:
        """
        End the rights of a user's connections, which stay open without a user, and revoke the user's tokens.

        Returns:
            The number of connections.

        Raises:
            InvalidUserId: If ``user`` is not an id.
            StoreError: If Redis does not answer.
        """
        return self._directory.sign_out(user)

    def disconnect(self, user: object) -> int:
        """
        Close all connections of a user, with Pusher's code 4009, after which stock clients do not reconnect.

        The user's connection tokens are revoked. The application itself must refuse the user's next sign-in.

        Returns:
            The number of connections.

        Raises:
            InvalidUserId: If ``user`` is not an id.
            StoreError: If Redis does not answer.
        """
        return self._directory.disconnect(user)

    # -- privacy -------------------------------------------------------------------------------------

    def erase(self, user: object) -> int:
        """
        Remove everything that is stored about a user: tasks, logs, inbox, history and presence. Close the connections.

        A task that still runs is stored again with its next report: cancel it first.

        Returns:
            The number of tasks that were removed.

        Raises:
            InvalidUserId: If ``user`` is not an id.
            StoreError: If Redis does not answer; then some may be left: call it again.
        """
        user_id = checked_user_id(user)
        erased = self._runtime.store.erase(user_id)
        self._directory.disconnect(user_id)  # last: it revokes the user's tokens
        return erased

    # -- Pusher's two authentication requests --------------------------------------------------------

    def authenticate_user(self, socket_id: str, user_data: Mapping[str, Any]) -> dict[str, str]:
        """
        Return the response to a client that signs in (``/user-auth``), to be sent as JSON.

        Args:
            socket_id: The ``socket_id`` that the client sent.
            user_data: The user, with an ``id``, and ids of users to watch in ``watchlist``. The client receives all
                other members too.

        Raises:
            InvalidUserId: If an id is missing or invalid, also in the watchlist.
            EventError: If the ``socket_id`` is invalid.

        Source: Pusher Channels, "Auth signatures", users.
        """
        _ensure_socket_id(socket_id)
        config = self._signing_config()
        ids: dict[str, Any] = {"id": escape_user_id(user_data.get("id"))}
        if (watchlist := user_data.get("watchlist")) is not None:
            ids["watchlist"] = [escape_user_id(user) for user in watchlist]
        text = encode({**user_data, **ids, **escape_mark(ids["id"], *ids.get("watchlist", ()))})
        return {"auth": user_auth(config.key, config.secret, socket_id, text), "user_data": text}

    def authorize_channel(
        self, socket_id: str, channel: str, user_data: Mapping[str, Any] | None = None
    ) -> dict[str, str]:
        """
        Return the response to a client that may subscribe to a private or presence channel (``/auth``), as JSON.

        Args:
            socket_id: The ``socket_id`` that the client sent.
            channel: The channel that it sent. The application decides before this call whether it may subscribe.
            user_data: For a presence channel, ``{"user_id": …, "user_info": {…}}``.

        Raises:
            EventError: If the ``socket_id``, the channel or the user is invalid.

        Source: Pusher Channels, "Auth signatures", private and presence channels.
        """
        _ensure_socket_id(socket_id)
        validate_channel(channel)
        config = self._signing_config()
        text = None
        if parse_channel(channel).is_presence:
            member = dict(user_data or {})
            text = encode({**member, "user_id": escape_user_id(member.get("user_id"))})
        answer = {"auth": channel_auth(config.key, config.secret, socket_id, channel, text)}
        return answer if text is None else {**answer, "channel_data": text}

    def token(
        self,
        user: object,
        ttl: float = 900,
        channels: Iterable[str] = (),
        tasks: Iterable[str] = (),
        user_info: Mapping[str, Any] | None = None,
        watch: Iterable[object] = (),
    ) -> str:
        """
        Make a connection token: a JWT with which a browser signs in at the gateway as a user.

        Args:
            user: The user's id.
            ttl: Seconds that the token is valid, at most 86,400.
            channels: Private and presence channels that the user may join: names, or prefixes that end in ``*``.
            tasks: Ids of tasks of other users that the user may watch.
            user_info: What other members of presence channels see of the user.
            watch: Ids of users; the connection receives when they come online or go offline.

        Raises:
            ConfigurationError: If ``ttl`` is out of range.
            EventError: If an id, a channel or ``user_info`` is invalid, or the token gets too long.
        """
        return make_token(
            self._signing_config(), user, ttl=ttl, channels=channels, tasks=tasks, user_info=user_info, watch=watch
        )

    # -- internal -----------------------------------------------------------------------------------

    @property
    def _directory(self) -> RedisDirectory:
        from .store.directory import RedisDirectory  # a worker does not need it

        return RedisDirectory(self._runtime.store)

    def _load_config(self) -> Config:
        if self._celery_app is None:
            return Config.load(self._settings, {})
        conf = self._celery_app.conf
        names = [item.name for item in fields(Config)]
        # celery_app.conf.update(flask_app.config) brings the names of Flask
        settings = {name: conf.get(f"jobpush_{name}", conf.get(variable_of(name))) for name in names}
        if not (self._settings.get("redis_url") or settings["redis_url"] or os.environ.get("JOBPUSH_REDIS_URL")):
            settings["redis_url"] = redis_url_of(self._celery_app)
        return Config.load(self._settings, settings)

    def _signing_config(self) -> Config:
        self.config.require_credentials()
        return self.config


def _checked_weight(name: str, weight: float) -> float:
    if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight < math.inf:
        raise ConfigurationError(f"the weight of {name} must be a number that is not negative, not {weight!r}")
    return float(weight)


def _task_id(value: Any) -> str:
    text = id_text(value)
    if not text:
        raise TaskNotFound(str(value))
    return text


def _ids(user: Any) -> Iterable[object]:
    """Return the ids that ``user`` is: one, or the items of an iterable."""
    kind = user.__class__  # of a lazy object the one behind it: Django's class has __iter__ whatever it holds
    is_many = issubclass(kind, Iterable) and not issubclass(kind, (bytes, bytearray, Mapping))
    return user if is_many and id_text(user) is None else [user]


def _ensure_socket_id(socket_id: object) -> None:
    if not isinstance(socket_id, str) or not _SOCKET_ID.fullmatch(socket_id):
        raise EventError(f"a socket_id looks like '123.456', not like {str(socket_id)[:80]!r}")
