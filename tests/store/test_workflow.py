"""The bar of a workflow: sums over its members, correct in any order, at a cost independent of their number."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from jobpush.channels import user_topic
from jobpush.config import Config
from jobpush.errors import TaskNotFound
from jobpush.events import CodedText, TaskEvent, TaskState
from jobpush.processes.embedded import EmbeddedRedis
from jobpush.store import Membership, Published, Store, TaskWrite, WorkflowPlan
from jobpush.store.records import Outcome
from tests.effort import examples, thorough

USER = "42"


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    """One Redis for all tests; each test has its own workflow and tasks."""
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture(scope="module")
def client(server: EmbeddedRedis) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url, protocol=2) as client:
        yield client


@dataclass
class Workflow:
    """A workflow in Redis, with the events of its members."""

    store: Store
    task_id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def begin(self, members: int, weight: float | None = None, **weights: float) -> None:
        first = TaskEvent(
            self.task_id, TaskState.PENDING, name="jobpush.workflow", title='The "Album"', created_at=1.0, at=1.0
        )
        plan = WorkflowPlan(members, float(members) if weight is None else weight, weights)
        self.store.publish([TaskWrite(USER, first, pinned=True, plan=plan)])

    def write(
        self,
        member: str,
        state: str,
        branch: str,
        *,
        is_planned: bool = True,
        weight: float | None = None,
        name: str = "part",
        **values: object,
    ) -> TaskWrite:
        event = TaskEvent(
            self.name(member),
            TaskState(state),
            name=name,
            created_at=1.0,
            at=2.0,
            root_id=self.task_id,
            **values,  # type: ignore[arg-type]
        )
        return TaskWrite(USER, event, membership=Membership(branch, is_planned, weight))

    def report(self, member: str, state: str, branch: str = "0:1", **values: object) -> Published:
        (published,) = self.store.publish([self.write(member, state, branch, **values)])  # type: ignore[arg-type]
        return published

    def name(self, member: str) -> str:
        return f"{self.task_id}-{member}"

    @property
    def event(self) -> TaskEvent:
        return self.store.task(self.task_id)

    @property
    def outcome(self) -> tuple[str, float, float | None]:
        event = self.event
        return event.state.value, event.current, event.percent


def make_store(server: EmbeddedRedis, **values: object) -> Store:
    return Store(Config(redis_url=server.url, publish_timeout=30, **values))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def unthrottled_store(server: EmbeddedRedis) -> Iterator[Store]:
    """A store whose workflows publish every change."""
    store = make_store(server, min_interval=0)
    yield store
    store.close()


@pytest.fixture
def workflow(unthrottled_store: Store) -> Workflow:
    return Workflow(unthrottled_store)


# -- published state ----------------------------------------------------------------------------------------


def test_bar_is_the_sum_of_its_members(workflow: Workflow) -> None:
    workflow.begin(2)
    workflow.report("a", "PENDING", "0:2/1:1")
    workflow.report("a", "PROGRESS", "0:2/1:1", percent=50.0)
    workflow.report("b", "SUCCESS", "0:2/2:1", percent=100.0)

    event = workflow.event

    assert (event.state, event.current, event.total, event.percent) == (TaskState.PROGRESS, 1, 2, 75.0)
    assert (event.name, event.title, event.started_at) == ("jobpush.workflow", 'The "Album"', 2.0)
    assert event.data == {"children": {"total": 2, "succeeded": 1, "failed": 0, "revoked": 0, "lost": 0, "running": 1}}
    workflow.report("a", "SUCCESS", "0:2/1:1")
    assert workflow.outcome == ("SUCCESS", 2, 100.0)


def test_members_take_their_own_weight_or_the_weight_of_their_name(workflow: Workflow) -> None:
    workflow.begin(2, 10.0, heavy=8.0)
    workflow.report("a", "SUCCESS", "0:2/1:1", weight=9.0)
    assert workflow.outcome == ("PROGRESS", 1, 90.0)

    workflow.report("b", "PENDING", "0:2/2:1", is_planned=False, name="heavy")
    workflow.report("b", "SUCCESS", "0:2/2:1", name="heavy")

    assert workflow.event.total == 3
    assert workflow.outcome == ("PROGRESS", 2, 94.44)  # 17 of 18


def test_members_have_their_own_channel_and_are_in_no_list_or_history(workflow: Workflow, client: redis.Redis) -> None:
    workflow.begin(1)
    before = client.xlen(workflow.store.keys.stream(user_topic(USER)))
    with client.pubsub(ignore_subscribe_messages=True) as listener:
        listener.subscribe(workflow.store.keys.topic(user_topic(USER)))
        listener.get_message(timeout=5)

        workflow.report("a", "PENDING")

        message = listener.get_message(timeout=5)
    assert message is not None
    assert message["data"].startswith(f"- {workflow.name('a')} 1 ".encode())
    assert client.xlen(workflow.store.keys.stream(user_topic(USER))) == before
    assert workflow.name("a") not in {event.task_id for event in workflow.store.tasks(USER)}
    assert workflow.store.task(workflow.name("a")).root_id == workflow.task_id


def test_children_are_paged_in_order_of_creation(workflow: Workflow) -> None:
    workflow.begin(5)
    for number in range(5):
        workflow.report(str(number), "PENDING", f"0:5/{number + 1}:1")
    read = workflow.store.children

    assert [event.task_id for event in read(workflow.task_id)] == [workflow.name(str(number)) for number in range(5)]
    assert [event.task_id[-1] for event in read(workflow.task_id, start=1, limit=2)] == ["1", "2"]
    assert read(workflow.task_id, limit=0) == []
    with pytest.raises(TaskNotFound):
        read("nobody")


def test_retry_of_a_member_does_not_lower_the_bar(workflow: Workflow) -> None:
    workflow.begin(2)
    workflow.report("a", "PROGRESS", "0:2/1:1", percent=80.0)
    workflow.report("a", "RETRY", "0:2/1:1", percent=80.0)
    workflow.report("a", "STARTED", "0:2/1:1", attempt=2)
    workflow.report("a", "PROGRESS", "0:2/1:1", attempt=2, percent=10.0)

    assert workflow.outcome == ("PROGRESS", 0, 40.0)


def test_repeated_and_late_events_of_a_member_count_once(workflow: Workflow) -> None:
    workflow.begin(2)
    for state in ("SUCCESS", "SUCCESS", "PROGRESS", "FAILURE"):
        workflow.report("a", state, "0:2/1:1", percent=10.0)

    assert workflow.outcome == ("PROGRESS", 1, 50.0)


def test_members_may_publish_before_their_workflow(workflow: Workflow) -> None:
    workflow.report("a", "PENDING", "0:2/1:1")
    workflow.report("a", "SUCCESS", "0:2/1:1")
    workflow.begin(2)

    workflow.report("b", "SUCCESS", "0:2/2:1")

    assert workflow.outcome == ("SUCCESS", 2, 100.0)


# -- end states -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "expected"), [(0, 86_400), (5, 86_400), (500_000, 500_000)])
def test_workflow_stays_known_while_its_members_publish(
    workflow: Workflow, client: redis.Redis, seconds: int, expected: int
) -> None:
    owner = workflow.store.keys.owner(workflow.task_id)
    workflow.begin(2)
    client.expire(owner, seconds)

    workflow.report("one", "PROGRESS", "0:2")

    assert client.ttl(owner) == pytest.approx(expected, abs=60)
    assert workflow.store.task(workflow.task_id).state is TaskState.STARTED


def test_failed_member_ends_its_chain(workflow: Workflow) -> None:
    workflow.begin(3)
    workflow.report("a", "SUCCESS", "0:3")
    workflow.report("b", "FAILURE", "0:3", error='it said "no" \\ "never",\nbut')

    assert workflow.outcome == ("FAILURE", 2, 33.33)
    assert workflow.event.error == 'it said "no" \\ "never",\nbut'


def test_workflow_shows_the_code_of_the_error_of_its_member(workflow: Workflow) -> None:
    workflow.begin(1)
    workflow.report("a", "FAILURE", error=CodedText('No worker knows the task "a,b"', 'unknown_task:"a,b"'))

    assert workflow.event.error == 'No worker knows the task "a,b"'
    assert workflow.event.error_code == 'unknown_task:"a,b"'


def test_group_continues_after_a_failure_and_shows_the_first_error(workflow: Workflow) -> None:
    workflow.begin(3)
    workflow.report("a", "FAILURE", "0:3/1:1", error="first")
    workflow.report("b", "FAILURE", "0:3/2:1", error="second")
    assert workflow.outcome[0] == "PROGRESS"

    workflow.report("c", "SUCCESS", "0:3/3:1")

    assert (workflow.outcome[0], workflow.event.error) == ("FAILURE", "first")


def test_failed_member_of_a_chain_in_a_group_ends_that_chain_only(workflow: Workflow) -> None:
    workflow.begin(5)
    workflow.report("a", "FAILURE", "0:5/1:3")
    workflow.report("x", "SUCCESS", "0:5/2:2")
    assert workflow.outcome[0] == "PROGRESS"

    workflow.report("y", "SUCCESS", "0:5/2:2")

    assert workflow.outcome[0] == "FAILURE"


def test_workflow_waits_for_tasks_published_by_its_members(workflow: Workflow) -> None:
    workflow.begin(1)
    workflow.report("a", "STARTED", "0:1")
    workflow.report("spawned", "PENDING", "0:1", is_planned=False)
    workflow.report("a", "SUCCESS", "0:1")
    assert workflow.outcome == ("PROGRESS", 1, 50.0)

    workflow.report("spawned", "SUCCESS", "0:1", is_planned=False)

    assert workflow.outcome == ("SUCCESS", 2, 100.0)


def test_workflow_is_lost_until_its_lost_member_runs_again(workflow: Workflow) -> None:
    workflow.begin(2)
    workflow.report("a", "STARTED", "0:2")
    workflow.report("a", "LOST", "0:2")
    assert workflow.outcome[0] == "LOST"

    workflow.report("a", "STARTED", "0:2", attempt=2)
    assert workflow.outcome[0] == "STARTED"
    workflow.report("a", "SUCCESS", "0:2", attempt=2)
    workflow.report("b", "SUCCESS", "0:2")

    assert workflow.outcome == ("SUCCESS", 2, 100.0)


def test_end_of_a_member_published_by_a_gateway_counts(workflow: Workflow) -> None:
    workflow.begin(2)
    started = replace(workflow.write("a", "STARTED", "0:2/1:1"), delivery="first")
    workflow.store.publish([started])
    workflow.report("b", "SUCCESS", "0:2/2:1")

    workflow.store.end(workflow.name("a"), TaskState.LOST, error="its worker died", delivery="first")

    assert workflow.outcome == ("LOST", 1, 50.0)
    assert workflow.event.data["children"]["lost"] == 1


def test_cancelled_workflow_starts_no_member_and_ends_when_none_runs(workflow: Workflow) -> None:
    workflow.begin(3)
    workflow.report("a", "STARTED", "0:3/1:1")
    workflow.report("b", "PENDING", "0:3/2:1")

    assert workflow.store.cancel(workflow.task_id) is TaskState.STARTED

    assert workflow.event.cancelling
    assert workflow.report("b", "STARTED", "0:3/2:1").outcome is Outcome.CANCELLED
    assert workflow.report("c", "STARTED", "0:3/3:1").outcome is Outcome.CANCELLED
    assert workflow.report("a", "PROGRESS", "0:3/1:1").is_cancelled
    workflow.report("a", "REVOKED", "0:3/1:1")
    assert (workflow.outcome[0], workflow.event.cancelling) == ("REVOKED", False)


def test_redelivered_member_of_a_cancelled_workflow_stays_revoked(workflow: Workflow) -> None:
    workflow.begin(1)
    workflow.store.publish([replace(workflow.write("a", "STARTED", "0:1"), delivery="first")])
    workflow.store.cancel(workflow.task_id)
    workflow.store.publish([replace(workflow.write("a", "REVOKED", "0:1"), delivery="first")])

    (published,) = workflow.store.publish([replace(workflow.write("a", "REVOKED", "0:1"), delivery="second")])

    assert published.outcome is Outcome.STALE
    assert workflow.store.task(workflow.name("a")).attempt == 1


def test_workflow_without_a_running_member_is_revoked_at_once(workflow: Workflow) -> None:
    workflow.begin(2)
    workflow.report("a", "SUCCESS", "0:2")
    workflow.report("b", "PENDING", "0:2")

    workflow.store.cancel(workflow.task_id)

    assert workflow.outcome[0] == "REVOKED"


def test_cancelled_member_revokes_its_workflow_at_the_end(workflow: Workflow) -> None:
    workflow.begin(2)
    workflow.report("a", "PENDING", "0:2/1:1")
    workflow.store.cancel(workflow.name("a"))
    workflow.report("b", "SUCCESS", "0:2/2:1")

    assert workflow.outcome == ("REVOKED", 2, 50.0)


def test_workflow_without_members_succeeds_when_published(workflow: Workflow) -> None:
    workflow.begin(0)

    workflow.store.publish_workflows([(USER, workflow.task_id)])

    assert workflow.outcome == ("SUCCESS", 0, 100.0)


# -- cost -----------------------------------------------------------------------------------


@thorough
def test_cost_of_a_member_event_is_independent_of_the_number_of_members(
    server: EmbeddedRedis, client: redis.Redis
) -> None:
    store = make_store(server, min_interval=3600)
    small, large = Workflow(store), Workflow(store)
    small.begin(10)
    large.begin(10_000)
    before = client.xlen(store.keys.stream(user_topic(USER)))
    for start in range(0, 10_000, 500):
        members = range(start, start + 500)
        for state in ("PENDING", "STARTED", "SUCCESS"):
            store.publish(
                [large.write(str(n), state, f"0:10000/{n + 1}:1", percent=None) for n in members if n != 9_999]
            )
    small.report("0", "STARTED", "0:10/1:1")

    costs = []
    for workflow, member, branch in ((small, "1", "0:10/2:1"), (large, "9999", "0:10000/10000:1")):
        workflow.report(member, "PENDING", branch)
        client.config_resetstat()
        workflow.report(member, "STARTED", branch)
        calls = {name: one["calls"] for name, one in client.info("commandstats").items() if "config" not in name}
        calls.pop("cmdstat_expire", None)  # a lifetime is extended only where a second has passed since the last time
        costs.append(calls)

    assert costs[0] == costs[1]
    assert sum(costs[1].values()) < 40
    large.report("9999", "SUCCESS", "0:10000/10000:1")
    assert large.outcome == ("SUCCESS", 10_000, 100.0)
    assert large.event.seq == 4  # PENDING, STARTED, PROGRESS, SUCCESS: the others came within the interval
    assert client.xlen(store.keys.stream(user_topic(USER))) <= before + 4 + 1
    assert len(store.children(large.task_id)) == 10_000
    store.close()


def test_held_back_sums_are_published_on_request(server: EmbeddedRedis) -> None:
    store = make_store(server, min_interval=3600)
    workflow = Workflow(store)
    workflow.begin(3)
    for number in range(2):
        published = workflow.report(str(number), "SUCCESS", f"0:3/{number + 1}:1")
    assert published.has_pending_workflow
    assert workflow.event.current == 1

    store.publish_workflows([(USER, workflow.task_id)], is_urgent=True)
    assert workflow.event.current == 2
    seq = workflow.event.seq
    store.publish_workflows([(USER, workflow.task_id)], is_urgent=True)

    assert workflow.event.seq == seq
    store.close()


def test_repeated_requests_keep_the_minimum_interval(server: EmbeddedRedis) -> None:
    store = make_store(server, min_interval=3600)
    workflow = Workflow(store)
    workflow.begin(3)
    for number in range(2):
        workflow.report(str(number), "SUCCESS", f"0:3/{number + 1}:1")
    seq = workflow.event.seq

    still_pending = [store.publish_workflows([(USER, workflow.task_id)]) for _ in range(2)]

    assert still_pending == [[(USER, workflow.task_id)]] * 2  # so both ask again
    assert workflow.event.seq == seq
    store.close()


# -- any order -------------------------------------------------------------------------------------------

#: Branches of ``chain(a, group(chain(b, c), d, group(e, chord([f, g], h))))``, and one member that is not planned in
#: each of three of them.
PLANNED = {
    "a": "0:8",
    "b": "0:8/1:2",
    "c": "0:8/1:2",
    "d": "0:8/2:1",
    "e": "0:8/3:4/4:1",
    "f": "0:8/3:4/5:3",
    "g": "0:8/3:4/5:3",
    "h": "0:8/3:4/5:3",
}
EXTRA = {"s": "0:8", "t": "0:8/1:2", "u": "0:8/3:4/5:3"}
WEIGHTS = {name: float(1 + number % 3) for number, name in enumerate([*PLANNED, *EXTRA])}


class Model:
    """The same sums, counted again from all members each time."""

    def __init__(self) -> None:
        self.states = dict.fromkeys(PLANNED, "PENDING")
        self.parts = dict.fromkeys([*PLANNED, *EXTRA], 0.0)
        self.attempts = dict.fromkeys([*PLANNED, *EXTRA], 1)
        self.percent = 0.0
        self.is_over = False
        self.outcome: tuple[str, float, float] | None = None

    def report(self, member: str, state: str, percent: float | None) -> None:
        self.states[member] = state
        if state == "SUCCESS":
            self.parts[member] = 1.0
        elif percent is not None:
            self.parts[member] = percent / 100
        self._count()

    def _count(self) -> None:
        branches = {**PLANNED, **EXTRA}
        broken = {branches[name] for name, state in self.states.items() if state in ("FAILURE", "REVOKED", "LOST")}
        waited_for = [
            name
            for name, state in self.states.items()
            if state not in ("SUCCESS", "FAILURE", "REVOKED")
            and not any(branches[name] == path or branches[name].startswith(f"{path}/") for path in broken)
        ]
        states = list(self.states.values())
        ended = sum(states.count(state) for state in ("SUCCESS", "FAILURE", "REVOKED"))
        done = sum(WEIGHTS[name] * self.parts[name] for name in self.states)
        percent = 100 * done / sum(WEIGHTS[name] for name in self.states)
        if not waited_for:
            state = next((one for one in ("FAILURE", "REVOKED", "LOST") if one in states), "SUCCESS")
        else:
            state = "PROGRESS" if done or ended else "STARTED"
        if self.is_over and self.outcome is not None:  # the state stays, the counts go on
            state = self.outcome[0]
        self.is_over = state in ("FAILURE", "REVOKED", "SUCCESS")
        self.percent = max(self.percent, 100.0 if state == "SUCCESS" else percent)
        self.outcome = (state, ended, self.percent)


@settings(max_examples=examples(150), deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([*PLANNED, *EXTRA]),
            st.sampled_from(
                ["STARTED", "PROGRESS", "RETRY", "SUCCESS", "SUCCESS", "SUCCESS", "FAILURE", "REVOKED", "LOST"]
            ),
            st.sampled_from([None, 0.0, 25.0, 50.0, 100.0]),
        ),
        max_size=40,
    )
)
def test_sums_agree_with_the_model_in_any_order(
    unthrottled_store: Store, updates: list[tuple[str, str, float | None]]
) -> None:
    workflow, model = Workflow(unthrottled_store), Model()
    workflow.begin(len(PLANNED), sum(WEIGHTS[name] for name in PLANNED))
    for member, state, percent in [("a", "STARTED", None), *updates]:
        is_planned = member in PLANNED
        branch = PLANNED[member] if is_planned else EXTRA[member]
        published = workflow.report(
            *(member, state, branch),
            is_planned=is_planned,
            weight=WEIGHTS[member],
            percent=percent,
            attempt=model.attempts[member],
        )
        if published.outcome is Outcome.STORED:
            model.report(member, state, percent)
            if state == "RETRY":
                model.attempts[member] += 1

        assert model.outcome is not None
        state_now, ended, percent_now = workflow.outcome
        assert (state_now, ended) == model.outcome[:2]
        assert percent_now == pytest.approx(model.outcome[2], abs=0.01)


@pytest.mark.parametrize("state", ["FAILURE", "LOST"])
def test_failed_members_are_listed_first_on_any_page(server: EmbeddedRedis, state: str) -> None:
    store = make_store(server)
    workflow = Workflow(store)
    workflow.begin(6)
    for number in range(6):
        workflow.report(str(number), "STARTED", f"0:6/{number + 1}:1")
    ids = [event.task_id for event in store.children(workflow.task_id)]
    for number in (4, 2):
        workflow.report(str(number), state, f"0:6/{number + 1}:1")

    expected = [ids[2], ids[4], ids[0], ids[1], ids[3], ids[5]]
    assert [event.task_id for event in store.children(workflow.task_id)] == expected
    pages = [store.children(workflow.task_id, start=start, limit=2) for start in (0, 2, 4, 6)]
    assert [event.task_id for page in pages for event in page] == expected
    assert store.children(workflow.task_id, limit=0) == []
    store.close()
