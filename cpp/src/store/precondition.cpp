#include "store/precondition.hpp"

#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {

std::uint64_t next_version(const Put& put, std::uint64_t stored) {
    if (!put.expected_version || *put.expected_version == stored) return stored + 1;
    auto name = put.kind + " " + put.id;
    auto expected = std::to_string(*put.expected_version);
    auto actual = std::to_string(stored);
    auto message = stored == 0                  ? name + " does not exist, version " + expected + " was expected"
                   : *put.expected_version == 0 ? name + " exists already with version " + actual
                                                : name + " has version " + actual + ", not " + expected;
    throw Error(Errc::conflict, message + ": it was changed meanwhile; read it again",
                {{"kind", put.kind}, {"id", put.id}, {"version", actual}, {"expected", expected}});
}

void refuse_closed() { throw Error(Errc::store, "the store is closed: open it again"); }

}  // namespace infrastructure_sdk
