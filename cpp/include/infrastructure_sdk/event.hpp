#pragma once
// An Event is one durable line of what happened.

#include <cstdint>
#include <string>

#include <infrastructure_sdk/clock.hpp>

namespace infrastructure_sdk {

struct Event {
    std::uint64_t sequence = 0;  ///< given by the store, ascending without reuse; 0 before it is stored
    WallTime time;
    std::string type;            ///< "session.lifecycle.ready"
    std::string subject;         ///< session or VM id
    std::string execution_id;    ///< may be empty
    std::string correlation_id;  ///< may be empty
    std::string data = "{}";     ///< a JSON object
};

}  // namespace infrastructure_sdk
