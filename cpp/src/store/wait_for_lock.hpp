#pragma once

#include <string>

#include <infrastructure_sdk/deadline.hpp>
#include <infrastructure_sdk/environment.hpp>
#include <infrastructure_sdk/store/store.hpp>

namespace infrastructure_sdk {

/// Another short-lived owner is waited for, and so is what a dead one had just forked; a long-lived one is named when
/// the deadline has passed. @throws as OwnerLock::acquire, Error(cancelled)
Task<OwnerLock> wait_for_lock(Environment environment, std::string state_directory, Call call);

}  // namespace infrastructure_sdk
