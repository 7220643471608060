#include <infrastructure_sdk/sdk.hpp>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>

#include <unistd.h>

#include "core/async_tools.hpp"
#include "core/money.hpp"
#include "providers/qemu/process.hpp"
#include "isolation/host_watch.hpp"
#include "store/wait_for_lock.hpp"
#include <infrastructure_sdk/duration.hpp>
#include <infrastructure_sdk/isolation/waivers.hpp>

namespace infrastructure_sdk {
namespace fs = std::filesystem;
namespace {

std::string under_home(const char* variable, const char* fallback, const char* leaf) {
    if (const char* base = std::getenv(variable); base && *base == '/') return fs::path(base) / leaf;
    const char* home = std::getenv("HOME");
    if (!home || *home != '/')
        throw Error(Errc::configuration, "no home directory is known: set HOME or store.state_directory",
                    {{"field", "store.state_directory"}});
    return fs::path(home) / fallback / leaf;
}

std::string state_directory(const Config& config) {
    auto path = config.text("store.state_directory");
    return path.empty() ? default_state_directory() : fs::absolute(path).lexically_normal().string();
}

std::string image_directory(const Config& config) {
    auto path = config.text("vm.image_directory");
    return path.empty() ? default_image_directory() : fs::absolute(path).lexically_normal().string();
}

SessionClocks clocks_of(const Config& config) {
    auto optional = [&config](const char* path) -> std::optional<Duration> {
        auto value = config.duration(path);
        return value == Duration::zero() ? std::nullopt : std::optional(value);
    };
    SessionClocks clocks;
    clocks.ttl = {
        config.duration("session.default_ttl"), parse_on_expiry(config.text("session.ttl_on_expiry")), {}, false};
    clocks.idle_timeout = {
        optional("session.idle_timeout"), parse_on_expiry(config.text("session.idle_on_expiry")), {}, false};
    clocks.disconnect_timeout = {optional("session.disconnect_timeout"),
                                 parse_on_expiry(config.text("session.disconnect_on_expiry")),
                                 {},
                                 false};
    clocks.retention = {optional("session.retention"), OnExpiry::terminate, {}, false};
    clocks.maximum_ttl = config.duration("session.maximum_ttl");
    clocks.warn_before = config.duration("session.warn_before");
    return clocks;
}

IdleSettings idleness_of(const Config& config) {
    auto number = [&config](const char* path) { return static_cast<double>(config.quantity(path).milli()) / 1000; };
    IdleSettings settings;
    settings.sample_interval = config.duration("session.idle_sample_interval");
    settings.arming_delay = config.duration("session.idle_arming_delay");
    settings.thresholds.guest_cpu_cores = number("session.idle_guest_cpu");
    settings.thresholds.network_bytes_per_second = number("session.idle_network");
    settings.thresholds.disk_bytes_per_second = number("session.idle_disk");
    settings.thresholds.longest_gap = std::max(settings.thresholds.longest_gap, settings.sample_interval * 5);
    return settings;
}

std::map<std::string, Template> load_templates(const Config& config) {
    std::vector<TemplateDocument> documents;
    auto directory = config.text("vm.template_directory");
    if (!directory.empty()) {
        std::error_code error;
        for (const auto& entry : fs::directory_iterator(directory, error)) {
            if (entry.path().extension() != ".yaml" && entry.path().extension() != ".yml") continue;
            std::ifstream file(entry.path(), std::ios::binary);
            documents.push_back({entry.path().string(), {std::istreambuf_iterator<char>(file), {}}});
        }
        if (error)
            throw Error(Errc::configuration,
                        "vm.template_directory: '" + directory + "' cannot be read: " + error.message(),
                        {{"field", "vm.template_directory"}, {"value", directory}});
    }
    auto templates = parse_templates(documents);
    for (auto& entry : templates) {
        if (config.is_set("vm.boot_timeout")) entry.second.boot_timeout = config.duration("vm.boot_timeout");
        if (auto encryption = config.text("vm.encryption"); encryption != "template")
            entry.second.encryption = parse_encryption(encryption);
        if (auto gate = config.text("isolation.gate"); gate != "template")
            entry.second.isolation = gate == "isolated" ? IsolationGate::isolated : IsolationGate::report;
    }
    return templates;
}

/// The document that an option names; empty when it names none. One that cannot be read fails the start: neither limits
/// nor pools nor webhooks are ever silently off.
std::string read_document(const Config& config, const std::string& option) {
    auto path = config.text(option);
    if (path.empty()) return {};
    std::ifstream file(path, std::ios::binary);
    std::string yaml((std::istreambuf_iterator<char>(file)), {});
    if (!file)
        throw Error(Errc::configuration, option + ": '" + path + "' cannot be read",
                    {{"field", option}, {"value", path}});
    return yaml;
}

std::vector<Limit> load_limits(const Config& config) {
    auto path = config.text("session.limits_file");
    std::vector<Limit> limits;
    if (!path.empty()) limits = parse_limits(read_document(config, "session.limits_file"), path);
    auto budget = config.text("cost_optimization.budget_per_month");
    if (budget.empty()) return limits;
    for (const auto& limit : limits)
        if (limit.scope == LimitScope::host && limit.resource == LimitResource::money_per_month)
            throw Error(Errc::configuration,
                        "cost_optimization.budget_per_month: '" + budget + "' is not allowed; " + path +
                            " limits the host's money_per_month already",
                        {{"field", "cost_optimization.budget_per_month"}, {"value", budget}});
    limits.push_back({LimitScope::host, "", LimitResource::money_per_month,
                      parse_money(budget, "cost_optimization.budget_per_month")});
    return limits;
}

std::vector<Pool> load_pools(const Config& config) {
    auto path = config.text("session.pools_file");
    return path.empty() ? std::vector<Pool>() : parse_pools(read_document(config, "session.pools_file"), path);
}

std::vector<Webhook> load_webhooks(const Config& config) {
    auto path = config.text("session.webhooks_file");
    return path.empty() ? std::vector<Webhook>() : parse_webhooks(read_document(config, "session.webhooks_file"), path);
}

std::vector<PolicySource> load_policies(const Config& config) {
    auto path = config.text("policy.policies_file");
    std::vector<PolicySource> sources;
    if (!path.empty()) sources = parse_policies(read_document(config, "policy.policies_file"), path);
    for (const auto& file : config.list("policy.files")) {
        PolicySource source;
        source.source = file;
        source.mode = parse_policy_mode(config.text("policy.mode"));
        if (source.mode == PolicyMode::canary) source.canary_tenants = config.list("policy.canary_tenants");
        source.untrusted = config.boolean("policy.untrusted");
        sources.push_back(std::move(source));
    }
    return sources;
}

/// Those of isolation.waivers_file. One line that no trusted key signed fails the start: a waiver is never half taken.
std::vector<Waiver> load_waivers(const Config& config) {
    auto path = config.text("isolation.waivers_file");
    if (path.empty()) return {};
    if (config.text("isolation.waiver_keys_file").empty())
        throw Error(Errc::configuration, "isolation.waiver_keys_file: it must name the keys that may sign waivers",
                    {{"field", "isolation.waiver_keys_file"}});
    return read_waivers(read_document(config, "isolation.waivers_file"), path,
                        {read_document(config, "isolation.waiver_keys_file")});
}

}  // namespace

std::string default_state_directory() {
    if (::geteuid() == 0) return "/var/lib/infrastructure-sdk";
    return under_home("XDG_STATE_HOME", ".local/state", "infrastructure-sdk");
}

std::string default_image_directory() {
    if (::geteuid() == 0) return "/var/lib/infrastructure-sdk/images";
    return under_home("XDG_DATA_HOME", ".local/share", "infrastructure-sdk/images");
}

QemuOptions qemu_options(const Config& config) {
    QemuOptions options;
    options.state_directory = state_directory(config);
    options.qemu_binary = config.text("providers.qemu_binary");
    options.qemu_img_binary = config.text("providers.qemu_img_binary");
    auto accelerator = config.text("vm.accelerator");
    options.accelerator = accelerator == "kvm"   ? AcceleratorChoice::kvm
                          : accelerator == "tcg" ? AcceleratorChoice::tcg
                                                 : AcceleratorChoice::automatic;
    options.probe_image_directory = image_directory(config);
    options.translation_cache_mib = static_cast<int>(config.quantity("vm.translation_cache").value() >> 20);
    options.fast_launch = config.text("vm.fast_launch") == "auto";
    options.master_key = config.secret("vm.master_key");
    options.uid_base = static_cast<unsigned>(config.integer("providers.qemu_uid_base"));
    return options;
}

PolicyEngineOptions policy_options(const Config& config) {
    PolicyEngineOptions options;
    options.sources = load_policies(config);
    options.time_budget = config.duration("policy.time_budget");
    options.memory_budget_bytes = config.quantity("policy.memory_budget").value();
    options.breaker.failures = static_cast<int>(config.integer("policy.breaker_failures"));
    options.breaker.rest = config.duration("policy.breaker_rest");
    options.rate_limit.share = config.number("policy.rate_limit_share");
    options.rate_limit.window = config.duration("policy.rate_limit_window");
    options.guard.share = config.number("policy.guard_share");
    options.guard.resumed_within = config.duration("policy.guard_resumed_within");
    options.schedule_interval = config.duration("policy.schedule_interval");
    options.budget_interval = config.duration("policy.budget_interval");
    return options;
}

struct InfrastructureSDK::Impl {
    Impl(Environment e, Config c, OwnerLock l)
        : environment(e), config(std::move(c)), lock(std::move(l)), isolation(e), chores(e.executor) {}
    Environment environment;
    Config config;
    OwnerLock lock;
    std::map<std::string, Template> templates;
    std::shared_ptr<VmProvider> provider;
    std::shared_ptr<Store> store;
    IsolationEngine isolation;
    std::vector<Waiver> waivers;
    std::unique_ptr<ReportLedger> reports;
    std::shared_ptr<PolicyEngine> policies;
    std::unique_ptr<SessionEngine> sessions;
    std::unique_ptr<isolation::HostWatch> host_watch;
    std::unique_ptr<WebhookEngine> webhooks;
    bool closed = false;

    std::optional<MonotonicTime> tidied;   ///< when old reports were looked for last
    std::map<VmId, MonotonicTime> probed;  ///< when those whose template demands isolation were probed last
    TaskGroup chores;                      ///< what nobody waits for
    bool probing = false;                  ///< one round of them is under way

    Task<IsolationReport> report(Session session, std::vector<Layer> layers, std::vector<std::string> probes,
                                 Call call);
    Task<void> start_reports(const std::string& directory);
    Task<std::vector<IsolationReport>> judge(std::vector<Session> judged, std::vector<Layer> layers,
                                             std::vector<std::string> probes, Call call);
    void start_probing(const std::vector<Session>& seen);
    Task<void> probe_again(std::vector<Session> due);
    void start_tidying();
    Task<void> forget_reports();
    Task<std::size_t> forget_reports_before(WallTime before);
    void listen_to_host();
    Task<void> need_keys(std::string user_id, Call call);
    Task<void> start_webhooks(std::vector<Webhook> list);
};

Task<void> InfrastructureSDK::Impl::start_reports(const std::string& directory) {
    ReportLedgerOptions options;
    options.key_directory = fs::path(directory) / "isolation-keys";
    options.boot_id = qemu::boot_id();
    options.kept_reports = static_cast<std::size_t>(config.integer("isolation.kept_reports"));
    reports = std::make_unique<ReportLedger>(environment, store, std::move(options));
    co_await reports->open();
}

Task<void> InfrastructureSDK::Impl::start_webhooks(std::vector<Webhook> list) {
    WebhookEngineOptions options;
    options.webhooks = std::move(list);
    options.next_events = [this](EventQuery query, Call call) { return sessions->next_events(query, call); };
    options.make_transport = [this](const std::string& ca_file) {
        AsioHttpOptions http;
        http.tls.ca_file = ca_file;
        return make_asio_http_transport(environment, http);
    };
    webhooks = std::make_unique<WebhookEngine>(environment, store, std::move(options));
    co_await webhooks->start();
}

/// Each of these sessions against all that run.
Task<std::vector<IsolationReport>> InfrastructureSDK::Impl::judge(std::vector<Session> judged,
                                                                  std::vector<Layer> layers,
                                                                  std::vector<std::string> probes, Call call) {
    std::vector<IsolationSubject> subjects;
    std::vector<IsolationSubject> neighbours;
    std::set<std::string> named;
    for (const auto& session : judged) {
        named.insert(session.id);
        subjects.push_back({session.id, session.vm_id, provider->evidence(session.vm_id)});
    }
    for (const auto& other : sessions->active())
        if (!named.contains(other.id)) neighbours.push_back({other.id, other.vm_id, provider->evidence(other.vm_id)});
    auto found = co_await isolation.audit_with_probes(std::move(subjects), std::move(neighbours), std::move(layers),
                                                      std::move(probes), call);
    for (auto& report : found) apply_waivers(report, waivers, report.created_at);
    co_return found;
}

/// Signed and kept.
Task<IsolationReport> InfrastructureSDK::Impl::report(Session session, std::vector<Layer> layers,
                                                      std::vector<std::string> probes, Call call) {
    std::vector<Session> judged{std::move(session)};
    auto found = co_await judge(std::move(judged), std::move(layers), std::move(probes), call);
    co_await reports->keep(found.front(), call);
    co_return std::move(found.front());
}

/// At most once an hour: it reads all sessions.
void InfrastructureSDK::Impl::start_tidying() {
    const auto now = environment.clock->monotonic_now();
    constexpr Duration pause = std::chrono::hours(1);
    if (config.duration("isolation.report_retention") == Duration::zero() || (tidied && now - *tidied < pause)) return;
    if (chores.stop_source().stop_requested()) return;
    tidied = now;
    chores.spawn(environment.logger, "forgetting old reports", forget_reports());
}

/// Those of sessions that ended long ago.
Task<void> InfrastructureSDK::Impl::forget_reports() {
    const auto retention = config.duration("isolation.report_retention");
    try {
        auto count = co_await forget_reports_before(environment.clock->wall_now() - retention);
        if (count > 0)
            environment.logger->log(LogLevel::info, "isolation.reports", "old reports of ended sessions were removed",
                                    {{"count", std::to_string(count)}});
    } catch (const std::exception& error) {
        // Tidying is nobody's reason not to run.
        environment.logger->log(LogLevel::error, "isolation.reports", "old reports could not be removed",
                                {{"detail", error.what()}});
    }
}

Task<std::size_t> InfrastructureSDK::Impl::forget_reports_before(WallTime before) {
    std::set<std::string> running;
    SessionFilter not_ended;
    not_ended.limit = 1000;
    for (;;) {
        if (chores.stop_source().stop_requested()) co_return 0;
        auto page = co_await sessions->list(not_ended);
        for (const auto& session : page.sessions) running.insert(session.id);
        if (page.next.empty()) break;
        not_ended.after = page.next;
    }
    co_return co_await reports->forget(std::move(running), before);
}

/// What passed a gate by probes is probed again before these are too old: beside the looks, which go on meanwhile.
void InfrastructureSDK::Impl::start_probing(const std::vector<Session>& seen) {
    constexpr Duration age = std::chrono::minutes(4);  // below the ttl of a critical check's probe
    if (probing || chores.stop_source().stop_requested()) return;
    const auto now = environment.clock->monotonic_now();
    std::erase_if(probed, [&](const auto& entry) { return now - entry.second > age * 2; });
    std::vector<Session> due;
    for (const auto& session : seen) {
        auto source = templates.find(session.template_name);
        auto last = probed.find(session.vm_id);
        bool gated = source != templates.end() && source->second.isolation == IsolationGate::isolated;
        if (gated && (last == probed.end() || now - last->second >= age)) due.push_back(session);
    }
    if (due.empty()) return;
    probing = true;
    chores.spawn(environment.logger, "probing again", probe_again(std::move(due)));
}

Task<void> InfrastructureSDK::Impl::probe_again(std::vector<Session> due) {
    Call call{Deadline(), chores.stop_source().get_token(), std::string()};
    for (const auto& session : due) {
        if (call.stop.stop_requested()) break;
        probed[session.vm_id] = environment.clock->monotonic_now();
        std::vector<Session> one{session};
        std::vector<Layer> all;
        auto every_probe = probed_checks();
        try {
            co_await judge(std::move(one), std::move(all), std::move(every_probe), call);
        } catch (const Error& error) {
            if (error.errc() != Errc::cancelled)
                environment.logger->log(LogLevel::warning, "isolation", "a session could not be probed again",
                                        {{"session", session.id}, {"detail", error.message()}});
        }
        // What was found is judged by the next look.
        sessions->suspect_isolation(session.vm_id);
    }
    probing = false;
}

/// From now on what happens on the host has sessions looked at again.
void InfrastructureSDK::Impl::listen_to_host() {
    auto suspect = [this](std::string vm) {
        sessions->suspect_isolation(vm.empty() ? std::nullopt : std::optional(VmId{std::move(vm)}));
    };
    provider->on_suspicion([this](VmId vm) { sessions->suspect_isolation(std::move(vm)); });
    auto directory = fs::path(state_directory(config)) / "vms";
    host_watch = std::make_unique<isolation::HostWatch>(environment, directory.string(), suspect);
}

Task<std::shared_ptr<InfrastructureSDK>> InfrastructureSDK::open(Environment environment, Config config, Call call,
                                                                 PolicyHostFactory policy_hosts) {
    if (auto name = config.text("providers.default"); name != "qemu")
        throw Error(Errc::unsupported, "providers.default: '" + name + "' is not part of this build; allowed: qemu",
                    {{"field", "providers.default"}, {"value", name}, {"allowed", "qemu"}, {"capability", "provider"}});
    auto templates = load_templates(config);
    auto limits = load_limits(config);
    auto pools = load_pools(config);
    auto webhooks = load_webhooks(config);
    auto waivers = load_waivers(config);
    auto policies = policy_options(config);
    policies.make_hosts = std::move(policy_hosts);
    auto directory = state_directory(config);
    Call patience = call.within(Deadline::after(*environment.clock, config.duration("store.lock_timeout")));
    auto lock = co_await wait_for_lock(environment, directory, patience);

    std::shared_ptr<InfrastructureSDK> sdk(new InfrastructureSDK());
    sdk->impl_ = std::make_unique<Impl>(environment, std::move(config), std::move(lock));
    auto& impl = *sdk->impl_;
    impl.templates = std::move(templates);
    impl.waivers = std::move(waivers);
    auto options = qemu_options(impl.config);
    impl.provider = co_await make_qemu_provider(environment, options, call);
    std::exception_ptr error;
    try {
        impl.store = make_sqlite_store(environment, fs::path(directory) / "state.db");
        co_await impl.start_reports(directory);
        impl.policies = std::make_shared<PolicyEngine>(environment, impl.store, std::move(policies));
        co_await impl.policies->open(call);
        SessionEngineOptions engine;
        engine.image_directory = image_directory(impl.config);
        engine.clocks = clocks_of(impl.config);
        engine.idleness = idleness_of(impl.config);
        engine.suspend_timeout = impl.config.duration("session.suspend_timeout");
        engine.resume_timeout = impl.config.duration("session.resume_timeout");
        engine.terminate_timeout = impl.config.duration("session.terminate_timeout");
        engine.snapshot_timeout = impl.config.duration("session.snapshot_timeout");
        engine.concurrent_boots = static_cast<std::size_t>(impl.config.integer("session.concurrent_boots"));
        engine.templates = impl.templates;
        engine.limits = std::move(limits);
        engine.currency = impl.config.text("cost_optimization.currency");
        engine.pools = std::move(pools);
        engine.policies = impl.policies;
        engine.isolation_gate = [&impl](Session session, Call gate_call) -> Task<IsolationReport> {
            std::vector<Layer> all;
            auto every_probe = probed_checks();
            impl.probed[session.vm_id] = impl.environment.clock->monotonic_now();
            co_return co_await impl.report(std::move(session), std::move(all), std::move(every_probe), gate_call);
        };
        engine.isolation_interval = impl.config.duration("isolation.recheck_interval");
        const bool rechecks = engine.isolation_interval > Duration::zero();
        if (rechecks)
            engine.isolation_reports = [&impl](std::vector<Session> judged,
                                               Call look) -> Task<std::vector<IsolationReport>> {
                impl.start_tidying();
                impl.start_probing(judged);
                std::vector<Layer> all;
                std::vector<std::string> none;
                co_return co_await impl.judge(std::move(judged), std::move(all), std::move(none), look);
            };
        engine.keep_isolation_report = [&impl](IsolationReport report, Call keeping) -> Task<void> {
            co_await impl.reports->keep(std::move(report), keeping);
        };
        impl.sessions = std::make_unique<SessionEngine>(environment, impl.store, impl.provider, std::move(engine));
        // Before recovery, whose events are for them too.
        co_await impl.start_webhooks(std::move(webhooks));
        co_await impl.sessions->recover(call);
        impl.start_tidying();
        if (rechecks) impl.listen_to_host();
    } catch (...) {
        error = std::current_exception();
    }
    if (error) {
        co_await sdk->close();
        std::rethrow_exception(error);
    }
    co_return sdk;
}

InfrastructureSDK::~InfrastructureSDK() = default;

SessionEngine& InfrastructureSDK::sessions() { return *impl_->sessions; }
WebhookEngine& InfrastructureSDK::webhooks() { return *impl_->webhooks; }
PolicyEngine& InfrastructureSDK::policies() { return *impl_->policies; }
ReportLedger& InfrastructureSDK::reports() { return *impl_->reports; }
const Capabilities& InfrastructureSDK::capabilities() const { return impl_->provider->capabilities(); }
const Config& InfrastructureSDK::config() const { return impl_->config; }
const std::map<std::string, Template>& InfrastructureSDK::templates() const { return impl_->templates; }

Task<std::vector<PolicyStatus>> InfrastructureSDK::reload_policies(Call call) {
    return impl_->policies->reload(load_policies(impl_->config), call);
}

Task<IsolationReport> InfrastructureSDK::validate_isolation(std::string session_id, std::vector<Layer> layers,
                                                            Call call) {
    std::vector<std::string> none;
    co_return co_await probe_isolation(std::move(session_id), std::move(layers), std::move(none), call);
}

Task<IsolationReport> InfrastructureSDK::probe_isolation(std::string session_id, std::vector<Layer> layers,
                                                         std::vector<std::string> probes, Call call) {
    auto session = co_await impl_->sessions->get(session_id);
    co_return co_await impl_->report(std::move(session), std::move(layers), std::move(probes), call);
}

void InfrastructureSDK::register_check(const OwnCheck& check) { impl_->isolation.add_check(check); }

namespace {

void refuse_pid(Errc errc, std::int64_t pid, const std::string& why) {
    throw Error(errc, "pids: " + std::to_string(pid) + " " + why, {{"field", "pids"}, {"value", std::to_string(pid)}});
}

/// Sorted by pid, each running. Blocking.
std::vector<QemuProcess> chosen_processes(std::vector<QemuProcess> processes, bool all) {
    if (processes.empty() && !all)
        throw Error(Errc::validation, "pids: none was given", {{"field", "pids"}, {"allowed", "one or more, or all"}});
    auto named = processes;
    for (auto& process : all ? find_qemu_processes() : std::vector<QemuProcess>())
        if (std::none_of(named.begin(), named.end(), [&](const auto& p) { return p.pid == process.pid; }))
            processes.push_back(std::move(process));
    std::sort(processes.begin(), processes.end(), [](const auto& a, const auto& b) { return a.pid < b.pid; });
    for (std::size_t i = 0; i < processes.size(); ++i) {
        auto pid = processes[i].pid;
        if (pid <= 0) refuse_pid(Errc::validation, pid, "is no process id; allowed: 1 and above");
        if (i > 0 && processes[i - 1].pid == pid) refuse_pid(Errc::validation, pid, "is there twice");
        if (!fs::exists("/proc/" + std::to_string(pid))) refuse_pid(Errc::not_found, pid, "does not run");
    }
    return processes;
}

}  // namespace

Task<std::vector<IsolationReport>> InfrastructureSDK::audit_isolation(std::vector<QemuProcess> processes, bool all,
                                                                      std::vector<Layer> layers, Call call) {
    auto& impl = *impl_;
    auto vms = co_await list_vms(call);
    auto work = [processes, all] { return chosen_processes(processes, all); };
    auto found = co_await run_blocking(impl.environment.blocking, work);
    std::vector<IsolationSubject> subjects;
    for (const auto& process : found) {
        auto own = std::find_if(vms.begin(), vms.end(),
                                [&](const auto& vm) { return vm.process && vm.process->pid == process.pid; });
        auto name = "pid " + std::to_string(process.pid);
        if (own == vms.end()) {
            subjects.push_back({name, VmId{}, make_process_evidence(impl.environment, process)});
        } else {
            auto session = own->owner_session.empty() ? name : own->owner_session;
            subjects.push_back({session, own->id, impl.provider->evidence(own->id)});
        }
    }
    co_return co_await impl.isolation.audit(subjects, {}, layers, call);
}

Task<std::vector<UserKeys>> InfrastructureSDK::list_keys(Call call) { return impl_->provider->list_keys(call); }

Task<void> InfrastructureSDK::Impl::need_keys(std::string user_id, Call call) {
    auto users = co_await provider->list_keys(call);
    bool known = std::any_of(users.begin(), users.end(), [&](const auto& user) { return user.user_id == user_id; });
    if (!known)
        throw Error(Errc::not_found, "user_id: '" + user_id + "' has no key; `infra-sdk keys list` shows who has",
                    {{"field", "user_id"}, {"value", user_id}});
}

Task<KeyRotation> InfrastructureSDK::rotate_keys(std::string user_id, Call call) {
    co_await impl_->need_keys(user_id, call);
    co_return co_await impl_->provider->rotate_keys(user_id, call);
}

Task<void> InfrastructureSDK::erase_keys(std::string user_id, Call call) {
    co_await impl_->need_keys(user_id, call);
    SessionFilter theirs;
    theirs.user_id = user_id;
    auto page = co_await impl_->sessions->list(theirs);
    std::string names;
    for (const auto& session : page.sessions) names += (names.empty() ? "" : ", ") + session.id;
    if (!names.empty())
        throw Error(
            Errc::conflict,
            "user_id: the keys of '" + user_id + "' are in use by " + names + "; terminate these sessions first",
            {{"field", "user_id"}, {"value", user_id}, {"sessions", names}});
    co_await impl_->provider->erase_keys(user_id, call);
}

Task<std::vector<VmStatus>> InfrastructureSDK::list_vms(Call call) { return impl_->sessions->list_vms(call); }

Task<void> InfrastructureSDK::close() {
    auto& impl = *impl_;
    if (impl.closed) co_return;
    impl.closed = true;
    if (impl.provider) impl.provider->on_suspicion({});
    impl.chores.stop_source().request_stop();
    if (impl.host_watch) co_await impl.host_watch->close();
    if (impl.sessions) co_await impl.sessions->close();
    co_await impl.chores.join();
    if (impl.policies) co_await impl.policies->close();
    if (impl.webhooks) co_await impl.webhooks->close();
    if (impl.provider) co_await impl.provider->close();
    if (impl.store) {
        auto store = impl.store;
        auto work = [store] {
            store->close();
            return true;
        };
        co_await run_blocking(impl.environment.blocking, work);
    }
    auto released = std::move(impl.lock);
}

}  // namespace infrastructure_sdk
