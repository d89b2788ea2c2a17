import assert from "node:assert/strict";
import { test } from "node:test";

import { fold, foldAll as foldMany } from "../../client/src/fold.js";

const task = (task_id, seq, more = {}) => ({ task_id, seq, state: "PROGRESS", created_at: 1, attempt: 1, ...more });
const foldAll = (events) => events.reduce(fold, new Map());
const ids = (view) => [...view.keys()];

test("the newest event of a task is what the view holds", () => {
  const view = foldAll([task("a", 1, { percent: 10 }), task("a", 2, { percent: 20 })]);

  assert.deepEqual([...view.values()], [task("a", 2, { percent: 20 })]);
});

test("folding many events at once gives the same view as folding them one by one", () => {
  const events = [task("a", 1), task("b", 1, { created_at: 5 }), task("a", 3), task("a", 2), task("b", 2, { created_at: 0 }), null];

  assert.deepEqual([...foldMany(new Map(), events)], [...foldAll(events)]);
});

test("a late event changes nothing", () => {
  const view = foldAll([task("a", 5, { percent: 50 })]);

  assert.equal(fold(view, task("a", 4, { percent: 40 })), view);
});

test("a repeated event changes nothing", () => {
  const view = foldAll([task("a", 5, { percent: 50 })]);

  assert.equal(fold(view, task("a", 5, { percent: 60 })), view);
});

test("the sequence numbers of different tasks are independent", () => {
  const view = foldAll([task("a", 9), task("b", 1)]);

  assert.deepEqual(ids(view).sort(), ["a", "b"]);
});

test("a new attempt may move the bar back", () => {
  const view = foldAll([task("a", 5, { percent: 90 }), task("a", 6, { percent: 0, attempt: 2 })]);

  assert.equal(view.get("a").percent, 0);
});

test("a later event recovers a lost task", () => {
  const view = foldAll([task("a", 5, { state: "LOST" }), task("a", 6, { state: "SUCCESS" })]);

  assert.equal(view.get("a").state, "SUCCESS");
});

test("the newest task comes first", () => {
  const view = foldAll([task("old", 1, { created_at: 1 }), task("new", 1, { created_at: 3 }), task("mid", 1, { created_at: 2 })]);

  assert.deepEqual(ids(view), ["new", "mid", "old"]);
});

test("progress does not change the order", () => {
  const view = foldAll([task("old", 1, { created_at: 1 }), task("new", 1, { created_at: 2 }), task("old", 2, { created_at: 1 })]);

  assert.deepEqual(ids(view), ["new", "old"]);
});

test("a task without a time comes last", () => {
  const view = foldAll([task("timeless", 1, { created_at: undefined }), task("a", 1)]);

  assert.deepEqual(ids(view), ["a", "timeless"]);
});

for (const id of ["__proto__", "constructor", "toString", "hasOwnProperty", "", "0"]) {
  test(`the task id ${JSON.stringify(id)} is treated like any other`, () => {
    const view = foldAll([task(id, 1), task("other", 1), task(id, 2, { percent: 7 })]);

    assert.equal(view.get(id).percent, 7);
    assert.equal(view.size, 2);
    assert.equal({}.percent, undefined);
  });
}

for (const event of [null, undefined, "text", 7, [], {}, { task_id: 7, seq: 1 }]) {
  test(`${JSON.stringify(event)} is not an event and changes nothing`, () => {
    const view = foldAll([task("a", 1)]);

    assert.equal(fold(view, event), view);
  });
}

test("an event without a sequence number does not replace one that has it", () => {
  const view = foldAll([task("a", 1)]);

  assert.equal(fold(view, task("a", undefined)), view);
});

test("folding mutates neither the view nor the event", () => {
  const before = foldAll([task("a", 1)]);
  const event = task("a", 2);

  const after = fold(before, event);
  event.percent = 99;

  assert.equal(before.get("a").seq, 1);
  assert.equal(after.get("a").percent, undefined);
  assert.ok(Object.isFrozen(after.get("a")));
});

test("a page that stays open for weeks drops the oldest tasks", () => {
  const events = Array.from({ length: 10_100 }, (_, index) => task(`t${index}`, 1, { created_at: index }));

  const view = foldMany(new Map(), events);

  assert.equal(view.size, 10_000);
  assert.equal(ids(view)[0], "t10099");
});
