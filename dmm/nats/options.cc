#include "dmm/nats/options.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <ctime>
#include <memory>
#include <string>
#include <vector>

#include "dmm/nats/nkey.h"

namespace dmm::nats {

namespace {

std::string secret_of(const std::string& value, const std::string& file) {
  return file.empty() ? value : read_secret_file(file);
}

}  // namespace

OptionsHandle make_options(const ConnectionOptions& options, bool send_at_once) {
  options.check();
  OptionsHandle handle;
  check(natsOptions_Create(handle.out()), "making connection options");
  natsOptions* raw = handle.get();
  std::vector<const char*> servers;
  for (const std::string& server : options.servers) servers.push_back(server.c_str());
  if (servers.empty()) servers.push_back("nats://127.0.0.1:4222");
  bool tls = !options.tls_ca.empty() || !options.tls_cert.empty();
  for (const char* server : servers) tls = tls || std::string_view(server).starts_with("tls://");
  check(natsOptions_SetServers(raw, servers.data(), static_cast<int>(servers.size())),
        "reading the server addresses");
  check(natsOptions_SetName(raw, options.name.empty() ? "dmm" : options.name.c_str()), "naming");
  if (!options.user.empty()) {
    const std::string password = secret_of(options.password, options.password_file);
    check(natsOptions_SetUserInfo(raw, options.user.c_str(), password.c_str()),
          "setting user and password");
  }
  if (const std::string token = secret_of(options.token, options.token_file); !token.empty()) {
    check(natsOptions_SetToken(raw, token.c_str()), "setting the token");
  }
  if (!options.creds_file.empty()) {
    check(natsOptions_SetUserCredentialsFromFiles(raw, options.creds_file.c_str(), nullptr),
          fmt::format("reading the credentials file {}", options.creds_file));
  }
  if (!options.nkey_seed_file.empty()) {
    const std::string public_key = nkey_public(options.nkey_seed_file);
    check(natsOptions_SetNKeyFromSeed(raw, public_key.c_str(), options.nkey_seed_file.c_str()),
          fmt::format("reading the nkey seed {}", options.nkey_seed_file));
  }
  if (tls) {
    check(natsOptions_SetSecure(raw, true), "asking for TLS");
    if (!options.tls_ca.empty()) {
      check(natsOptions_LoadCATrustedCertificates(raw, options.tls_ca.c_str()),
            fmt::format("reading the CA certificates {}", options.tls_ca));
    }
    if (!options.tls_cert.empty()) {
      check(
          natsOptions_LoadCertificatesChain(raw, options.tls_cert.c_str(), options.tls_key.c_str()),
          fmt::format("reading the certificate {} and its key {}", options.tls_cert,
                      options.tls_key));
    }
  }
  // A frozen server is only seen by pings: two of them unanswered, four seconds.
  check(natsOptions_SetPingInterval(raw, 2'000), "setting the ping interval");
  check(natsOptions_SetMaxPingsOut(raw, 2), "setting the pings");
  check(natsOptions_SetTimeout(raw, 3'000), "setting the connect timeout");
  check(natsOptions_SetAllowReconnect(raw, true), "allowing reconnects");
  check(natsOptions_SetMaxReconnect(raw, -1), "setting reconnects without limit");
  check(natsOptions_SetReconnectWait(raw, 100), "setting the reconnect wait");
  check(natsOptions_SetReconnectJitter(raw, 100, 200), "setting the reconnect jitter");
  check(natsOptions_SetSendAsap(raw, send_at_once), "setting the flush mode");
  return handle;
}

namespace {

/// "; the certificate PATH was valid until TIME", if its time is over.
std::string expiry_of(const std::string& path) {
  if (path.empty()) return {};
  const std::unique_ptr<BIO, decltype(&BIO_free)> file(BIO_new_file(path.c_str(), "r"), &BIO_free);
  if (!file) return {};
  const std::unique_ptr<X509, decltype(&X509_free)> certificate(
      PEM_read_bio_X509(file.get(), nullptr, nullptr, nullptr), &X509_free);
  if (!certificate || X509_cmp_current_time(X509_get0_notAfter(certificate.get())) >= 0) return {};
  std::tm until{};
  if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate.get()), &until) != 1) return {};
  return fmt::format("; the certificate {} was valid until {:%Y-%m-%d %H:%M:%S} UTC", path, until);
}

/// Why a connection could not be made. A server that nobody answers for is unreachable, however
/// long that took to see; one that misses our certificate just hangs up, which libnats reports as
/// any other error.
Error connect_error(natsStatus status, const std::string& where, const ConnectionOptions& options) {
  const char* raw = nats_GetLastError(nullptr);
  std::string_view detail = raw == nullptr ? "" : raw;
  // libnats puts the place in its source in front: "(conn.c:2088): ".
  if (const auto place = detail.find("): "); detail.starts_with('(') && place != detail.npos) {
    detail.remove_prefix(place + 3);
  }
  const Error error = to_error(status, "connecting to " + where);
  const Code* reason = &error.code();
  const bool tls = !options.tls_ca.empty() || where.find("tls://") != std::string::npos;
  if (reason == &code::timed_out) reason = &code::unreachable;
  if (reason == &code::server_refused && tls) reason = &code::access_denied;
  const std::string expired = reason == &code::access_denied
                                  ? expiry_of(options.tls_cert) + expiry_of(options.tls_ca)
                                  : std::string();
  return Error(*reason, fmt::format("connecting to {}: {}{}", where,
                                    detail.empty() ? natsStatus_GetText(status) : detail, expired));
}

}  // namespace

ConnectionHandle connect_with(const OptionsHandle& handle, const ConnectionOptions& options) {
  std::string where;
  for (const std::string& server : options.servers) {
    where += (where.empty() ? "" : ", ") + redact_url(server);
  }
  if (where.empty()) where = "nats://127.0.0.1:4222";
  ConnectionHandle connection;
  const natsStatus status = natsConnection_Connect(connection.out(), handle.get());
  if (status != NATS_OK) throw connect_error(status, where, options);
  return connection;
}

}  // namespace dmm::nats
