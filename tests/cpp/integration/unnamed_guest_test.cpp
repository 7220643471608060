// A copy runs for a moment before it is given its own identity: nobody reaches it then, and it reaches nobody.

#include <gtest/gtest.h>

#include <optional>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <nlohmann/json.hpp>

#include "core/base64.hpp"
#include "core/unix_socket.hpp"
#include "providers/qemu/effects.hpp"
#include "support/qemu_owner.hpp"
#include "support/temporary_directory.hpp"
#include <infrastructure_sdk/vm/image.hpp>

namespace infrastructure_sdk {
namespace {

using nlohmann::json;
using qemu::Effect;

/// The guest's agent, asked past the provider.
class RawAgent {
public:
    explicit RawAgent(const std::string& socket) : fd_(connect_unix(socket)) {
        ::fcntl(fd_, F_SETFL, 0);  // it waits for each answer
        timeval patience{30, 0};
        ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    }
    ~RawAgent() { ::close(fd_); }
    RawAgent(const RawAgent&) = delete;
    RawAgent& operator=(const RawAgent&) = delete;
    std::string file(const std::string& path) {
        auto handle = ask({{"execute", "guest-file-open"}, {"arguments", {{"path", path}}}}).get<int>();
        auto read = ask({{"execute", "guest-file-read"}, {"arguments", {{"handle", handle}}}});
        ask({{"execute", "guest-file-close"}, {"arguments", {{"handle", handle}}}});
        return base64_decode(read.at("buf-b64").get<std::string>()).value();
    }

private:
    json ask(const json& request) {
        auto line = request.dump() + "\n";
        EXPECT_EQ(::send(fd_, line.data(), line.size(), MSG_NOSIGNAL), static_cast<ssize_t>(line.size()));
        std::string answer;
        for (char byte = 0; ::recv(fd_, &byte, 1, 0) == 1 && byte != '\n';) answer += byte;
        return json::parse(answer).at("return");
    }
    int fd_;
};

struct Seen {
    std::string hostname, carrier;
    std::optional<Errc> exec, port, console;
    VmState state = VmState::unknown;
};

template <class Verb>
Task<Errc> refusal(Verb verb) {
    try {
        co_await verb();
    } catch (const Error& error) {
        co_return error.errc();
    }
    co_return Errc{};
}

/// What a user could ask for at that moment.
Task<void> try_all(std::shared_ptr<VmProvider> provider, VmId id, Call call, Seen* seen) {
    ExecRequest request;
    request.arguments = {"true"};
    auto agent = provider->agent(id);
    auto display = provider->display(id);
    auto exec = [=] { return agent->exec(request, call); };
    auto port = [=] { return provider->open_port(id, 22, call); };
    auto console = [=] { return display->console(false, call); };
    seen->exec = co_await refusal(exec);
    seen->port = co_await refusal(port);
    seen->console = co_await refusal(console);
    auto status = co_await provider->inspect(id, call);
    seen->state = status.state;
}

TEST(UnnamedGuest, HasNoNetworkAndAnswersNobody) {
    test::TemporaryDirectory place;
    ::chmod(place.path().c_str(), 0711);
    VmSpec spec;
    spec.id.value = make_uuid(*make_system_random());
    spec.name = "named";
    spec.owner_session = "s-1";
    spec.image = load_image(test::image_directory(), "linux-tiny");
    spec.mac_address = "02:00:00:00:00:01";
    spec.channels = {"agent"};
    spec.display = true;
    Seen seen;
    std::unique_ptr<test::QemuOwner> owner;
    auto hook = [&](const char* passed) {
        if (std::string(passed) != name_of(Effect::guest_continued)) return;
        RawAgent agent(place.path() + "/vms/" + spec.id.value + "/guest/agent.sock");
        seen.hostname = agent.file("/proc/sys/kernel/hostname");
        seen.carrier = agent.file("/sys/class/net/eth0/carrier");
        // It runs at the next await of the start.
        boost::asio::co_spawn(owner->environment().executor, try_all(owner->provider, spec.id, owner->call(), &seen),
                              boost::asio::detached);
    };
    owner = std::make_unique<test::QemuOwner>(place.path(), std::string(), hook, true);
    owner->run(owner->provider->create(spec, owner->call()));
    owner->run(owner->provider->start(spec.id, "e-1", owner->call()));
    EXPECT_EQ(owner->run(owner->provider->inspect(spec.id, owner->call())).launch.from, "template");
    EXPECT_EQ(seen.hostname, "template\n") << "it was another guest";
    EXPECT_EQ(seen.carrier, "0\n");
    EXPECT_EQ(seen.exec, Errc::not_ready);
    EXPECT_EQ(seen.port, Errc::not_ready);
    EXPECT_EQ(seen.console, Errc::not_ready);
    EXPECT_EQ(seen.state, VmState::starting);

    EXPECT_EQ(owner->shell(spec.id, "hostname; cat /sys/class/net/eth0/carrier"), "named\n1\n");
    EXPECT_EQ(owner->state(spec.id), VmState::running);
    owner->run(owner->provider->destroy(spec.id, owner->call()));
}

}  // namespace
}  // namespace infrastructure_sdk
