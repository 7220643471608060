#pragma once
// The words of warm pools: booted, paused VMs of a template that nobody has used yet.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <infrastructure_sdk/clock.hpp>
#include <infrastructure_sdk/quantity.hpp>
#include <infrastructure_sdk/vm/template.hpp>
#include <infrastructure_sdk/vm/vm.hpp>

namespace infrastructure_sdk {

/// Times of day, UTC, at which another number of units is kept. `from` after `to` reaches into the next day.
struct PoolWindow {
    std::vector<int> days;  ///< on which it begins: 0 = Monday .. 6 = Sunday; empty = every day
    int from_minute = 0;    ///< of the day, 0..1439
    int to_minute = 0;      ///< of the day, 0..1440; not itself part of the window
    std::size_t min = 0;
    friend bool operator==(const PoolWindow&, const PoolWindow&) = default;
};

struct Pool {
    std::string name;
    std::string template_name;
    std::size_t min = 1;                       ///< ready units that are kept outside all windows
    std::size_t max = 1;                       ///< units that exist at any time, booting and ready; at least every min
    Duration max_age = std::chrono::hours(4);  ///< an older unit is not handed out
    std::vector<PoolWindow> schedule;          ///< of several windows at once, the highest min counts
    friend bool operator==(const Pool&, const Pool&) = default;
};

/// Reads a YAML (or JSON) document:
///
///     pools:
///       - name: desks
///         template: linux-tiny
///         min: 2
///         max: 8
///         max_age: 4h
///         schedule:
///           - {days: [mon, tue, wed, thu, fri], from: "07:30", to: "18:00", min: 6}
///
/// `max` is the highest min when it is absent. Unknown or repeated keys, wrong values, a min above `max` and a name
/// that is used twice are errors, all reported at once.
/// @param source named in errors. @throws Error(validation)
std::vector<Pool> parse_pools(const std::string& yaml, const std::string& source);
/// Each pool's template must exist, be Linux and have an agent: identity is given through it.
/// @throws Error(validation) with the pool and what is allowed.
void check_pools(const std::vector<Pool>& pools, const std::map<std::string, Template>& templates);

enum class UnitState {
    booting,     ///< being made, booted and paused
    ready,       ///< paused, waiting for a claim
    discarding,  ///< its VM is being removed
};
const char* name_of(UnitState state) noexcept;

/// One VM of a pool. It ends in a claim (the VM is a session's from then on) or is discarded; it is never used twice.
struct PoolUnit {
    std::string id;  ///< "u-" and 16 hex digits
    std::string pool;
    std::string template_name;
    UnitState state = UnitState::booting;
    VmId vm_id;
    std::string execution_id;  ///< of the VM's start; goes over to the session
    Quantity cpu;
    Quantity memory;
    Quantity disk_size;
    std::int64_t price_per_hour_micros = 0;  ///< of its template: counts for the host while it is there
    std::string mac_address;
    bool files_suffice = false;  ///< its next identity needs no shell in the guest
    std::string fingerprint;  ///< of everything that the VM was made from; a unit of an old template is not handed out
    WallTime created_at;
    std::optional<WallTime> ready_at;
    std::string
        reason;  ///< why it is discarded: "expired", "excess", "drained", "stale", "failed", "lost", "claim_failed"
    std::uint64_t version = 0;  ///< of the stored record
};

/// A pool as it is now.
struct PoolStatus {
    Pool pool;
    bool drained = false;    ///< nothing is kept ready until `refill`
    std::size_t wanted = 0;  ///< ready units that it works towards now
    std::size_t ready = 0;
    std::size_t booting = 0;
    std::size_t discarding = 0;
    std::size_t claimed = 0;           ///< sessions that took a unit of it and are not terminated
    std::uint64_t warm_starts = 0;     ///< since this owner began
    std::uint64_t cold_starts = 0;     ///< of its template since then: no unit was there, or it failed
    std::string problem;               ///< why units are missing; empty when nothing is wrong
    std::optional<WallTime> retry_at;  ///< when the next boot is tried after a failure
    std::vector<PoolUnit> units;
};

}  // namespace infrastructure_sdk
