#include "providers/qemu/evidence.hpp"

#include "core/sha256.hpp"
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk::qemu {
namespace {

using nlohmann::json;

/// Empty when the guest has no such file.
Task<std::string> digest_of(std::shared_ptr<GuestAgent> agent, std::string path, Call call) {
    std::string bytes;
    try {
        bytes = co_await agent->read_file(path, 64u << 10, call);
    } catch (const Error& error) {
        if (error.errc() != Errc::not_found) throw;
        co_return std::string();
    }
    co_return bytes.empty() ? std::string() : sha256_hex(bytes);
}

}  // namespace

std::optional<MonitorRequest> monitor_request(const std::string& fact) {
    auto empty = json::object();
    if (fact.starts_with("qmp:query-")) return MonitorRequest{fact.substr(4), empty, fact};
    if (fact.starts_with("hmp:info ")) {
        json arguments{{"command-line", fact.substr(4)}};
        return MonitorRequest{"human-monitor-command", arguments, "hmp:" + fact.substr(4)};
    }
    if (fact.starts_with("qomlist:/")) {
        json arguments{{"path", fact.substr(8)}};
        return MonitorRequest{"qom-list", arguments, "qmp:qom-list " + fact.substr(8)};
    }
    auto colon = fact.rfind(':');
    if (!fact.starts_with("qom:/") || colon <= 4) return std::nullopt;
    json arguments{{"path", fact.substr(4, colon - 4)}, {"property", fact.substr(colon + 1)}};
    return MonitorRequest{"qom-get", arguments, "qmp:qom-get " + fact.substr(4)};
}

Task<json> guest_identity(std::shared_ptr<GuestAgent> agent, Call call) {
    json identity{{"machine_id", ""}, {"host_keys", json::array()}};
    identity["machine_id"] = co_await digest_of(agent, "/etc/machine-id", call);
    for (const char* kind : {"ed25519", "ecdsa", "rsa"}) {
        std::string path = std::string("/etc/ssh/ssh_host_") + kind + "_key.pub";
        auto digest = co_await digest_of(agent, path, call);
        if (!digest.empty()) identity["host_keys"].push_back(digest);
    }
    co_return identity;
}

}  // namespace infrastructure_sdk::qemu
