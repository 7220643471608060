#pragma once
// A store for simulations: keeps versions, hands each event to who listens, and forgets both documents and events.

#include <functional>
#include <memory>

#include <infrastructure_sdk/store/store.hpp>

namespace infrastructure_sdk {

/// Same preconditions and versions as the others; `get`, `list` and `events` find nothing.
std::shared_ptr<Store> make_forgetful_store(std::function<void(const Event&)> listener);

}  // namespace infrastructure_sdk
