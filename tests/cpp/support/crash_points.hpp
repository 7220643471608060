#pragma once
// Points between two writes at which the owner may die: before and after every commit and every verb of a provider.

#include <functional>
#include <map>
#include <memory>
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
    void arm(std::size_t number) { left_ = number; }
    /// How often each point was passed, by name.
    const std::map<std::string, std::size_t>& passed() const { return passed_; }
    bool dead() const { return dead_; }

    Task<void> pass(std::string name) {
        if (!dead_) {
            ++passed_[name];
            if (left_ > 0 && --left_ == 0) {
                dead_ = true;
                die_();
            }
        }
        // The dead do not go on.
        if (dead_) co_await until_stopped(never_.get_token());
    }

private:
    std::function<void()> die_;
    std::size_t left_ = 0;
    bool dead_ = false;
    std::map<std::string, std::size_t> passed_;
    std::stop_source never_;
};
using CrashPointsPtr = std::shared_ptr<CrashPoints>;

std::shared_ptr<Store> with_crash_points(std::shared_ptr<Store> store, CrashPointsPtr points);
std::shared_ptr<VmProvider> with_crash_points(std::shared_ptr<VmProvider> provider, CrashPointsPtr points);

}  // namespace infrastructure_sdk::test
