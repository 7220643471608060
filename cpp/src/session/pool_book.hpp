#pragma once
// What the engine knows of its pools and units. Touched on the executor only.

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "core/async_tools.hpp"
#include <infrastructure_sdk/session/pool.hpp>

namespace infrastructure_sdk {

inline constexpr const char* pool_kind = "pool";
inline constexpr const char* pool_unit_kind = "pool_unit";

struct LiveUnit {
    explicit LiveUnit(PoolUnit value) : unit(std::move(value)) {}
    PoolUnit unit;
    bool writing = false;   ///< one commit at a time keeps versions in order
    bool driven = false;    ///< a worker is on it
    bool claimed = false;   ///< a session's commit is under way, or done
    std::stop_source work;  ///< stops the worker's present step
};
using UnitPtr = std::shared_ptr<LiveUnit>;

struct LivePool {
    Pool pool;
    bool drained = false;
    std::size_t asked = 0;
    unsigned failures = 0;  ///< boots in a row
    std::optional<WallTime> not_before;
    std::string problem;
    bool full = false;  ///< the problem is a limit: it may end when a session gives something back
    MonotonicTime image_looked_at = MonotonicTime::min();
    std::uint64_t warm_starts = 0;
    std::uint64_t cold_starts = 0;
};

struct PoolBook {
    explicit PoolBook(Executor executor) : changed(executor) {}
    std::map<std::string, LivePool> pools;
    std::map<std::string, UnitPtr> units;
    Signal changed;
    std::uint64_t changes = 0;  ///< so that none falls between a look and a wait

    void notify() {
        ++changes;
        changed.notify_all();
    }
};

}  // namespace infrastructure_sdk
