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

class FrozenClass;

/// Python's have microseconds, ours nanoseconds: what is below is cut off.
pybind11::object to_datetime(WallTime time);
/// Raises Python's ValueError for a naive one. False = it is no datetime.
bool from_datetime(pybind11::handle object, WallTime& time);

/// @throws Error(validation) naming the field: not a number, negative, or above a hundred years.
Duration from_seconds(double seconds, const char* field);
inline double to_seconds(Duration length) { return std::chrono::duration<double>(length).count(); }

/// As `PolicyAnswer.decision`: a new object of the bound class, which owns the value.
pybind11::object to_python(PolicyRequest request);
pybind11::object to_python(const PolicyDecision& decision);

/// A request as the argument of a policy. It is not copied unless the policy keeps it: the request outlives this.
class ShownRequest {
public:
    explicit ShownRequest(const PolicyRequest& request);
    ~ShownRequest();
    ShownRequest(const ShownRequest&) = delete;
    ShownRequest& operator=(const ShownRequest&) = delete;
    PyObject* ptr() const { return object_.ptr(); }

private:
    pybind11::object object_;
    FrozenClass* class_;
};

/// None = not one of the bound decision classes (a subclass cannot be made).
std::optional<PolicyDecision> decision_from(pybind11::handle object);
/// The request inside a bound object. nullopt = not one of the bound request classes.
std::optional<PolicyRequest> request_from(pybind11::handle object);

}  // namespace infrastructure_sdk::bindings
