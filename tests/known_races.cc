// What ThreadSanitizer is not asked to tell of.

extern "C" const char* __tsan_default_suppressions();

// Copies of an exception share its text, and who holds it is counted inside libstdc++, which is not
// compiled for the sanitizer: it sees the last holder delete what another thread has read, and not
// the counting in between.
extern "C" const char* __tsan_default_suppressions() {
  return "race:std::runtime_error::~runtime_error\n";
}
