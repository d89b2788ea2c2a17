"""The guarantees of ``docs/guarantees.md`` hold for any sequence of events, faults and restarts, in simulated time."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from jobpush.config import Config
from jobpush.events import TaskState
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.reporting.identity import TaskIdentity
from jobpush.reporting.running_task import RunningTask
from jobpush.store import Store

from .browser import NEWS, Browser
from .world import Clock, FaultyStore, Gateway, RedisUnderTest, StepwisePublisher

USERS = ("anna", "ben")
#: Outbox limit per browser, in bytes: a few messages.
OUTBOX_SIZE = 3_000
#: Rounds within which everything in flight must have arrived.
ENOUGH = 400
FAULTS = st.sampled_from([None, None, None, "before", "after"])
ENDS = st.sampled_from([TaskState.SUCCESS, TaskState.FAILURE])
WIRES = st.sampled_from(["commands", "subscription"])
BROWSERS = st.integers(0, 2)


class GuaranteesMachine(RuleBasedStateMachine):
    config: Config
    server: RedisUnderTest
    publisher: StepwisePublisher
    store: FaultyStore
    #: The test's own store, whose connection to Redis has no faults.
    plain: Store

    def __init__(self) -> None:
        super().__init__()
        self.server.is_reachable = True
        self.server.client.flushall()
        self.publisher.reset_after_fork()
        self.store.fault = None
        self.store.acknowledged.clear()
        self.clock = Clock()
        self.gateway = Gateway(self.config, self.clock, self.server)
        self.browsers = [Browser("anna"), Browser("anna"), Browser("ben")]
        self.running: list[RunningTask] = []
        self.ended: dict[str, TaskState] = {}
        #: Ended tasks whose end Redis had acknowledged before it lost its data.
        self.forgotten: set[str] = set()
        self.tasks = self.numbers = 0
        self._settle()

    # -- events of tasks and applications -------------------------------------------------------------

    @rule(user=st.sampled_from(USERS), fault=FAULTS)
    def begin_task(self, user: str, fault: str | None) -> None:
        self.tasks += 1
        tracked = TaskIdentity(f"{user}-{self.tasks}", user, "work", "Work", created_at=float(self.tasks))
        task = RunningTask(tracked, self.publisher, self.config)
        task.total = 100
        self.store.fault = fault
        self.publisher.start(task)
        self.running.append(task)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), by=st.integers(1, 30))
    def make_progress(self, data: st.DataObject, by: int) -> None:
        task = data.draw(st.sampled_from(self.running))
        task.current += by
        task.message = "x" * 300
        task.mark_changed()

    @precondition(lambda self: self.running)
    @rule(data=st.data(), state=ENDS)
    def end_task(self, data: st.DataObject, state: TaskState) -> None:
        task = data.draw(st.sampled_from(self.running))
        self.running.remove(task)
        task.finish(state)
        self.ended[task.tracked.task_id] = state

    @rule(fault=FAULTS)
    def publish(self, fault: str | None) -> None:
        self.store.fault = fault
        self.publisher.step()
        self.store.fault = None

    @precondition(lambda self: self.server.is_reachable)
    @rule(count=st.sampled_from([1, 1, 2, 8, 30]))
    def publish_news(self, count: int) -> None:
        for _ in range(count):
            self.numbers += 1
            self.plain.trigger([NEWS], "number", {"n": self.numbers, "padding": "x" * 500})
        self.server.wait_for_pushes()

    # -- steps of the gateway and the browsers --------------------------------------------------------

    @rule()
    def turn(self) -> None:
        self.gateway.turn()

    @rule(name=WIRES)
    def carry_to_redis(self, name: str) -> None:
        if wire := self.gateway.wires.get(name):
            wire.carry_to_redis()

    @rule(name=WIRES, size=st.sampled_from([1, 10, 100, 1_000]) | st.none())
    def carry_to_hub(self, name: str, size: int | None) -> None:
        if wire := self.gateway.wires.get(name):
            wire.carry_to_hub(size)

    @rule(index=BROWSERS, size=st.sampled_from([1, 50, 500, 1 << 20]))
    def read(self, index: int, size: int) -> None:
        self.browsers[index].read(size)

    @rule(index=BROWSERS)
    def connect(self, index: int) -> None:
        self.browsers[index].connect(self.gateway)

    @rule(rounds=st.integers(1, 6), readers=st.sets(BROWSERS))
    def let_most_work(self, rounds: int, readers: set[int]) -> None:
        """Advance everything by a few steps; only some browsers read."""
        for _ in range(rounds):
            self._work(readers)

    @rule(name=WIRES, rounds=st.integers(2, 6), index=BROWSERS)
    def let_one_link_work(self, name: str, rounds: int, index: int) -> None:
        """Connect a page while one of the links is slower than the other, or down."""
        self.browsers[index].connect(self.gateway)
        for _ in range(rounds):
            if wire := self.gateway.wires.get(name):
                wire.carry_to_redis()
                wire.carry_to_hub()
            self.gateway.turn()
            self.browsers[index].read()

    @rule(rounds=st.sampled_from([5, 30]), readers=st.sets(BROWSERS))
    def let_tasks_run(self, rounds: int, readers: set[int]) -> None:
        """Advance all tasks as fast as their progress can be published."""
        for _ in range(rounds):
            for task in self.running:
                task.current += 1
                task.message = "x" * 300
                task.mark_changed()
            self._work(readers)

    # -- faults -----------------------------------------------------------------------------

    @rule(index=BROWSERS)
    def hang_up(self, index: int) -> None:
        self.browsers[index].hang_up()

    @rule(name=WIRES)
    def break_wire(self, name: str) -> None:
        self.gateway.break_wire(name)

    @rule()
    def redis_goes_away(self) -> None:
        self.server.is_reachable = False
        for name in list(self.gateway.wires):
            self.gateway.break_wire(name)

    @precondition(lambda self: not self.server.is_reachable)
    @rule(is_empty=st.booleans())
    def redis_comes_back(self, is_empty: bool) -> None:
        if is_empty:
            self.server.lose_data()
            self.forgotten |= self.store.acknowledged
            self.store.acknowledged.clear()
        self.server.is_reachable = True

    @rule()
    def gateway_is_replaced(self) -> None:
        self.gateway.die()
        self.gateway = Gateway(self.config, self.clock, self.server)

    @rule(seconds=st.sampled_from([0.1, 1, 5, 40]))
    def pass_time(self, seconds: float) -> None:
        """Advance the clock in steps of a second without carrying bytes: to the hub, the links look half open."""
        until = self.clock.now + seconds
        while self.clock.now < until:
            self.clock.now = min(until, self.clock.now + 1)
            self.gateway.turn()

    # -- invariants ---------------------------------------------------------------------------

    @invariant()
    def memory_is_bounded(self) -> None:
        for connection in self.gateway.hub._connections:
            if (outbox := connection._outbox) is not None:
                assert outbox.size <= OUTBOX_SIZE + outbox.allowance + 1_500, "the outbox exceeds its limit"

    @precondition(lambda self: self.tasks or self.numbers)
    @rule()
    def recover(self) -> None:
        self._assert_all_delivered()

    def _assert_all_delivered(self) -> None:
        self._heal()
        for user in USERS:
            snapshots = {event.task_id: event for event in self.plain.tasks(user)}
            for browser in self.browsers:
                if browser.user == user:
                    seen = {task_id: browser.view[task_id] for task_id in snapshots}
                    assert seen == {task_id: event.to_wire() for task_id, event in snapshots.items()}
            for task_id, state in self.ended.items():
                if task_id.startswith(f"{user}-"):
                    is_stored = task_id in snapshots and snapshots[task_id].state is state
                    assert is_stored or task_id in self.forgotten, f"the final state of {task_id} is lost"
        assert [browser.number for browser in self.browsers] == [self.numbers] * len(self.browsers)

    def teardown(self) -> None:
        try:
            if self.tasks or self.numbers:
                self._assert_all_delivered()
        finally:
            for browser in self.browsers:
                browser.hang_up()
            self.gateway.die()

    # -- helpers -------------------------------------------------------------------------------------

    def _work(self, readers: Collection[int] = (0, 1, 2)) -> int:
        """Advance everything by one step; return the number of bytes that the browsers read."""
        if not self.publisher.is_idle:
            self.publisher.step()
        self.gateway.carry()
        self.gateway.turn()
        return sum(self.browsers[index].read() for index in readers)

    def _heal(self) -> None:
        """Repair everything, let each running task report, and check that everything arrives."""
        self.server.is_reachable = True
        for task in self.running:
            task.mark_changed()
        self._settle()
        self.publish_news(1)  # makes a gap before it visible
        self._settle()

    def _settle(self) -> None:
        quiet = 0
        for _ in range(ENOUGH):
            self.clock.now += 1
            for browser in self.browsers:
                if browser.socket is None:
                    browser.connect(self.gateway)
            is_quiet = not self._work() and self.publisher.is_idle and not self.gateway.is_catching_up
            are_joined = all(browser.joined == {NEWS, browser.channel} for browser in self.browsers)
            quiet = quiet + 1 if is_quiet and are_joined else 0
            if quiet == 3:
                return
        raise AssertionError(
            f"the simulation does not settle: {self.publisher.is_idle=}, {self.gateway.is_catching_up=}, "
            f"{[browser.joined for browser in self.browsers]=}"
        )


@pytest.fixture(scope="module")
def machine() -> Iterator[type[GuaranteesMachine]]:
    with EmbeddedRedis(arguments=["--stream-node-max-entries", "5"]) as embedded:
        server = RedisUnderTest(embedded.url)
        config = Config(
            redis_url=embedded.url,
            key="key",
            secret="secret",
            min_interval=0,
            retry_interval=0,
            publish_timeout=30,
            history_size=20,
            linger=2,
            outbox_size=OUTBOX_SIZE,
        )
        store, plain = FaultyStore(config, server), Store(config)
        publisher = StepwisePublisher(store, config)
        members = {"config": config, "server": server, "publisher": publisher, "store": store, "plain": plain}
        yield type("Machine", (GuaranteesMachine,), members)
        for client in (store, plain, server.client):
            client.close()


def test_guarantees_hold_after_any_sequence_of_faults(machine: type[GuaranteesMachine]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=int(os.environ.get("SIMULATION_SEQUENCES", "40")),
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_history_is_not_requested_without_a_subscription(machine: type[GuaranteesMachine]) -> None:
    """Events published between such a history and the later subscription would be lost silently."""
    state = machine()
    state.begin_task(user="anna", fault=None)
    state.gateway_is_replaced()

    state.let_one_link_work(name="subscription", rounds=2, index=0)
    state.break_wire(name="subscription")
    state.let_one_link_work(name="commands", rounds=2, index=0)

    state.teardown()


def test_live_events_do_not_overtake_the_history_in_a_slow_readers_outbox(
    machine: type[GuaranteesMachine],
) -> None:
    """A snapshot is queued when the links break; the history that follows must precede new live events."""
    state = machine()
    state.begin_task(user="anna", fault=None)
    state.let_tasks_run(rounds=5, readers=set())

    state.pass_time(seconds=40)  # nothing is carried, so the hub drops the links
    state.let_tasks_run(rounds=5, readers=set())

    state.teardown()
