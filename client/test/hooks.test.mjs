import assert from "node:assert/strict";
import { afterEach, test } from "node:test";

import { JSDOM } from "jsdom";

const { window } = new JSDOM("<main></main>", { url: "https://app.example/" });
const { document, navigator } = window;
Object.assign(globalThis, { window, document, navigator, IS_REACT_ACT_ENVIRONMENT: true });
for (const name of ["HTMLElement", "SVGElement", "Element", "Node"]) globalThis[name] = window[name];

const react = await import("react");
const { createRoot } = await import("react-dom/client");
const { renderToString } = await import("react-dom/server");
const vue = await import("vue");
const reactHooks = await import("../src/react.js");
const vueHooks = await import("../src/vue.js");


const main = document.querySelector("main");

/** A connection that a test moves by hand. */
class FakeConnection {
  state = "closed";
  reason = null;
  tasks = new Map();
  users = 0;
  channels = new Map();
  #listeners = new Set();

  open() {
    this.users += 1;
    return this;
  }

  close() {
    this.users -= 1;
  }

  on(event, listener) {
    const entry = { event, listener };
    this.#listeners.add(entry);
    return () => this.#listeners.delete(entry);
  }

  subscribe(name) {
    const channel = { on: (event, listener) => (channel.listener = listener), unsubscribe: () => this.channels.delete(name) };
    this.channels.set(name, channel);
    return channel;
  }

  set(fields, event) {
    Object.assign(this, fields);
    for (const entry of this.#listeners) if (entry.event === event) entry.listener(this[event.split(":")[1]]);
  }
}

const taskText = ({ title, percent }) => `${title} ${percent}`;
const view = (...tasks) => new Map(tasks.map((task) => [task.task_id, task]));

/** Each returns how to change the connection within the framework, and how to unmount. */
const frameworks = {
  async react(connection) {
    const { createElement } = react;
    function App() {
      const { state } = reactHooks.useConnection(connection);
      const list = reactHooks.useTasks(connection).map(taskText).join(", ");
      const member = reactHooks.useTask("member", connection);
      return createElement("p", null, `${state}: ${list}; ${member ? taskText(member) : "unknown"}`);
    }
    const root = createRoot(main);
    await react.act(() => root.render(createElement(App)));
    return { change: (run) => react.act(run), unmount: () => react.act(() => root.unmount()) };
  },
  async vue(connection) {
    const app = vue.createApp({
      setup() {
        const { state } = vueHooks.useConnection(connection);
        const tasks = vueHooks.useTasks(connection);
        const member = vueHooks.useTask(() => "member", connection);
        const text = () => `${state.value}: ${tasks.value.map(taskText).join(", ")}; ${member.value ? taskText(member.value) : "unknown"}`;
        return () => vue.h("p", text());
      },
    });
    app.mount(main);
    await vue.nextTick();
    const change = async (run) => {
      await run();
      await vue.nextTick();
    };
    return { change, unmount: () => app.unmount() };
  },
};

afterEach(() => main.replaceChildren());

for (const [name, mount] of Object.entries(frameworks)) {
  test(`${name} renders the state, the tasks and a member, and each change of them`, async () => {
    const connection = new FakeConnection();
    const { change, unmount } = await mount(connection);
    assert.equal(main.textContent, "closed: ; unknown");
    assert.ok(connection.users > 0);

    await change(() => connection.set({ state: "connected" }, "jobpush:state"));
    await change(() => connection.set({ tasks: view({ task_id: "a", title: "Encode", percent: 5 }) }, "jobpush:change"));
    assert.equal(main.textContent, "connected: Encode 5; unknown");
    await change(() => connection.channels.get("private-task-member").listener({ title: "Part", percent: 1 }));
    assert.equal(main.textContent, "connected: Encode 5; Part 1");
    await unmount();

    assert.equal(connection.users, 0);
    assert.equal(connection.channels.size, 0);
  });
}

test("on a server the hooks render nothing yet and open no connection", () => {
  const connection = new FakeConnection();
  const App = () => {
    const { state } = reactHooks.useConnection(connection);
    return react.createElement("p", null, `${state} ${reactHooks.useTasks(connection).length}`);
  };

  assert.equal(renderToString(react.createElement(App)), "<p>closed 0</p>");
  assert.equal(connection.users, 0);
});
