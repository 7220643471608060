#pragma once
// An installation's signing key as a file. Blocking; one owner of the state directory at a time.

#include <optional>
#include <string>

#include "core/ed25519_pem.hpp"
#include <infrastructure_sdk/clock.hpp>

namespace infrastructure_sdk::isolation {

/// `directory` (0700) holds one file for each secret key, KEYID.pem (0600); a name says which public key belongs to it.
class SigningKeys {
public:
    explicit SigningKeys(std::string directory) : directory_(std::move(directory)) {}

    /// A new key, on disk before it is returned. @throws Error(store)
    Ed25519Key make(Random& random) const;
    /// The secret bytes; nullopt when there is no such file.
    /// @throws Error(permission_denied) when others may read it, Error(store) when it is no key or another one.
    std::optional<Ed25519Key> load(const std::string& key_id) const;
    /// Removes every other key. @throws Error(store)
    void keep_only(const std::string& key_id) const;

private:
    std::string path_of(const std::string& key_id) const { return directory_ + "/" + key_id + ".pem"; }

    std::string directory_;
};

}  // namespace infrastructure_sdk::isolation
