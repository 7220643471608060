#pragma once
// Host names to addresses.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/async_tools.hpp"
#include "http/net.hpp"

namespace infrastructure_sdk {

/// Asks the system's resolver, which cannot be interrupted: a lookup that its caller gave up goes on. One lookup for a
/// name at a time, two in all, so that a dead name server takes no more than two of the blocking threads.
class Resolver {
public:
    explicit Resolver(Environment environment);
    /// At least one, in the system's order. An address is its own answer.
    /// @throws Error(not_ready) with stage "resolve", Error(timeout), Error(cancelled)
    Task<std::vector<asio::ip::tcp::endpoint>> resolve(std::string host, std::uint16_t port, Call call);
    Task<void> join() { return tasks_.join(); }

private:
    struct Lookup;
    struct State;
    Environment environment_;
    std::shared_ptr<State> state_;
    TaskGroup tasks_;
};

}  // namespace infrastructure_sdk
