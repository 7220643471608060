#include "config/fields.hpp"

#include <cctype>

namespace infrastructure_sdk {
namespace {

using enum ConfigType;

constexpr ConfigSection sections[] = {
    {"kubernetes", "The cluster, for the kubevirt provider."},
    {"aws", "The account whose prices and interruptions are watched."},
    {"vm", "Virtual machines: images, templates, accelerator."},
    {"isolation", "What a session's isolation verdict decides."},
    {"cost_optimization", "What may be done to save money."},
    {"logging", "Where log lines go and how they look."},
    {"session", "Times of sessions."},
    {"policy", "Who decides about sessions besides the limits and the clocks."},
    {"store", "Where state is kept."},
    {"providers", "What makes virtual machines."},
};

// path, type, default, minimum, maximum, choices, unit, doc, pattern
constexpr ConfigField fields[] = {
    {"kubernetes.kubeconfig", path, "", "", "", "", "",
     "The kubeconfig file. Unset: $KUBECONFIG, then ~/.kube/config, then the pod's service account."},
    {"kubernetes.context", text, "", "", "", "", "", "The context of the kubeconfig. Unset: its current one."},
    {"kubernetes.namespace", text, "", "", "", "", "", "The namespace of sessions. Unset: the context's.",
     "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"},
    {"kubernetes.token", secret, "", "", "", "", "", "A bearer token instead of the kubeconfig's credentials."},

    {"aws.region", text, "", "", "", "", "", "The region. Unset: the environment's.", "[a-z]{2}(-[a-z]+)+-[0-9]"},
    {"aws.profile", text, "", "", "", "", "", "The profile of the shared credentials. Unset: the environment's."},

    {"vm.image_directory", path, "", "", "", "", "",
     "Where images are kept. Unset: a folder of the user's data folder; for root, of /var/lib."},
    {"vm.template_directory", path, "", "", "", "", "",
     "A folder of template files (*.yaml) that are added to the built-in ones."},
    {"vm.accelerator", choice, "auto", "", "", "auto|kvm|tcg", "",
     "auto takes KVM where it works, else TCG. TCG is not a security boundary."},
    {"vm.translation_cache", quantity, "64Mi", "16Mi", "2Gi", "", "bytes",
     "QEMU's cache of translated code per VM; with TCG only."},
    {"vm.fast_launch", choice, "auto", "", "", "auto|off", "",
     "auto starts VMs as copies of a guest that has booted and never had a user, where that can be. Such a guest is "
     "kept for each image and shape, on disk and in memory, as large as what it uses of its memory. off boots every "
     "VM."},
    {"vm.encryption", choice, "template", "", "", "template|off|memory|all", "",
     "What of sessions is encrypted by their user's key: memory files; with all, disks and snapshots too. template "
     "leaves it to the template."},
    {"vm.master_key", secret, "", "", "", "", "",
     "What wraps the keys of users, 32 bytes or more. Unset: a key that is made beside them in the state directory, so "
     "that whoever can read that whole directory can read all."},
    {"vm.boot_timeout", duration, "", "1s", "24h", "", "",
     "How long a VM may take to boot with KVM; scaled up for TCG, and up to four times as long while the guest's disks "
     "or network move. Unset: the template's."},

    {"isolation.gate", choice, "template", "", "", "template|report|isolated", "",
     "isolated starts a session only when its verdict is isolated; report starts it and shows the verdict; template "
     "leaves it to the template."},
    {"isolation.kept_reports", integer, "50", "1", "10000", "", "",
     "How many of the last isolation reports of each session are kept; older ones are removed."},
    {"isolation.report_retention", duration, "2160h", "0s", "87600h", "", "",
     "How long the reports of an ended session are kept after its last one; where its chain ended stays for anchors. "
     "0s: "
     "for ever."},
    {"isolation.waivers_file", path, "", "", "", "", "", "A file of signed waivers, read at the start."},
    {"isolation.waiver_keys_file", path, "", "", "", "", "",
     "The Ed25519 public keys (PEM) that may sign waivers; needed with isolation.waivers_file."},
    {"isolation.recheck_interval", duration, "30s", "0s", "24h", "", "",
     "How often running sessions are looked at again; what changed becomes an event. 0s: never, and what happens on "
     "the host is not listened to."},

    {"cost_optimization.allow_spot", boolean, "false", "", "", "", "",
     "Whether sessions may run on capacity that can be taken away."},
    {"cost_optimization.budget_per_month", text, "", "", "", "", "currency",
     "What all sessions may cost in a calendar month (UTC), as a decimal text such as \"250.00\": the host's "
     "money_per_month limit. Unset: no limit.",
     "[0-9]{1,12}(\\.[0-9]{1,4})?"},
    {"cost_optimization.currency", text, "USD", "", "", "", "",
     "The ISO 4217 code of all prices and money limits. Nothing is converted.", "[A-Z]{3}"},

    {"logging.level", choice, "warning", "", "", "debug|info|warning|error", "", "The lowest level that is written."},
    {"logging.format", choice, "text", "", "", "text|json", "", "json writes one object a line."},
    {"logging.file", path, "", "", "", "", "", "The log file. Unset: standard error."},

    {"session.default_ttl", duration, "8h", "1s", "87600h", "", "",
     "How long a session lives when its request does not say."},
    {"session.maximum_ttl", duration, "720h", "1s", "87600h", "", "",
     "How long a session may live, extensions included."},
    {"session.suspend_timeout", duration, "60s", "1s", "24h", "", "", "How long a suspend may take."},
    {"session.resume_timeout", duration, "60s", "1s", "24h", "", "", "How long a resume may take."},
    {"session.terminate_timeout", duration, "30s", "1s", "24h", "", "", "How long a termination may take."},
    {"session.snapshot_timeout", duration, "10m", "1s", "24h", "", "", "How long a snapshot may take."},
    {"session.concurrent_boots", integer, "0", "0", "10000", "", "",
     "How many sessions may boot at once; the others wait in the order of their creation. 0: as many as the provider "
     "can boot without slowing each other."},
    {"session.limits_file", path, "", "", "", "", "",
     "A limits document (YAML): what users, tenants, templates and the host may hold. Unset: no limits."},
    {"session.webhooks_file", path, "", "", "", "", "",
     "A webhooks document (YAML): who is told of which events over HTTP, signed. Unset: nobody."},
    {"session.pools_file", path, "", "", "", "", "",
     "A pools document (YAML): how many booted, paused VMs of which templates are kept ready. Unset: none."},
    {"session.idle_timeout", duration, "", "1s", "87600h", "", "",
     "How long a session may go without activity. Unset: for ever."},
    {"session.disconnect_timeout", duration, "", "1s", "87600h", "", "",
     "How long a session may go on after its last client left. Unset: for ever."},
    {"session.retention", duration, "", "1s", "87600h", "", "",
     "How long a suspended session is kept. Unset: until its ttl."},
    {"session.ttl_on_expiry", choice, "terminate", "", "", "disconnect|suspend|terminate", "",
     "What happens at the end of the ttl."},
    {"session.idle_on_expiry", choice, "suspend", "", "", "disconnect|suspend|terminate", "",
     "What happens to an idle session."},
    {"session.disconnect_on_expiry", choice, "suspend", "", "", "suspend|terminate", "",
     "What happens at the end of disconnect_timeout."},
    {"session.warn_before", duration, "5m", "0s", "24h", "", "",
     "How long ahead of a clock's end its warning event comes; at most half of the clock's length."},
    {"session.idle_sample_interval", duration, "1m", "1s", "1h", "", "",
     "How often the use of a session with an idle_timeout or a disconnect_timeout is looked at."},
    {"session.idle_arming_delay", duration, "1m", "0s", "24h", "", "",
     "How long after the warning an idle session is looked at once more, before anything happens to it."},
    {"session.idle_guest_cpu", quantity, "50m", "0", "255", "", "cores", "A guest that computes more is in use."},
    {"session.idle_network", quantity, "1Ki", "0", "1Ti", "", "bytes per second",
     "A guest that sends and receives more is in use."},
    {"session.idle_disk", quantity, "4Ki", "0", "1Ti", "", "bytes per second",
     "A guest that reads and writes more is in use."},

    {"policy.policies_file", path, "", "", "", "", "",
     "A policies document (YAML): built-in rules and Python policies, each with its mode and settings. Unset: none."},
    {"policy.files", list, "[]", "", "", "", "",
     "More policies, asked after those of the document: Python files, or rules such as builtin:keep-tagged."},
    {"policy.mode", choice, "enforce", "", "", "enforce|shadow|canary", "",
     "Of policy.files: enforce carries out their decisions, shadow only writes them, canary carries them out for "
     "policy.canary_tenants."},
    {"policy.canary_tenants", list, "[]", "", "", "", "", "For whom, with the mode canary."},
    {"policy.untrusted", boolean, "false", "", "", "", "",
     "Whether policy.files run in processes of their own, without files and network."},
    {"policy.time_budget", duration, "50ms", "1ms", "60s", "", "",
     "How long a policy may take for an answer; without one the standard applies."},
    {"policy.memory_budget", quantity, "64Mi", "1Mi", "16Gi", "", "bytes", "How much memory a policy may use."},
    {"policy.breaker_failures", integer, "5", "1", "1000", "", "",
     "After so many failures in a row a policy is left alone for a while."},
    {"policy.breaker_rest", duration, "5m", "1s", "24h", "", "", "For how long."},
    {"policy.rate_limit_share", number, "0.2", "0", "1", "", "",
     "Which share of the running sessions all policies together may suspend or end within the window, beyond what "
     "would "
     "happen anyway; above 0 one always may be. What is above it is written and not carried out."},
    {"policy.rate_limit_window", duration, "10m", "1s", "24h", "", "", "That window."},
    {"policy.guard_share", number, "0.25", "0", "1", "", "",
     "A canary is put in shadow when such a share of the sessions that it suspended in the last day, four or more, "
     "were "
     "resumed soon."},
    {"policy.guard_resumed_within", duration, "15m", "1s", "24h", "", "", "What is soon."},
    {"policy.schedule_interval", duration, "1m", "1s", "24h", "", "",
     "How often policies are asked what the hours say about running sessions."},
    {"policy.budget_interval", duration, "5m", "1s", "24h", "", "",
     "How often they are asked what the money says about them."},

    {"store.state_directory", path, "", "", "", "", "",
     "Where sessions are recorded and VMs live. Unset: a folder of the user's state folder; for root, of /var/lib."},
    {"store.lock_timeout", duration, "5s", "0s", "24h", "", "",
     "How long to wait for another process that owns the state directory."},

    {"providers.default", choice, "qemu", "", "", "qemu|kubevirt|simulator", "", "What makes virtual machines."},
    {"providers.qemu_binary", text, "qemu-system-x86_64", "", "", "", "",
     "The QEMU program: a name that is looked up in PATH, or a path.", ".+"},
    {"providers.qemu_img_binary", text, "qemu-img", "", "", "", "", "The qemu-img program, likewise.", ".+"},
    {"providers.qemu_uid_base", integer, "610000", "1000", "4294000000", "", "",
     "The first of the user ids under which VMs run, one each, when the SDK runs as root."},
};

}  // namespace

const std::vector<ConfigField>& config_fields() {
    static const std::vector<ConfigField> table(std::begin(fields), std::end(fields));
    return table;
}

const std::vector<ConfigSection>& config_sections() {
    static const std::vector<ConfigSection> table(std::begin(sections), std::end(sections));
    return table;
}

std::string environment_name(const ConfigField& field) {
    std::string name = "INFRA_SDK_";
    for (const char* c = field.path; *c; ++c)
        name += *c == '.' ? std::string("__") : std::string(1, static_cast<char>(std::toupper(*c)));
    return name;
}

std::string section_of(const ConfigField& field) {
    std::string path = field.path;
    return path.substr(0, path.find('.'));
}

std::vector<ConfigField> fields_of(const std::string& section) {
    std::vector<ConfigField> result;
    for (const auto& field : config_fields())
        if (section_of(field) == section) result.push_back(field);
    return result;
}

const ConfigField* find_field(const std::string& path) {
    for (const auto& field : config_fields())
        if (field.path == path) return &field;
    return nullptr;
}

}  // namespace infrastructure_sdk
