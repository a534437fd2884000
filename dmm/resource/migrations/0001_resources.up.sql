-- Resources: what is known of objects elsewhere, and how they are kept in step. How each table and
-- function is used: docs/reference/resources.md.

-- The namespace of NATS that the tokens of this database go to.
CREATE TABLE dmm.resource_home (
  single boolean PRIMARY KEY DEFAULT true CHECK (single),
  ns text NOT NULL,
  work_created text,
  work_last bigint
);
COMMENT ON COLUMN dmm.resource_home.work_last IS 'where the work stream stood at the last look';

-- Settings of a namespace of resources; one that is not here has the defaults.
CREATE TABLE dmm.resource_namespace (
  name text COLLATE "C" PRIMARY KEY,
  max_workers integer CHECK (max_workers >= 0),
  expiry interval CHECK (expiry > '0'),
  synced_retention interval CHECK (synced_retention > '0'),
  deleted_retention interval DEFAULT '24 hours' CHECK (deleted_retention > '0'),
  degraded_retention interval CHECK (degraded_retention > '0'),
  updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN dmm.resource_namespace.max_workers IS
  'works at a time in the fleet; NULL: no limit';
COMMENT ON COLUMN dmm.resource_namespace.expiry IS 'how long synced is believed; NULL: for ever';

CREATE TABLE dmm.resource_kind (
  name text COLLATE "C" PRIMARY KEY,
  paused_at timestamptz,
  paused_because text,
  informs boolean NOT NULL DEFAULT false,
  schedule text NOT NULL DEFAULT 'never',
  full_schedule text NOT NULL DEFAULT 'never',
  next_inform_at timestamptz,
  next_full_at timestamptz,
  cursor timestamptz,
  last_run jsonb,
  hosted_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN dmm.resource_kind.cursor IS 'up to when the objects of the other side are known';

-- A resource. `number` stays for life; `generation` grows with each content that is to be worked;
-- `attempt` counts for life, `tries` those of this generation; `claim` names the run that works it.
CREATE TABLE dmm.resource (
  namespace text COLLATE "C" NOT NULL CHECK (namespace ~ '^[a-z0-9]+([_-][a-z0-9]+)*$'
                                             AND length(namespace) <= 32),
  kind text COLLATE "C" NOT NULL CHECK (kind ~ '^[a-z0-9]+([_-][a-z0-9]+)*$'
                                        AND length(kind) <= 64),
  -- What names it in NATS is the id, or the namespace, a slash and the id.
  id text COLLATE "C" NOT NULL CHECK (octet_length(id) BETWEEN 1 AND
    CASE WHEN namespace = 'default' AND strpos(id, '/') = 0 THEN 255
         ELSE 254 - octet_length(namespace) END),
  number bigint GENERATED ALWAYS AS IDENTITY (CACHE 1),
  generation bigint NOT NULL DEFAULT 1,
  state text COLLATE "C" NOT NULL DEFAULT 'scheduled' CHECK (state IN (
    'scheduled', 'running', 'synced', 'expired', 'failing', 'degraded', 'deleted')),
  state_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  attempt bigint NOT NULL DEFAULT 0,
  tries integer NOT NULL DEFAULT 0,
  max_attempts integer NOT NULL DEFAULT 10 CHECK (max_attempts > 0),
  unwell boolean NOT NULL DEFAULT false,
  claim text,
  object jsonb NOT NULL,
  metadata jsonb NOT NULL DEFAULT '{}',
  tags text[] NOT NULL DEFAULT '{}',
  errors jsonb NOT NULL DEFAULT '[]',
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  informed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  external_created_at timestamptz,
  attempted_at timestamptz,
  synced_at timestamptz,
  retry_at timestamptz,
  missing_since timestamptz,
  PRIMARY KEY (namespace, kind, id)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
-- All that upkeep, the counts and the limits look for.
CREATE INDEX resource_state ON dmm.resource (state, namespace, state_at);

-- What is to be told to NATS when the transaction is committed: runs to be made ('work', 'inform')
-- and events. What is held waits for a kind to be resumed or a place in its namespace.
CREATE TABLE dmm.resource_outbox (
  seq bigint GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY,
  what text COLLATE "C" NOT NULL CHECK (what IN ('work', 'inform', 'event')),
  namespace text COLLATE "C" NOT NULL DEFAULT '',
  kind text COLLATE "C" NOT NULL,
  id text COLLATE "C" NOT NULL DEFAULT '',
  held boolean NOT NULL DEFAULT false,
  event jsonb,
  at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);
CREATE INDEX resource_outbox_next ON dmm.resource_outbox (seq) WHERE NOT held;
CREATE INDEX resource_outbox_held ON dmm.resource_outbox (namespace, kind, seq) WHERE held;

-- Runs of informers: one that the schedule asks for, one full list, and those that people ask for.
CREATE TABLE dmm.resource_inform (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  kind text COLLATE "C" NOT NULL,
  origin text NOT NULL CHECK (origin IN ('schedule', 'full', 'request')),
  options jsonb NOT NULL DEFAULT '{}',
  requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  next_try_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  tries integer NOT NULL DEFAULT 0,
  error text,
  runner text,
  started_at timestamptz,
  checkpoint jsonb,
  newest timestamptz,
  counts jsonb NOT NULL DEFAULT '{}'
);
CREATE UNIQUE INDEX resource_inform_once ON dmm.resource_inform (kind, origin)
  WHERE origin <> 'request';
COMMENT ON COLUMN dmm.resource_inform.newest IS 'created-at of the newest object that was put';

-- What a full list has named so far.
CREATE TABLE dmm.resource_seen (
  inform bigint NOT NULL,
  namespace text COLLATE "C" NOT NULL,
  id text COLLATE "C" NOT NULL,
  PRIMARY KEY (inform, namespace, id)
);

CREATE FUNCTION dmm.microseconds(at timestamptz) RETURNS bigint
LANGUAGE sql STABLE PARALLEL SAFE AS $body$
  SELECT (extract(epoch FROM at) * 1000000)::bigint
$body$;

-- The errors of a resource and one more; the newest 20 stay.
CREATE FUNCTION dmm.resource_errors(errors jsonb, attempt bigint, error text, trace text)
RETURNS jsonb LANGUAGE sql VOLATILE AS $body$
  SELECT CASE WHEN jsonb_array_length(errors) >= 20 THEN errors - 0 ELSE errors END
    || (jsonb_build_object('at', to_char(clock_timestamp() AT TIME ZONE 'UTC',
                                         'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
                           'attempt', attempt, 'error', coalesce(error, ''))
        || CASE WHEN coalesce(trace, '') = '' THEN '{}' ELSE jsonb_build_object('trace', trace) END)
$body$;

-- The functions of the hot path keep their plans, which look rows up by key whatever the statistics
-- of the tables say: making a plan takes longer than the statement, and a plan that was made for an
-- empty table would read all of a full one.

-- Brings objects. Each of `objects` is {"kind", "id", "object"} and may have "n" (a number for the
-- answer, or else its place in the array, from 0), "ns" (or else "default"), "tags", "metadata",
-- "max_attempts", "created" (microseconds since 1970), "force", "verdict" ("newer", "same" or
-- "older" than what is stored, if the caller compared) and "expected" (the generation it compared
-- with, 0: none).
-- listing   of an informer: what was deleted stays so.
-- skipped   how many events 'skipped' to write for objects that are as they were.
-- wake      notifies whoever tells it to NATS. A commit that notifies waits for the disk with a
--           lock that all of the cluster share; who does not want that notifies afterwards.
-- Gives one row for each object: created, updated, unchanged, relabelled, stale, deleted, conflict.
CREATE FUNCTION dmm.inform(objects json, listing boolean DEFAULT false, skipped integer DEFAULT 0,
  wake boolean DEFAULT true)
RETURNS TABLE (n integer, result text, number bigint, generation bigint, state text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET jit = off
AS $body$
#variable_conflict use_column
DECLARE
  wanted CONSTANT integer := json_array_length(objects);
  told bigint[] := '{}';
  to_work boolean := false;
  line record;
BEGIN
  WHILE cardinality(told) < wanted LOOP
    -- One of each key at a time. Rows are locked in the order of their keys, so that two calls
    -- cannot wait for each other. What somebody else inserts meanwhile is met in the next round.
    FOR line IN
      WITH given AS MATERIALIZED (
        SELECT DISTINCT ON (1, 2, 3) coalesce(o.space, 'default') AS ns, o.kind, o.id, o.n,
          o.ordinality AS place, o.object, o.tags, o.metadata, o.max_attempts, o.created, o.verdict,
          o.expected, coalesce(o.force, false) AS forced
        FROM ROWS FROM (json_to_recordset(objects) AS (n integer, ns text COLLATE "C",
          kind text COLLATE "C", id text COLLATE "C", object jsonb, tags text[], metadata jsonb,
          max_attempts integer, created bigint, verdict text, expected bigint, force boolean))
          WITH ORDINALITY AS o (n, space, kind, id, object, tags, metadata, max_attempts, created,
          verdict, expected, force, ordinality)
        WHERE o.ordinality <> ALL (told)
        ORDER BY 1, 2, 3, o.ordinality
      ), known AS MATERIALIZED (
        SELECT k.namespace, k.kind, k.id, k.number, k.generation, k.state, k.attempt, k.object,
          k.tags, k.metadata, k.max_attempts, k.missing_since
        FROM given AS g
        CROSS JOIN LATERAL (
          SELECT * FROM dmm.resource AS r
          WHERE r.namespace = g.ns AND r.kind = g.kind AND r.id = g.id FOR UPDATE) AS k
      ), judged AS MATERIALIZED (
        SELECT g.*, k.number AS known_number, k.generation AS known_generation,
          k.state AS known_state, k.attempt AS known_attempt,
          CASE
            WHEN k.number IS NULL AND coalesce(g.expected, 0) = 0 THEN 'new'
            WHEN g.expected IS DISTINCT FROM k.generation AND g.expected IS NOT NULL THEN 'conflict'
            WHEN g.verdict = 'older' THEN 'stale'
            WHEN k.state = 'deleted' AND (listing OR (NOT g.forced AND (g.verdict = 'same'
              OR g.object = k.object))) THEN 'deleted'
            WHEN g.forced OR k.missing_since IS NOT NULL OR (g.verdict IS DISTINCT FROM 'same'
              AND g.object IS DISTINCT FROM k.object) THEN 'updated'
            WHEN coalesce(g.tags, k.tags) <> k.tags
              OR coalesce(g.metadata, k.metadata) <> k.metadata
              OR coalesce(g.max_attempts, k.max_attempts) <> k.max_attempts THEN 'relabelled'
            ELSE 'unchanged'
          END AS judgement
        FROM given AS g
        LEFT JOIN known AS k ON k.namespace = g.ns AND k.kind = g.kind AND k.id = g.id
      ), inserted AS (
        INSERT INTO dmm.resource (namespace, kind, id, object, metadata, tags, max_attempts,
          external_created_at)
        SELECT j.ns, j.kind, j.id, j.object, coalesce(j.metadata, '{}'), coalesce(j.tags, '{}'),
          coalesce(j.max_attempts, 10), to_timestamp(j.created / 1000000.0)
        FROM judged AS j WHERE j.judgement = 'new' ORDER BY j.ns, j.kind, j.id
        ON CONFLICT DO NOTHING
        RETURNING resource.namespace, resource.kind, resource.id, resource.number
      ), updated AS (
        UPDATE dmm.resource AS r
        SET object = j.object, metadata = coalesce(j.metadata, r.metadata),
          tags = coalesce(j.tags, r.tags), max_attempts = coalesce(j.max_attempts, r.max_attempts),
          external_created_at =
            coalesce(to_timestamp(j.created / 1000000.0), r.external_created_at),
          generation = r.generation + 1, state = 'scheduled', state_at = clock_timestamp(),
          informed_at = clock_timestamp(), synced_at = NULL, tries = 0, claim = NULL,
          retry_at = NULL, missing_since = NULL
        FROM judged AS j
        WHERE j.judgement = 'updated' AND r.namespace = j.ns AND r.kind = j.kind AND r.id = j.id
        RETURNING j.place, j.n, r.namespace, r.kind, r.id, r.number, r.generation
      ), relabelled AS (
        UPDATE dmm.resource AS r
        SET metadata = coalesce(j.metadata, r.metadata), tags = coalesce(j.tags, r.tags),
          max_attempts = coalesce(j.max_attempts, r.max_attempts)
        FROM judged AS j
        WHERE j.judgement = 'relabelled' AND r.namespace = j.ns AND r.kind = j.kind AND r.id = j.id
      ), answers AS MATERIALIZED (
        SELECT j.place, j.n, 'created' AS result, i.number, 1::bigint AS generation,
          'scheduled' AS state, i.namespace, i.kind, i.id, 0::bigint AS attempt
        FROM inserted AS i
        JOIN judged AS j ON j.ns = i.namespace AND j.kind = i.kind AND j.id = i.id
        UNION ALL
        SELECT u.place, u.n, 'updated', u.number, u.generation, 'scheduled', u.namespace, u.kind,
          u.id, 0
        FROM updated AS u
        UNION ALL
        SELECT j.place, j.n, j.judgement, j.known_number, j.known_generation, j.known_state, j.ns,
          j.kind, j.id, j.known_attempt
        FROM judged AS j WHERE j.judgement NOT IN ('new', 'updated')
      ), queued AS (
        INSERT INTO dmm.resource_outbox (what, namespace, kind, id)
        SELECT 'work', a.namespace, a.kind, a.id FROM answers AS a
        WHERE a.result IN ('created', 'updated') ORDER BY a.place
      ), skips AS (
        INSERT INTO dmm.resource_outbox (what, namespace, kind, id, event)
        SELECT 'event', a.namespace, a.kind, a.id, jsonb_build_object('event', 'skipped',
          'generation', a.generation, 'state', a.state, 'attempt', a.attempt, 'reason', a.result)
        FROM answers AS a
        WHERE a.result IN ('stale', 'deleted', 'unchanged')
          AND (a.result <> 'unchanged' OR listing)
        ORDER BY a.place LIMIT CASE WHEN listing THEN greatest(skipped, 0) END
      )
      SELECT a.place, coalesce(a.n, a.place - 1)::integer AS n, a.result, a.number, a.generation,
        a.state FROM answers AS a
    LOOP
      told := told || line.place;
      to_work := to_work OR line.result IN ('created', 'updated', 'stale', 'deleted');
      n := line.n;
      result := line.result;
      number := line.number;
      generation := line.generation;
      state := line.state;
      RETURN NEXT;
    END LOOP;
  END LOOP;
  IF to_work AND wake THEN PERFORM pg_notify('dmm_resource', ''); END IF;
END
$body$;

-- Takes resources to be worked. Each of `keys` is {"n", "ns", "kind", "id", "claim"}.
-- claimed: it is the caller's, and everything of it is given. busy: a transaction that is open
-- holds it. missing. nothing: there is nothing to do. later: its retry is not due. degraded. held:
-- its kind is paused or its namespace has no place, and its token is put aside.
CREATE FUNCTION dmm.resource_claim(keys json)
RETURNS TABLE (n integer, verdict text, delay_ms bigint, number bigint, generation bigint,
  attempt bigint, tries integer, max_attempts integer, object text, metadata text, tags text,
  errors text, created bigint, external_created bigint, synced bigint, missing bigint)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET jit = off
AS $body$
#variable_conflict use_column
DECLARE
  paused CONSTANT text[] := ARRAY(SELECT k.name FROM dmm.resource_kind AS k
                                  WHERE k.paused_at IS NOT NULL);
  limited record;
  places jsonb := '{}';
BEGIN
  -- Who counts the places of a namespace is alone with it.
  FOR limited IN
    SELECT s.name, s.max_workers FROM dmm.resource_namespace AS s
    WHERE s.max_workers IS NOT NULL AND s.name IN (
      SELECT k.ns FROM json_to_recordset(keys) AS k (ns text))
    ORDER BY s.name
  LOOP
    PERFORM pg_advisory_xact_lock(6581613, hashtext('dmm.resource.' || limited.name));
    places := places || jsonb_build_object(limited.name, limited.max_workers - (
      SELECT count(*) FROM dmm.resource AS r
      WHERE r.namespace = limited.name AND r.state = 'running' AND NOT EXISTS (
        SELECT FROM json_to_recordset(keys) AS k (ns text COLLATE "C", kind text COLLATE "C",
          id text COLLATE "C")
        WHERE k.ns = r.namespace AND k.kind = r.kind AND k.id = r.id)));
  END LOOP;
  RETURN QUERY
  WITH given AS MATERIALIZED (
    SELECT k.* FROM json_to_recordset(keys) AS k (n integer, ns text COLLATE "C",
      kind text COLLATE "C", id text COLLATE "C", claim text)
  ), mine AS MATERIALIZED (
    SELECT k.namespace, k.kind, k.id, k.state, k.retry_at, k.tries, k.max_attempts, k.claim
    FROM given AS g
    CROSS JOIN LATERAL (
      SELECT * FROM dmm.resource AS r
      WHERE r.namespace = g.ns AND r.kind = g.kind AND r.id = g.id FOR UPDATE SKIP LOCKED) AS k
  ), judged AS MATERIALIZED (
    SELECT g.*, m.state, m.claim AS claimed_by, m.tries, m.max_attempts,
      greatest(0, ceil(extract(epoch FROM m.retry_at - clock_timestamp()) * 1000))::bigint AS wait,
      CASE
        WHEN m.state IS NULL THEN CASE WHEN EXISTS (
            SELECT FROM dmm.resource AS r
            WHERE r.namespace = g.ns AND r.kind = g.kind AND r.id = g.id OFFSET 0)
          THEN 'busy' ELSE 'missing' END
        WHEN m.state IN ('synced', 'deleted') THEN 'nothing'
        WHEN m.claim = g.claim THEN 'again'
        WHEN m.state = 'degraded' OR (m.state = 'running' AND m.tries >= m.max_attempts)
          THEN 'degraded'
        WHEN m.retry_at > clock_timestamp() + interval '20 milliseconds' THEN 'later'
        WHEN g.kind = ANY (paused) THEN 'held'
        ELSE 'claimed'
      END AS judgement,
      (places ->> g.ns)::integer AS places
    FROM given AS g
    LEFT JOIN mine AS m ON m.namespace = g.ns AND m.kind = g.kind AND m.id = g.id
  ), placed AS MATERIALIZED (
    SELECT j.*, CASE
        WHEN j.judgement = 'claimed' AND j.places IS NOT NULL AND j.places < row_number() OVER (
          PARTITION BY j.ns, j.judgement ORDER BY j.n) THEN 'held'
        ELSE j.judgement
      END AS final
    FROM judged AS j
  ), claimed AS (
    UPDATE dmm.resource AS r
    SET state = 'running', state_at = clock_timestamp(), claim = p.claim, attempt = r.attempt + 1,
      tries = r.tries + 1, attempted_at = clock_timestamp(), synced_at = NULL, retry_at = NULL,
      unwell = r.unwell OR p.state = 'running',
      errors = CASE WHEN p.state = 'running' THEN dmm.resource_errors(r.errors, r.attempt,
        'the worker ended during this attempt', '') ELSE r.errors END
    FROM placed AS p
    WHERE p.final = 'claimed' AND r.namespace = p.ns AND r.kind = p.kind AND r.id = p.id
    RETURNING p.n, r.*
  ), lost AS (
    UPDATE dmm.resource AS r
    SET state = 'degraded', state_at = clock_timestamp(), claim = NULL, unwell = true,
      errors = dmm.resource_errors(r.errors, r.attempt, 'the worker ended during this attempt', '')
    FROM placed AS p
    WHERE p.final = 'degraded' AND p.state = 'running'
      AND r.namespace = p.ns AND r.kind = p.kind AND r.id = p.id
    RETURNING r.namespace, r.kind, r.id, r.generation, r.attempt
  ), told AS (
    INSERT INTO dmm.resource_outbox (what, namespace, kind, id, event)
    SELECT 'event', l.namespace, l.kind, l.id, jsonb_build_object('event', 'degraded',
      'generation', l.generation, 'state', 'degraded', 'attempt', l.attempt, 'reason',
      'the worker ended during the last attempt') FROM lost AS l
  ), aside AS (
    INSERT INTO dmm.resource_outbox (what, namespace, kind, id, held)
    SELECT 'work', p.ns, p.kind, p.id, true FROM placed AS p WHERE p.final = 'held'
  ), whole AS (
    SELECT c.n, c.number, c.generation, c.attempt, c.tries, c.max_attempts, c.object, c.metadata,
      c.tags, c.errors, c.created_at, c.external_created_at, c.synced_at, c.missing_since
    FROM claimed AS c
    UNION ALL
    SELECT p.n, r.number, r.generation, r.attempt, r.tries, r.max_attempts, r.object, r.metadata,
      r.tags, r.errors, r.created_at, r.external_created_at, r.synced_at, r.missing_since
    FROM placed AS p
    CROSS JOIN LATERAL (
      SELECT * FROM dmm.resource AS k
      WHERE k.namespace = p.ns AND k.kind = p.kind AND k.id = p.id OFFSET 0) AS r
    WHERE p.final = 'again'
  )
  SELECT p.n, CASE p.final WHEN 'again' THEN 'claimed' ELSE p.final END, coalesce(p.wait, 0),
    w.number, w.generation, w.attempt, w.tries, w.max_attempts, w.object::text, w.metadata::text,
    to_json(w.tags)::text, w.errors::text, dmm.microseconds(w.created_at),
    dmm.microseconds(w.external_created_at), dmm.microseconds(w.synced_at),
    dmm.microseconds(w.missing_since)
  FROM placed AS p LEFT JOIN whole AS w ON w.n = p.n;
END
$body$;

-- Ends works. Each of `results` is {"n", "ns", "kind", "id", "claim", "verdict", "error", "trace",
-- "delay_ms"}; the verdict is synced, failed, degraded, deleted, snoozed or released (as if it had
-- not begun). done: so it is. busy: a transaction that is open holds it. superseded: the claim is
-- not in force any more, and nothing was changed. `wake` is as that of dmm.inform.
CREATE FUNCTION dmm.resource_finish(results json, wake boolean DEFAULT true)
RETURNS TABLE (n integer, answer text, state text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET jit = off
AS $body$
#variable_conflict use_column
DECLARE
  line record;
  to_tell boolean := false;
BEGIN
  FOR line IN
    WITH given AS MATERIALIZED (
      SELECT g.* FROM json_to_recordset(results) AS g (n integer, ns text COLLATE "C",
        kind text COLLATE "C", id text COLLATE "C", claim text, verdict text, error text,
        trace text, delay_ms bigint)
    ), mine AS MATERIALIZED (
      SELECT k.namespace, k.kind, k.id, k.claim, k.unwell, g.n
      FROM given AS g
      CROSS JOIN LATERAL (
        SELECT * FROM dmm.resource AS r
        WHERE r.namespace = g.ns AND r.kind = g.kind AND r.id = g.id FOR UPDATE SKIP LOCKED) AS k
    ), ended AS (
      UPDATE dmm.resource AS r
      SET state = CASE g.verdict
            WHEN 'synced' THEN 'synced'
            WHEN 'deleted' THEN 'deleted'
            WHEN 'degraded' THEN 'degraded'
            WHEN 'failed' THEN CASE WHEN r.tries >= r.max_attempts THEN 'degraded'
                                    ELSE 'failing' END
            ELSE 'scheduled' END,
          state_at = clock_timestamp(), claim = NULL,
          synced_at = CASE WHEN g.verdict IN ('synced', 'deleted') THEN clock_timestamp() END,
          retry_at = CASE WHEN g.verdict = 'snoozed'
                            OR (g.verdict = 'failed' AND r.tries < r.max_attempts)
            THEN clock_timestamp() + g.delay_ms * interval '1 millisecond' END,
          attempt = r.attempt - (g.verdict = 'released')::integer,
          tries = CASE WHEN g.verdict IN ('synced', 'deleted') THEN 0
                       WHEN g.verdict IN ('released', 'snoozed') THEN r.tries - 1
                       ELSE r.tries END,
          unwell = CASE WHEN g.verdict = 'synced' THEN false
                        WHEN g.verdict IN ('failed', 'degraded') THEN true ELSE r.unwell END,
          missing_since = CASE WHEN g.verdict = 'synced' THEN NULL ELSE r.missing_since END,
          errors = CASE WHEN g.verdict IN ('failed', 'degraded', 'deleted')
            THEN dmm.resource_errors(r.errors, r.attempt, g.error, g.trace) ELSE r.errors END
      FROM given AS g JOIN mine AS m ON m.n = g.n AND m.claim = g.claim
      WHERE r.namespace = g.ns AND r.kind = g.kind AND r.id = g.id
      RETURNING g.n, r.namespace, r.kind, r.id, r.generation, r.state, r.attempt, r.tries,
        g.verdict, g.error, m.unwell AS was_unwell
    ), told AS (
      INSERT INTO dmm.resource_outbox (what, namespace, kind, id, event)
      SELECT 'event', e.namespace, e.kind, e.id, jsonb_strip_nulls(jsonb_build_object(
        'event', name, 'generation', e.generation, 'state', e.state, 'attempt', e.attempt,
        'reason', CASE WHEN name <> 'synced' THEN nullif(e.error, '') END))
      FROM ended AS e
      CROSS JOIN LATERAL unnest(CASE
        WHEN e.state = 'synced' AND e.was_unwell THEN ARRAY['synced', 'recovered']
        WHEN e.state = 'scheduled' THEN '{}' ELSE ARRAY[e.state] END) AS name
      RETURNING seq
    )
    SELECT g.n, CASE WHEN e.n IS NOT NULL THEN 'done'
        WHEN m.n IS NOT NULL THEN 'superseded'
        WHEN EXISTS (SELECT FROM dmm.resource AS r WHERE r.namespace = g.ns AND r.kind = g.kind
                     AND r.id = g.id OFFSET 0) THEN 'busy'
        ELSE 'superseded' END AS answer, coalesce(e.state, '') AS state,
      (SELECT count(*) FROM told) > 0 OR EXISTS (SELECT FROM dmm.resource_namespace AS s
        WHERE s.name = g.ns AND s.max_workers IS NOT NULL) AS tell
    FROM given AS g LEFT JOIN ended AS e ON e.n = g.n LEFT JOIN mine AS m ON m.n = g.n
  LOOP
    to_tell := to_tell OR line.tell;
    n := line.n;
    answer := line.answer;
    state := line.state;
    RETURN NEXT;
  END LOOP;
  IF to_tell AND wake THEN PERFORM pg_notify('dmm_resource', ''); END IF;
END
$body$;

-- Takes up to `batch` lines from the outbox, in order, for the transaction that tells them. One
-- transaction does so at a time: another one gets nothing, and the first one looks again.
CREATE FUNCTION dmm.resource_relay(batch integer)
RETURNS TABLE (seq bigint, what text, namespace text, kind text, id text, event text, at bigint)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET jit = off
AS $body$
#variable_conflict use_column
DECLARE
  paused CONSTANT text[] := ARRAY(SELECT k.name FROM dmm.resource_kind AS k
                                  WHERE k.paused_at IS NOT NULL);
  limited CONSTANT text[] := ARRAY(SELECT s.name FROM dmm.resource_namespace AS s
                                   WHERE s.max_workers IS NOT NULL);
  space record;
BEGIN
  IF NOT pg_try_advisory_xact_lock(6581613, 4) THEN RETURN; END IF;
  IF cardinality(paused) + cardinality(limited) > 0 THEN
    UPDATE dmm.resource_outbox AS o SET held = true WHERE o.seq IN (
      SELECT w.seq FROM dmm.resource_outbox AS w
      WHERE NOT w.held AND w.what = 'work'
        AND (w.kind = ANY (paused) OR w.namespace = ANY (limited))
      ORDER BY w.seq LIMIT batch);
    FOR space IN
      SELECT s.name, s.max_workers - (SELECT count(*) FROM dmm.resource AS r
        WHERE r.namespace = s.name AND r.state = 'running') AS free
      FROM dmm.resource_namespace AS s WHERE s.max_workers IS NOT NULL
    LOOP
      UPDATE dmm.resource_outbox AS o SET held = false WHERE o.seq IN (
        SELECT w.seq FROM dmm.resource_outbox AS w
        WHERE w.held AND w.namespace = space.name AND w.kind <> ALL (paused)
        ORDER BY w.seq LIMIT greatest(0, least(space.free, batch)));
    END LOOP;
  END IF;
  IF EXISTS (SELECT FROM dmm.resource_outbox AS w WHERE w.held) THEN
    UPDATE dmm.resource_outbox AS o SET held = false WHERE o.seq IN (
      SELECT w.seq FROM dmm.resource_outbox AS w
      WHERE w.held AND w.kind <> ALL (paused) AND w.namespace <> ALL (limited)
      ORDER BY w.seq LIMIT batch);
  END IF;
  RETURN QUERY
  WITH taken AS MATERIALIZED (
    SELECT o.seq FROM dmm.resource_outbox AS o WHERE NOT o.held ORDER BY o.seq LIMIT batch
  ), gone AS (
    DELETE FROM dmm.resource_outbox AS o WHERE o.seq = ANY (ARRAY(SELECT t.seq FROM taken AS t))
    RETURNING o.seq, o.what, o.namespace, o.kind, o.id, o.event, o.at
  )
  SELECT g.seq, g.what, g.namespace, g.kind, g.id, g.event::text, dmm.microseconds(g.at)
  FROM gone AS g ORDER BY g.seq;
END
$body$;

-- What is synced for longer than `ttl` is believed no more. Returns how many.
CREATE FUNCTION dmm.resource_expire(ns text, ttl interval, batch integer) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $body$
#variable_conflict use_column
DECLARE
  many integer;
BEGIN
  WITH due AS MATERIALIZED (
    SELECT r.namespace, r.kind, r.id FROM dmm.resource AS r
    WHERE r.namespace = ns AND r.state = 'synced' AND r.state_at < clock_timestamp() - ttl
    ORDER BY r.state_at LIMIT batch FOR UPDATE SKIP LOCKED
  ), expired AS (
    UPDATE dmm.resource AS r SET state = 'expired', state_at = clock_timestamp(), tries = 0
    FROM due AS d WHERE r.namespace = d.namespace AND r.kind = d.kind AND r.id = d.id
    RETURNING r.namespace, r.kind, r.id, r.generation, r.attempt
  ), queued AS (
    INSERT INTO dmm.resource_outbox (what, namespace, kind, id)
    SELECT 'work', e.namespace, e.kind, e.id FROM expired AS e
  ), told AS (
    INSERT INTO dmm.resource_outbox (what, namespace, kind, id, event)
    SELECT 'event', e.namespace, e.kind, e.id, jsonb_build_object('event', 'expired',
      'generation', e.generation, 'state', 'expired', 'attempt', e.attempt) FROM expired AS e
  )
  SELECT count(*) INTO many FROM expired;
  IF many > 0 THEN PERFORM pg_notify('dmm_resource', ''); END IF;
  RETURN many;
END
$body$;

-- Removes what has been in `state` for longer than `retention`. Returns how many.
CREATE FUNCTION dmm.resource_clean(ns text, state text, retention interval, batch integer)
RETURNS integer
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $body$
  WITH due AS MATERIALIZED (
    SELECT r.namespace, r.kind, r.id FROM dmm.resource AS r
    WHERE r.namespace = $1 AND r.state = $2 AND r.state_at < clock_timestamp() - $3
    ORDER BY r.state_at LIMIT $4 FOR UPDATE SKIP LOCKED
  ), gone AS (
    DELETE FROM dmm.resource AS r USING due AS d
    WHERE r.namespace = d.namespace AND r.kind = d.kind AND r.id = d.id RETURNING 1
  )
  SELECT count(*)::integer FROM gone
$body$;

-- Makes a resource of one of these states be worked again, with all its attempts. Gives its state
-- before; no row: there is none; it is changed if the state is one of `wanted`.
-- tell   the event; empty: none.
CREATE FUNCTION dmm.resource_again(ns text, kind text, id text, wanted text[], next text,
                                   tell text) RETURNS TABLE (before text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $body$
#variable_conflict use_column
DECLARE
  found_row dmm.resource%ROWTYPE;
BEGIN
  SELECT * INTO found_row FROM dmm.resource AS r
  WHERE r.namespace = $1 AND r.kind = $2 AND r.id = $3 FOR UPDATE;
  IF NOT FOUND THEN RETURN; END IF;
  before := found_row.state;
  RETURN NEXT;
  IF found_row.state <> ALL (wanted) THEN RETURN; END IF;
  UPDATE dmm.resource AS r SET state = next, state_at = clock_timestamp(), tries = 0,
    retry_at = NULL, synced_at = CASE WHEN next = 'expired' THEN r.synced_at END
  WHERE r.namespace = $1 AND r.kind = $2 AND r.id = $3;
  INSERT INTO dmm.resource_outbox (what, namespace, kind, id) VALUES ('work', $1, $2, $3);
  IF tell <> '' THEN
    INSERT INTO dmm.resource_outbox (what, namespace, kind, id, event) VALUES ('event', $1, $2, $3,
      jsonb_build_object('event', tell, 'generation', found_row.generation, 'state', next,
                         'attempt', found_row.attempt));
  END IF;
  PERFORM pg_notify('dmm_resource', '');
END
$body$;

-- Looks at one page of the resources of a kind behind (after_ns, after_id): which of them a full
-- list did not name, of those that were there when it began, in the namespaces that it covers. With
-- `mark` they are marked and worked, so that their controller decides.
CREATE FUNCTION dmm.resource_missing(run bigint, of_kind text, spaces text[], began timestamptz,
  after_ns text, after_id text, batch integer, mark boolean)
RETURNS TABLE (looked integer, missing integer, last_ns text, last_id text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $body$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  WITH page AS MATERIALIZED (
    SELECT r.namespace, r.id, r.state, r.missing_since, r.informed_at FROM dmm.resource AS r
    WHERE r.namespace = ANY (spaces) AND r.kind = of_kind
      AND (r.namespace, r.id) > (after_ns COLLATE "C", after_id COLLATE "C")
    ORDER BY r.namespace, r.id LIMIT batch
  ), absent AS MATERIALIZED (
    SELECT p.namespace, p.id FROM page AS p
    WHERE p.state <> 'deleted' AND p.missing_since IS NULL AND p.informed_at < began
      AND NOT EXISTS (SELECT FROM dmm.resource_seen AS s
                      WHERE s.inform = run AND s.namespace = p.namespace AND s.id = p.id)
  ), marked AS (
    UPDATE dmm.resource AS r
    SET missing_since = clock_timestamp(), generation = r.generation + 1, state = 'scheduled',
      state_at = clock_timestamp(), synced_at = NULL, tries = 0, claim = NULL, retry_at = NULL
    FROM absent AS a
    WHERE mark AND r.namespace = a.namespace AND r.kind = of_kind AND r.id = a.id
      AND r.informed_at < began
    RETURNING r.namespace, r.id
  ), queued AS (
    INSERT INTO dmm.resource_outbox (what, namespace, kind, id)
    SELECT 'work', m.namespace, of_kind, m.id FROM marked AS m
  )
  SELECT (SELECT count(*) FROM page)::integer, (SELECT count(*) FROM absent)::integer,
    l.namespace, l.id
  FROM (SELECT p.namespace, p.id FROM page AS p ORDER BY p.namespace DESC, p.id DESC LIMIT 1) AS l;
  IF mark THEN PERFORM pg_notify('dmm_resource', ''); END IF;
END
$body$;
