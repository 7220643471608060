#include "isolation/probes/protocol.hpp"

#include <algorithm>

namespace infrastructure_sdk::isolation {
namespace {

using frames::Reply;

constexpr const char* gate = "probe.gate";
constexpr const char* guests = "probe.guests";
constexpr const char* metadata = "probe.metadata";
constexpr const char* host = "probe.host";
constexpr const char* spoofing = "probe.spoofing";
constexpr std::uint16_t first_port = 40000;
constexpr std::uint16_t discard = 9;

/// Where clouds keep metadata services.
const std::vector<std::string>& metadata_addresses() {
    static const std::vector<std::string> addresses{"169.254.169.254", "100.100.100.200", "169.254.170.2",
                                                    "168.63.129.16"};
    return addresses;
}

class Planner {
public:
    Planner(const ProbeLink& link, const std::vector<std::string>& nonces) : link_(link), nonces_(nonces) {}

    ProbePlan plan(const ProbeTargets& targets) {
        greet();
        for (const auto& target : targets.allowed) canary_steps("", target);
        gate_steps(targets);
        for (const auto& target : targets.host) canary_steps(host, target);
        for (const auto& [address, port] : targets.open) open_step(address, port);
        for (const auto& text : metadata_addresses()) metadata_step(text);
        guest_steps(targets);
        spoofing_steps(targets);
        return std::move(plan_);
    }

private:
    std::string nonce() { return nonces_.at(used_++); }

    ProbeStep step(const char* fact, std::string words) {
        ProbeStep step;
        step.fact = fact;
        step.target = std::move(words);
        step.nonce = nonce();
        step.from_port = static_cast<std::uint16_t>(first_port + used_);
        step.controls = {"port"};
        return step;
    }
    void add(ProbeStep step) {
        if (plan_.steps.size() < most_steps) plan_.steps.push_back(std::move(step));
    }
    bool full() const { return plan_.steps.size() >= most_steps; }

    void greet() {
        if (link_.user_mode) {
            plan_.greeting = frames::arp_request(link_.guest.mac, link_.guest, link_.gateway.address);
            return;
        }
        plan_.greeting_nonce = nonce();
        plan_.greeting = everybody(link_.guest, plan_.greeting_nonce);
    }
    static std::string everybody(const frames::Endpoint& from, const std::string& payload) {
        return frames::udp(from, {frames::broadcast(), std::string(4, '\xff')}, first_port, discard, payload);
    }

    void tcp(ProbeStep& step, const std::string& address, std::uint16_t port) {
        // The nonce of a connection is its number, which the answer repeats.
        std::uint32_t sequence = 0;
        for (char c : step.nonce) sequence = sequence * 31 + static_cast<unsigned char>(c);
        step.address = address;
        step.to_port = port;
        step.sequence = sequence;
        step.frame = frames::tcp_open(link_.guest, {link_.gateway.mac, address}, step.from_port, port, sequence);
        step.nonce = step.frame.substr(34, 8);  // both ports and the number
    }
    void udp(ProbeStep& step, const frames::Endpoint& from, const frames::Endpoint& to, std::uint16_t port) {
        step.payload = step.nonce;
        step.address = to.address;
        step.to_port = port;
        step.frame = frames::udp(from, to, step.from_port, port, step.payload);
    }

    void canary_steps(const char* fact, const ProbeTarget& target) {
        if (full()) return;
        auto connection = step(fact, target.words + " over TCP"), message = step(fact, target.words + " over UDP");
        tcp(connection, target.address, target.tcp_port);
        connection.controls.push_back("tcp:" + target.name);
        connection.canary = target.name;
        udp(message, link_.guest, {link_.gateway.mac, target.address}, target.udp_port);
        message.controls.push_back("udp:" + target.name);
        for (auto* each : {&connection, &message}) each->listens = true, add(std::move(*each));
    }
    void open_step(const std::string& address, std::uint16_t port) {
        if (full()) return;
        auto attempt = step(host, "port " + std::to_string(port) + " of the host");
        tcp(attempt, address, port);
        attempt.listens = true;
        add(std::move(attempt));
    }
    void metadata_step(const std::string& text) {
        auto address = frames::address_bytes(text);
        if (full() || !address) return;
        auto attempt = step(metadata, text + " port 80");
        tcp(attempt, *address, 80);
        add(std::move(attempt));
    }

    void gate_steps(const ProbeTargets& targets) {
        for (const auto& target : targets.denied) canary_steps(gate, target);
        if (link_.user_mode || full()) return;
        auto forged = step(gate, "the bridge, from another's MAC address");
        udp(forged, {forged_mac(forged), link_.guest.address}, {frames::broadcast(), std::string(4, '\xff')}, discard);
        add(std::move(forged));
    }

    void guest_steps(const ProbeTargets& targets) {
        for (const auto& target : targets.denied) {
            // In user mode guests meet at ports of hosts only.
            if (!link_.user_mode) break;
            auto as_neighbour = target;
            as_neighbour.words += ", as a forwarded port of another guest would be,";
            canary_steps(guests, as_neighbour);
        }
        for (const auto& neighbour : targets.neighbours) {
            for (const auto& to : {neighbour.guest, frames::Endpoint{frames::broadcast(), std::string(4, '\xff')}}) {
                if (full()) return;
                bool all = to.mac == frames::broadcast();
                auto attempt = step(
                    guests, "session " + neighbour.session + (all ? " by a frame for everybody" : " by its address"));
                udp(attempt, link_.guest, to, discard);
                attempt.controls.push_back("receiver:" + neighbour.session);
                attempt.receivers = {neighbour.session};
                add(std::move(attempt));
            }
        }
    }

    /// Locally administered, and different at each step.
    static std::string forged_mac(const ProbeStep& step) { return "\x06" + step.nonce.substr(step.nonce.size() - 5); }

    void spoofing_steps(const ProbeTargets& targets) {
        std::vector<std::string> sessions, seen;
        for (const auto& neighbour : targets.neighbours) {
            sessions.push_back(neighbour.session);
            seen.push_back("receiver:" + neighbour.session);
        }
        auto watch = [&](ProbeStep& step) {
            step.controls.insert(step.controls.end(), seen.begin(), seen.end());
            step.receivers = sessions;
        };
        auto others = link_.guest;
        others.address.back() = static_cast<char>(others.address.back() ^ 0x40);
        for (const auto& target : targets.denied) {
            if (full()) return;
            auto forged = step(spoofing, target.words + " from another's addresses");
            others.mac = forged_mac(forged);
            udp(forged, others, {link_.gateway.mac, target.address}, target.udp_port);
            forged.controls.push_back("udp:" + target.name);
            forged.listens = true;
            watch(forged);
            add(std::move(forged));
        }
        if (full()) return;
        auto everyone = step(spoofing, "everybody, from another's MAC address");
        others.mac = forged_mac(everyone);
        udp(everyone, others, {frames::broadcast(), std::string(4, '\xff')}, discard);
        watch(everyone);
        add(std::move(everyone));
        // In user mode the claim would reach the VM's own gateway alone, where all VMs have one address: its own.
        for (const auto& neighbour : targets.neighbours) {
            if (full() || link_.user_mode) return;
            auto claim = step(spoofing, "the address of session " + neighbour.session + ", claimed by ARP");
            claim.nonce = forged_mac(claim);
            claim.frame = frames::arp_claim(link_.guest.mac, {claim.nonce, neighbour.guest.address});
            watch(claim);
            add(std::move(claim));
        }
    }

    const ProbeLink& link_;
    const std::vector<std::string>& nonces_;
    std::size_t used_ = 0;
    ProbePlan plan_;
};

bool holds(const std::vector<PortFrame>& seen, bool from_guest, const std::string& nonce) {
    return std::any_of(seen.begin(), seen.end(), [&](const PortFrame& frame) {
        return frame.from_guest == from_guest && frame.bytes.find(nonce) != std::string::npos;
    });
}

Reply reply_of(const ProbeStep& step, const std::vector<PortFrame>& own) {
    for (const auto& frame : own) {
        if (frame.from_guest || step.address.empty()) continue;
        auto reply = frames::reply_to(frame.bytes, step.address, step.from_port, step.to_port, step.sequence);
        if (reply != Reply::none) return reply;
    }
    return Reply::none;
}

bool was_received(const ProbeStep& step, Reply reply, const ProbeSightings& seen) {
    if (reply == Reply::opened || (!step.canary.empty() && seen.connected.contains(step.canary))) return true;
    if (!step.payload.empty() && seen.payloads.contains(step.payload)) return true;
    return std::any_of(step.receivers.begin(), step.receivers.end(), [&](const std::string& session) {
        auto other = seen.others.find(session);
        return other != seen.others.end() && holds(other->second, false, step.nonce);
    });
}

bool was_controlled(const ProbeStep& step, const ProbeSightings& seen) {
    bool all = std::all_of(step.controls.begin(), step.controls.end(),
                           [&](const std::string& control) { return seen.controls.contains(control); });
    return all && seen.own_whole &&
           std::all_of(step.receivers.begin(), step.receivers.end(),
                       [&](const std::string& session) { return seen.others_whole.contains(session); });
}

/// Who connects to a canary, and whom the VM's port saw no answer for, was somebody else: then the canary's connections
/// tell nothing.
ProbeSightings without_strangers(const std::vector<ProbeStep>& steps, ProbeSightings seen) {
    std::set<std::string> ours;
    for (const auto& step : steps)
        if (seen.connected.contains(step.canary) && reply_of(step, seen.own) == Reply::opened) ours.insert(step.canary);
    for (const auto& canary : seen.connected)
        if (!ours.contains(canary)) seen.controls.erase("tcp:" + canary);
    seen.connected = std::move(ours);
    return seen;
}

}  // namespace

ProbePlan plan_probes(const ProbeLink& link, const ProbeTargets& targets, const std::vector<std::string>& nonces) {
    return Planner(link, nonces).plan(targets);
}

bool port_answers(const ProbeLink& link, const std::vector<PortFrame>& own) {
    return std::any_of(own.begin(), own.end(), [&](const PortFrame& frame) {
        return !frame.from_guest && frames::answers_arp(frame.bytes, link.guest.mac, link.gateway.address);
    });
}

std::map<std::string, nlohmann::json> judge_steps(const std::vector<ProbeStep>& steps,
                                                  const ProbeSightings& sightings) {
    const auto seen = without_strangers(steps, sightings);
    std::map<std::string, nlohmann::json> facts;
    // A listener that lives never refuses: whoever refused in its name is the rule.
    bool rule_refuses = false, allowed = true;
    for (const auto& step : steps) {
        auto reply = reply_of(step, seen.own);
        rule_refuses = rule_refuses || (step.listens && was_controlled(step, seen) && reply == Reply::refused);
        if (step.fact.empty()) allowed = allowed && was_controlled(step, seen) && was_received(step, reply, seen);
    }
    for (const auto& step : steps) {
        if (step.fact.empty()) continue;
        auto reply = reply_of(step, seen.own);
        const char* answer = reply != Reply::refused ? "none" : step.listens || rule_refuses ? "enforcement" : "target";
        facts[step.fact]["attempts"].push_back({{"target", step.target},
                                                {"control", allowed && was_controlled(step, seen)},
                                                {"left_port", holds(seen.own, true, step.nonce)},
                                                {"received", was_received(step, reply, seen)},
                                                {"answer", answer},
                                                {"attempts", 1u},
                                                {"drops", nullptr}});
    }
    return facts;
}

}  // namespace infrastructure_sdk::isolation
