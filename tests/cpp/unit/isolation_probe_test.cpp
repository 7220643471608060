// Two-sided probes: the frames, the plan, and what seen and unseen make of it. Whatever is missing, late, garbled or of
// somebody else, nothing passes for it.

#include <gtest/gtest.h>

#include <gmock/gmock.h>

#include <cerrno>
#include <random>

#include "isolation/probes/host_probes.hpp"
#include "isolation/probes/probe_run.hpp"
#include "isolation/probes/protocol.hpp"
#include "providers/qemu/probe_port.hpp"
#include "support/isolation_scene.hpp"
#include <infrastructure_sdk/error.hpp>
#include <infrastructure_sdk/isolation/isolation_engine.hpp>

namespace infrastructure_sdk {
namespace {

using isolation::ProbeLink;
using isolation::ProbePlan;
using isolation::ProbeSightings;
using isolation::ProbeStep;
using isolation::ProbeTargets;
using test::Scene;
namespace frames = isolation::frames;

std::string bytes_of(const std::string& hex) {
    std::string bytes;
    for (std::size_t i = 0; i + 1 < hex.size(); i += 2)
        bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
    return bytes;
}

frames::Endpoint endpoint(const std::string& mac, const std::string& address) {
    return {frames::mac_bytes(mac).value(), frames::address_bytes(address).value()};
}

// As QEMU 7.2 sent them to a guest at 10.0.2.15 whose port 40000 had asked, with number 1000.
const std::string refusal = bytes_of(
    "52540001020352550a00020208004500002800000000ff06a3bf0a0002020a00020fc61d9c4000000000000003e95014000031790000");
const std::string opening = bytes_of(
    "52540001020352550a00020208004500002c00000000400662bc0a0002020a00020feda79c4000000001000003e96012fffff233000002040"
    "5b4");
const std::string arp_answer = bytes_of(
    "52540001020352550a0002020806000108000604000252550a0002020a0002025254000102030a00020f0000000000000000000000000000"
    "0000000000000000");

TEST(ProbeFrames, AreThoseOfTheStandards) {
    auto guest = endpoint("52:54:00:01:02:03", "10.0.2.15"), gateway = endpoint("52:55:0a:00:02:02", "10.0.2.2");
    EXPECT_EQ(frames::arp_request(guest.mac, guest, gateway.address),
              bytes_of("ffffffffffff525400010203080600010800060400015254000102030a00020f0000000000000a000202"));
    // Its checksums as another program made them.
    EXPECT_EQ(frames::tcp_open(guest, gateway, 40000, 50717, 1000),
              bytes_of("52550a0002025254000102030800450000280000000040"
                       "0662c00a00020f0a0002029c40c61d000003e8000000005002"
                       "04002d8c0000"));
    EXPECT_EQ(frames::udp(guest, gateway, 40000, 50840, "NONCE1234").substr(42), "NONCE1234");
    for (const char* wrong : {"", "52:54:00:01:02", "52:54:00:01:02:03:04", "g2:54:00:01:02:03", "52-54-00-01-02-03"})
        EXPECT_FALSE(frames::mac_bytes(wrong)) << wrong;
    for (const char* wrong : {"", "1.2.3", "1.2.3.256", "1.2.3.4.5", "1.2.3.x"})
        EXPECT_FALSE(frames::address_bytes(wrong)) << wrong;
}

TEST(ProbeFrames, TellAnswersFromOthers) {
    auto host = frames::address_bytes("10.0.2.2").value(), other = frames::address_bytes("10.0.2.3").value();
    EXPECT_EQ(frames::reply_to(refusal, host, 40000, 0xc61d, 1000), frames::Reply::refused);
    EXPECT_EQ(frames::reply_to(opening, host, 40000, 0xeda7, 1000), frames::Reply::opened);
    EXPECT_EQ(frames::reply_to(opening, host, 40000, 0xeda7, 1001), frames::Reply::none);
    EXPECT_EQ(frames::reply_to(opening, host, 40001, 0xeda7, 1000), frames::Reply::none);
    EXPECT_EQ(frames::reply_to(opening, other, 40000, 0xeda7, 1000), frames::Reply::none);
    EXPECT_TRUE(frames::answers_arp(arp_answer, bytes_of("525400010203"), host));
    EXPECT_FALSE(frames::answers_arp(arp_answer, bytes_of("525400010204"), host));
    for (std::size_t size = 0; size < opening.size(); ++size) {
        (void)frames::reply_to(opening.substr(0, size), host, 40000, 0xeda7, 1000);
        (void)frames::answers_arp(arp_answer.substr(0, std::min(size, arp_answer.size())), host, host);
    }
}

TEST(ProbeFrames, ComeOutOfAStreamHoweverItIsCut) {
    std::mt19937 random(7);
    std::string stream;
    std::vector<std::string> sent;
    for (std::size_t i = 0; i < 40; ++i) {
        sent.emplace_back(i * 13 % 90 + 1, static_cast<char>('a' + i % 26));
        stream += qemu::framed(sent.back(), 12);
    }
    for (int round = 0; round < 50; ++round) {
        qemu::FrameSplitter splitter;
        std::vector<std::string> got;
        for (std::size_t at = 0; at < stream.size();) {
            auto size = std::uniform_int_distribution<std::size_t>(1, 200)(random);
            for (auto& frame : splitter.feed(stream.substr(at, size))) got.push_back(std::move(frame));
            at += size;
        }
        ASSERT_EQ(got, sent);
        ASSERT_FALSE(splitter.broken());
    }
    qemu::FrameSplitter splitter;
    EXPECT_TRUE(splitter.feed(std::string(64, '\xff')).empty());
    EXPECT_TRUE(splitter.broken());
    EXPECT_TRUE(splitter.feed(stream).empty());
}

std::vector<std::string> nonces(char first) {
    std::vector<std::string> list;
    for (std::size_t i = 0; i <= isolation::most_steps; ++i) {
        auto number = std::to_string(1000 + i);
        list.push_back(std::string(12, first) + number);
    }
    return list;
}

/// A VM in user mode with a neighbour, and a network that stops everything.
struct World {
    explicit World(char first = 'n') {
        link.guest = endpoint("52:54:00:01:02:03", "10.0.2.15");
        link.gateway = endpoint("52:55:0a:00:02:02", "10.0.2.2");
        link.user_mode = link.restricted = true;
        targets.denied = {{"inside", link.gateway.address, "where its network leaves from", 4001, 4002}};
        targets.host = {{"loopback", link.gateway.address, "the host's loopback", 4003, 4004}};
        targets.open = {{link.gateway.address, 22}};
        targets.neighbours = {{"b", endpoint("52:54:00:01:02:04", "10.0.2.15")}};
        plan = isolation::plan_probes(link, targets, nonces(first));
        seen = stopped();
    }
    ProbeSightings stopped() const {
        ProbeSightings all;
        all.own_whole = true;
        all.own.push_back({false, arp_answer});
        for (const auto& step : plan.steps) {
            all.own.push_back({true, step.frame});
            if (step.sequence) all.own.push_back({false, refusal_of(step)});
        }
        all.others["b"].push_back({false, arp_answer});
        all.others_whole.insert("b");
        all.controls = {"port", "receiver:b"};
        for (const char* canary : {"inside", "loopback"})
            for (const char* kind : {"tcp:", "udp:"}) all.controls.insert(std::string(kind) + canary);
        return all;
    }
    /// From the gateway, as user mode refuses everything.
    std::string refusal_of(const ProbeStep& step) const {
        auto frame = frames::tcp_open({link.gateway.mac, step.address}, link.guest, step.to_port, step.from_port, 0);
        frame[47] = 0x14;  // RST, ACK
        for (int i = 0; i < 4; ++i)
            frame[static_cast<std::size_t>(42 + i)] = static_cast<char>((*step.sequence + 1) >> (24 - 8 * i) & 255);
        return frame;
    }
    /// As a connection to a canary that gets through is seen at both ends.
    void connect(const std::string& fact, const std::string& canary) {
        seen.connected.insert(canary);
        for (const auto& step : plan.steps)
            if (step.fact == fact && step.canary == canary) {
                auto frame = refusal_of(step);
                frame[47] = 0x12;  // SYN, ACK
                seen.own.insert(seen.own.begin(), {false, frame});
            }
    }
    std::map<std::string, FindingStatus> statuses() const {
        auto facts = isolation::judge_steps(plan.steps, seen);
        Scene scene;
        for (const auto& [check, fact] : table())
            if (facts.contains(fact)) scene[fact] = facts.at(fact);
            else scene.forget(fact);
        std::map<std::string, FindingStatus> found;
        for (const auto& [check, fact] : table()) found[check] = scene.status(check);
        return found;
    }
    static const std::map<std::string, std::string>& table() {
        static const std::map<std::string, std::string> probes{{"NET-03", "probe.gate"},
                                                               {"NET-04", "probe.guests"},
                                                               {"NET-05", "probe.metadata"},
                                                               {"NET-07", "probe.host"},
                                                               {"NET-11", "probe.spoofing"}};
        return probes;
    }
    std::size_t count(FindingStatus status) const {
        std::size_t sum = 0;
        for (const auto& [check, is] : statuses()) sum += is == status ? 1 : 0;
        return sum;
    }
    const ProbeStep& step_of(const std::string& fact) const {
        for (const auto& step : plan.steps)
            if (step.fact == fact) return step;
        throw std::logic_error(fact);
    }

    ProbeLink link;
    ProbeTargets targets;
    ProbePlan plan;
    ProbeSightings seen;
};

TEST(ProbeProtocol, PassesWhatWasStoppedAndSeenFromBothSides) {
    World world;
    for (const auto& [check, status] : world.statuses()) EXPECT_STREQ(name_of(status), "pass") << check;
    EXPECT_LE(world.plan.steps.size(), isolation::most_steps);
}

TEST(ProbeProtocol, AimsAtNothingButWhatItWasGiven) {
    World world;
    std::set<std::string> addresses{world.link.gateway.address, world.link.guest.address, std::string(4, '\xff'),
                                    std::string()};
    for (const char* text : {"169.254.169.254", "100.100.100.200", "169.254.170.2", "168.63.129.16"})
        addresses.insert(frames::address_bytes(text).value());
    std::set<std::uint16_t> ports{4001, 4002, 4003, 4004, 22, 80, 9, 0};
    for (const auto& step : world.plan.steps) {
        EXPECT_TRUE(addresses.contains(step.address)) << step.target;
        EXPECT_TRUE(ports.contains(step.to_port)) << step.target;
        // All VMs in user mode have one address: no claim of it is made.
        EXPECT_NE(step.frame.substr(12, 2), bytes_of("0806")) << step.target;
        // Nothing but its nonce is ever sent.
        if (!step.sequence && !step.payload.empty()) {
            EXPECT_EQ(step.frame.size(), 42 + step.payload.size()) << step.target;
        }
    }
}

TEST(ProbeProtocol, OneThatGetsThroughFailsItsCheckAlone) {
    {
        World world;
        world.connect("probe.host", "loopback");
        EXPECT_EQ(world.statuses()["NET-07"], FindingStatus::fail);
        EXPECT_EQ(world.count(FindingStatus::pass), 4u);
    }
    {
        World world;
        for (const auto& step : world.plan.steps)
            if (step.fact == "probe.guests" && !step.receivers.empty())
                world.seen.others["b"].push_back({false, step.frame});
        EXPECT_EQ(world.statuses()["NET-04"], FindingStatus::fail);
        EXPECT_EQ(world.count(FindingStatus::pass), 4u);
    }
    {
        World world;
        const auto& step = world.step_of("probe.metadata");
        auto frame = world.refusal_of(step);
        frame[47] = 0x12;  // SYN, ACK
        world.seen.own.insert(world.seen.own.begin(), {false, frame});
        EXPECT_EQ(world.statuses()["NET-05"], FindingStatus::fail);
    }
    {
        World world;
        for (const auto& step : world.plan.steps)
            if (step.fact == "probe.spoofing") world.seen.others["b"].push_back({false, step.frame});
        EXPECT_EQ(world.statuses()["NET-11"], FindingStatus::fail);
    }
    {
        // The gate: then none of the others is believed.
        World world;
        world.seen.payloads.insert(world.step_of("probe.gate").payload);
        world.connect("probe.gate", "inside");
        EXPECT_EQ(world.statuses()["NET-03"], FindingStatus::fail);
        EXPECT_EQ(world.count(FindingStatus::pass), 0u);
    }
}

TEST(ProbeProtocol, AStrangerAtACanaryIsNotTheGuest) {
    World world;
    world.seen.connected.insert("loopback");
    EXPECT_EQ(world.statuses()["NET-07"], FindingStatus::unknown);
    EXPECT_EQ(world.count(FindingStatus::pass), 4u);
}

TEST(ProbeProtocol, ARefusalIsTheTargetsOwnUnlessALivingListenerGetsOneToo) {
    World world;
    for (auto& frame : world.seen.own) {
        bool metadata = false;
        for (const auto& step : world.plan.steps)
            metadata = metadata || (step.fact == "probe.metadata" && frame.bytes == world.refusal_of(step));
        if (!frame.from_guest && !metadata && frame.bytes != arp_answer) frame.bytes.clear();
    }
    EXPECT_EQ(world.statuses()["NET-05"], FindingStatus::fail);
}

/// Every way to see too little, and what then may not pass.
TEST(ProbeProtocol, PassesNothingThatWasNotSeen) {
    World other('m');
    using Change = std::function<void(World&)>;
    const std::map<std::string, Change> all{
        {"nothing is allowed either", [](World& w) { w.seen.controls.erase("port"); }},
        {"no control at all", [](World& w) { w.seen.controls.clear(); }},
        {"frames were missed", [](World& w) { w.seen.own_whole = false; }},
        {"nothing left the port", [](World& w) { w.seen.own = {{false, arp_answer}}; }},
        {"nothing was seen", [](World& w) { w.seen = {}; }},
        {"what was seen is of another run", [&](World& w) { w.seen.own = other.seen.own; }},
        {"the canary died", [](World& w) { w.seen.controls.erase("tcp:inside"), w.seen.controls.erase("udp:inside"); }},
        {"garbage",
         [](World& w) {
             for (auto& frame : w.seen.own) frame.bytes = std::string(frame.bytes.size(), 'x');
         }},
        {"half of each frame",
         [](World& w) {
             for (auto& frame : w.seen.own) frame.bytes.resize(frame.bytes.size() / 2);
         }},
        {"the directions are mixed up",
         [](World& w) {
             for (auto& frame : w.seen.own) frame.from_guest = !frame.from_guest;
         }},
        {"nothing was planned", [](World& w) { w.plan.steps.clear(); }},
    };
    for (const auto& [name, change] : all) {
        World world;
        change(world);
        EXPECT_EQ(world.count(FindingStatus::pass), 0u) << name;
    }
    // Of a neighbour that may be deaf, only what it should have heard is not known.
    for (const Change& change : {Change([](World& w) { w.seen.controls.erase("receiver:b"); }),
                                 Change([](World& w) { w.seen.others_whole.clear(); })}) {
        World world;
        change(world);
        auto found = world.statuses();
        EXPECT_EQ(found["NET-04"], FindingStatus::unknown);
        EXPECT_EQ(found["NET-11"], FindingStatus::unknown);
        EXPECT_EQ(found["NET-07"], FindingStatus::pass);
    }
}

/// Whatever subset of the sightings is left, a check passes only when all that its steps need is among them.
TEST(ProbeProtocol, LessSeenNeverProvesMore) {
    std::mt19937 random(11);
    const World whole;
    const auto best = whole.statuses();
    auto chance = [&](int percent) { return std::uniform_int_distribution<int>(1, 100)(random) <= percent; };
    for (int round = 0; round < 150; ++round) {
        World world;
        std::erase_if(world.seen.own, [&](const PortFrame&) { return chance(4); });
        std::erase_if(world.seen.controls, [&](const std::string&) { return chance(10); });
        auto left = [&](const ProbeStep& step) {
            for (const auto& frame : world.seen.own)
                if (frame.from_guest && frame.bytes == step.frame) return true;
            return false;
        };
        std::map<std::string, bool> proven;
        for (const auto& step : world.plan.steps) {
            bool good = left(step);
            for (const auto& control : step.controls) good = good && world.seen.controls.contains(control);
            proven.try_emplace(step.fact, true).first->second &= good;
        }
        for (const auto& [check, status] : world.statuses()) {
            bool allowed = proven[World::table().at(check)] && proven["probe.gate"];
            EXPECT_FALSE(status == FindingStatus::pass && !allowed) << check;
            EXPECT_EQ(best.at(check), FindingStatus::pass);
        }
    }
}

TEST(HostProbes, ARefusalPassesAndWhatCouldNotBeTriedDoesNot) {
    struct Row {
        int error;
        bool control;
        FindingStatus status;
    };
    for (const auto& row : {Row{EACCES, true, FindingStatus::pass}, Row{EPERM, true, FindingStatus::pass},
                            Row{0, true, FindingStatus::fail}, Row{ECONNREFUSED, true, FindingStatus::fail},
                            Row{EAGAIN, true, FindingStatus::fail}, Row{EFAULT, true, FindingStatus::fail},
                            Row{ENOENT, true, FindingStatus::unknown}, Row{ESRCH, true, FindingStatus::unknown},
                            Row{EBADF, true, FindingStatus::unknown}, Row{EACCES, false, FindingStatus::unknown}}) {
        Scene scene;
        scene["probe.sockets"] = isolation::judge_foreigner({"qmp.sock"}, {row.error}, row.control);
        EXPECT_STREQ(name_of(scene.status("RUN-08")), name_of(row.status)) << row.error;
    }
    Scene scene;
    scene["probe.sockets"] = isolation::judge_foreigner({"a.sock", "b.sock"}, {EACCES}, true);
    EXPECT_EQ(scene.status("RUN-08"), FindingStatus::unknown);  // one of them was never tried
}

TEST(HostProbes, EveryWeakTemplateIsRefusedAndItsTwinIsNot) {
    Scene scene;
    scene["probe.admission"] = isolation::probe_admission();
    EXPECT_GE(scene["probe.admission"]["attempts"].size(), 5u);
    auto finding = scene.judge("RUN-09");
    EXPECT_EQ(finding.status(), FindingStatus::pass) << finding.reason();
}

TEST(Probes, AreNamedByTheirChecks) {
    EXPECT_EQ(isolation::probes_of({"NET-07"}), (std::set<std::string>{"probe.gate", "probe.host"}));
    EXPECT_GE(isolation::probes_of(probed_checks()).size(), 10u);
    try {
        (void)isolation::probes_of({"RUN-08", "RUN-01"});
        FAIL();
    } catch (const Error& error) {
        EXPECT_EQ(error.errc(), Errc::validation);
        EXPECT_THAT(error.message(), testing::HasSubstr("RUN-01"));
        EXPECT_EQ(error.context().at("field"), "probes");
    }
}

}  // namespace
}  // namespace infrastructure_sdk
