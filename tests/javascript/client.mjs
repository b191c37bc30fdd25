// Puts one schedule by KV and one by request, waits for an execution of each, and prints their records as JSON.
import { connect } from "@nats-io/transport-node";
import { jetstream } from "@nats-io/jetstream";
import { Kvm } from "@nats-io/kv";

const connection = await connect({ servers: process.env.NATS_URL });
const schedules = await new Kvm(jetstream(connection)).open("schedd-schedules");

async function request(endpoint, body) {
  const reply = await connection.request(`schedd.api.v1.${endpoint}`, JSON.stringify(body), { timeout: 10_000 });
  const code = reply.headers?.get("Nats-Service-Error");
  if (code) throw new Error(`${code}: ${reply.json().message}`);
  return reply.json();
}

const definition = { every: "1s", queue: "js", type: "hello", payload: { do: "return", value: "hello" } };
await schedules.put("by-kv", JSON.stringify(definition));
await request("schedule.put", { id: "by-request", schedule: definition });

async function succeeded(schedule) {
  for (;;) {
    const { items } = await request("execution.list", { schedule, state: "succeeded", limit: 1 });
    if (items.length) return items[0];
    await new Promise((later) => setTimeout(later, 100));
  }
}

const records = [await succeeded("by-kv"), await succeeded("by-request")];
let refusal = "";
await request("schedule.put", { id: "typo", schedule: { evry: "1s" } }).catch((problem) => (refusal = problem.message));
console.log(JSON.stringify({ records, refusal }));
await connection.close();
