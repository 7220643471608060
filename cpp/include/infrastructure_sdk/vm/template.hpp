#pragma once
// A Template says what VM.

#include <map>
#include <string>
#include <vector>

#include <infrastructure_sdk/quantity.hpp>
#include <infrastructure_sdk/vm/vm.hpp>

namespace infrastructure_sdk {

enum class IsolationGate { report, isolated };

/// What a check that begins to fail in a running session does.
enum class DriftAction { report, suspend };

enum class RestartPolicy { never, on_failure };

/// Whether a session whose VM was lost (killed, panicked) is started again by itself.
struct RestartRule {
    RestartPolicy policy = RestartPolicy::never;
    unsigned max_attempts = 3;
    Duration backoff = std::chrono::seconds(5);  ///< before the first attempt; doubles with each, up to 5 minutes
    Duration window = std::chrono::minutes(10);  ///< a session that was active this long has its attempts forgotten
};

struct Template {
    std::string name;
    std::string description;
    std::string os = "linux";
    std::string image;
    std::string machine = "pc-q35-7.2";
    Firmware firmware = Firmware::bios;
    bool tpm = false;
    std::vector<std::string> enlightenments;  ///< of `hyperv_enlightenments()`
    ClockBase clock = ClockBase::utc;
    Quantity cpu = Quantity::from_milli(1000);
    Quantity memory;
    Quantity disk_size;  ///< 0 = the image's
    /// Of disk and network; `cpu_milli` is not used: a session's CPU is its own.
    VmLimits limits;
    bool pin_cpus = false;
    bool watchdog = false;
    bool display = true;
    NetworkMode network = NetworkMode::isolated;
    std::string bridge;  ///< for NetworkMode::bridge
    std::vector<std::string> channels{"agent"};
    Duration boot_timeout = std::chrono::seconds(60);
    Encryption encryption = Encryption::memory;
    IsolationGate isolation = IsolationGate::report;
    DriftAction on_drift = DriftAction::report;
    RestartRule restart;
    std::int64_t price_per_hour_micros = 0;      ///< of one session, in millionths of the currency
    std::int64_t gpu_price_per_hour_micros = 0;  ///< of each GPU, on top of it
};

struct TemplateDocument {
    std::string source;  ///< named in errors, e.g. the path
    std::string yaml;
};

/// Reads one YAML document. Unknown keys, duplicate keys and wrong values are errors, all reported at once. A document
/// with `extends: NAME` takes from the built-in template NAME what it does not say itself; mappings are taken key by
/// key, lists as a whole.
/// @param source named in errors. @throws Error(validation)
Template parse_template(const std::string& yaml, const std::string& source);
/// The built-in templates and these, by name; one of the same name replaces the built-in one. `extends` may name any of
/// them, also one that is replaced: a document that extends its own name extends the built-in one. @throws
/// Error(validation)
std::map<std::string, Template> parse_templates(const std::vector<TemplateDocument>& documents);
/// The templates that ship with the library, by name.
const std::map<std::string, Template>& builtin_templates();
/// JSON Schema 2020-12 of a template document.
std::string template_json_schema();

}  // namespace infrastructure_sdk
