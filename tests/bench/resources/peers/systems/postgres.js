import pg from "pg";

// "PostgreSQL 15.14 synchronous_commit=off": what the server says.
export async function describe(server) {
  const client = new pg.Client(server);
  await client.connect();
  const show = async (name) => (await client.query(`SHOW ${name}`)).rows[0][name].split(" ")[0];
  const text =
    `PostgreSQL ${await show("server_version")} ` +
    `synchronous_commit=${await show("synchronous_commit")}`;
  await client.end();
  return text;
}
