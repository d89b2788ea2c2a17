"""The state machine of :mod:`jobpush.lifecycle` in Python: the model that the scripts are compared with."""

from __future__ import annotations

from dataclasses import dataclass, field

from jobpush.lifecycle import TaskState

WAITING = {TaskState.PENDING, TaskState.RECEIVED, TaskState.RETRY, TaskState.LOST}
RUNNING = {TaskState.STARTED, TaskState.PROGRESS}
OVER = {TaskState.SUCCESS, TaskState.FAILURE, TaskState.REVOKED}


@dataclass(frozen=True)
class Update:
    """An update published by a process that has the task's message. Only PENDING has an empty ``delivery``."""

    state: TaskState
    run: float = 1.0
    number: int = 1
    delivery: str = ""
    is_handed_over: bool = False


@dataclass
class Model:
    """One task. Each method returns whether the update was accepted."""

    state: TaskState | None = None
    run: float = 0.0
    number: int = 0
    attempt: int = 0
    delivery: str = ""
    is_handed_over: bool = False
    is_cancelled: bool = False
    superseded: set[str] = field(default_factory=set)
    others: set[str] = field(default_factory=set)
    before: TaskState | None = None

    def publish(self, update: Update) -> bool:
        is_accepted = self._publish(update)
        if not is_accepted and update.state.rank >= TaskState.RETRY.rank:
            self.others.discard(update.delivery)
        return is_accepted

    def _publish(self, update: Update) -> bool:
        if self.state is None or update.run > self.run:
            self.superseded.clear()
            self.others.clear()
            self.is_cancelled = False
            return self._become(update, update.number)
        if update.run < self.run or update.number < self.number:
            return False
        has_begun = update.state.rank >= TaskState.STARTED.rank
        if self.state in OVER and (self.is_cancelled or not has_begun):
            return False
        if self.is_cancelled and update.state is TaskState.STARTED:
            return False
        if update.number > self.number:
            self.superseded.clear()
            self.others.clear()
            return self._become(update, max(self.attempt + 1, update.number))
        if not update.delivery or not self.delivery or update.delivery == self.delivery:
            gives_way = self.state is TaskState.LOST and has_begun
            if self.state in OVER or (update.state.rank < self.state.rank and not gives_way):
                return False
            return self._become(update, self.attempt)
        return self._publish_by_another_delivery(update, has_begun)

    def end(self, state: TaskState, delivery: str) -> bool:
        is_last = self.others == {delivery}
        is_accepted = self._end(state, delivery, is_last)
        self.others.discard(delivery)
        if is_accepted and state is TaskState.RETRY:
            self.others.clear()
        return is_accepted

    def _end(self, state: TaskState, delivery: str, is_last: bool) -> bool:
        if self.state is None or self.state in OVER:
            return False
        is_own = self.delivery == delivery
        if state is TaskState.LOST:
            if self.state is TaskState.RETRY:
                if not is_last:
                    return False
            elif not is_own or self.is_handed_over or self.state not in RUNNING | {TaskState.RECEIVED}:
                return False
            else:
                self.before = self.state
                state = TaskState.RETRY if self.others - {delivery} else state
            state = TaskState.REVOKED if self.is_cancelled else state
        elif state is TaskState.RETRY:
            if not (delivery and is_own):
                return False
        elif self.state not in WAITING and not self.is_handed_over and not (delivery and is_own):
            return False
        self.state = state
        return True

    def regain(self, delivery: str) -> bool:
        if self.state is not TaskState.LOST or self.delivery != delivery:
            return False
        self.state = self.before
        return True

    def cancel(self) -> None:
        if self.state in OVER or self.state is None:
            return
        self.is_cancelled = True
        if self.state in WAITING or self.is_handed_over:
            self.state = TaskState.REVOKED

    def _publish_by_another_delivery(self, update: Update, has_begun: bool) -> bool:
        assert self.state is not None
        if self.state is TaskState.SUCCESS:
            return False
        if update.delivery in self.superseded:
            return self._publish_by_superseded(update)
        if self.state in (TaskState.PENDING, TaskState.RECEIVED):
            return self._become(update, self.attempt)
        if self.state is TaskState.RETRY:
            self.superseded.add(self.delivery)
        if not has_begun:
            return self.state in WAITING and self._become(update, self.attempt + 1)
        is_continued = self.state is TaskState.STARTED and self.is_handed_over
        self.superseded.add(self.delivery)
        return self._become(update, self.attempt if is_continued else self.attempt + 1)

    def _publish_by_superseded(self, update: Update) -> bool:
        is_success = update.state is TaskState.SUCCESS
        is_running = update.state in RUNNING
        is_gone = self.state is TaskState.LOST or (self.state is TaskState.RETRY and update.delivery in self.others)
        attempt = self.attempt
        if self.state in OVER:
            if not (is_running or is_success):
                return False
            attempt += 1
        elif is_gone:
            if update.state.rank < TaskState.STARTED.rank:
                return False
            attempt += is_running
        elif not is_success:
            return False
        if self.state is not None and self.state.rank >= TaskState.STARTED.rank:
            self.superseded.add(self.delivery)
        return self._become(update, attempt)

    def _become(self, update: Update, attempt: int) -> bool:
        is_same = self.run == update.run and self.attempt == attempt
        is_same_delivery = not update.delivery or not self.delivery or update.delivery == self.delivery
        self.others.discard(update.delivery)
        if update.state is TaskState.RETRY:
            self.others.clear()
        elif self.run == update.run and self.number == update.number and not is_same_delivery:
            if self.state in RUNNING | {TaskState.RECEIVED} and not self.is_handed_over:
                self.others.add(self.delivery)
        self.is_handed_over = update.is_handed_over or (is_same and is_same_delivery and self.is_handed_over)
        self.delivery = update.delivery or (self.delivery if is_same else "")
        self.state, self.run, self.number, self.attempt = update.state, update.run, update.number, attempt
        if self.is_cancelled and update.state is TaskState.RETRY:
            self.state = TaskState.REVOKED
        return True
