#include "providers/qemu/ram_template.hpp"

#include <algorithm>
#include <sstream>

#include <nlohmann/json.hpp>

#include "core/sha256.hpp"
#include "providers/qemu/snapshot_terms.hpp"
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk::qemu {
using nlohmann::json;

std::string why_booted(const VmSpec& spec) {
    if (auto why = why_not_copied(spec); !why.empty()) return why;
    if (spec.encryption == Encryption::all) return "its disk has a key of its own";
    if (!spec.snapshot.empty()) return "its disk begins from a snapshot";
    if (spec.network != NetworkMode::none && spec.network != NetworkMode::isolated)
        return std::string("with network '") + name_of(spec.network) +
               "' two guests would share an address for a moment";
    return {};
}

TemplateKey template_key(const VmSpec& spec, const CommandLineOptions& options, const std::string& image_identity,
                         const std::string& program_identity, const std::string& host) {
    auto nobody = spec;
    nobody.id.value = nobody.name = nobody.owner_session = nobody.mac_address = "-";
    auto digest = [](const json& parts) {
        return sha256_hex(parts.dump(-1, ' ', false, json::error_handler_t::replace)).substr(0, 32);
    };
    const auto line = command_line(nobody, options);
    json kind{spec.image.name, line, spec.disk_size_bytes};
    json parts{2, kind, spec.image.version, image_identity, program_identity, host, spec.image.disk_size_bytes};
    return {digest(parts), digest(kind)};
}

std::string to_text(const TemplateRecord& record) {
    json document{{"schema", 1},
                  {"digest", record.key.digest},
                  {"kind", record.key.kind},
                  {"refused", record.refused},
                  {"retry_at", to_rfc3339(record.retry_at)},
                  {"image", record.image},
                  {"qemu", record.qemu},
                  {"memory_bytes", record.memory_bytes},
                  {"interface", record.interface},
                  {"files_suffice", record.files_suffice}};
    return document.dump(1, ' ', false, json::error_handler_t::replace) + "\n";
}

std::optional<TemplateRecord> template_from_text(const std::string& text) try {
    auto document = json::parse(text);
    if (document.at("schema") != 1) return std::nullopt;
    TemplateRecord record;
    record.key = {document.at("digest").get<std::string>(), document.at("kind").get<std::string>()};
    record.refused = document.at("refused").get<std::string>();
    record.retry_at = parse_rfc3339(document.at("retry_at").get<std::string>());
    record.image = document.at("image").get<std::string>();
    record.qemu = document.at("qemu").get<std::string>();
    record.memory_bytes = document.at("memory_bytes").get<std::uint64_t>();
    record.interface = document.at("interface").get<std::string>();
    record.files_suffice = document.at("files_suffice").get<bool>();
    return record;
} catch (const json::exception&) {
    return std::nullopt;
} catch (const Error&) {
    return std::nullopt;
}

std::optional<std::uint64_t> cpu_ticks(const std::string& stat) {
    // The command's name stands in parentheses and may hold anything, also parentheses.
    auto end = stat.rfind(')');
    if (end == std::string::npos) return std::nullopt;
    std::istringstream rest(stat.substr(end + 1));
    std::string word;
    for (int field = 3; field < 14; ++field)
        if (!(rest >> word)) return std::nullopt;
    std::uint64_t user = 0, system = 0;
    if (!(rest >> user >> system)) return std::nullopt;
    return user + system;
}

}  // namespace infrastructure_sdk::qemu
