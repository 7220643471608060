#pragma once
// A session engine on a simulated host and a virtual clock, whose owner may die and come back.

#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "support/crash_points.hpp"
#include "support/temporary_directory.hpp"
#include <infrastructure_sdk/providers/simulator.hpp>
#include <infrastructure_sdk/session/session_engine.hpp>
#include <infrastructure_sdk/virtual_runtime.hpp>

namespace infrastructure_sdk::test {

/// An image folder with one image `tiny` of empty files.
class TinyImages {
public:
    TinyImages();
    std::string path() const { return directory_.path(); }

private:
    TemporaryDirectory directory_;
};

class SimulatedWorld {
public:
    explicit SimulatedWorld(std::uint64_t seed, SimulatorOptions options = {}, std::vector<Limit> limits = {},
                            std::vector<Pool> pools = {});
    ~SimulatedWorld();

    /// A new owner over what is there: reads the store, adopts, finishes, reaps. False = it died while it did so.
    bool open();
    /// Kill -9 of the owner; harmless when it is dead already.
    void kill_owner();
    bool owner_lives() const { return engine_ && !points_->dead(); }
    /// Runs a task; false when the owner died meanwhile. Error codes of refusals go to `last_code`.
    template <class T>
    bool run(Task<T> task, T* value = nullptr) {
        last_code = Errc{};
        try {
            auto result = runtime_->run(std::move(task));
            if (value) *value = std::move(result);
        } catch (const Error& error) {
            if (points_->dead()) return false;
            last_code = error.errc();
            last_message = error.message();
            last_context = error.context();
        }
        return true;
    }
    void run_for(Duration length) { runtime_->run_for(length); }

    SessionEngine& engine() { return *engine_; }
    VirtualRuntime& runtime() { return *runtime_; }
    CrashPoints& points() { return *points_; }
    SimulatedHost& host() { return host_; }
    /// What the owners write to; it outlives them.
    Store& disk() { return *disk_; }
    Call call() { return {Deadline::after(*runtime_->environment().clock, std::chrono::minutes(10)), {}, "world"}; }
    SessionRequest request(const std::string& user);
    /// What `request` asks for: `tiny`. Others: `sturdy` starts again by itself, `paid` costs 0.50 an hour and 1.00 for
    /// each GPU, `odd` 0.333333.
    static std::map<std::string, Template> templates();
    VmProvider& provider() { return *provider_; }
    /// All sessions, terminated ones too.
    std::vector<Session> sessions();
    /// The units of pools, as recorded.
    std::vector<PoolUnit> units();
    /// Changes the options of the next owner.
    std::function<void(SessionEngineOptions&)> adjust;
    /// What is wrong once everything rests: orphans, double VMs, stuck or lost sessions, wrong accounts.
    std::vector<std::string> faults(const std::vector<std::string>& acknowledged);

    Errc last_code{};
    std::string last_message;
    ErrorContext last_context;

private:
    static TinyImages& images();

    std::uint64_t seed_;
    std::uint64_t owners_ = 0;
    std::vector<Limit> limits_;
    std::vector<Pool> pools_;
    SimulatedHost host_;
    std::shared_ptr<Store> disk_;  ///< outlives the owners
    WallTime wall_;
    MonotonicTime uptime_{};
    std::unique_ptr<VirtualRuntime> runtime_;
    CrashPointsPtr points_;
    std::shared_ptr<VmProvider> provider_;
    std::unique_ptr<SessionEngine> engine_;
};

}  // namespace infrastructure_sdk::test
