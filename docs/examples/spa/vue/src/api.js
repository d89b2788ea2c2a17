const post = (path, body = {}) =>
  fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

export const signIn = (name) => post("/api/sign-in", { name });
export const startExport = () => post("/api/export");

/** Return a token for the gateway; null if nobody is signed in. */
export async function token() {
  const response = await fetch("/api/jobpush-token");
  return response.ok ? (await response.json()).token : null;
}
