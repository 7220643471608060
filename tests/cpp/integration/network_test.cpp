// Network modes with real guests, in a network of the test's own: every "not reached" stands beside something that was.

#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <map>
#include <memory>

#include <sys/stat.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <nlohmann/json.hpp>

#include "providers/qemu/net_namespace.hpp"
#include "providers/qemu/network.hpp"
#include "providers/qemu/vm_record.hpp"
#include "support/network_world.hpp"
#include "support/temporary_directory.hpp"
#include <infrastructure_sdk/detail/run.hpp>
#include <infrastructure_sdk/error.hpp>
#include <infrastructure_sdk/isolation/isolation_engine.hpp>
#include <infrastructure_sdk/providers/qemu.hpp>
#include <infrastructure_sdk/sdk.hpp>
#include <infrastructure_sdk/vm/image.hpp>

namespace infrastructure_sdk {
namespace {

using test::ip;
using test::Listener;
using test::read_from;

std::string image_directory() {
    const char* directory = std::getenv("INFRA_SDK_TEST_IMAGE_DIR");
    return directory ? directory : default_image_directory();
}

Task<bool> whole(Task<void> task) {
    co_await std::move(task);
    co_return true;
}

class NetworkModes : public testing::Test {
protected:
    void SetUp() override {
        if (::geteuid() != 0) GTEST_SKIP() << "only root may make networks";
        const auto host = qemu::look_at_network();
        if (!host.nft_refusal.empty()) GTEST_SKIP() << "this kernel takes no such rules: " << host.nft_refusal;
        ::chmod(state_.path().c_str(), 0711);
        network_ = std::make_unique<test::OwnNetwork>();
        ip("link set lo up");
        open();
    }
    void TearDown() override {
        if (!network_) return;
        if (provider_) close();
        network_.reset();
    }
    void open() {
        runtime_ = std::make_unique<Runtime>(make_null_sink());
        QemuOptions options;
        options.state_directory = state_.path();
        options.accelerator = AcceleratorChoice::tcg;
        options.translation_cache_mib = 32;
        provider_ = run(*runtime_, make_qemu_provider(runtime_->environment(), options, call()));
    }
    void close() {
        run(*runtime_, whole(provider_->close()));
        provider_.reset();
        runtime_.reset();
    }
    Call call() { return {Deadline::after(*runtime_->environment().clock, std::chrono::minutes(3)), {}, "test"}; }
    void operate(Task<void> task) { run(*runtime_, whole(std::move(task))); }

    VmSpec spec(NetworkMode mode, int number) {
        VmSpec spec;
        spec.id.value = make_uuid(*runtime_->environment().random);
        spec.name = "guest" + std::to_string(number);
        spec.owner_session = spec.name;
        spec.image = load_image(image_directory(), "linux-tiny");
        spec.mac_address = "02:00:00:00:00:0" + std::to_string(number);
        spec.channels = {"agent"};
        spec.display = false;
        spec.network = mode;
        if (mode == NetworkMode::bridge) spec.bridge = "br0";
        return spec;
    }
    void begin(const VmSpec& spec) {
        operate(provider_->create(spec, call()));
        operate(provider_->start(spec.id, make_uuid(*runtime_->environment().random), call()));
    }
    std::string shell(const VmSpec& spec, const std::string& command) {
        ExecRequest request;
        request.arguments = {"sh", "-c", command};
        return run(*runtime_, provider_->agent(spec.id)->exec(request, call())).stdout_data;
    }
    /// What the guest reads at each of "address port"; all at once.
    std::string read_in(const VmSpec& spec, const std::vector<std::string>& targets) {
        std::string command;
        for (const auto& target : targets) command += "nc -w 4 " + target + " </dev/null 2>/dev/null & ";
        return shell(spec, command + "wait");
    }
    std::string interface_of(const VmSpec& spec) {
        return qemu::load_record(state_.path() + "/vms/" + spec.id.value)->network_interface;
    }
    ProcessIdentity process_of(const VmSpec& spec) {
        return run(*runtime_, provider_->inspect(spec.id, call())).process.value();
    }
    /// What probes of the network find of one guest beside another: "NET-04" -> "pass: ...".
    std::map<std::string, std::string> probed(const VmSpec& spec, const VmSpec& other) {
        IsolationEngine engine(runtime_->environment());
        std::vector<IsolationSubject> subjects{{"subject", spec.id, provider_->evidence(spec.id)}},
            neighbours{{"neighbour", other.id, provider_->evidence(other.id)}};
        auto reports = run(*runtime_, engine.audit_with_probes(subjects, neighbours, {Layer::network},
                                                               {"NET-04", "NET-05", "NET-07", "NET-11"}, call()));
        std::map<std::string, std::string> found;
        for (const auto& finding : reports.front().findings)
            found[finding.check().id] = std::string(name_of(finding.status())) + ": " + finding.reason();
        return found;
    }
    static std::string tables() { return qemu::tool_output({"/bin/sh", "-c", "nft list tables"}); }
    static std::string links() { return qemu::tool_output({"/bin/sh", "-c", "ip -o link"}); }

    test::TemporaryDirectory state_;
    std::unique_ptr<test::OwnNetwork> network_;
    std::unique_ptr<Runtime> runtime_;
    std::shared_ptr<VmProvider> provider_;
};

/// Where "the internet" is: one more namespace, which also has the addresses of metadata services and a private one.
class Internet {
public:
    explicit Internet(const test::OwnNetwork& host) : host_(host) {
        std::thread maker([this] {
            ::unshare(CLONE_NEWNET);
            there_ = ::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
        });
        maker.join();
        ip("link add wan type veth peer name lan netns /proc/" + std::to_string(::getpid()) + "/fd/" +
           std::to_string(there_));
        ip("address add 203.0.113.1/24 dev wan && ip link set wan up");
        host_.inside(there_, [this] {
            ip("link set lo up && ip address add 203.0.113.2/24 dev lan && ip link set lan up");
            for (const auto& address : others()) ip("address add " + address + "/32 dev lan");
            return 0;
        });
        for (const auto& address : others()) ip("route add " + address + " via 203.0.113.2");
        qemu::run_tool({"/bin/sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"});
    }
    ~Internet() { ::close(there_); }
    static std::vector<std::string> others() {
        return {"169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "10.9.9.9", "192.168.7.7"};
    }
    std::unique_ptr<Listener> listen(std::uint16_t port, const std::string& nonce) const {
        return host_.inside(there_, [&] { return std::make_unique<Listener>("0.0.0.0", port, nonce); });
    }
    template <class Body>
    auto inside(Body body) const {
        return host_.inside(there_, body);
    }

private:
    const test::OwnNetwork& host_;
    int there_ = -1;
};

TEST_F(NetworkModes, InternetIsOutboundToPublicAddressesOnly) {
    Internet internet(*network_);
    auto outside = internet.listen(7000, "NONCE-OUTSIDE");
    Listener loopback("127.0.0.1", 7001, "NONCE-LOOPBACK"), everywhere("0.0.0.0", 7002, "NONCE-HOST");
    const auto a = spec(NetworkMode::internet, 1);
    auto b = spec(NetworkMode::internet, 2);
    b.limits.network_bytes_per_second = 64 << 10;
    begin(a);
    begin(b);
    operate(provider_->wait_ready(a.id, call()));
    operate(provider_->wait_ready(b.id, call()));
    const auto limits = run(*runtime_, provider_->inspect(b.id, call())).limits;
    EXPECT_TRUE(std::any_of(limits.begin(), limits.end(), [](const LimitStatus& limit) {
        return limit.resource == "network_bandwidth" && limit.enforced_by == "nftables" && limit.limit == 64u << 10;
    }));
    for (const auto& guest : {a, b}) shell(guest, "ip route add default via 10.0.2.2 2>/dev/null; true");

    // The neighbour has a service in its own namespace.
    std::unique_ptr<Listener> neighbour;
    {
        auto visit = qemu::visit_network(process_of(b));
        ASSERT_TRUE(visit->is_away());
        neighbour = std::make_unique<Listener>("0.0.0.0", 7003, "NONCE-NEIGHBOUR");
    }
    const auto b_address = qemu::tool_output(
        {"/bin/sh", "-c", "ip -o -4 route show dev " + interface_of(b) + " | sed -n 's,/31.*,,p' | tr -d '\\n'"});
    auto b_guest = b_address;
    b_guest.back() = static_cast<char>(b_guest.back() + 1);

    // A limited guest that sends more than it may at once: the rest is dropped.
    const auto dropped = [&] {
        return qemu::tool_output({"/bin/sh", "-c",
                                  "nft list table inet " + interface_of(b) +
                                      " | grep 'iifname.*bandwidth' | sed 's/.*packets \\([0-9]*\\).*/\\1/'"});
    };
    EXPECT_EQ(dropped(), "0\n");
    {
        // From where its QEMU sends.
        auto visit = qemu::visit_network(process_of(b));
        ASSERT_TRUE(visit->is_away());
        const int datagrams = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        sockaddr_in there{};
        there.sin_family = AF_INET;
        there.sin_port = htons(9);
        ::inet_pton(AF_INET, "203.0.113.2", &there.sin_addr);
        const std::string bytes(1000, 'x');
        for (int i = 0; i < 2000; ++i)
            ::sendto(datagrams, bytes.data(), bytes.size(), 0, reinterpret_cast<const sockaddr*>(&there), sizeof there);
        ::close(datagrams);
    }
    EXPECT_GT(std::stoi(dropped()), 0);

    // Positive controls: what the guest must not reach is there to be reached, by others.
    EXPECT_EQ(read_from("127.0.0.1", 7001), "NONCE-LOOPBACK");
    EXPECT_EQ(read_from("203.0.113.1", 7002), "NONCE-HOST");
    for (const auto& address : Internet::others()) EXPECT_EQ(read_from(address, 7000), "NONCE-OUTSIDE") << address;
    EXPECT_EQ(internet.inside([] { return read_from("203.0.113.1", 7002); }), "NONCE-HOST");
    for (auto* listener : {outside.get(), &loopback, &everywhere, neighbour.get()}) listener->reached();

    EXPECT_EQ(read_in(a, {"203.0.113.2 7000"}), "NONCE-OUTSIDE");
    EXPECT_EQ(outside->reached(), 1);
    std::vector<std::string> denied{"10.0.2.2 7001",   "127.0.0.1 7001",    "203.0.113.1 7002", "10.0.2.2 7002",
                                    b_guest + " 7003", b_address + " 7002", "198.19.255.9 7000"};
    for (const auto& address : Internet::others()) denied.push_back(address + " 7000");
    EXPECT_EQ(read_in(a, denied), "");
    EXPECT_EQ(outside->reached(), 0);
    EXPECT_EQ(loopback.reached(), 0);
    EXPECT_EQ(everywhere.reached(), 0);
    EXPECT_EQ(neighbour->reached(), 0);
    // Nobody outside opens a connection to the guest's side.
    internet.inside([] {
        ip("route add 198.19.0.0/16 via 203.0.113.1");
        return 0;
    });
    EXPECT_EQ(internet.inside([&] { return read_from(b_guest, 7003); }), "");
    EXPECT_EQ(neighbour->reached(), 0);
    EXPECT_EQ(read_in(a, {"203.0.113.2 7000"}), "NONCE-OUTSIDE") << "the way out is still open";

    auto found = probed(a, b);
    for (const char* check : {"NET-01", "NET-02", "NET-03", "NET-04", "NET-05", "NET-07", "NET-11"})
        EXPECT_EQ(found[check].substr(0, 5), "pass:") << check << " " << found[check];

    // It was the rules: without them the same guest reaches all but the host's loopback, which is not in its namespace.
    qemu::run_tool({"/bin/sh", "-c", "nft flush ruleset"});
    EXPECT_EQ(read_in(a, {b_guest + " 7003"}), "NONCE-NEIGHBOUR");
    EXPECT_EQ(read_in(a, {"203.0.113.1 7002"}), "NONCE-HOST");
    for (const auto& address : Internet::others()) EXPECT_EQ(read_in(a, {address + " 7000"}), "NONCE-OUTSIDE");
    EXPECT_EQ(read_in(a, {"10.0.2.2 7001"}), "");
    EXPECT_EQ(internet.inside([&] { return read_from(b_guest, 7003); }), "NONCE-NEIGHBOUR");

    // An owner that died before it had connected a VM, or whose host lost its rules: the next one does it again.
    const auto interface = interface_of(a);
    const auto identity = process_of(a);
    close();
    ip("link delete " + interface);
    open();
    EXPECT_EQ(process_of(a), identity);
    EXPECT_NE(tables().find(interface), std::string::npos);
    EXPECT_EQ(read_in(a, {"203.0.113.2 7000"}), "NONCE-OUTSIDE");
    EXPECT_EQ(read_in(a, {"10.9.9.9 7000"}), "");

    // Killed while nobody looks: the interface goes with it, the rules with the next owner.
    const auto other = interface_of(b);
    const auto killed = process_of(b);
    neighbour.reset();
    close();
    ASSERT_EQ(::kill(static_cast<pid_t>(killed.pid), SIGKILL), 0);
    ::waitpid(static_cast<pid_t>(killed.pid), nullptr, 0);
    EXPECT_NE(links().find(interface), std::string::npos);
    EXPECT_NE(tables().find(other), std::string::npos);
    open();
    EXPECT_EQ(run(*runtime_, provider_->inspect(b.id, call())).state, VmState::failed);
    EXPECT_EQ(tables().find(other), std::string::npos);
    EXPECT_NE(tables().find(interface), std::string::npos);

    operate(provider_->destroy(a.id, call()));
    operate(provider_->destroy(b.id, call()));
    EXPECT_EQ(tables(), "");
    EXPECT_EQ(links().find("isdk"), std::string::npos) << links();
}

TEST_F(NetworkModes, ABridgeIsSharedWithItsNetworkAndWithNoOtherGuest) {
    ip("link add br0 type bridge && ip address add 10.77.0.1/24 dev br0 && ip link set br0 up");
    Listener lan("10.77.0.1", 7000, "NONCE-LAN");
    const auto a = spec(NetworkMode::bridge, 1), b = spec(NetworkMode::bridge, 2);
    begin(a);
    begin(b);
    operate(provider_->wait_ready(a.id, call()));
    operate(provider_->wait_ready(b.id, call()));
    shell(a, "ip address flush dev eth0; ip address add 10.77.0.2/24 dev eth0");
    shell(b,
          "ip address flush dev eth0; ip address add 10.77.0.3/24 dev eth0; "
          "(while :; do echo NONCE-B | nc -l -p 7003; done) >/dev/null 2>&1 &");

    EXPECT_EQ(read_in(a, {"10.77.0.1 7000"}), "NONCE-LAN");
    EXPECT_EQ(read_from("10.77.0.3", 7003), "NONCE-B\n") << "the guest's service is there for its network";
    EXPECT_EQ(read_in(a, {"10.77.0.3 7003"}), "");

    // With another address of its card it is not heard; with its own it is again.
    lan.reached();
    auto as = [&](const std::string& mac) {
        shell(a, "ip link set eth0 down; ip link set eth0 address " + mac + "; ip link set eth0 up");
        return read_in(a, {"10.77.0.1 7000"});
    };
    EXPECT_EQ(as("02:00:00:00:00:02"), "");
    EXPECT_EQ(lan.reached(), 0);
    EXPECT_EQ(as(a.mac_address), "NONCE-LAN");
    auto found = probed(a, b);
    for (const char* check : {"NET-03", "NET-04", "NET-05", "NET-11"})
        EXPECT_EQ(found[check].substr(0, 5), "pass:") << check << " " << found[check];
    // The host is on that network too.
    EXPECT_EQ(found["NET-07"].substr(0, 27), "fail: the host at 10.77.0.1") << found["NET-07"];
    // Without what keeps them apart.
    qemu::run_tool({"/bin/sh", "-c", "nft flush ruleset"});
    for (const auto& guest : {a, b})
        qemu::run_tool({"/bin/sh", "-c", "bridge link set dev " + interface_of(guest) + " isolated off"});
    found = probed(a, b);
    for (const char* check : {"NET-04", "NET-10", "NET-11"})
        EXPECT_EQ(found[check].substr(0, 5), "fail:") << check << " " << found[check];

    const auto interface = interface_of(a);
    operate(provider_->destroy(a.id, call()));
    EXPECT_EQ(links().find(interface), std::string::npos);
    EXPECT_EQ(tables().find(interface), std::string::npos);
    operate(provider_->destroy(b.id, call()));
    EXPECT_EQ(tables(), "");
}

TEST_F(NetworkModes, WhatCannotBeHadIsRefusedBeforeAnythingIsMade) {
    auto refused = [&](const VmSpec& wanted) -> std::string {
        try {
            operate(provider_->create(wanted, call()));
        } catch (const Error& error) {
            EXPECT_EQ(error.errc(), Errc::unsupported);
            return error.message();
        }
        return "made";
    };
    const auto forwarding = refused(spec(NetworkMode::internet, 1));
    EXPECT_NE(forwarding.find("net.ipv4.ip_forward is 0"), std::string::npos) << forwarding;
    const auto bridge = refused(spec(NetworkMode::bridge, 1));
    EXPECT_NE(bridge.find("no bridge 'br0'"), std::string::npos) << bridge;
    EXPECT_TRUE(run(*runtime_, provider_->list_owned(call())).empty());
    EXPECT_EQ(tables(), "");
}

}  // namespace
}  // namespace infrastructure_sdk
