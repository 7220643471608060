#pragma once
// Who may open a console: tokens that are given out once and taken once. Pure but for the bytes that it is given.

#include <map>
#include <optional>
#include <string>

#include <infrastructure_sdk/clock.hpp>
#include <infrastructure_sdk/secret.hpp>

namespace infrastructure_sdk {

/// What a token opens.
struct ConsoleGrant {
    std::string session;
    std::string execution;  ///< of the session; void when it ran anew
    bool share = false;
    MonotonicTime expires;
};

class ConsoleTokens {
public:
    /// 256 random bits in hex; only their SHA-256 is kept. What is over is forgotten, and of more than 64 that are out
    /// for one session the one that would be over first.
    Secret issue(ConsoleGrant grant, Random& random, MonotonicTime now);
    /// What is offered is void afterwards, whatever comes of it.
    std::optional<ConsoleGrant> redeem(const Secret& token, const std::string& session, const std::string& execution,
                                       MonotonicTime now);
    std::size_t size() const { return grants_.size(); }

private:
    std::map<std::string, ConsoleGrant> grants_;  // by the hash
};

}  // namespace infrastructure_sdk
