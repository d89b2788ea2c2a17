/** Channels that need a signature of the gateway. */

/** Return the signature of a subscription as `data`, or the refusal: `status`, and `error` if the gateway gave one. */
export async function sign(connection, socketId, name) {
  const body = new URLSearchParams({ socket_id: socketId, channel_name: name });
  const { status, data, error } = await connection.request("auth", { method: "POST", body });
  return data ? { data } : { status, ...(error && { error }) };
}
