// Simulations: workloads, runs and their results. Nothing here needs an opened SDK.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <infrastructure_sdk/error.hpp>
#include <infrastructure_sdk/policy/python_host.hpp>
#include <infrastructure_sdk/simulation/simulation.hpp>

namespace infrastructure_sdk::bindings {
namespace py = pybind11;
using namespace py::literals;
namespace {

std::string fleet_document(const std::string& model) { return to_json(fleet_model_from_json(model)); }

/// Stops at Ctrl-C, and at whatever else a signal raises.
Workload make_workload(const std::string& document, std::uint64_t seed) {
    auto go_on = [] {
        py::gil_scoped_acquire lock;
        if (PyErr_CheckSignals() != 0) throw py::error_already_set();
        return true;
    };
    py::gil_scoped_release release;
    return workload_from_json(document, seed, go_on);
}

using PolicyHosts = std::vector<std::shared_ptr<PolicyHost>>;

/// The host of "text:NUMBER".
Task<PolicyHosts> hand_out(PolicyHosts made, PolicySource source, Call) {
    for (std::size_t i = 0; i < made.size(); ++i)
        if (source.source == "text:" + std::to_string(i)) co_return PolicyHosts{made[i]};
    throw Error(Errc::configuration, "policies: '" + source.source + "' is not allowed; nothing here loads it",
                {{"field", "policies"}, {"value", source.source}});
}

/// Runs without Python's lock; `progress` is asked with it, and an exception of it stops the run.
/// @param policy its `policies` name Python ones as "text:NUMBER", by their place in `texts`.
/// @param texts policies in Python, each with where it is from.
SimulationResult run(const Workload& workload, const std::string& policy,
                     const std::vector<std::pair<std::string, std::string>>& texts, const std::string& options,
                     std::uint64_t seed, const py::object& progress) {
    auto tried = simulated_policy_from_json(policy);
    PolicyHosts made;
    for (const auto& [source, origin] : texts)
        made.push_back(make_inline_python_policy(PolicyText{source, origin}, PythonPolicyOptions()));
    tried.policies.make_hosts = [made](PolicySource source, Call call) {
        return hand_out(made, std::move(source), std::move(call));
    };
    auto how = simulation_options_from_json(options);
    how.seed = seed;
    if (!progress.is_none())
        how.progress = [&progress](double done) {
            py::gil_scoped_acquire lock;
            return progress(done).cast<bool>();
        };
    py::gil_scoped_release release;
    return simulate(workload, tried, how);
}

}  // namespace

void bind_simulation(py::module_& module) {
    py::class_<Workload>(module, "Workload", "What people want of their sessions.")
        .def_property_readonly("sessions", [](const Workload& self) { return self.sessions.size(); })
        .def_property_readonly("start", [](const Workload& self) { return to_rfc3339(self.start); })
        .def_property_readonly("length_s",
                               [](const Workload& self) { return static_cast<double>(self.length.count()) / 1e9; })
        .def_property_readonly("notes", [](const Workload& self) { return self.notes; });
    py::class_<SimulationResult>(module, "SimulationResult", "What became of a workload under a policy.")
        .def(
            "to_json", [](const SimulationResult& self, bool with_sessions) { return to_json(self, with_sessions); },
            "with_sessions"_a);
    module.def("fleet_document", &fleet_document, "model"_a, "The model with all its defaults, as JSON.");
    module.def("make_workload", &make_workload, "document"_a, "seed"_a, "A fleet, a trace or an event log.");
    module.def("run_simulation", &run, "workload"_a, "policy"_a, "texts"_a, "options"_a, "seed"_a, "progress"_a,
               "Blocks without Python's lock.");
    module.def("compare_simulations", &comparison_json, "before"_a, "after"_a, "What differs, as JSON.");
}

}  // namespace infrastructure_sdk::bindings
