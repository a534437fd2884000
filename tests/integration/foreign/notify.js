// Brings news to a materializer from JavaScript: one message on the token subject of its identity.
//   node notify.js SERVER NAMESPACE TYPE ID JSON
const { connect, StringCodec } = require("nats");

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

// FNV-1a-32 of "TYPE.ENCODED_ID", modulo 64.
function lane(key) {
  let hash = 2166136261;
  for (const char of key) {
    hash = Math.imul(hash ^ char.charCodeAt(0), 16777619) >>> 0;
  }
  return hash % 64;
}

async function main() {
  const [server, namespace, type, id, cache] = process.argv.slice(2);
  const connection = await connect({ servers: server });
  const key = `${type}.${encodeId(id)}`;
  const subject = `dmm.${namespace}.work.${type}.${lane(key)}.${encodeId(id)}`;
  const ack = await connection.jetstream().publish(subject, StringCodec().encode(cache));
  console.log(`stored as ${ack.seq} of ${ack.stream}`);
  await connection.drain();
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
