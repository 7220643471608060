#pragma once
// Keys of users, which wrap the keys of their memory files and disks.

#include <memory>
#include <string>
#include <vector>

#include <infrastructure_sdk/clock.hpp>
#include <infrastructure_sdk/secret.hpp>

namespace infrastructure_sdk {

/// One key of a user, without the key.
struct UserKey {
    std::string id;  ///< "key-" and hex digits
    WallTime created_at;
};

struct UserKeys {
    std::string user_id;        ///< empty: the installation's own, for warm units that nobody has yet
    std::vector<UserKey> keys;  ///< oldest first; the last one wraps. More than one: a rotation was not finished
};

/// An envelope: each memory file and disk has a data key of its own, which is stored wrapped by its user's key. So a
/// rotation wraps data keys anew and leaves the data, and the end of a user's key is the end of all that it wrapped.
/// A wrapped key is text that may lie anywhere; it is bound to its user and to what it is for, and opens for nothing
/// else. All verbs block and may be called from several threads. What a verb wrote is on disk when it returns.
class KeyStore {
public:
    virtual ~KeyStore() = default;
    /// Wraps by the user's newest key; makes one if there is none. @param purpose what the key is for, e.g. "disk UUID"
    /// @throws Error(store)
    virtual std::string wrap(const std::string& user_id, const std::string& purpose, const Secret& data_key) = 0;
    /// @throws Error(provider) with reason `KeyMissing` (the user's key was erased, or is another installation's) or
    /// `WrongKey` (it does not open: another master key, another user or purpose, or changed text).
    virtual Secret unwrap(const std::string& user_id, const std::string& purpose, const std::string& wrapped) = 0;
    /// True when `wrapped` is wrapped by the user's newest key.
    virtual bool is_current(const std::string& user_id, const std::string& wrapped) = 0;
    /// A new key wraps from now on; the older ones still unwrap. @throws Error(store)
    virtual void add_key(const std::string& user_id) = 0;
    /// Forgets all but the newest key.
    virtual void retire_old_keys(const std::string& user_id) = 0;
    /// Forgets all keys of a user: whatever they wrapped is lost for good. Unknown users are fine.
    virtual void erase(const std::string& user_id) = 0;
    /// By user. @throws Error(store) when one cannot be read.
    virtual std::vector<UserKeys> list() = 0;
};

/// Keys as files (0600) in `directory` (0700), wrapped by a master key.
/// @param master_key any secret text of 32 bytes or more; empty = a random one that is made in the directory, which
/// protects what is copied without that directory, and nothing from whoever can read it.
/// @throws Error(configuration) when the master key is too short, Error(store)
std::shared_ptr<KeyStore> make_file_key_store(std::string directory, Secret master_key, std::shared_ptr<Clock> clock,
                                              std::shared_ptr<Random> random);

}  // namespace infrastructure_sdk
