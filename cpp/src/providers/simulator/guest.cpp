#include "providers/simulator/guest.hpp"

#include "core/async_tools.hpp"
#include "core/base64.hpp"
#include <infrastructure_sdk/duration.hpp>

namespace infrastructure_sdk {
namespace {

using HostPtr = std::shared_ptr<SimulatedHost::State>;

/// The living VM. @throws Error(not_ready)
SimulatedVm& awake(const HostPtr& host, const VmId& id, const char* channel) {
    auto it = host->vms.find(id);
    if (it == host->vms.end() || it->second.state != VmState::running)
        throw Error(Errc::not_ready, "the VM does not run", {{"channel", channel}});
    return it->second;
}

class SimulatedAgent final : public GuestAgent {
public:
    SimulatedAgent(Environment environment, HostPtr host, VmId id)
        : environment_(std::move(environment)), host_(std::move(host)), id_(std::move(id)) {}

    Task<void> ping(Call call) override {
        guest(call);
        co_return;
    }

    /// Knows `true`, `false`, `echo`, `cat`, `hostname` and `sleep SECONDS`; `sh` does of a script what
    /// gives a guest its identity: name='TEXT' for the hostname, echo 'TEXT' >FILE.
    Task<ExecResult> exec(ExecRequest request, Call call) override {
        guest(call);
        ExecResult result;
        auto started = environment_.clock->monotonic_now();
        const auto& words = request.arguments;
        auto program = words.empty() ? std::string() : words.front();
        if (program == "echo") {
            for (std::size_t i = 1; i < words.size(); ++i) result.stdout_data += (i > 1 ? " " : "") + words[i];
            result.stdout_data += "\n";
        } else if (program == "cat" && words.size() == 2) {
            result.stdout_data = co_await read_file(words[1], request.output_limit_bytes, call);
        } else if (program == "hostname") {
            auto& files = guest(call).memory_files;
            auto named = files.find("/etc/hostname");
            result.stdout_data = named == files.end() ? guest(call).spec.name + "\n" : named->second;
        } else if (program == "sh") {
            const auto& script = request.stdin_data;
            result.stdout_data = "files suffice\n";
            auto& files = guest(call).memory_files;
            take_names(script, files);
        } else if (program == "sleep" && words.size() == 2) {
            auto until = Deadline::after(*environment_.clock, parse_duration(words[1] + "s", "sleep"));
            co_await environment_.clock->sleep_until(until.earlier(call.deadline).when(), call.stop);
            check(Call{until.expired(*environment_.clock) ? Deadline() : call.deadline, call.stop, {}},
                  *environment_.clock, "a command");
            guest(call);
        } else if (program == "false") {
            result.exit_code = 1;
        } else if (program != "true") {
            throw Error(Errc::not_found, "the guest has no command '" + program + "'",
                        {{"field", "arguments[0]"}, {"value", program}});
        }
        result.stdout_truncated = result.stdout_data.size() > request.output_limit_bytes;
        if (result.stdout_truncated) result.stdout_data.resize(request.output_limit_bytes);
        result.elapsed = environment_.clock->monotonic_now() - started;
        co_return result;
    }

    Task<std::string> read_file(std::string path, std::size_t limit_bytes, Call call) override {
        auto& files = files_of(guest(call), path);
        auto it = files.find(path);
        if (it == files.end())
            throw Error(Errc::not_found, "the guest has no file '" + path + "'", {{"field", "path"}, {"value", path}});
        if (it->second.size() > limit_bytes)
            throw Error(Errc::validation, "the file is larger than the limit", {{"field", "path"}, {"value", path}});
        co_return it->second;
    }

    Task<void> write_file(std::string path, std::string bytes, Call call) override {
        files_of(guest(call), path)[path] = std::move(bytes);
        co_return;
    }

    Task<void> set_time(WallTime, Call call) override {
        guest(call);
        co_return;
    }

    Task<std::vector<GuestInterface>> interfaces(Call call) override {
        std::vector<GuestInterface> found;
        const auto& spec = guest(call).spec;
        if (spec.network != NetworkMode::none) found.push_back({"eth0", spec.mac_address, {"10.0.2.15/24"}, {}, {}});
        co_return found;
    }

    Task<std::uint32_t> logged_in_users(Call call) override { co_return guest(call).use.logged_in_users; }

private:
    SimulatedVm& guest(const Call& call) {
        check(call, *environment_.clock, "asking a guest");
        auto& vm = awake(host_, id_, "agent");
        if (vm.ready_at > environment_.clock->monotonic_now())
            throw Error(Errc::not_ready, "the guest boots", {{"channel", "agent"}});
        return vm;
    }
    static void take_names(const std::string& script, std::map<std::string, std::string>& files) {
        const std::string name = "name='", echo = "echo '";
        if (auto at = script.find(name); at != std::string::npos) {
            at += name.size();
            files["/etc/hostname"] = script.substr(at, script.find('\'', at) - at) + "\n";
        }
        for (auto at = script.find(echo); at != std::string::npos; at = script.find(echo, at)) {
            at += echo.size();
            auto end = script.find('\'', at);
            auto after = script.substr(end + 1, script.find('\n', end) - end - 1);
            if (after.starts_with(" >")) files[after.substr(2)] = script.substr(at, end - at) + "\n";
            at = end;
        }
    }
    static std::map<std::string, std::string>& files_of(SimulatedVm& vm, const std::string& path) {
        return path.starts_with("/data/") ? vm.disk_files : vm.memory_files;
    }

    Environment environment_;
    HostPtr host_;
    VmId id_;
};

class SimulatedDisplay final : public Display {
public:
    SimulatedDisplay(HostPtr host, VmId id) : host_(std::move(host)), id_(std::move(id)) {}
    Task<std::string> screenshot(Call) override {
        awake(host_, id_, "display");
        // One black pixel.
        co_return base64_decode(
            "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==")
            .value();
    }
    Task<void> input(std::vector<InputEvent>, Call) override {
        awake(host_, id_, "display");
        co_return;
    }
    Task<GuestStreamPtr> console(bool, Call) override {
        throw Error(Errc::unsupported, "a simulated VM has no console", {{"capability", "console"}});
        co_return nullptr;
    }

private:
    HostPtr host_;
    VmId id_;
};

class SimulatedEvidence final : public EvidenceSource {
public:
    explicit SimulatedEvidence(Environment environment) : environment_(std::move(environment)) {}
    Task<Fact> collect(std::string name, Call) override {
        Fact fact;
        fact.name = std::move(name);
        fact.source = "provider";
        fact.could_not_look = "a simulated VM has no process to look at";
        fact.collected_at = environment_.clock->wall_now();
        co_return fact;
    }

private:
    Environment environment_;
};

}  // namespace

std::shared_ptr<GuestAgent> make_simulated_agent(Environment environment, HostPtr host, VmId id) {
    return std::make_shared<SimulatedAgent>(std::move(environment), std::move(host), std::move(id));
}
std::shared_ptr<Display> make_simulated_display(HostPtr host, VmId id) {
    return std::make_shared<SimulatedDisplay>(std::move(host), std::move(id));
}
std::shared_ptr<EvidenceSource> make_simulated_evidence(Environment environment) {
    return std::make_shared<SimulatedEvidence>(std::move(environment));
}

}  // namespace infrastructure_sdk
