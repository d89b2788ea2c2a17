import { connect } from "jobpush";
import { useTasks } from "jobpush/react";
import { useState } from "react";
import { createRoot } from "react-dom/client";

import { signIn, startExport, token } from "./api.js";

function SignIn({ onDone }) {
  const submit = async (event) => {
    event.preventDefault();
    await signIn(new FormData(event.currentTarget).get("name"));
    onDone();
  };
  return (
    <form onSubmit={submit}>
      <input name="name" placeholder="Your name" required />
      <button>Sign in</button>
    </form>
  );
}

function Tasks() {
  const tasks = useTasks();
  return (
    <main>
      <button onClick={startExport}>Export orders.csv</button>
      {tasks.map((task) => (
        <progress key={task.task_id} max="100" value={task.percent ?? undefined} />
      ))}
      <jobpush-tasks />
    </main>
  );
}

function App({ isKnown }) {
  const [isSignedIn, setSignedIn] = useState(isKnown);
  return isSignedIn ? <Tasks /> : <SignIn onDone={() => setSignedIn(true)} />;
}

connect({ root: "http://127.0.0.1:8001", token, shared: true });
createRoot(document.querySelector("#app")).render(<App isKnown={Boolean(await token())} />);
