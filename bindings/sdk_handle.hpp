#pragma once
// An opened SDK as Python holds it, and how its methods start operations.

#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>
#include <pybind11/pybind11.h>

#include "json_to_python.hpp"
#include "runtime_handle.hpp"
#include "submit.hpp"
#include <infrastructure_sdk/sdk.hpp>

namespace infrastructure_sdk::bindings {

/// An opened SDK and the runtime that it lives on.
struct SdkHandle {
    std::shared_ptr<RuntimeHandle> runtime;
    std::shared_ptr<InfrastructureSDK> sdk;
};

template <class T>
pybind11::object as_dict(const T& value) {
    return to_python(nlohmann::json(value));
}

template <class T>
pybind11::object as_list(const std::vector<T>& values) {
    pybind11::list list;
    for (const auto& value : values) list.append(as_dict(value));
    return list;
}

inline nlohmann::json parse(const std::string& text) {
    auto value = nlohmann::json::parse(text, nullptr, false);
    if (value.is_discarded()) throw Error(Errc::validation, "the request is not JSON", {{"field", "request"}});
    return value;
}

/// A method on the SDK: (self, queue, future, timeout_s, correlation_id, arguments...) -> operation id.
template <class T, class Make, class Convertor>
std::uint64_t call_sdk(const SdkHandle& self, const QueuePtr& queue, pybind11::object future, double timeout_s,
                       const std::string& correlation_id, Make make, Convertor convert) {
    auto sdk = self.sdk;
    std::function<Task<T>(Call)> task = [sdk, make](Call call) { return make(*sdk, call); };
    return submit<T>(queue, std::move(future), self.runtime->environment(), {timeout_s, correlation_id}, task, convert);
}

/// The methods of snapshots, forks and recovery.
void bind_snapshots(pybind11::class_<SdkHandle>& sdk);
/// Commands, parts of files, screen, keys and pointer, console.
void bind_access(pybind11::class_<SdkHandle>& sdk);
/// Kept isolation reports, keys and head records.
void bind_reports(pybind11::class_<SdkHandle>& sdk);
/// Policies that are loaded.
void bind_policies(pybind11::class_<SdkHandle>& sdk);

}  // namespace infrastructure_sdk::bindings
