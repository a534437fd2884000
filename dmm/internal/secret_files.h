#pragma once

#include <string>
#include <vector>

#include "dmm/connection_options.h"

namespace dmm::internal {

/// The files that hold what these options log in with. The file that options are read from by
/// default (ConnectionOptions::load) is one of them if it holds a password or a token.
std::vector<std::string> secret_files(const ConnectionOptions& options);

/// Of these files, those that others than their owner can read, as people are told of it:
/// "/etc/dmm/players.creds (mode 0644)". Credentials that systemd hands over are left out: it keeps
/// others away from their directory.
std::vector<std::string> exposed_files(const std::vector<std::string>& paths);

/// What to do about them.
inline constexpr const char* kHideSecrets =
    "Let only its owner read it, `chmod 600 FILE`, and make a new secret if others may have read "
    "it.";

}  // namespace dmm::internal
