// A worker that claims its attempts and reports their ends, as the Python SDK does. What each task wants is in its payload:
// {"do": "return", "value": …} | {"do": "fail once"} | {"do": "fail"}
import { connect, headers } from "@nats-io/transport-node";
import { jetstream } from "@nats-io/jetstream";

const connection = await connect({ servers: process.env.NATS_URL });
const js = jetstream(connection);
const queue = process.env.SCHEDD_QUEUE ?? process.argv[2];
const worker = `js-${process.pid}`;

async function consumer() {
  for (;;) {
    try {
      return await js.consumers.get("SCHEDD_TASKS", queue);
    } catch {
      await new Promise((later) => setTimeout(later, 200));
    }
  }
}

function report(task, attempt, kind, body, options = {}) {
  const id = task.headers.get("Schedd-Execution-Id");
  const subject = `schedd.report.${queue}.${id}.${attempt}.${kind}`;
  return js.publish(subject, JSON.stringify({ at: new Date().toISOString(), ...body }), options);
}

// A line for the execution's log, best effort: sent before the end is reported, so that who follows the log sees it.
function log(task, attempt, message, values = {}) {
  const line = { at: new Date().toISOString(), level: "info", message, values, attempt, worker };
  connection.publish(`schedd.log.${task.headers.get("Schedd-Execution-Id")}`, JSON.stringify(line));
}

// Whoever is the first on the subject has the attempt; everybody else is refused by the server.
async function claim(task, attempt) {
  try {
    await report(task, attempt, "started", { worker }, { expect: { lastSubjectSequence: 0 } });
    return true;
  } catch {
    return false;
  }
}

async function work(task) {
  const before = Number(task.headers.get("Schedd-Attempts-Before") || 0);
  const most = Number(task.headers.get("Schedd-Max-Tries") || 3);
  let attempt = before + 1;
  while (!(await claim(task, attempt))) {
    attempt += 1; // the one before has begun already; this kit's functions end at once, so it is over
    if (attempt - before > most) return task.ack();
  }
  const wanted = task.json();
  log(task, attempt, "at work", { wanted: wanted.do });
  const fails = wanted.do === "fail" || (wanted.do === "fail once" && attempt === 1);
  if (!fails) {
    await report(task, attempt, "finished", { outcome: "succeeded", result: wanted.value ?? null });
    return task.ack();
  }
  const error = { type: "Error", message: "as was wanted", traceback: null };
  if (attempt - before < most) {
    await report(task, attempt, "finished", { outcome: "retry", error, retry_in_s: 0.2 });
    return task.nak(200);
  }
  await report(task, attempt, "finished", { outcome: "failed", error });
  return task.ack();
}

for await (const task of await (await consumer()).consume({ max_messages: 10 })) {
  work(task).catch((problem) => console.error(problem));
}
