#pragma once
// How requests reach the guest's agent: for what is built of several of them.

#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include <infrastructure_sdk/deadline.hpp>
#include <infrastructure_sdk/environment.hpp>
#include <infrastructure_sdk/error.hpp>
#include <infrastructure_sdk/vm/guest_agent.hpp>

namespace infrastructure_sdk::qemu {

struct AgentRequest {
    std::string command;
    nlohmann::json arguments;
};
struct AgentAnswer {
    nlohmann::json value;
    std::optional<Error> error;
};

class AgentChannel {
public:
    virtual ~AgentChannel() = default;
    /// @throws Error(provider) for a refusal, Error(not_ready, channel=agent), Error(cancelled)
    virtual Task<nlohmann::json> request(std::string command, nlohmann::json arguments, Call call) = 0;
    /// Sent at once and answered in order; a refusal of one does not keep the others from being done.
    virtual Task<std::vector<AgentAnswer>> request_all(std::vector<AgentRequest> requests, Call call) = 0;
    virtual const Environment& environment() const = 0;
    /// A few seconds for what is tidied up after a caller that gave up.
    Call grace() const { return {Deadline::after(*environment().clock, std::chrono::seconds(5)), {}, {}}; }
};

}  // namespace infrastructure_sdk::qemu
