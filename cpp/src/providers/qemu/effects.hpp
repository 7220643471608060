#pragma once
// The provider's own effects by name, in the order in which they take place: between any two of them the owner may die.

#include <array>
#include <cstddef>

namespace infrastructure_sdk::qemu {

enum class Effect {
    folder_made,
    disk_made,
    record_written,
    folder_placed,
    start_intended,
    groups_made,  ///< control groups, where the host has them
    sockets_bound,
    tpm_started,       ///< only with a TPM
    process_forked,    ///< it waits; nothing of it is on disk
    process_recorded,  ///< it still waits
    process_started,
    handshake_done,
    start_recorded,
    suspend_intended,
    memory_file_made,
    guest_stopped,
    migration_begun,
    migration_done,
    memory_recorded,
    process_suspended,
    suspend_recorded,
    resume_intended,
    memory_loaded,
    resume_recorded,
    guest_continued,
    memory_forgotten,
    memory_removed,
    process_ended,
    end_recorded,
    folder_set_aside,
    folder_removed,
};

inline constexpr std::array<const char*, 31> effect_names{
    "folder made",      "disk made",       "record written", "folder placed",    "start intended",
    "groups made",      "sockets bound",   "tpm started",    "process forked",   "process recorded",
    "process started",  "handshake done",  "start recorded", "suspend intended", "memory file made",
    "guest stopped",    "migration begun", "migration done", "memory recorded",  "process suspended",
    "suspend recorded", "resume intended", "memory loaded",  "resume recorded",  "guest continued",
    "memory forgotten", "memory removed",  "process ended",  "end recorded",     "folder set aside",
    "folder removed"};

/// Of VMs with an interface on the host.
enum class NetworkEffect { rules_loaded, tap_made, connected, rules_removed };
inline constexpr std::array<const char*, 4> network_effect_names{"network rules loaded", "tap made",
                                                                 "network connected", "network rules removed"};
constexpr const char* name_of(NetworkEffect effect) noexcept {
    return network_effect_names[static_cast<std::size_t>(effect)];
}

/// Those of a snapshot of memory, beside those of saving the memory.
enum class CopyEffect { disk_copied, guest_continued };
inline constexpr std::array<const char*, 2> copy_effect_names{"snapshot disk copied", "guest continued after its copy"};
constexpr const char* name_of(CopyEffect effect) noexcept {
    return copy_effect_names[static_cast<std::size_t>(effect)];
}

/// Those of a rotation of a user's keys.
enum class KeyEffect {
    key_added,
    keys_wrapped,
    passphrase_intended,  ///< only with an encrypted disk, as are the next two
    passphrase_added,
    passphrase_changed,
    old_keys_retired,
};

inline constexpr std::array<const char*, 6> key_effect_names{
    "key added", "keys wrapped", "passphrase intended", "passphrase added", "passphrase changed", "old keys retired"};

constexpr const char* name_of(KeyEffect effect) noexcept { return key_effect_names[static_cast<std::size_t>(effect)]; }

constexpr const char* name_of(Effect effect) noexcept { return effect_names[static_cast<std::size_t>(effect)]; }

}  // namespace infrastructure_sdk::qemu
