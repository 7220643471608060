#pragma once
// Points between two writes at which the owner may die: before and after every commit and every verb of a provider.

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "core/async_tools.hpp"
#include <infrastructure_sdk/store/store.hpp>
#include <infrastructure_sdk/vm/vm_provider.hpp>

namespace infrastructure_sdk::test {

/// Counts the points that are passed and kills the owner at a chosen one. After the death nothing has an effect.
class CrashPoints {
public:
    explicit CrashPoints(std::function<void()> die) : die_(std::move(die)) {}

    /// The owner dies at the `number`-th point from now; 0 = it lives.
    void arm(std::size_t number) {
        std::lock_guard lock(mutex_);
        name_.clear();
        left_ = number;
    }
    /// The same, counting only points of that name.
    void arm(std::string name, std::size_t number) {
        std::lock_guard lock(mutex_);
        name_ = std::move(name);
        left_ = number;
    }
    /// How often each point was passed, by name.
    const std::map<std::string, std::size_t>& passed() const { return passed_; }
    bool dead() const { return dead_; }

    /// Tells the owner of a VM, as its provider would.
    std::function<void(VmEvent)> tell;

    /// Counts a point, on any thread; when it is the chosen one, `die` is called.
    void note(const std::string& name) {
        bool chosen = false;
        {
            std::lock_guard lock(mutex_);
            if (dead_) return;
            ++passed_[name];
            chosen = left_ > 0 && (name_.empty() || name_ == name) && --left_ == 0;
            dead_ = chosen;
        }
        if (chosen) die_();
    }
    Task<void> pass(std::string name) {
        note(name);
        // The dead do not go on.
        if (dead_) co_await until_stopped(never_.get_token());
    }

private:
    std::function<void()> die_;
    std::mutex mutex_;
    std::string name_;
    std::size_t left_ = 0;
    std::atomic<bool> dead_ = false;
    std::map<std::string, std::size_t> passed_;
    std::stop_source never_;
};
using CrashPointsPtr = std::shared_ptr<CrashPoints>;

/// The verbs that are passed, as "before <verb>" and "after <verb>".
inline constexpr const char* crash_verbs[] = {"create", "start",     "wait_ready", "suspend",
                                              "resume", "power_off", "destroy"};

std::shared_ptr<Store> with_crash_points(std::shared_ptr<Store> store, CrashPointsPtr points);
std::shared_ptr<VmProvider> with_crash_points(std::shared_ptr<VmProvider> provider, CrashPointsPtr points);

}  // namespace infrastructure_sdk::test
