"""Detection of dead workers by a gateway."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import hiredis
import pytest

from jobpush.config import Config
from jobpush.gateway.dead_workers import DeadWorkerReaper
from jobpush.store.redis.command_connection import ConnectionLost
from jobpush.store.scripts import END, Call

LOST_AFTER = 12.0
DEAD = [b"worker-1"]
CLAIMS = [b"42 task-1 delivery-1"]


class FakeLoop:
    """A clock, and what is to be called when."""

    def __init__(self) -> None:
        self.now = 100.0
        self._timers: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        self._timers.append((self.now + seconds, call))

    def advance(self, seconds: float) -> None:
        """Let time pass, all timers in their order."""
        until = self.now + seconds
        while due := sorted((timer for timer in self._timers if timer[0] <= until), key=lambda timer: timer[0]):
            self._timers.remove(due[0])
            self.now = due[0][0]
            due[0][1]()
        self.now = until


@dataclass
class FakeCommands:
    """Redis with one dead worker, whose claims are forgotten when that is asked."""

    is_up: bool = True
    is_answering: bool = True
    is_accepting: bool = True
    refusal: Exception | None = None
    #: Tasks on a primary that does not answer.
    unreachable: set[str] = field(default_factory=set)
    has_forgotten: bool = False
    #: Whether the dead worker resumes when its claims are read.
    resumes: bool = False
    dead: list[Any] = field(default_factory=lambda: list(DEAD))
    claims: list[bytes] = field(default_factory=lambda: list(CLAIMS))
    lost: list[str] = field(default_factory=list)
    waiting: list[Callable[[Any], None]] = field(default_factory=list)

    def run(self, call: Call, callback: Callable[[Any], None] | None = None) -> None:
        if call.script is END:
            assert callback is not None
            self.lost.append(str(call.arguments[0]))
            lost = ConnectionLost() if self.lost[-1] in self.unreachable else None
            callback(self.refusal or lost or (None if self.has_forgotten else [1, 5, 0, 0]))
        elif callback is None:
            raise AssertionError("the answer goes nowhere")
        elif self.is_answering:
            callback(self.dead)
        else:
            self.waiting.append(callback)

    def call(self, command: Sequence[Any], callback: Callable[[Any], None] | None = None) -> None:
        if callback is not None:
            assert command[0] == "SRANDMEMBER"
            claims = self.claims if self.dead else []
            if self.resumes:
                self.dead.clear()
            callback(claims)
            return
        assert command[0] == "SREM"
        self.claims = [claim for claim in self.claims if claim not in command[2:]]
        if not self.claims:
            self.dead.clear()

    def answer(self) -> None:
        """Redis was frozen, and goes on."""
        self.is_answering = True
        waiting, self.waiting = self.waiting, []
        for callback in waiting:
            callback(self.dead)


@pytest.fixture
def loop() -> FakeLoop:
    return FakeLoop()


@pytest.fixture
def link() -> FakeCommands:
    return FakeCommands()


@pytest.fixture
def lost_tasks(loop: FakeLoop, link: FakeCommands) -> DeadWorkerReaper:
    lost_tasks = DeadWorkerReaper(loop, link, Config(lost_after=LOST_AFTER), lambda: link.is_accepting)  # type: ignore[arg-type]
    lost_tasks.start()
    return lost_tasks


@pytest.mark.usefixtures("lost_tasks")
def test_worker_that_resumes_while_its_claims_are_read_loses_no_task(loop: FakeLoop, link: FakeCommands) -> None:
    link.resumes = True

    loop.advance(2 * LOST_AFTER)

    assert link.lost == []
    assert link.claims == CLAIMS


@pytest.mark.usefixtures("lost_tasks")
def test_started_gateway_waits_one_lease_before_it_reaps(loop: FakeLoop, link: FakeCommands) -> None:
    loop.advance(LOST_AFTER - 1)

    assert link.lost == []


@pytest.mark.usefixtures("lost_tasks")
def test_dead_workers_are_reaped_once_after_one_lease(loop: FakeLoop, link: FakeCommands) -> None:
    loop.advance(3 * LOST_AFTER)

    assert link.lost == ["task-1"]


def test_lost_connection_restarts_the_wait(loop: FakeLoop, link: FakeCommands, lost_tasks: DeadWorkerReaper) -> None:
    link.dead = []
    loop.advance(3 * LOST_AFTER)
    link.dead = list(DEAD)

    lost_tasks.on_connected()
    loop.advance(LOST_AFTER)
    assert link.lost == []
    loop.advance(LOST_AFTER)

    assert link.lost == ["task-1"]


@pytest.mark.usefixtures("lost_tasks")
def test_frozen_redis_restarts_the_wait(loop: FakeLoop, link: FakeCommands) -> None:
    link.dead = []
    loop.advance(3 * LOST_AFTER)

    link.is_answering = False
    loop.advance(LOST_AFTER)
    link.dead = list(DEAD)
    link.answer()

    assert link.lost == []
    loop.advance(2 * LOST_AFTER)
    assert link.lost == ["task-1"]


@pytest.mark.usefixtures("lost_tasks")
def test_reaper_sends_no_command_while_redis_is_down(loop: FakeLoop, link: FakeCommands) -> None:
    link.is_up = False

    loop.advance(3 * LOST_AFTER)

    assert link.lost == []


def test_error_reply_reaps_no_worker(loop: FakeLoop, link: FakeCommands, lost_tasks: DeadWorkerReaper) -> None:
    link.is_answering = False
    loop.advance(3 * LOST_AFTER)
    for callback in link.waiting:
        callback(ConnectionLost())
    link.waiting.clear()

    link.is_answering = True
    loop.advance(LOST_AFTER)

    assert link.lost == []


@pytest.mark.usefixtures("lost_tasks")
def test_loss_refused_by_a_full_redis_is_retried(loop: FakeLoop, link: FakeCommands) -> None:
    link.refusal = hiredis.ReplyError("OOM command not allowed when used memory > 'maxmemory'.")
    loop.advance(2 * LOST_AFTER)
    assert link.lost and link.dead

    link.lost.clear()
    link.refusal = None
    loop.advance(LOST_AFTER)

    assert link.lost == ["task-1"]
    assert not link.dead


def test_claims_on_an_unreachable_primary_wait_alone(
    loop: FakeLoop, link: FakeCommands, lost_tasks: DeadWorkerReaper
) -> None:
    link.claims.append(b"43 task-2 delivery-2")
    link.unreachable.add("task-1")

    loop.advance(2 * LOST_AFTER)
    assert link.claims == CLAIMS
    assert lost_tasks.count == 1

    link.unreachable.clear()
    loop.advance(LOST_AFTER)
    assert not link.dead
    assert lost_tasks.count == 2


@pytest.mark.usefixtures("lost_tasks")
def test_loss_with_a_permanent_error_is_not_retried(loop: FakeLoop, link: FakeCommands) -> None:
    link.refusal = hiredis.ReplyError("WRONGTYPE Operation against a key holding the wrong kind of value")

    loop.advance(3 * LOST_AFTER)

    assert link.lost == ["task-1"]


@pytest.mark.usefixtures("lost_tasks")
def test_redis_that_refuses_lease_renewals_restarts_the_wait(loop: FakeLoop, link: FakeCommands) -> None:
    link.dead = []
    loop.advance(3 * LOST_AFTER)

    link.is_accepting = False
    loop.advance(LOST_AFTER)
    link.dead = list(DEAD)
    link.is_accepting = True
    loop.advance(LOST_AFTER)

    assert link.lost == []
    loop.advance(LOST_AFTER)
    assert link.lost == ["task-1"]


def test_claim_of_an_unknown_task_is_dropped(loop: FakeLoop, link: FakeCommands, lost_tasks: DeadWorkerReaper) -> None:
    link.has_forgotten = True

    loop.advance(2 * LOST_AFTER)

    assert link.lost == ["task-1"]
    assert not link.dead
    assert lost_tasks.count == 0


@pytest.mark.usefixtures("lost_tasks")
@pytest.mark.parametrize("foreign", [b"\xff\xfe", b"garbage", b"", b" t d", b"42 task-2 d of a newer version"])
def test_foreign_claims_and_leases_are_removed_and_hide_no_loss(
    loop: FakeLoop, link: FakeCommands, foreign: bytes
) -> None:
    link.dead.insert(0, b"\xff")
    link.claims.insert(0, foreign)

    loop.advance(3 * LOST_AFTER)

    assert "task-1" in link.lost
    assert link.claims == []


@pytest.mark.usefixtures("lost_tasks")
def test_worker_with_foreign_claims_alone_is_forgotten(loop: FakeLoop, link: FakeCommands) -> None:
    link.claims[:] = [b"garbage"]

    loop.advance(3 * LOST_AFTER)

    assert (link.lost, link.claims) == ([], [])
