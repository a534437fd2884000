// What ThreadSanitizer is not asked to tell of.

extern "C" const char* __tsan_default_suppressions();

// An exception that one thread keeps and another one throws again (std::exception_ptr, dmm::Async)
// is counted inside libstdc++, which is not compiled for the sanitizer: it sees the last holder
// delete what the other has read, and not the counting in between.
extern "C" const char* __tsan_default_suppressions() {
  return "race:std::runtime_error::~runtime_error\n";
}
