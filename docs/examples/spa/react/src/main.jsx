import { connect } from "jobpush";
import { useTasks } from "jobpush/react";
import { createRoot } from "react-dom/client";

import { signIn, startExport, token } from "./api.js";

function SignIn() {
  const submit = async (event) => {
    event.preventDefault();
    await signIn(new FormData(event.currentTarget).get("name"));
    location.reload();
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

const isSignedIn = Boolean(await token());
if (isSignedIn) connect({ root: "http://127.0.0.1:8001", token, shared: true });
createRoot(document.querySelector("#app")).render(isSignedIn ? <Tasks /> : <SignIn />);
