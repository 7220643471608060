#include <infrastructure_sdk/vm/template.hpp>

#include <algorithm>
#include <set>
#include <span>
#include <utility>

#include <nlohmann/json.hpp>

#include "config/value.hpp"
#include "core/money.hpp"
#include <infrastructure_sdk/duration.hpp>
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {

using enum ConfigType;

// Below 100,000 an hour: a month of many sessions is far from 63 bits of millionths.
constexpr const char* price_grammar = "[0-9]{1,5}(\\.[0-9]{1,6})?";
constexpr const char* name_grammar = "[a-z0-9][a-z0-9._-]{0,62}";

// The machine and the names reach QEMU's command line, where a comma would begin another option.
constexpr ConfigField fields[] = {
    {"name", text, "", "", "", "", "", "The name that requests give.", name_grammar},
    {"description", text, "", "", "", "", "", "One line for people."},
    {"os", choice, "linux", "", "", "linux|windows|other", "", "The guest's operating system."},
    {"image", text, "", "", "", "", "", "The name of the image.", name_grammar},
    {"machine", text, "pc-q35-7.2", "", "", "", "", "QEMU's machine type.", name_grammar},
    {"extends", text, "", "", "", "", "", "The template that gives what is not said here.", name_grammar},
    {"firmware", choice, "bios", "", "", "bios|uefi|secure_boot", "",
     "secure_boot: UEFI that starts only what is signed. UEFI needs the package ovmf."},
    {"tpm", boolean, "false", "", "", "", "", "A TPM 2.0, kept with the VM. Needs the package swtpm."},
    {"enlightenments", list, "[]", "", "",
     "relaxed|vapic|spinlocks|vpindex|runtime|time|synic|stimer|stimer-direct|tlbflush|ipi|frequencies|"
     "reenlightenment|reset",
     "", "What of Hyper-V a Windows guest is offered under KVM."},
    {"clock", choice, "utc", "", "", "utc|localtime", "", "What the guest takes its hardware clock for."},
    {"cpu", quantity, "1", "1m", "256", "", "", "How many CPUs."},
    {"memory", quantity, "", "16Mi", "4Ti", "", "bytes", "How much memory."},
    {"disk_size", quantity, "", "1Mi", "64Ti", "", "bytes", "The disk's size. Unset: the image's."},
    {"disk_iops", quantity, "", "1", "10M", "", "",
     "How many reads and writes the disk may do a second, together. Unset: any number."},
    {"disk_bandwidth", quantity, "", "64Ki", "1Ti", "", "bytes",
     "How much may be read from and written to the disk a second. Unset: any amount."},
    {"network_bandwidth", quantity, "", "1Ki", "1Ti", "", "bytes",
     "How much may be sent and received a second. Unset: any amount."},
    {"pin_cpus", boolean, "false", "", "", "", "", "Each CPU has a CPU of the host that no other pinned VM has."},
    {"watchdog", boolean, "false", "", "", "", "",
     "A watchdog device (i6300esb): a guest that stops feeding it is ended as failed."},
    {"display", boolean, "true", "", "", "", "", "Whether the VM has a screen."},
    {"channels", list, "[\"agent\"]", "", "", "agent|display", "", "What must answer before a session is active."},
    {"boot_timeout", duration, "60s", "1s", "24h", "", "",
     "How long booting may take with KVM; scaled up for TCG. While the guest's disks or network move it may take up to "
     "four times as long."},
    {"isolation", choice, "report", "", "", "report|isolated", "",
     "isolated: a session starts only when its verdict is isolated; report: it starts and the verdict is shown."},
    {"on_drift", choice, "report", "", "", "report|suspend", "",
     "What happens when a check that passed begins to fail while a session runs. report: an event; suspend: the "
     "session is suspended too, again after each resume while the check fails."},
    {"encryption", choice, "memory", "", "", "off|memory|all", "",
     "What is encrypted by the user's key: memory files; with all, disks and snapshots too."},
    {"price_per_hour", text, "", "", "", "", "currency",
     "What a session costs an hour while it is not suspended, as a decimal text such as \"0.50\". Unset: nothing.",
     price_grammar},
    {"gpu_price_per_hour", text, "", "", "", "", "currency", "What each GPU costs an hour, on top of it.",
     price_grammar},
};
constexpr ConfigField restart_fields[] = {
    {"restart.policy", choice, "never", "", "", "never|on_failure", "",
     "on_failure: a session whose VM was lost is started again by itself, from its disk."},
    {"restart.max_attempts", integer, "3", "1", "100", "", "", "How often before it stays failed."},
    {"restart.backoff", duration, "5s", "1s", "1h", "", "",
     "How long before the first attempt; doubles with each, up to 5 minutes."},
    {"restart.window", duration, "10m", "1s", "24h", "", "",
     "A session that was active this long has its attempts forgotten."},
};
constexpr ConfigField network_fields[] = {
    {"network.mode", choice, "isolated", "", "", "none|isolated|internet|bridge", "",
     "none: no network card; isolated: no host, no other guest, no internet; internet: outbound to public addresses "
     "only; bridge: a port of a bridge of the host, apart from other guests."},
    {"network.bridge", text, "", "", "", "", "", "The bridge of the host; for the mode bridge alone.",
     "[A-Za-z0-9._][A-Za-z0-9._-]{0,14}"},
};
constexpr const char* required[] = {"name", "image", "memory"};

constexpr std::pair<const char*, const char*> builtin[] = {
#include "builtin_templates.inc"
};

std::uint64_t count_in(const std::string& text, const std::string& name) {
    return static_cast<std::uint64_t>(Quantity::parse(text, name).value());
}

void put(Template& result, const std::string& name, const std::string& text) {
    if (name == "name") result.name = text;
    if (name == "description") result.description = text;
    if (name == "os") result.os = text;
    if (name == "image") result.image = text;
    if (name == "machine") result.machine = text;
    if (name == "firmware") result.firmware = parse_firmware(text);
    if (name == "tpm") result.tpm = text == "true";
    if (name == "enlightenments") result.enlightenments = nlohmann::json::parse(text).get<std::vector<std::string>>();
    if (name == "clock") result.clock = parse_clock_base(text);
    if (name == "cpu") result.cpu = Quantity::parse(text, name);
    if (name == "memory") result.memory = Quantity::parse(text, name);
    if (name == "disk_size") result.disk_size = Quantity::parse(text, name);
    if (name == "disk_iops") result.limits.disk_iops = count_in(text, name);
    if (name == "disk_bandwidth") result.limits.disk_bytes_per_second = count_in(text, name);
    if (name == "network_bandwidth") result.limits.network_bytes_per_second = count_in(text, name);
    if (name == "pin_cpus") result.pin_cpus = text == "true";
    if (name == "watchdog") result.watchdog = text == "true";
    if (name == "display") result.display = text == "true";
    if (name == "channels") result.channels = nlohmann::json::parse(text).get<std::vector<std::string>>();
    if (name == "boot_timeout") result.boot_timeout = parse_duration(text, name);
    if (name == "isolation") result.isolation = text == "isolated" ? IsolationGate::isolated : IsolationGate::report;
    if (name == "on_drift") result.on_drift = text == "suspend" ? DriftAction::suspend : DriftAction::report;
    if (name == "encryption") result.encryption = parse_encryption(text);
    if (name == "price_per_hour") result.price_per_hour_micros = parse_money(text, name);
    if (name == "gpu_price_per_hour") result.gpu_price_per_hour_micros = parse_money(text, name);
}

void put_restart(RestartRule& rule, const std::string& name, const std::string& text) {
    if (name == "policy") rule.policy = text == "never" ? RestartPolicy::never : RestartPolicy::on_failure;
    if (name == "max_attempts") rule.max_attempts = static_cast<unsigned>(std::stoul(text));
    if (name == "backoff") rule.backoff = parse_duration(text, name);
    if (name == "window") rule.window = parse_duration(text, name);
}

/// A section of a template is taken out of `root` and read by its own table.
std::vector<ReadValue> take_section(Node& root, const std::string& name, std::span<const ConfigField> rows,
                                    const std::string& wanted, ProblemList& problems) {
    std::vector<ReadValue> values;
    std::vector<Node> others;
    bool seen = false;
    for (auto& node : root.children) {
        if (node.key != name) {
            others.push_back(std::move(node));
            continue;
        }
        auto origin = problems.origin(node.line);
        if (std::exchange(seen, true))
            problems.add({name, Secret::redacted(), {}, origin, {}, "the key is there twice"});
        else if (node.kind == Node::Kind::map) values = read_values(node, name + ".", rows, problems);
        else if (node.kind != Node::Kind::null)
            problems.add({name, {}, wanted, origin, {}, "it is " + std::string(describe(node.kind))});
    }
    root.children = std::move(others);
    // An unset value leaves the default.
    std::erase_if(values, [](const ReadValue& value) { return value.text.empty(); });
    return values;
}

RestartRule take_restart(Node& root, ProblemList& problems) {
    RestartRule rule;
    for (const auto& value :
         take_section(root, "restart", restart_fields, "a mapping of policy, max_attempts, backoff, window", problems))
        put_restart(rule, leaf_name(*value.field), value.text);
    return rule;
}

void take_network(Node& root, Template& result, ProblemList& problems) {
    for (const auto& value :
         take_section(root, "network", network_fields, "a mode, or a mapping of mode, bridge", problems))
        if (leaf_name(*value.field) == "mode") result.network = parse_network_mode(value.text);
        else result.bridge = value.text;
}

/// `network: internet` is short for `network: {mode: internet}`.
void spell_out_network(Node& root) {
    for (auto& node : root.children) {
        if (node.key != "network" || node.kind != Node::Kind::text) continue;
        Node mode = node;
        mode.key = "mode";
        node.children = {mode};
        node.kind = Node::Kind::map;
        node.text.clear();
    }
}

const ConfigField& field_named(const std::string& name) {
    auto is_it = [&](const ConfigField& row) { return row.path == name; };
    return *std::find_if(std::begin(fields), std::end(fields), is_it);
}

bool is_given(const Node& map, const std::string& name) {
    return std::any_of(map.children.begin(), map.children.end(), [&](const Node& node) {
        bool empty = node.kind == Node::Kind::null || (node.kind == Node::Kind::text && node.text.empty());
        return node.key == name && !empty;
    });
}

bool has_channel(const Template& value, const char* name) {
    return std::find(value.channels.begin(), value.channels.end(), name) != value.channels.end();
}

/// Documents that `extends` may name.
using Family = std::map<std::string, TemplateDocument>;

Family builtin_family() {
    Family family;
    for (const auto& [name, yaml] : builtin) family[name] = {"the built-in template " + std::string(name), yaml};
    return family;
}

const Node* child_of(const Node& map, const std::string& key) {
    for (const auto& node : map.children)
        if (node.key == key) return &node;
    return nullptr;
}

/// Adds to `child` what only `parent` has. Inherited lines are another document's: they are forgotten.
void inherit(Node& child, const Node& parent) {
    for (const auto& node : parent.children) {
        auto same = std::find_if(child.children.begin(), child.children.end(),
                                 [&](const Node& own) { return own.key == node.key; });
        if (same == child.children.end()) {
            child.children.push_back(node);
            child.children.back().line = 0;
        } else if (same->kind == Node::Kind::map && node.kind == Node::Kind::map) {
            inherit(*same, node);
        }
    }
}

/// Puts the ancestors of a document under it.
void extend(Node& root, const Family& family, std::set<std::string> seen, ProblemList& problems) {
    auto* named = child_of(root, "extends");
    if (!named || named->kind != Node::Kind::text) return;
    auto line = named->line;
    auto refuse = [&](const std::string& why) {
        problems.add({"extends", named->text, {}, problems.origin(line), {}, why});
    };
    auto found = family.find(named->text);
    if (found == family.end()) return refuse("there is no such template");
    if (!seen.insert(found->second.source).second) return refuse("it extends itself");
    auto parent = parse_yaml(found->second.yaml);
    if (!parent.problems.empty() || parent.root.kind != Node::Kind::map) return refuse("that template cannot be read");
    spell_out_network(parent.root);
    extend(parent.root, family, seen, problems);
    std::erase_if(parent.root.children, [](const Node& node) { return node.key == "name" || node.key == "extends"; });
    inherit(root, parent.root);
}

void check_rules(const Template& value, const std::string& source, ProblemList& problems) {
    if (has_channel(value, "display") && !value.display)
        problems.add({"channels", "display", "agent", source, {}, "a VM without display has no display channel"});
    if (value.firmware == Firmware::secure_boot && value.machine.find("q35") == std::string::npos)
        problems.add(
            {"firmware", "secure_boot", "a q35 machine", source, {}, "machine " + value.machine + " has none"});
    const bool bridged = value.network == NetworkMode::bridge;
    if (bridged && value.bridge.empty())
        problems.add({"network.bridge", {}, "the name of a bridge of the host", source, {}, "it is missing"});
    if (!bridged && !value.bridge.empty())
        problems.add({"network.bridge",
                      value.bridge,
                      {},
                      source,
                      {},
                      "only the mode bridge has one, and the mode is " + std::string(name_of(value.network))});
    auto has = [&](const std::string& name) {
        return std::find(value.enlightenments.begin(), value.enlightenments.end(), name) != value.enlightenments.end();
    };
    for (const auto& name : value.enlightenments)
        for (const auto& needed : needs_of_enlightenment(name))
            if (!has(needed)) problems.add({"enlightenments", name, {}, source, {}, "it needs " + needed});
}

Template read_template(const TemplateDocument& document, const Family& family) {
    auto parsed = parse_yaml(document.yaml);
    ProblemList problems(document.source);
    problems.add(parsed);
    auto& root = parsed.root;
    Template result;
    if (root.kind != Node::Kind::map) {
        if (problems.empty())
            problems.add({{},
                          {},
                          "a mapping of fields",
                          problems.origin(root.line),
                          {},
                          "the document is " + std::string(describe(root.kind))});
        refuse_document("template " + document.source, problems.take());
    }
    spell_out_network(root);
    extend(root, family, {document.source}, problems);
    result.restart = take_restart(root, problems);
    take_network(root, result, problems);
    for (const auto& value : read_values(root, "", fields, problems))
        // An unset value leaves the default.
        if (!value.text.empty()) put(result, leaf_name(*value.field), value.text);
    for (const char* name : required) {
        if (is_given(root, name)) continue;
        problems.add({name, {}, allowed_values(field_named(name)), document.source, {}, "it is missing"});
    }
    check_rules(result, document.source, problems);
    if (auto all = problems.take(); !all.empty()) refuse_document("template " + document.source, all);
    return result;
}

}  // namespace

Template parse_template(const std::string& yaml, const std::string& source) {
    return read_template({source, yaml}, builtin_family());
}

std::map<std::string, Template> parse_templates(const std::vector<TemplateDocument>& documents) {
    const auto shipped = builtin_family();
    auto family = shipped;
    auto name_in = [](const TemplateDocument& document) {
        const auto parsed = parse_yaml(document.yaml);
        auto* node = child_of(parsed.root, "name");
        return node ? node->text : std::string();
    };
    for (const auto& document : documents) family[name_in(document)] = document;
    std::map<std::string, Template> templates;
    for (const auto& [name, document] : shipped) templates[name] = read_template(document, shipped);
    for (const auto& document : documents) {
        // Its own name means the built-in one that it replaces.
        auto others = family;
        auto name = name_in(document);
        if (auto replaced = shipped.find(name); replaced != shipped.end()) others[name] = replaced->second;
        auto parsed = read_template(document, others);
        templates[parsed.name] = std::move(parsed);
    }
    return templates;
}

const std::map<std::string, Template>& builtin_templates() {
    static const auto templates = parse_templates({});
    return templates;
}

namespace {

nlohmann::ordered_json section_schema(std::span<const ConfigField> rows) {
    nlohmann::ordered_json section{{"type", {"object", "null"}}};
    for (const auto& field : rows)
        section["properties"][leaf_name(field)] = nlohmann::ordered_json::parse(value_schema(field));
    section["patternProperties"] = {{"^x-", true}};
    section["additionalProperties"] = false;
    return section;
}

}  // namespace

std::string template_json_schema() {
    nlohmann::ordered_json schema{{"$schema", "https://json-schema.org/draft/2020-12/schema"},
                                  {"$id", "urn:infrastructure-sdk:template"},
                                  {"title", "Infrastructure SDK template"},
                                  {"type", "object"},
                                  {"required", {"name"}},
                                  {"if", {{"required", {"extends"}}}},
                                  {"else", {{"required", required}}}};
    for (const auto& field : fields) {
        auto value = nlohmann::ordered_json::parse(value_schema(field));
        auto is_it = [&](const char* name) { return field.path == std::string(name); };
        bool needed = std::any_of(std::begin(required), std::end(required), is_it);
        if (needed) value["not"] = {{"enum", {nullptr, ""}}};
        schema["properties"][field.path] = std::move(value);
    }
    schema["properties"]["restart"] = section_schema(restart_fields);
    auto mode = nlohmann::ordered_json::parse(value_schema(network_fields[0]));
    schema["properties"]["network"] = {{"anyOf", {mode, section_schema(network_fields)}}};
    schema["patternProperties"] = {{"^x-", true}};
    schema["additionalProperties"] = false;
    return schema.dump(2);
}

}  // namespace infrastructure_sdk
