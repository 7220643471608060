#pragma once
// When a session that lost its VM is started again, pure: a rule, what happened, a random number -> a verdict.

#include <cstdint>
#include <string>

#include <infrastructure_sdk/session/session.hpp>
#include <infrastructure_sdk/vm/template.hpp>

namespace infrastructure_sdk {

/// How a session came to be failed.
struct Loss {
    SessionState before = SessionState::active;  ///< `failed` = an attempt was denied by a limit
    std::string reason;                          ///< the stable word
    unsigned attempts = 0;                       ///< so far
    Duration active_for{};                       ///< up to the loss; zero when it was not active
};

struct RestartVerdict {
    bool again = false;
    unsigned attempt = 0;  ///< its number, from 1
    Duration delay{};
    std::string why_not;  ///< a stable word; empty when there is no rule or it does not apply
};

/// The first attempt waits `backoff`, each further one twice as long, at most 5 minutes (or `backoff`, if that is
/// longer); up to a quarter more comes from `random`, so that sessions lost together do not come back together.
RestartVerdict plan_restart(const RestartRule& rule, const Loss& loss, std::uint32_t random);

}  // namespace infrastructure_sdk
