#pragma once
// Who a guest is: what must be different in every VM, and the script that makes it so. Pure but for the random bytes.

#include <string>
#include <vector>

#include <infrastructure_sdk/clock.hpp>
#include <infrastructure_sdk/vm/guest_agent.hpp>

namespace infrastructure_sdk {

struct GuestIdentity {
    std::string hostname;
    std::string machine_id;       ///< 32 hex digits, as machine-id(5)
    std::string random_seed;      ///< 64 hex digits for the guest's random number generator
    std::string ssh_private_key;  ///< an Ed25519 host key in OpenSSH's format
    std::string ssh_public_key;   ///< "ssh-ed25519 AAAA... hostname"
};

/// A new one each time.
/// @throws Error(validation) for a hostname outside RFC 1123's letters, digits and hyphens.
GuestIdentity make_guest_identity(Random& random, const std::string& hostname);

/// For `sh -s` as root in any Linux guest. Everything is a builtin of the shell unless something of an earlier
/// identity has to be removed. It stops with an exit code above 0 at the first thing that does not work.
/// It prints `files_suffice` when the next identity needs no script: `identity_files` over what it left are enough.
std::string identity_script(const GuestIdentity& identity);
constexpr const char* files_suffice = "files suffice";

/// The same as files, for a guest that the script has been through: modes and places are there, and nobody has to be
/// told. Under emulation a shell takes several times longer.
std::vector<GuestFile> identity_files(const GuestIdentity& identity);

}  // namespace infrastructure_sdk
