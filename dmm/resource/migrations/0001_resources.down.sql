DROP FUNCTION dmm.resource_missing(bigint, text, text[], timestamptz, text, text, integer,
  boolean);
DROP FUNCTION dmm.inform(json, boolean, integer, boolean);
DROP FUNCTION dmm.resource_again(text, text, text, text[], text, text);
DROP FUNCTION dmm.resource_clean(text, text, interval, integer);
DROP FUNCTION dmm.resource_expire(text, interval, integer);
DROP FUNCTION dmm.resource_relay(integer);
DROP FUNCTION dmm.resource_finish(json, boolean);
DROP FUNCTION dmm.resource_claim(json);
DROP FUNCTION dmm.resource_errors(jsonb, bigint, text, text);
DROP FUNCTION dmm.microseconds(timestamptz);
DROP TABLE dmm.resource_seen, dmm.resource_inform, dmm.resource_outbox, dmm.resource,
  dmm.resource_kind, dmm.resource_namespace, dmm.resource_home;
