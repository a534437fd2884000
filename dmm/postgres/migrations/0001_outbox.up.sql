-- The outbox: what happened to the rows of watched tables, told by triggers in the transactions
-- that did it. docs/reference/postgresql-outbox.md describes every column.

COMMENT ON SCHEMA dmm IS 'Outbox of dmm; changed by its migrations only (dmm postgres migrate)';

-- Which cluster these tables were filled in. Transaction ids mean nothing in another one.
CREATE TABLE dmm.origin (
  single boolean PRIMARY KEY DEFAULT true CHECK (single),
  system_identifier bigint NOT NULL
);
INSERT INTO dmm.origin (system_identifier) SELECT system_identifier FROM pg_control_system();

CREATE TABLE dmm.watched (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  relation regclass NOT NULL UNIQUE,
  key_columns text[] NOT NULL CHECK (cardinality(key_columns) > 0),
  cleaned xid8 NOT NULL DEFAULT '0',
  watched_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN dmm.watched.cleaned IS 'changes of transactions below this one may be gone';

-- Ids must be given one by one, never from a cache of a session: the order of two changes of one
-- row is the order of their ids.
CREATE TABLE dmm.change (
  id bigint GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY,
  watched bigint NOT NULL,
  xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
  operation text NOT NULL CHECK (operation IN ('put', 'delete', 'truncate', 'lost')),
  rows smallint NOT NULL,
  key text,
  document json,
  changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX change_watched_xid ON dmm.change (watched, xid);
CREATE INDEX change_losses ON dmm.change (watched, id) WHERE operation IN ('truncate', 'lost');
COMMENT ON COLUMN dmm.change.rows IS 'by how many rows the table grew: 1, 0 or -1';

CREATE TABLE dmm.reader (
  name text NOT NULL,
  watched bigint NOT NULL REFERENCES dmm.watched ON DELETE CASCADE,
  snapshot pg_snapshot NOT NULL,
  rows bigint,
  marks bigint NOT NULL DEFAULT 0,
  seen_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (name, watched)
);
COMMENT ON COLUMN dmm.reader.marks IS 'grows with every batch; smaller than remembered: history lost';

-- The text that names a row: its one key column, or a JSON array of them. NULL: not to be had.
CREATE FUNCTION dmm.key_of(document jsonb, key_columns text[]) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $body$
  SELECT CASE
    WHEN NOT document ?& key_columns THEN NULL
    WHEN cardinality(key_columns) = 1 THEN document ->> key_columns[1]
    ELSE (SELECT '[' || string_agg((document -> name)::text, ',' ORDER BY position) || ']'
          FROM unnest(key_columns) WITH ORDINALITY AS k (name, position))
  END
$body$;

-- Tells what a statement did to one row. Arguments: id in dmm.watched, key columns, the query for
-- key and document of the row that now has the key of $1 (%s is the table), whether to notify.
--
-- What is told of a key is how it stands when this runs, not how it stood after the statement: a
-- trigger of the user may have changed the row again meanwhile, and that change was told before
-- this one. The row as given is the row as it stands if no transaction ever marked it (xmax is 0);
-- otherwise it is read again.
--
-- A write of the user never fails because of what is found here: what cannot be told is told as
-- 'lost', and readers load the table anew.
CREATE FUNCTION dmm.tell_row() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET row_security = off
SET TimeZone = 'UTC'
SET DateStyle = 'ISO, YMD'
SET IntervalStyle = 'postgres'
SET bytea_output = 'hex'
SET extra_float_digits = 1
SET lc_monetary = 'C'
AS $body$
DECLARE
  watched_id CONSTANT bigint := TG_ARGV[0];
  key_columns CONSTANT text[] := TG_ARGV[1];
  growth smallint := CASE TG_OP WHEN 'INSERT' THEN 1 WHEN 'DELETE' THEN -1 ELSE 0 END;
  new_key text;
  old_key text;
  old_document json;
  new_document json;
  found_key text;
  lookup text;
BEGIN
  IF TG_ARGV[3]::boolean THEN PERFORM pg_notify('dmm_change', TG_ARGV[0]); END IF;
  BEGIN
    IF cardinality(key_columns) = 1 THEN  -- the same as below, at a third of the cost
      IF TG_OP <> 'INSERT' THEN old_key := to_jsonb(OLD) ->> key_columns[1]; END IF;
      IF TG_OP <> 'DELETE' THEN new_key := to_jsonb(NEW) ->> key_columns[1]; END IF;
    ELSE
      IF TG_OP <> 'INSERT' THEN old_key := dmm.key_of(to_jsonb(OLD), key_columns); END IF;
      IF TG_OP <> 'DELETE' THEN new_key := dmm.key_of(to_jsonb(NEW), key_columns); END IF;
    END IF;
  EXCEPTION WHEN OTHERS THEN  -- a value that jsonb cannot hold, in a column of type json
    BEGIN
      lookup := (SELECT format('SELECT dmm.key_of(to_jsonb(k), $2) FROM (SELECT %s) AS k',
                               string_agg(format('($1).%1$I AS %1$I', name), ', '))
                 FROM unnest(key_columns) AS name);
      IF TG_OP <> 'INSERT' THEN EXECUTE lookup INTO old_key USING OLD, key_columns; END IF;
      IF TG_OP <> 'DELETE' THEN EXECUTE lookup INTO new_key USING NEW, key_columns; END IF;
    EXCEPTION WHEN OTHERS THEN
      old_key := NULL;
      new_key := NULL;
    END;
  END;
  IF (old_key IS NULL AND TG_OP <> 'INSERT') OR (new_key IS NULL AND TG_OP <> 'DELETE') THEN
    INSERT INTO dmm.change (watched, operation, rows) VALUES (watched_id, 'lost', growth);
    RETURN NULL;
  END IF;

  IF TG_OP = 'UPDATE' AND old_key = new_key THEN old_key := NULL; END IF;
  IF new_key IS NOT NULL AND old_key IS NULL AND NEW.xmax = '0'::xid THEN  -- most of all changes
    INSERT INTO dmm.change (watched, operation, rows, key, document)
    VALUES (watched_id, 'put', growth, new_key, row_to_json(NEW));
    RETURN NULL;
  END IF;

  lookup := format(TG_ARGV[2], coalesce(pg_partition_root(TG_RELID), TG_RELID)::regclass);
  BEGIN  -- nothing is written in here: that would cost a transaction id for each row
    IF old_key IS NOT NULL THEN
      EXECUTE lookup INTO found_key, old_document USING OLD;
      IF found_key IS DISTINCT FROM old_key THEN old_document := NULL; END IF;
    END IF;
    IF new_key IS NOT NULL THEN
      EXECUTE lookup INTO found_key, new_document USING NEW;
      IF found_key IS DISTINCT FROM new_key THEN new_document := NULL; END IF;
    END IF;
  EXCEPTION
    WHEN syntax_error_or_access_rule_violation OR data_exception OR program_limit_exceeded
      OR feature_not_supported THEN
    lookup := NULL;
  END;
  IF lookup IS NULL THEN
    INSERT INTO dmm.change (watched, operation, rows) VALUES (watched_id, 'lost', growth);
    RETURN NULL;
  END IF;
  IF old_key IS NOT NULL THEN
    INSERT INTO dmm.change (watched, operation, rows, key, document)
    VALUES (watched_id, CASE WHEN old_document IS NULL THEN 'delete' ELSE 'put' END, growth,
            old_key, old_document);
  END IF;
  IF new_key IS NOT NULL THEN
    INSERT INTO dmm.change (watched, operation, rows, key, document)
    VALUES (watched_id, CASE WHEN new_document IS NULL THEN 'delete' ELSE 'put' END, growth,
            new_key, new_document);
  END IF;
  RETURN NULL;
END
$body$;

-- Arguments: id in dmm.watched, whether to notify.
CREATE FUNCTION dmm.tell_truncate() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
BEGIN
  INSERT INTO dmm.change (watched, operation, rows) VALUES (TG_ARGV[0]::bigint, 'truncate', 0);
  IF TG_ARGV[1]::boolean THEN PERFORM pg_notify('dmm_change', TG_ARGV[0]); END IF;
  RETURN NULL;
END
$body$;

-- The columns that name the rows of a table: `wanted`, or the primary key. They must be unique at
-- every moment, not only at commit, and never null; and jsonb has different values of one text.
CREATE FUNCTION dmm.key_columns_of(target regclass, wanted text[]) RETURNS text[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
  candidate record;
BEGIN
  FOR candidate IN
    SELECT i.indisprimary, i.indimmediate AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
             AND i.indexprs IS NULL
             AND bool_and(a.attnotnull AND a.atttypid <> 'jsonb'::regtype) AS sound,
           array_agg(a.attname::text ORDER BY k.position) AS names
    FROM pg_index AS i
    CROSS JOIN LATERAL unnest(i.indkey::smallint[]) WITH ORDINALITY AS k (number, position)
    JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.number
    WHERE i.indrelid = target AND k.position <= i.indnkeyatts
    GROUP BY i.indexrelid, i.indisprimary, i.indimmediate, i.indisunique, i.indisvalid, i.indpred,
             i.indexprs
    ORDER BY i.indisprimary DESC
  LOOP
    CONTINUE WHEN NOT candidate.sound;
    IF wanted IS NULL AND candidate.indisprimary THEN RETURN candidate.names; END IF;
    IF candidate.names @> wanted AND candidate.names <@ wanted
      AND cardinality(candidate.names) = cardinality(wanted) THEN RETURN wanted; END IF;
  END LOOP;
  IF wanted IS NULL THEN
    RAISE EXCEPTION 'table % has no primary key that is checked at once', target
      USING ERRCODE = 'DM408';
  END IF;
  RAISE EXCEPTION 'table % has no unique index of exactly the columns %, all not null, that is '
    'checked at once', target, wanted USING ERRCODE = 'DM408';
END
$body$;

-- The query for key and document of the row that has the key of $1; %s is the table. With the
-- operators of the index: those of an extension's type need not be on the search path.
CREATE FUNCTION dmm.lookup_of(target regclass, key_columns text[]) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $body$
  SELECT format('SELECT %s, row_to_json(t.*) FROM %s%%s AS t WHERE %s',
    CASE cardinality(key_columns)
      WHEN 1 THEN replace(format('to_jsonb(t.%I) #>> ''{}''', key_columns[1]), '%', '%%')
      ELSE (SELECT replace('''['' || ' || string_agg(format('to_jsonb(t.%I)::text', name),
                                                     ' || '','' || ' ORDER BY position)
                           || ' || '']''', '%', '%%')
            FROM unnest(key_columns) WITH ORDINALITY AS k (name, position))
    END,
    (SELECT CASE relkind WHEN 'p' THEN '' ELSE 'ONLY ' END FROM pg_class WHERE oid = target),
    replace(string_agg(condition, ' AND '), '%', '%%'))
  FROM (
    SELECT DISTINCT ON (a.attname)
      format('t.%1$I OPERATOR(%2$I.%3$s) ($1).%1$I', a.attname, n.nspname, o.oprname) AS condition
    FROM pg_index AS i
    CROSS JOIN LATERAL unnest(i.indkey::smallint[], i.indclass::oid[])
      WITH ORDINALITY AS k (number, class, position)
    JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.number
    JOIN pg_opclass AS c ON c.oid = k.class
    JOIN pg_amop AS m ON m.amopfamily = c.opcfamily AND m.amoplefttype = c.opcintype
      AND m.amoprighttype = c.opcintype AND m.amopstrategy = 3
    JOIN pg_operator AS o ON o.oid = m.amopopr
    JOIN pg_namespace AS n ON n.oid = o.oprnamespace
    WHERE i.indrelid = target AND i.indisunique AND k.position <= i.indnkeyatts
      AND a.attname = ANY (key_columns)
    ORDER BY a.attname, i.indisprimary DESC
  ) AS conditions
$body$;

-- Whether both triggers of a watched table are there and fire, and its key columns are there.
CREATE FUNCTION dmm.is_told(watched_id bigint) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $body$
  SELECT count(*) = 2
  FROM dmm.watched AS w JOIN pg_trigger AS t ON t.tgrelid = w.relation
  WHERE w.id = watched_id AND t.tgname IN ('dmm_row', 'dmm_truncate')
    AND t.tgenabled IN ('O', 'A')
    AND w.key_columns <@ ARRAY(SELECT a.attname::text FROM pg_attribute AS a
                               WHERE a.attrelid = w.relation AND NOT a.attisdropped)
$body$;

CREATE FUNCTION dmm.unwatch(target regclass) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
  gone bigint;
BEGIN
  PERFORM pg_advisory_xact_lock(6581613, 2);
  EXECUTE format('DROP TRIGGER IF EXISTS dmm_row ON %s', target);
  EXECUTE format('DROP TRIGGER IF EXISTS dmm_truncate ON %s', target);
  DELETE FROM dmm.watched WHERE relation = target RETURNING id INTO gone;
  DELETE FROM dmm.change WHERE watched = gone;
  RETURN gone IS NOT NULL;
END
$body$;

-- Makes a table tell its changes; again, if its triggers are not as they should be.
CREATE FUNCTION dmm.watch(target regclass, wanted_key text[] DEFAULT NULL,
                          notify boolean DEFAULT true) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
  relation record;
  key text[];
  known record;
  owner oid;
  new_id bigint;
BEGIN
  PERFORM pg_advisory_xact_lock(6581613, 2);
  SELECT c.*, n.nspname INTO STRICT relation
  FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = target;
  IF relation.relkind NOT IN ('r', 'p') OR relation.relpersistence <> 'p' OR relation.relispartition
    OR relation.nspname IN ('pg_catalog', 'information_schema') OR (relation.nspname = 'dmm'
      AND relation.relname IN ('migration', 'origin', 'watched', 'change', 'reader')) THEN
    RAISE EXCEPTION '% is not an ordinary or partitioned table that survives a crash', target
      USING ERRCODE = 'DM412';
  END IF;
  SELECT proowner INTO STRICT owner FROM pg_proc WHERE oid = 'dmm.tell_row()'::regprocedure;
  IF NOT has_table_privilege(owner, target, 'SELECT') THEN
    RAISE EXCEPTION 'role %, which owns the schema dmm, may not read %',
      pg_get_userbyid(owner), target USING ERRCODE = 'DM412';
  END IF;
  IF relation.relrowsecurity
    AND NOT (SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE oid = owner)
    AND (relation.relforcerowsecurity OR NOT pg_has_role(owner, relation.relowner, 'USAGE')) THEN
    RAISE EXCEPTION 'row-level security of % hides rows from role %, which owns the schema dmm',
      target, pg_get_userbyid(owner) USING ERRCODE = 'DM412';
  END IF;

  key := dmm.key_columns_of(target, wanted_key);
  SELECT * INTO known FROM dmm.watched AS w WHERE w.relation = target;
  IF FOUND THEN
    IF known.key_columns = key AND dmm.is_told(known.id) THEN RETURN known.id; END IF;
    PERFORM dmm.unwatch(target);
  END IF;
  INSERT INTO dmm.watched (relation, key_columns) VALUES (target, key) RETURNING id INTO new_id;
  EXECUTE format('CREATE TRIGGER dmm_row AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW '
                 'EXECUTE FUNCTION dmm.tell_row(%L, %L, %L, %L)', target, new_id, key,
                 dmm.lookup_of(target, key), notify);
  EXECUTE format('CREATE TRIGGER dmm_truncate AFTER TRUNCATE ON %s FOR EACH STATEMENT '
                 'EXECUTE FUNCTION dmm.tell_truncate(%L, %L)', target, new_id, notify);
  -- Also for rows that a logical subscription or a restore writes.
  EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER dmm_row', target);
  EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER dmm_truncate', target);
  RETURN new_id;
END
$body$;

-- Removes up to `batch` changes of each table that no reader needs, and readers that were not seen
-- for `unseen`. The last loss of each table stays: it is evidence. Returns how many changes went;
-- none while another session cleans.
CREATE FUNCTION dmm.clean(batch integer DEFAULT 10000, unseen interval DEFAULT '7 days')
RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
  entry record;
  horizon xid8;
  gone bigint;
  total bigint := 0;
BEGIN
  IF NOT pg_try_advisory_xact_lock(6581613, 3) THEN RETURN 0; END IF;
  DELETE FROM dmm.reader WHERE seen_at < now() - unseen;
  DELETE FROM dmm.watched AS w WHERE NOT EXISTS (SELECT FROM pg_class WHERE oid = w.relation);
  DELETE FROM dmm.change WHERE id IN (
    SELECT c.id FROM dmm.change AS c
    WHERE NOT EXISTS (SELECT FROM dmm.watched AS w WHERE w.id = c.watched)
      AND c.watched < (SELECT max(id) FROM dmm.watched)
    LIMIT batch);
  FOR entry IN SELECT id FROM dmm.watched ORDER BY id LOOP
    SELECT pg_snapshot_xmin(r.snapshot) INTO horizon FROM dmm.reader AS r
    WHERE r.watched = entry.id ORDER BY 1 LIMIT 1;
    IF NOT FOUND THEN horizon := pg_snapshot_xmin(pg_current_snapshot()); END IF;
    DELETE FROM dmm.change WHERE id IN (
      SELECT c.id FROM dmm.change AS c
      WHERE c.watched = entry.id AND c.xid < horizon
        AND c.id IS DISTINCT FROM (
          SELECT l.id FROM dmm.change AS l
          WHERE l.watched = entry.id AND l.operation IN ('truncate', 'lost')
          ORDER BY l.id DESC LIMIT 1)
      ORDER BY c.xid LIMIT batch);
    GET DIAGNOSTICS gone = ROW_COUNT;
    IF gone > 0 THEN
      UPDATE dmm.watched SET cleaned = greatest(cleaned, horizon) WHERE id = entry.id;
      total := total + gone;
    END IF;
  END LOOP;
  RETURN total;
END
$body$;

-- Called by whoever connects: if these tables were filled in another cluster (a dump was restored),
-- their transaction ids mean nothing here. Returns whether that was so; everything is forgotten then,
-- and every reader begins anew.
CREATE FUNCTION dmm.adopt() RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
BEGIN
  IF EXISTS (SELECT FROM dmm.origin AS o JOIN pg_control_system() AS s
             ON s.system_identifier = o.system_identifier) THEN RETURN false; END IF;
  PERFORM pg_advisory_xact_lock(6581613, 2);
  DELETE FROM dmm.change;
  DELETE FROM dmm.reader;
  UPDATE dmm.watched SET cleaned = '0';
  UPDATE dmm.origin SET system_identifier = s.system_identifier FROM pg_control_system() AS s;
  RETURN true;
END
$body$;

REVOKE EXECUTE ON FUNCTION dmm.clean(integer, interval), dmm.adopt(), dmm.tell_row(),
  dmm.tell_truncate() FROM PUBLIC;
