#pragma once
// What a dead owner left in the folder of VMs, and what of it may be removed: only what can be told to be ours.

#include <string>
#include <vector>

namespace infrastructure_sdk::qemu {

/// Of a VM that is being made or removed: "<prefix><uuid>". Neither is ever a VM.
inline constexpr const char* scratch_prefix = ".new-";
inline constexpr const char* removed_prefix = ".gone-";

bool is_uuid(const std::string& text);

struct FolderEntry {
    std::string name;
    bool directory = false;          ///< a real one, not a symbolic link
    std::vector<std::string> files;  ///< names inside, "guest/NAME" in the guest folder; a trailing '/' marks what is
                                     ///< no plain file, socket or FIFO
    bool process = false;            ///< a process lives that calls itself by the uuid
};

enum class Debris {
    vm,      ///< has a record: it is looked at like any other
    remove,  ///< half made or half removed, by us, and nothing runs in it
    leave,   ///< not known to be ours, or something runs in it
};
/// Pure.
Debris judge(const FolderEntry& entry);

/// Looks at the folder of VMs, removes what `judge` lets it. Blocking. @returns the names that it left, to be told.
std::vector<std::string> sweep(const std::string& folder);

/// Ends the process of a VM whose record cannot be read, if it runs in that folder, and removes the folder. Blocking.
/// @throws Error(store), Error(provider) when the process does not end or is not known to be ours.
void remove_without_record(const std::string& directory, const std::string& uuid);

/// Makes the folder disappear at once; emptying it may then be cut off without leaving half of a VM. Blocking.
/// @returns where it is now, for `remove_set_aside`. @throws Error(store)
std::string set_folder_aside(const std::string& directory);
void remove_set_aside(const std::string& directory);

}  // namespace infrastructure_sdk::qemu
