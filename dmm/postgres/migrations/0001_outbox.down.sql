-- Tables are left as they are, without the triggers of dmm.
DO $body$
DECLARE
  entry record;
BEGIN
  FOR entry IN SELECT w.relation FROM dmm.watched AS w JOIN pg_class AS c ON c.oid = w.relation LOOP
    PERFORM dmm.unwatch(entry.relation);
  END LOOP;
END
$body$;
DROP FUNCTION dmm.adopt(), dmm.clean(integer, interval), dmm.watch(regclass, text[], boolean),
  dmm.unwatch(regclass), dmm.is_told(bigint), dmm.lookup_of(regclass, text[]),
  dmm.key_columns_of(regclass, text[]), dmm.tell_truncate(), dmm.tell_row(),
  dmm.key_of(jsonb, text[]);
DROP TABLE dmm.reader, dmm.change, dmm.watched, dmm.origin;
