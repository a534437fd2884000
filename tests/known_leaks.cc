// What LeakSanitizer is not asked to tell of.

extern "C" const char* __lsan_default_suppressions();

// libpqxx 6.4 loses the result of a statement in which the connection ends: it asks the dead
// connection for its encoding, which throws, before it takes the result into its care. That is
// about 200 bytes for each lost connection.
extern "C" const char* __lsan_default_suppressions() {
  return "leak:PQmakeEmptyPGresult\n";
}
