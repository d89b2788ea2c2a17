"""The primaries of a Redis Cluster, and blocking connections to them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import redis
from redis.exceptions import AskError, ClusterDownError, MovedError, NoScriptError, TryAgainError

from ..keys import SLOTS, slot_of
from ..scripts import Call, Command, Request
from .errors import is_command_error
from .topology import Address, OnConnect, Topology, join_address

#: How often a command follows a redirection before it fails.
_MAX_REDIRECTS = 5
#: Seconds between two attempts while a slot moves.
_PAUSE = 0.05
#: Seconds between two checks of the unreachable primaries, and number of checks until the next command tries again.
_CHECK_AFTER = 0.5
_MAX_CHECKS = 120


class Cluster:
    """
    One client of redis-py for each primary, found by the slot of a key.

    The slots are read from ``CLUSTER SLOTS``: on first use, and again in a thread after a redirection or a failure.

    After a timeout, commands to the same primary fail at once until it answers a thread that checks it: a primary that
    hangs delays the commands to others once.
    """

    def __init__(
        self,
        topology: Topology,
        timeout: float,
        on_connect: OnConnect | None,
        on_refreshed: Callable[[redis.RedisError | None], None] = lambda exc: None,
    ) -> None:
        """
        Args:
            topology: Some nodes, and how to connect to each.
            timeout: Seconds to wait for a connection, and for each reply.
            on_connect: Called with each new connection.
            on_refreshed: Called in a thread after the slots were read again; with the error if no node answers.
        """
        self._nodes = topology.nodes
        self._make_pool = partial(topology.make_pool, timeout, on_connect=on_connect)
        self._on_refreshed = on_refreshed
        self._lock = threading.Lock()
        self._clients: dict[Address, redis.Redis] = {}
        #: The primary of each slot; replaced as a whole.
        self._slots: list[Address | None] = []
        #: The slots that the primaries were last read from, and these.
        self._known: tuple[list[Address | None], list[Address]] = self._slots, []
        self._is_refreshing = False
        #: Nodes that failed when they were last asked, with the reason.
        self._unreachable: dict[Address, redis.RedisError] = {}
        #: Nodes that refused a command when they were last asked, with the reason: they are full, read-only, loading.
        self._refusing: dict[Address, redis.RedisError] = {}
        self._is_checking = False

    def client_of(self, name: str | bytes) -> redis.Redis:
        """
        Return the client of the primary that holds a key.

        Raises:
            redis.RedisError: If no primary holds it, no node answers, or the primary is known to hang.
        """
        address = self._address_of(slot_of(name))
        reason = self._unreachable.get(address)
        if isinstance(reason, redis.TimeoutError):
            raise reason
        return self._client_at(address)

    def execute(self, commands: Sequence[Command]) -> list[Any]:
        """
        Run commands in one round trip for each primary, and follow redirections.

        Returns:
            The replies in the order of the commands. The reply of a refused command, and of each command to a primary
            that is unreachable, is an exception.
        """
        replies: list[Any] = [None] * len(commands)
        places: dict[int, Address | None] = dict.fromkeys(range(len(commands)))  # the value is where ASK points to
        for attempt in range(_MAX_REDIRECTS + 1):
            for address, indexes in self._by_address(commands, places, replies).items():
                is_asking = [places[i] is not None for i in indexes]
                for i, reply in zip(
                    indexes, self._execute_at(address, [commands[i] for i in indexes], is_asking), strict=True
                ):
                    replies[i] = reply
            # redis-py derives MovedError from AskError.
            redirected = [i for i in places if isinstance(replies[i], (AskError, TryAgainError))]
            if not redirected:
                break
            places = {i: self._redirection(replies[i]) for i in redirected}
            if attempt or any(isinstance(replies[i], TryAgainError) for i in redirected):
                time.sleep(_PAUSE)
        return replies

    def load(self, scripts: Sequence[tuple[str | bytes, bytes]]) -> list[Any]:
        """
        Load scripts, each into the primary of a key: pairs of key and source.

        Returns:
            The reply to each; as in :meth:`execute`, some may be exceptions.
        """
        places = [(self.primary_of(slot_of(key)), source) for key, source in scripts]
        replies: dict[tuple[Address | None, bytes], Any] = {
            (address, source): self._execute_at(address, [("SCRIPT", "LOAD", source)], [False])[0]
            for address, source in set(places)
            if address is not None
        }
        return [replies.get(place) for place in places]

    def refresh(self) -> None:
        """Read the slots again, in a thread, unless that is under way."""
        with self._lock:
            if self._is_refreshing:
                return
            self._is_refreshing = True
        threading.Thread(target=self._refresh, name="jobpush-cluster-slots", daemon=True).start()

    def read_slots(self) -> None:
        """
        Read which primary has which slot, from the first node that answers.

        Raises:
            redis.RedisError: If no node does.
        """
        reasons = []
        addresses = dict.fromkeys([*self.primaries(), *self._clients, *self._nodes])
        for address in sorted(addresses, key=self._unreachable.__contains__):
            try:
                ranges: Any = self._client_at(address).execute_command("CLUSTER", "SLOTS")  # type: ignore[no-untyped-call]
            except redis.RedisError as exc:
                self._failed(address, exc)
                reasons.append(f"{join_address(*address)} failed ({exc})")
                continue
            self._unreachable.pop(address, None)
            slots: list[Address | None] = [None] * SLOTS
            for first, last, (host, port, *_), *_ in ranges:
                # A node that does not know its own address omits it.
                primary = (host.decode() if host else address[0], port)
                slots[first : last + 1] = [primary] * (last + 1 - first)
            with self._lock:
                self._slots = slots
            return
        raise redis.ConnectionError(f"no node of the cluster answers: {'; '.join(reasons)}")

    def primary_of(self, slot: int) -> Address | None:
        """Return the address of the primary that has a slot, as far as is known."""
        return self._slots[slot] if self._slots else None

    def primaries(self) -> list[Address]:
        """Return the addresses of all known primaries."""
        slots, primaries = self._known
        if slots is not self._slots:
            slots = self._slots
            primaries = list(dict.fromkeys(filter(None, slots)))
            self._known = slots, primaries
        return primaries

    @property
    def unreachable(self) -> list[Address]:
        """The primaries that failed when they were last asked."""
        return [address for address in self.primaries() if address in self._unreachable]

    @property
    def failing(self) -> dict[Address, redis.RedisError]:
        """The primaries that failed or refused a command when they were last asked, with the reason."""
        reasons = self._refusing | self._unreachable
        return {address: reasons[address] for address in self.primaries() if address in reasons}

    @property
    def is_incomplete(self) -> bool:
        """Whether some slots have no primary, as far as is known."""
        return None in self._slots

    def move(self, slot: int, address: Address) -> None:
        """Note that a slot has moved, and read the slots again."""
        with self._lock:
            if self._slots:
                self._slots = [*self._slots[:slot], address, *self._slots[slot + 1 :]]
        self.refresh()

    def disconnect(self, *, is_final: bool) -> None:
        """Close the idle connections, or all of them."""
        for client in list(self._clients.values()):
            client.connection_pool.disconnect(inuse_connections=is_final)
        if is_final:
            self._unreachable.clear()  # ends the checks

    def _by_address(
        self, commands: Sequence[Command], places: dict[int, Address | None], replies: list[Any]
    ) -> dict[Address, list[int]]:
        """Return which commands each primary gets; the others, for slots without a primary, get their reply here."""
        found: dict[Address, list[int]] = {}
        for i, asked in places.items():
            try:
                found.setdefault(asked or self._address_of(slot_of(key_of(commands[i]))), []).append(i)
            except ClusterDownError as exc:
                replies[i] = exc
        return found

    def _execute_at(self, address: Address, commands: Sequence[Command], is_asking: Sequence[bool]) -> list[Any]:
        reason = self._unreachable.get(address)
        if isinstance(reason, redis.TimeoutError):
            return [reason] * len(commands)
        try:
            with self._client_at(address).pipeline(transaction=False) as pipeline:
                for command, asking in zip(commands, is_asking, strict=True):
                    if asking:
                        pipeline.execute_command("ASKING")  # type: ignore[no-untyped-call]
                    pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
                replies = pipeline.execute(raise_on_error=False)
        except redis.RedisError as exc:  # only this primary is unreachable
            self._failed(address, exc)
            self.refresh()
            return [exc] * len(commands)
        self._unreachable.pop(address, None)
        self._note_refusals(address, replies)
        each = iter(replies)
        return [(next(each) if asking else None, next(each))[1] for asking in is_asking]

    def _note_refusals(self, address: Address, replies: Sequence[Any]) -> None:
        refusal = next((reply for reply in replies if isinstance(reply, redis.RedisError) and _is_refusal(reply)), None)
        if refusal is None:
            self._refusing.pop(address, None)
        elif self._refusing.setdefault(address, refusal) is refusal:
            self.refresh()  # it may be a replica now

    def _redirection(self, reply: redis.RedisError) -> Address | None:
        """Return the address from ASK, or ``None`` to look up the slot again."""
        if isinstance(reply, MovedError):
            self.move(reply.slot_id, (reply.host, reply.port))
        elif isinstance(reply, AskError):
            return reply.host, reply.port
        return None

    def _address_of(self, slot: int) -> Address:
        if not self._slots:
            self.read_slots()
        address = self._slots[slot]
        if address is None:
            self.refresh()
            raise ClusterDownError(f"no primary has slot {slot}")
        return address

    def _client_at(self, address: Address) -> redis.Redis:
        with self._lock:
            client = self._clients.get(address)
            if client is None:
                client = self._clients[address] = redis.Redis(connection_pool=self._make_pool(address=address))
            return client

    def _refresh(self) -> None:
        error = None
        try:
            self.read_slots()
        except redis.RedisError as exc:  # the next failure starts another attempt
            error = exc
        finally:
            self._is_refreshing = False
        self._on_refreshed(error)

    def _failed(self, address: Address, reason: redis.RedisError) -> None:
        """Note that a node is unreachable, and check it in a thread until it answers or is no primary any more."""
        self._unreachable[address] = reason
        with self._lock:
            if self._is_checking:
                return
            self._is_checking = True
        threading.Thread(target=self._check, name="jobpush-cluster-check", daemon=True).start()

    def _check(self) -> None:
        for _ in range(_MAX_CHECKS):
            for address in self.unreachable:
                try:
                    self._client_at(address).ping()
                except redis.RedisError:
                    continue
                self._unreachable.pop(address, None)
            if not self.unreachable:
                break
            self.refresh()
            time.sleep(_CHECK_AFTER)
        with self._lock:
            self._unreachable.clear()
            self._is_checking = False


def _is_refusal(reply: redis.RedisError) -> bool:
    """Return whether a node refused a command because of its own state, and not because of the command or its slot."""
    return not isinstance(reply, (AskError, TryAgainError, NoScriptError)) and not is_command_error(reply)


def sharded_words(request: Request) -> Command:
    """Return the words of a command that publishes by sharded pub/sub, which stays within one shard."""
    if isinstance(request, Call):
        words = request.command()
        return (words[0], request.script.sharded[1], *words[2:])
    return ("SPUBLISH", *request[1:]) if request[0] == "PUBLISH" else request


def key_of(command: Command) -> str | bytes:
    """Return the first key of a command."""
    key = command[3 if command[0] == "EVALSHA" else 1]
    return key if isinstance(key, (str, bytes)) else str(key)
