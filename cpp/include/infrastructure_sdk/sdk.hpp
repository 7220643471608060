#pragma once
// The facade: configuration + provider + store -> engines.

#include <memory>
#include <optional>
#include <string>

#include <infrastructure_sdk/config/config.hpp>
#include <infrastructure_sdk/environment.hpp>
#include <infrastructure_sdk/isolation/isolation_engine.hpp>
#include <infrastructure_sdk/isolation/report_ledger.hpp>
#include <infrastructure_sdk/policy/policy_engine.hpp>
#include <infrastructure_sdk/providers/qemu.hpp>
#include <infrastructure_sdk/session/session_engine.hpp>
#include <infrastructure_sdk/webhooks/webhook_engine.hpp>

namespace infrastructure_sdk {

/// One installation: owns the state directory, the provider, the store and the engines.
///
///     auto runtime = Runtime(make_stream_sink(LogFormat::text));
///     auto sdk = run(runtime, InfrastructureSDK::open(runtime.environment(), Config()));
///
/// VMs go on running after `close()` and after the process; the next owner adopts them.
class InfrastructureSDK {
public:
    /// Takes the state directory, opens the store, loads the policies, recovers.
    /// @param policy_hosts loads policies that are code; none = built-in rules only.
    /// @throws Error(conflict) naming the live owner, Error(provider) without QEMU, Error(store), Error(policy) when a
    /// policy cannot be loaded, ConfigError.
    static Task<std::shared_ptr<InfrastructureSDK>> open(Environment environment, Config config, Call call = {},
                                                         PolicyHostFactory policy_hosts = nullptr);
    ~InfrastructureSDK();

    SessionEngine& sessions();
    WebhookEngine& webhooks();
    PolicyEngine& policies();
    /// Reads the configured document and all policies anew; see PolicyEngine::reload.
    Task<std::vector<PolicyStatus>> reload_policies(Call call);
    /// The kept reports: every one of a session, those of the gate too.
    ReportLedger& reports();
    const Capabilities& capabilities() const;
    const Config& config() const;
    const std::map<std::string, Template>& templates() const;
    /// One session against all other running ones. The report is signed and kept before it is returned.
    /// @throws Error(not_found), Error(store) when it cannot be kept, Error(cancelled).
    Task<IsolationReport> validate_isolation(std::string session_id, std::vector<Layer> layers, Call call);
    /// The same with active probes, see `IsolationEngine::audit_with_probes`. What they found counts for later reports
    /// of the session too. @param probes ids of checks, of `probed_checks()`; all of them: that list.
    /// @throws Error(validation) naming `probes`, and as above
    Task<IsolationReport> probe_isolation(std::string session_id, std::vector<Layer> layers,
                                          std::vector<std::string> probes, Call call);
    /// A check of your own, in every report from now on; see `OwnCheck`. On the Environment's executor.
    /// @throws Error(validation) naming the field
    void register_check(const OwnCheck& check);
    /// QEMU processes of this host, whoever started them, each against the others. Nothing is started or changed. One
    /// that belongs to a session is looked at through its session; the others' `session_id` is "pid N".
    /// @param all also every other one that is found. @return one report a process, by pid.
    /// @throws Error(validation) naming `pids` when there is none, or one is not positive or there twice;
    /// Error(not_found) when one does not run; Error(cancelled).
    Task<std::vector<IsolationReport>> audit_isolation(std::vector<QemuProcess> processes, bool all,
                                                       std::vector<Layer> layers, Call call);
    /// The keys of users that there are, without the keys.
    Task<std::vector<UserKeys>> list_keys(Call call);
    /// See `VmProvider::rotate_keys`. @throws Error(not_found) naming `user_id` when the user has no key.
    Task<KeyRotation> rotate_keys(std::string user_id, Call call);
    /// See `VmProvider::erase_keys`: what the user's suspended sessions, encrypted disks and snapshots hold is lost for
    /// good, and no copy or backup of them opens again. @throws Error(conflict) naming the sessions while the user has
    /// any; Error(not_found) naming `user_id` when the user has no key.
    Task<void> erase_keys(std::string user_id, Call call);
    Task<std::vector<VmStatus>> list_vms(Call call);
    /// Lets go; touches no VM. Webhooks get up to two seconds for what is due.
    Task<void> close();

private:
    InfrastructureSDK() = default;
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

/// Where state and images live when the configuration does not say: for root /var/lib/infrastructure-sdk, else
/// $XDG_STATE_HOME/infrastructure-sdk (images: $XDG_DATA_HOME/infrastructure-sdk/images).
std::string default_state_directory();
std::string default_image_directory();
/// What `open` would use, without opening.
QemuOptions qemu_options(const Config& config);
/// The same, of section `policy`; reads its document. @throws Error(configuration), Error(validation)
PolicyEngineOptions policy_options(const Config& config);

/// Runs one task on the runtime from an ordinary thread and blocks for its result.
template <class T>
T run(Runtime& runtime, Task<T> task);

}  // namespace infrastructure_sdk

#include <infrastructure_sdk/detail/run.hpp>
