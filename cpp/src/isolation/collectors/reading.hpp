#pragma once
// What a collector brings: a value, or why there is none. Thin and blocking; parsing is pure.

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <type_traits>
#include <vector>

#include <nlohmann/json.hpp>

#include "isolation/held_fact.hpp"
#include "isolation/procfs.hpp"

namespace infrastructure_sdk::isolation {

struct Reading {
    std::optional<nlohmann::json> value;
    std::string why;  ///< non-empty without a value
};
inline Reading could_not(std::string why) { return {std::nullopt, std::move(why)}; }
template <class T>
Reading reading_of(std::optional<T> value, const char* why = "it cannot be read") {
    if (!value) return could_not(why);
    return {nlohmann::json(std::move(*value)), {}};
}

/// The bytes of a file, or the words of the system for why not.
struct FileText {
    std::optional<std::string> text;
    int error = 0;
};
FileText read_file(const std::string& path);
Reading reading_of_file(const std::string& path);

/// Digests of big files, remembered as long as the file does not change. Thread-safe.
class DigestCache {
public:
    /// @return hex; nullopt when the file cannot be read.
    std::optional<std::string> digest(const std::string& path);

private:
    std::mutex mutex_;
    std::map<std::string, std::string> known_;
};

/// What is the same for many who are looked at together: read once. Thread-safe; others wait for the first.
class RoundReadings {
public:
    /// What `read` gave to the first who asked by that name, which stands for one type.
    template <class F>
    std::shared_ptr<const std::invoke_result_t<F>> once(const std::string& name, F read) {
        auto slot = slot_of(name);
        std::call_once(slot->once, [&] { slot->value = std::make_shared<const std::invoke_result_t<F>>(read()); });
        return std::static_pointer_cast<const std::invoke_result_t<F>>(slot->value);
    }

private:
    struct Slot {
        std::once_flag once;
        std::shared_ptr<const void> value;
    };
    std::shared_ptr<Slot> slot_of(const std::string& name) {
        std::lock_guard guard(mutex_);
        auto& slot = slots_[name];
        if (!slot) slot = std::make_shared<Slot>();
        return slot;
    }

    std::mutex mutex_;
    std::map<std::string, std::shared_ptr<Slot>> slots_;
};

/// Whom the collectors look at.
struct ProcessSubject {
    std::int64_t pid = 0;
    std::string vm_directory;  ///< empty: nobody declared one
    bool folder_declared = true;
    WallTime now;
    std::shared_ptr<DigestCache> digests;
    std::uint64_t start_time_ticks = 0;  ///< of the process; another one with this number is not entered
    std::shared_ptr<RoundReadings> round = std::make_shared<RoundReadings>();
};

using HeldFacts = std::vector<std::shared_ptr<HeldFact>>;
std::shared_ptr<HeldFact> held_fact(const char* name, const char* source, std::string locator, Reading reading,
                                    WallTime now);
/// The wanted facts of one process: proc.*, cgroup.*, file.*, sys.taps, sys.init_namespaces, nft.ruleset,
/// iptables.rules. Names of other sources are left out. Blocking.
HeldFacts collect_process(const ProcessSubject& subject, const std::set<std::string>& wanted);
/// The wanted facts of the host: the rest of sys.*, once for all of a round. Blocking.
HeldFacts collect_host(const std::set<std::string>& wanted, WallTime now, RoundReadings& round);

// The collectors, one file each.
/// @param controller "cpu", "pids", "memory", "swap" or "hugetlb"
Reading read_cgroup(const ProcessSubject& subject, const std::string& controller);
/// Which tables of sockets are read anew though others of the round read them.
enum class Freshness { none, local, all };
Reading read_sockets_of(const ProcessSubject& subject, const std::vector<OpenFile>& files, Freshness freshness);
Reading read_nft();
Reading read_iptables();
/// The host's ends of the veth pairs that lead into the process's own network namespace; none when it has none.
Reading read_uplinks(const ProcessSubject& subject);

/// Whether the number is still that process's.
bool is_process(std::int64_t pid, std::uint64_t start_time_ticks);

/// The output of a program of the system that ended well; nullopt otherwise. At most 16 MiB.
std::optional<std::string> output_of(std::vector<std::string> command);
/// Its path; empty when it is not there.
std::string program(const char* name);

}  // namespace infrastructure_sdk::isolation
