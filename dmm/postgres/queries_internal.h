#pragma once

// The statements of a Reading. All values are parameters, or quoted by libpqxx.

namespace dmm::postgres::internal {

// Changes that are not visible in snapshot {1}: of transactions that had not begun to count when
// it was taken, and of those that were still running. Two ranges of one index, so that a
// transaction that runs for hours does not make each poll read what happened since it began.
#define DMM_CHANGES_SINCE(watched, snapshot)                                                    \
  "(SELECT * FROM dmm.change WHERE watched = " watched " AND xid >= pg_snapshot_xmax(" snapshot \
  "::pg_snapshot)"                                                                              \
  " UNION ALL SELECT * FROM dmm.change WHERE watched = " watched                                \
  " AND xid = ANY (ARRAY(SELECT pg_snapshot_xip(" snapshot "::pg_snapshot))))"

// What would make a document look different although its row did not change.
#define DMM_SHAPE(relation)                                                                   \
  "(SELECT md5(string_agg(concat_ws(' ', attnum, attname, atttypid, atttypmod), ',' ORDER BY" \
  " attnum)) FROM pg_attribute WHERE attrelid = " relation " AND attnum > 0 AND NOT attisdropped)"

/// watched, reader, snapshot told, schema, table: told, marks, cleaned too far, shape, any change.
inline constexpr auto kLook =
    "SELECT w.id IS NOT NULL AND dmm.is_told(w.id), r.marks,"
    "  coalesce(w.cleaned > pg_snapshot_xmin($3::pg_snapshot), true),"
    "  coalesce(" DMM_SHAPE("w.relation") ", ''),"
    "  EXISTS (SELECT FROM " DMM_CHANGES_SINCE("$1", "$3") " AS c)"
    " FROM (SELECT $1::bigint AS id) AS wanted"
    " LEFT JOIN (dmm.watched AS w JOIN pg_class AS t ON t.oid = w.relation"
    "   JOIN pg_namespace AS n ON n.oid = t.relnamespace AND n.nspname = $4 AND t.relname = $5)"
    "  ON w.id = wanted.id"
    " LEFT JOIN dmm.reader AS r ON r.watched = wanted.id AND r.name = $2";

/// reader, watched, snapshot told, rows: the target, marks. The snapshot is taken before the
/// transaction gets its id, so every id that the snapshot counts is below it, and all that it
/// shows is durable once this is.
inline constexpr auto kMark =
    "UPDATE dmm.reader SET snapshot = $3::pg_snapshot, rows = $4, marks = marks + 1,"
    "  seen_at = now() WHERE name = $1 AND watched = $2"
    " RETURNING pg_current_snapshot()::text, marks";

/// reader, watched: a row if it was known.
inline constexpr auto kGreet =
    "UPDATE dmm.reader SET seen_at = now() WHERE name = $1 AND watched = $2 RETURNING marks";
inline constexpr auto kRegister =
    "INSERT INTO dmm.reader (name, watched, snapshot) VALUES ($1, $2, pg_current_snapshot())"
    " ON CONFLICT (name, watched) DO NOTHING";

/// watched: snapshot, time in microseconds, system identifier, database, shape, told.
inline constexpr auto kOrigin =
    "SELECT pg_current_snapshot()::text, (extract(epoch FROM now()) * 1000000)::bigint,"
    "  (SELECT system_identifier::text FROM pg_control_system()),"
    "  (SELECT oid::text FROM pg_database WHERE datname = current_database()),"
    "  coalesce(" DMM_SHAPE("w.relation") ", ''), dmm.is_told(w.id)"
    " FROM dmm.watched AS w WHERE w.id = $1";

/// watched, snapshot: whether all changes since are there, the growth of the table since, when and
/// how rows were lost since, if they were.
inline constexpr auto kSince =
    "SELECT w.cleaned <= pg_snapshot_xmin($2::pg_snapshot),"
    "  (SELECT coalesce(sum(c.rows), 0) FROM " DMM_CHANGES_SINCE("$1", "$2") " AS c),"
    "  (SELECT c.operation || ' at ' || date_trunc('second', c.changed_at)::text FROM "
    DMM_CHANGES_SINCE("$1", "$2")
    " AS c WHERE c.operation IN ('truncate', 'lost') ORDER BY c.id DESC LIMIT 1)"
    " FROM dmm.watched AS w WHERE w.id = $1";

/// watched, snapshot: whether all changes since are there, how many they are, when the first was
/// made in microseconds.
inline constexpr auto kBacklog =
    "SELECT w.cleaned <= pg_snapshot_xmin($2::pg_snapshot), c.changes, c.first"
    " FROM dmm.watched AS w, LATERAL"
    "  (SELECT count(*) AS changes, (extract(epoch FROM min(changed_at)) * 1000000)::bigint AS first"
    "   FROM " DMM_CHANGES_SINCE("$1", "$2")
    " AS s WHERE pg_visible_in_snapshot(s.xid, pg_current_snapshot())) AS c"
    " WHERE w.id = $1";

/// reader, watched.
inline constexpr auto kForget = "DELETE FROM dmm.reader WHERE name = $1 AND watched = $2";

/// reader, watched: snapshot, rows, marks.
inline constexpr auto kReader =
    "SELECT snapshot::text, rows, marks FROM dmm.reader WHERE name = $1 AND watched = $2";

/// For fmt: watched, snapshot told, target, last id told.
inline constexpr auto kDeclareChanges =
    "DECLARE dmm_changes NO SCROLL CURSOR FOR"
    " SELECT id, operation, rows, coalesce(key, ''), document::text,"
    "  (extract(epoch FROM changed_at) * 1000000)::bigint"
    " FROM " DMM_CHANGES_SINCE("{0}", "{1}") " AS c"
    " WHERE id > {3} AND pg_visible_in_snapshot(xid, {2}::pg_snapshot) ORDER BY id";

/// For fmt: key expression, "ONLY " or nothing, table.
inline constexpr auto kDeclareRows =
    "DECLARE dmm_rows NO SCROLL CURSOR FOR SELECT {}, row_to_json(t.*)::text FROM {}{} AS t";

#undef DMM_CHANGES_SINCE
#undef DMM_SHAPE

}  // namespace dmm::postgres::internal
