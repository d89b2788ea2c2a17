import { createRoot } from "react-dom/client";
import { connect } from "jobpush";
import { useTasks } from "jobpush/react";

connect({ root: globalThis.GATEWAY, token: async () => globalThis.TOKEN, shared: true });

function App() {
  const bars = useTasks().map((task) => <progress key={task.task_id} max="100" value={task.percent ?? undefined} />);
  return (
    <main>
      {bars}
      <jobpush-tasks />
    </main>
  );
}

createRoot(document.querySelector("#app")).render(<App />);
