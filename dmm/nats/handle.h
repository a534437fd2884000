#pragma once

#include <fmt/format.h>
#include <nats/nats.h>

#include <string_view>
#include <utility>

#include "dmm/error.h"

namespace dmm::nats {

/// Owns a handle of libnats and destroys it.
template <class T, void (*destroy)(T*)>
class Handle {
 public:
  Handle() = default;
  explicit Handle(T* raw) noexcept : raw_(raw) {}
  Handle(Handle&& other) noexcept : raw_(std::exchange(other.raw_, nullptr)) {}
  Handle& operator=(Handle&& other) noexcept {
    reset(std::exchange(other.raw_, nullptr));
    return *this;
  }
  ~Handle() { reset(); }

  T* get() const noexcept { return raw_; }
  /// For functions that create: destroys what was held.
  T** out() noexcept {
    reset();
    return &raw_;
  }
  void reset(T* raw = nullptr) noexcept {
    if (T* old = std::exchange(raw_, raw)) destroy(old);
  }
  explicit operator bool() const noexcept { return raw_ != nullptr; }

 private:
  T* raw_ = nullptr;
};

using OptionsHandle = Handle<natsOptions, natsOptions_Destroy>;
using ConnectionHandle = Handle<natsConnection, natsConnection_Destroy>;
using SubscriptionHandle = Handle<natsSubscription, natsSubscription_Destroy>;
using MessageHandle = Handle<natsMsg, natsMsg_Destroy>;

/// The Error for a status of libnats. what: what was being done.
inline Error to_error(natsStatus status, std::string_view what) {
  const Code* code = &code::server_refused;
  switch (status) {
    case NATS_NO_SERVER:
    case NATS_IO_ERROR:
    case NATS_CONNECTION_CLOSED:
    case NATS_CONNECTION_DISCONNECTED:
    case NATS_ADDRESS_MISSING:
    case NATS_INSUFFICIENT_BUFFER:
    case NATS_STALE_CONNECTION:
      code = &code::unreachable;
      break;
    case NATS_CONNECTION_AUTH_FAILED:
    case NATS_NOT_PERMITTED:
    case NATS_SSL_ERROR:
      code = &code::access_denied;
      break;
    case NATS_TIMEOUT:
      code = &code::timed_out;
      break;
    case NATS_MAX_PAYLOAD:
      code = &code::too_large;
      break;
    default:
      break;
  }
  return Error(*code, fmt::format("{}: {}", what, natsStatus_GetText(status)));
}

/// Throws unless `status` is NATS_OK.
inline void check(natsStatus status, std::string_view what) {
  if (status == NATS_OK) return;
  const char* detail = nats_GetLastError(nullptr);
  Error error = to_error(status, what);
  if (detail != nullptr && *detail != '\0') {
    error = Error(error.code(), fmt::format("{} ({})", error.message(), detail));
  }
  throw error;
}

}  // namespace dmm::nats
