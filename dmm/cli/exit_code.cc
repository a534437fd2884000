#include "dmm/cli/exit_code.h"

namespace dmm::cli {

int exit_code_of(const Error& error) noexcept {
  const std::string_view id = error.code().id;
  if (id == code::unreachable.id || id == code::access_denied.id || id == code::no_jetstream.id ||
      id == code::postgres_unreachable.id || id == code::postgres_denied.id) {
    return exit_code::unreachable;
  }
  if (id == code::timed_out.id) return exit_code::timed_out;
  switch (error.kind()) {
    case Kind::conflict:
      return exit_code::conflict;
    case Kind::in_doubt:
      return exit_code::timed_out;
    case Kind::not_found:
      return exit_code::not_found;
    case Kind::invalid:
      return exit_code::usage;
    case Kind::retry:
    case Kind::overloaded:
    case Kind::corrupt:
    case Kind::unsupported:
    case Kind::cancelled:
    case Kind::bug:
      return exit_code::failed;
  }
  return exit_code::failed;
}

}  // namespace dmm::cli
