// A worker that only knows how to pull and acknowledge. What each task wants is in its payload:
// {"do": "ack" | "nak once" | "term" | "slow", "seconds": 3}
import { connect } from "@nats-io/transport-node";
import { jetstream } from "@nats-io/jetstream";

const connection = await connect({ servers: process.env.NATS_URL });
const queue = process.env.SCHEDD_QUEUE ?? process.argv[2];

async function consumer() {
  for (;;) {
    try {
      return await jetstream(connection).consumers.get("SCHEDD_TASKS", queue);
    } catch {
      await new Promise((later) => setTimeout(later, 200)); // the queue comes with its first schedule
    }
  }
}

async function work(task) {
  const wanted = task.data.length ? task.json() : null;
  switch (wanted?.do) {
    case "nak once":
      return task.info.deliveryCount > 1 ? task.ack() : task.nak(50);
    case "term":
      return task.term("this will never work");
    case "slow": {
      const beat = setInterval(() => task.working(), 500);
      await new Promise((later) => setTimeout(later, wanted.seconds * 1000));
      clearInterval(beat);
      return task.ack();
    }
    default:
      return task.ack();
  }
}

for await (const task of await (await consumer()).consume({ max_messages: 10 })) {
  void work(task);
}
