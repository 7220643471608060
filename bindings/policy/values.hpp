#pragma once
// How the values of policies look in Python: times are datetime with UTC, durations are seconds, enumerations are their
// names, maps cannot be changed. All of it needs the GIL.

#include <map>
#include <optional>
#include <string>
#include <vector>

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <infrastructure_sdk/policy/decision.hpp>

namespace infrastructure_sdk::bindings {

/// A WallTime as an argument: an aware datetime. Python's have microseconds, ours nanoseconds: what is below is cut
/// off.
struct Moment {
    WallTime at;
};

pybind11::object to_datetime(WallTime time);
/// Raises Python's ValueError for a naive one. False = it is no datetime.
bool from_datetime(pybind11::handle object, WallTime& time);

/// @throws Error(validation) naming the field: not a number, negative, or above a hundred years.
Duration from_seconds(double seconds, const char* field);
inline double to_seconds(Duration length) { return std::chrono::duration<double>(length).count(); }

/// As `PolicyAnswer.decision` and the arguments of policies: a new object of the bound class, which owns the value.
pybind11::object to_python(PolicyRequest request);
pybind11::object to_python(const PolicyDecision& decision);
/// None = not one of the bound decision classes (a subclass cannot be made).
std::optional<PolicyDecision> decision_from(pybind11::handle object);
/// The request inside a bound object. nullopt = not one of the bound request classes.
std::optional<PolicyRequest> request_from(pybind11::handle object);

}  // namespace infrastructure_sdk::bindings

namespace pybind11::detail {
template <>
struct type_caster<infrastructure_sdk::bindings::Moment> {
    PYBIND11_TYPE_CASTER(infrastructure_sdk::bindings::Moment, const_name("datetime.datetime"));
    bool load(handle source, bool) { return infrastructure_sdk::bindings::from_datetime(source, value.at); }
    static handle cast(const infrastructure_sdk::bindings::Moment& moment, return_value_policy, handle) {
        return infrastructure_sdk::bindings::to_datetime(moment.at).release();
    }
};
}  // namespace pybind11::detail
