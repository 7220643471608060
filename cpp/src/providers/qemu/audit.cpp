// The evidence of any QEMU process of this host: from /proc, and from a QMP socket where one is at hand.

#include <algorithm>
#include <filesystem>

#include <sys/stat.h>

#include "core/asio.hpp"
#include "core/async_tools.hpp"
#include "providers/qemu/evidence.hpp"
#include "providers/qemu/probe_port.hpp"
#include "providers/qemu/process.hpp"
#include "providers/qemu/qmp_client.hpp"
#include <infrastructure_sdk/providers/qemu.hpp>

namespace infrastructure_sdk {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

/// The file that the process runs, by device and inode: another program under the same pid is another subject.
std::string program_of(std::int64_t pid) {
    struct stat status{};
    if (::stat(("/proc/" + std::to_string(pid) + "/exe").c_str(), &status) != 0) return "unknown";
    return std::to_string(status.st_dev) + ":" + std::to_string(status.st_ino);
}

class ProcessEvidence final : public EvidenceSource, public std::enable_shared_from_this<ProcessEvidence> {
public:
    ProcessEvidence(Environment environment, QemuProcess process)
        : environment_(environment), process_(std::move(process)), mutex_(environment.executor) {}
    /// On any thread; the connection belongs to the executor.
    ~ProcessEvidence() override {
        if (client_) asio::post(environment_.executor, [client = std::move(client_)] { client->close(); });
    }

    Task<Fact> collect(std::string name, Call call) override {
        auto self = shared_from_this();
        Fact fact;
        fact.name = name;
        fact.collected_at = environment_.clock->wall_now();
        try {
            auto value = co_await value_of(name, fact, call);
            fact.json = value.dump(-1, ' ', false, json::error_handler_t::replace);
        } catch (const Error& error) {
            if (error.errc() == Errc::cancelled) throw;
            fact.could_not_look =
                error.message() + (error.remote_message().empty() ? "" : " (" + error.remote_message() + ")");
        }
        co_return fact;
    }

    Task<std::shared_ptr<ProbePort>> open_probe_port(Call call) override {
        auto self = shared_from_this();
        auto client = co_await monitor(call);
        co_return co_await qemu::open_probe_port(environment_, client, call);
    }

private:
    Task<json> value_of(std::string name, Fact& fact, Call call) {
        auto pid = process_.pid;
        if (name == "process.identity") {
            fact.source = "procfs";
            fact.locator = "/proc/" + std::to_string(pid) + "/stat and exe";
            auto started = qemu::start_time_ticks(pid);
            if (!started)
                throw Error(Errc::not_found, "process " + std::to_string(pid) + " does not run",
                            {{"field", "pid"}, {"value", std::to_string(pid)}});
            co_return json{{"boot_id", qemu::boot_id()},
                           {"pid", static_cast<std::uint64_t>(pid)},
                           {"start_time_ticks", *started},
                           {"vm_uuid", "exe " + program_of(pid)}};
        }
        if (name == "process.paths") {
            fact.source = "provider";
            fact.locator = "no folder was declared";
            co_return json{{"declared", false}};
        }
        if (name == "process.promises") {
            fact.source = "provider";
            fact.locator = "nothing was promised";
            co_return json{
                {"exclusive", false}, {"encrypted", false}, {"confidential", false}, {"ports", json::array()}};
        }
        auto request = qemu::monitor_request(name);
        if (!request) throw Error(Errc::unsupported, "a process that was not started here has no such fact");
        fact.source = "qmp";
        fact.locator = request->locator;
        auto client = co_await monitor(call);
        co_return co_await client->execute(request->command, request->arguments, call);
    }

    /// One connection for all facts. QEMU serves one client per socket.
    Task<std::shared_ptr<qemu::QmpClient>> monitor(Call call) {
        if (process_.qmp_socket.empty()) throw Error(Errc::not_ready, "no QMP socket is at hand");
        auto guard = co_await mutex_.lock(*environment_.clock, call, "connecting to QMP");
        if (client_ && client_->connected()) co_return client_;
        if (!refused_.empty()) throw Error(Errc::not_ready, refused_);
        // Sooner than whoever waits for the connection runs out of time.
        auto soon = call.within(Deadline::after(*environment_.clock, std::chrono::seconds(1)));
        std::error_code ignored;
        if (!fs::exists(process_.qmp_socket, ignored)) refused_ = "there is no QMP socket " + process_.qmp_socket;
        if (refused_.empty()) try {
                client_ = co_await qemu::QmpClient::connect(environment_, process_.qmp_socket, soon);
            } catch (const Error& error) {
                if (error.errc() == Errc::cancelled) throw;
                refused_ = "the QMP socket " + process_.qmp_socket + " does not answer; another client may hold it";
            }
        if (!client_) throw Error(Errc::not_ready, refused_);
        co_return client_;
    }

    Environment environment_;
    QemuProcess process_;
    AsyncMutex mutex_;
    std::shared_ptr<qemu::QmpClient> client_;
    std::string refused_;
};

}  // namespace

std::vector<QemuProcess> find_qemu_processes() {
    std::vector<QemuProcess> found;
    std::error_code error;
    fs::directory_iterator at("/proc", error);
    for (; !error && at != fs::directory_iterator(); at.increment(error)) {
        auto name = at->path().filename().string();
        if (name.find_first_not_of("0123456789") != std::string::npos) continue;
        std::error_code ignored;
        auto program = fs::read_symlink(at->path() / "exe", ignored).filename().string();
        bool qemu = program.starts_with("qemu-system-") || program.starts_with("qemu-kvm");
        auto pid = std::strtoll(name.c_str(), nullptr, 10);
        // One that has ended and was not collected yet has nothing left to look at.
        if (qemu && qemu::start_time_ticks(pid)) found.push_back({pid, {}});
    }
    std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.pid < b.pid; });
    return found;
}

std::shared_ptr<EvidenceSource> make_process_evidence(Environment environment, QemuProcess process) {
    return std::make_shared<ProcessEvidence>(environment, std::move(process));
}

}  // namespace infrastructure_sdk
