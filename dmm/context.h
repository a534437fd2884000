#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <typeindex>

#include <nlohmann/json.hpp>

#include "dmm/command.h"
#include "dmm/identity.h"
#include "dmm/limits.h"
#include "dmm/log.h"
#include "dmm/types.h"

namespace dmm {

/// Decodes a cache object. null gives a default-constructed one. An object that has
/// set_identity(std::string) is told its id if it comes without one.
/// Throws Error{invalid} DMM-0209 if the JSON does not fit.
template <class M>
M decode_object(const nlohmann::json& value, const Identity& identity);

/// Reading and notifying materializers by type and id: the part that a Bucket, a Context and an
/// ObserveContext have in common. Thread-safe.
class Matters {
 public:
  virtual ~Matters() = default;

  /// The effective cache of an identity: the news in its token if one waits, else the stored entry,
  /// null if there is neither. An entry that cannot be read counts as missing (and is counted).
  /// Throws Error{retry} if the server does not answer.
  virtual nlohmann::json matter(const Identity& identity) = 0;

  /// Brings news: stores a token that carries `cache` and replaces whatever waited. When it returns
  /// a run on these news or newer ones follows and is retried until it succeeds.
  /// Throws Error{invalid} for a bad identity or a value over limits::payload_bytes_max, {retry} or
  /// {in_doubt} if the server did not confirm within limits::publish_deadline.
  virtual void notify(const Identity& identity, const nlohmann::json& cache) = 0;

  /// Asks for a run without news: the value of a waiting token is kept.
  virtual void poke(const Identity& identity) = 0;

  /// The name under which a C++ type was registered. Throws Error{invalid} DMM-0401.
  virtual const std::string& type_name(std::type_index type) const = 0;

  /// The typed forms.
  template <class M>
  M matter(std::string_view id) {
    const Identity identity{type_name(typeid(M)), std::string(id)};
    return decode_object<M>(matter(identity), identity);
  }
  template <class M>
  void notify(const M& materializer) {
    notify(Identity{type_name(typeid(M)), std::string(materializer.identity())},
           nlohmann::json(materializer));
  }
  template <class M>
  void poke(std::string_view id) {
    poke(Identity{type_name(typeid(M)), std::string(id)});
  }
};

/// What a materialize is given. Lives as long as the call; used on the thread of the call, but for
/// stop_token(), which may be handed on.
class Context : public Matters {
 public:
  using Matters::matter;
  using Matters::notify;
  using Matters::poke;

  virtual const Identity& identity() const noexcept = 0;
  /// 1 for the first attempt on these news, 2 for the next after a failure, and so on; survives
  /// restarts.
  virtual int attempt() const noexcept = 0;
  /// The run counts as failed when it has not returned by then.
  virtual std::chrono::steady_clock::time_point deadline() const noexcept = 0;
  /// Asked to stop at the deadline, at shutdown and when the lease is lost. A run that was told to
  /// stop should throw or return soon; whatever it returns after a lost lease is dropped.
  virtual std::stop_token stop_token() const noexcept = 0;
  /// The fencing token of the lane in which this run happens: it grows with each owner of the
  /// identity. Pass it on to devices that can check it, so that a worker that was paused too long is
  /// refused.
  virtual Epoch epoch() const noexcept = 0;
  /// True if the row behind this identity was removed: tear down. Success deletes the cache entry.
  virtual bool deleted() const noexcept = 0;
  /// The place of this run in its trace, as the W3C header `traceparent`, for calls to others; what
  /// is notified and commanded here carries it on by itself. Empty: the news belong to no trace.
  virtual std::string traceparent() const { return {}; }
  /// A logger with the identity and the attempt in every line.
  virtual const Logger& log() const noexcept = 0;

  // ---- the way down to devices: docs/how-to/reach-a-device.md ----

  /// Sends a command to a device that listens on its own subject, and waits for its answer.
  /// timeout   above zero; cut to what is left until deadline().
  /// returns   also that the device is offline, refused or did not answer: see CommandReply.
  /// throws    Error{invalid} DMM-0201, 0202, 0204, 0404; {cancelled} DMM-0305 when this run has to
  ///           stop; {retry} DMM-0101 no server; {unsupported} DMM-0705.
  virtual CommandReply command(std::string_view kind, std::string_view device,
                               const nlohmann::json& payload,
                               std::chrono::milliseconds timeout = limits::command_timeout) = 0;

  /// The desired document that is kept for a device; nothing if there is none.
  virtual std::optional<nlohmann::json> shadow(std::string_view kind, std::string_view device) = 0;
  /// Keeps a desired document for a device, which reads it when it comes online; tells it at once if
  /// it is online. True if another one, or none, was kept before.
  /// throws    Error{cancelled} DMM-0307 if a worker with a later lease wrote it for this identity.
  virtual bool set_shadow(std::string_view kind, std::string_view device,
                          const nlohmann::json& document) = 0;
  /// Nothing is desired of the device any more. True if a document was kept.
  virtual bool clear_shadow(std::string_view kind, std::string_view device) = 0;
};

/// What an observe handler is given. matter() remembers what it read; notify() of the same identity
/// succeeds only if that is still so, otherwise the handler is called again from the start.
class ObserveContext : public Matters {
 public:
  using Matters::matter;
  using Matters::notify;
  using Matters::poke;

  virtual const std::string& kind() const noexcept = 0;
  /// Who reported, from the subject, which the server's permissions guard; never from the payload.
  virtual const std::string& device() const noexcept = 0;
  virtual std::stop_token stop_token() const noexcept = 0;
  virtual const Logger& log() const noexcept = 0;
  /// As Context::traceparent().
  virtual std::string traceparent() const { return {}; }
};

namespace internal {
[[noreturn]] void throw_wrong_shape(const Identity& identity, const char* why);
}  // namespace internal

template <class M>
M decode_object(const nlohmann::json& value, const Identity& identity) {
  M object{};
  if (!value.is_null()) {
    try {
      value.get_to(object);
    } catch (const nlohmann::json::exception& e) {
      internal::throw_wrong_shape(identity, e.what());
    }
  }
  if constexpr (requires { object.set_identity(identity.id); }) {
    if (std::string(object.identity()).empty()) object.set_identity(identity.id);
  }
  return object;
}

}  // namespace dmm
