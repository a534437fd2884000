// Publishes one report as a device in JavaScript would, and ends when the server has stored it.
//   node report.js SERVER NAMESPACE KIND DEVICE JSON
const { connect, StringCodec } = require("nats");

// An id on the wire: A-Z a-z 0-9 _ - stay, every other byte is =XX, the empty id is "=".
function encodeId(id) {
  const bytes = Array.from(new TextEncoder().encode(id));
  if (bytes.length === 0) return "=";
  return bytes
    .map((byte) => {
      const char = String.fromCharCode(byte);
      return /[A-Za-z0-9_-]/.test(char)
        ? char
        : "=" + byte.toString(16).toUpperCase().padStart(2, "0");
    })
    .join("");
}

async function main() {
  const [server, namespace, kind, device, report] = process.argv.slice(2);
  const connection = await connect({ servers: server });
  const subject = `dmm.${namespace}.report.${kind}.${encodeId(device)}`;
  const ack = await connection.jetstream().publish(subject, StringCodec().encode(report));
  console.log(`stored as ${ack.seq} of ${ack.stream}`);
  await connection.drain();
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
