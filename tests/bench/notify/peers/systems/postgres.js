import pg from "pg";

// "PostgreSQL 15.14": what the server says.
export async function serverVersion(server) {
  const client = new pg.Client(server);
  await client.connect();
  const { rows } = await client.query("SHOW server_version");
  await client.end();
  return `PostgreSQL ${rows[0].server_version.split(" ")[0]}`;
}
