#include "isolation/probes/network_probes.hpp"

#include <algorithm>
#include <array>
#include <fstream>
#include <sstream>

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>

#include "core/async_tools.hpp"
#include "core/network_visit.hpp"
#include "isolation/collectors/reading.hpp"
#include "isolation/probes/canaries.hpp"
#include "isolation/probes/protocol.hpp"
#include "isolation/probes/wire.hpp"
#include "isolation/procfs.hpp"
#include "isolation/readings.hpp"

namespace infrastructure_sdk::isolation {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t most_watched = 8, most_addresses = 3, most_open_ports = 6;
constexpr Duration pace = 5ms;  ///< between two frames
constexpr Duration greeting_time = 100ms;
/// What an attempt may take to arrive. Nothing on its way leaves the host.
constexpr Duration window = 500ms;

/// What is known of a VM's port beside its link.
struct Place {
    ProbeLink link;
    std::string tap, bridge;  ///< empty in user mode
    std::int64_t pid = 0;
    std::uint64_t start_time_ticks = 0;
};

std::string text_of(const std::string& path) {
    std::ifstream file(path);
    std::string word;
    file >> word;
    return word;
}

/// QEMU's user-mode network as it is unless it was set up otherwise.
void use_defaults(ProbeLink& link) {
    link.user_mode = true;
    link.guest.address = *frames::address_bytes("10.0.2.15");
    link.gateway = {*frames::mac_bytes("52:55:0a:00:02:02"), *frames::address_bytes("10.0.2.2")};
}

/// Blocking. @throws Error(not_ready) with why it cannot be probed
Place place_of(const Facts& facts) {
    auto no = [](const std::string& why) { return Error(Errc::not_ready, why); };
    auto network = facts.as("hmp:info network", read_network);
    auto identity = facts.value("process.identity");
    if (!network || !identity) throw no(facts.why(network ? "process.identity" : "hmp:info network"));
    if (network->backends.empty()) throw no("the VM has no network");
    const auto& back = network->backends.front();
    auto mac = network->macs.size() == 1 ? frames::mac_bytes(network->macs.front()) : std::nullopt;
    if (network->backends.size() != 1 || !mac) throw no("probes know VMs with one network card only");
    Place place;
    place.link.guest.mac = *mac;
    place.pid = identity->value("pid", std::int64_t());
    place.start_time_ticks = identity->value("start_time_ticks", std::uint64_t());
    auto own = facts.as("proc.namespaces", read_namespaces), ours = facts.as("sys.our_namespaces", read_namespaces);
    if (!own || !ours) throw no(facts.why(own ? "sys.our_namespaces" : "proc.namespaces"));
    place.link.own_namespace = own->at("net") != ours->at("net");
    if (back.type == "user") {
        if (back.options.find("net=10.0.2.0") == std::string::npos)
            throw no("its user-mode network has other addresses");
        use_defaults(place.link);
        place.link.restricted = back.restricted();
        return place;
    }
    auto taps = facts.as("sys.taps", read_taps);
    if (back.type != "tap" || !taps || taps->size() != 1 || taps->front().master.empty())
        throw no("probes know user-mode networks and taps on a bridge only, not " + back.type);
    place.tap = taps->front().name;
    place.bridge = taps->front().master;
    auto gateway = frames::mac_bytes(text_of("/sys/class/net/" + place.bridge + "/address"));
    if (!gateway) throw no("the bridge " + place.bridge + " is not there");
    // Nobody answers to it: what arrives is seen at the bridge.
    place.link.guest.address = *frames::address_bytes("169.254.77.77");
    place.link.gateway = {*gateway, place.link.guest.address};
    return place;
}

/// IPv4 addresses of this host but loopback ones, at most a few.
std::vector<std::string> host_addresses() {
    std::vector<std::string> found;
    ifaddrs* list = nullptr;
    if (::getifaddrs(&list) != 0) return found;
    for (auto* entry = list; entry && found.size() < most_addresses; entry = entry->ifa_next) {
        if (!entry->ifa_addr || entry->ifa_addr->sa_family != AF_INET || (entry->ifa_flags & IFF_LOOPBACK) != 0)
            continue;
        const auto& address = reinterpret_cast<const sockaddr_in*>(entry->ifa_addr)->sin_addr;
        found.emplace_back(reinterpret_cast<const char*>(&address), 4);
    }
    ::freeifaddrs(list);
    return found;
}

std::string words_of(const std::string& address) {
    char text[INET_ADDRSTRLEN] = "";
    ::inet_ntop(AF_INET, address.data(), text, sizeof text);
    return text;
}

std::vector<std::uint16_t> open_ports() {
    std::ifstream file("/proc/self/net/tcp");
    std::stringstream text;
    text << file.rdbuf();
    std::set<std::uint16_t> ports;
    auto listeners = parse_tcp_listeners(text.str());
    for (const auto& listener : listeners ? *listeners : std::vector<TcpListener>())
        if (ports.size() < most_open_ports) ports.insert(static_cast<std::uint16_t>(listener.port));
    return {ports.begin(), ports.end()};
}

/// Where the process's network sends what is for elsewhere; empty = nowhere.
std::string way_out(std::int64_t pid) {
    std::ifstream table("/proc/" + std::to_string(pid) + "/net/route");
    std::string line;
    std::getline(table, line);
    for (std::string name, to, gateway; table >> name >> to >> gateway; std::getline(table, line)) {
        if (to != "00000000" || gateway == "00000000") continue;
        auto number = static_cast<std::uint32_t>(std::stoul(gateway, nullptr, 16));
        return {reinterpret_cast<const char*>(&number), 4};
    }
    return {};
}

/// Our sockets, and who is to reach which.
struct Stage {
    std::map<std::string, std::unique_ptr<Canary>> canaries;
    ProbeTargets targets;
    std::unique_ptr<Wire> bridge;                             ///< sees what reaches the bridge
    std::map<std::string, std::unique_ptr<Wire>> their_taps;  ///< by session
};

ProbeTarget target_at(Stage& stage, const std::string& canary, std::string address, std::string words) {
    const auto& socket = *stage.canaries.at(canary);
    return {canary, std::move(address), std::move(words), socket.tcp_port(), socket.udp_port()};
}

/// Blocking. @throws Error
std::shared_ptr<Stage> set_stage(const Place& place, std::vector<std::string> nonces) {
    auto stage = std::make_shared<Stage>();
    const auto& link = place.link;
    stage->canaries["loopback"] = std::make_unique<Canary>("127.0.0.1", nonces.at(0));
    stage->canaries["host"] = std::make_unique<Canary>("0.0.0.0", nonces.at(1));
    if (link.user_mode) {
        {
            NetworkVisit visit(place.pid, [&] { return is_process(place.pid, place.start_time_ticks); });
            if (visit.is_away()) raise_loopback();
            stage->canaries["inside"] = std::make_unique<Canary>("127.0.0.1", nonces.at(2));
        }
        auto inside = target_at(*stage, "inside", link.gateway.address, "the loopback where its network leaves from");
        bool leaves = !link.restricted && link.own_namespace;
        (leaves ? stage->targets.allowed : stage->targets.denied).push_back(std::move(inside));
        auto out = leaves ? way_out(place.pid) : std::string();
        if (!out.empty())
            stage->targets.denied.push_back(target_at(*stage, "host", out, "the host's end of its way out"));
        stage->targets.host.push_back(target_at(*stage, "loopback", link.gateway.address, "the host's loopback"));
        for (auto port : open_ports()) stage->targets.open.emplace_back(link.gateway.address, port);
    } else {
        stage->bridge = std::make_unique<Wire>(place.bridge);
    }
    for (const auto& address : host_addresses())
        stage->targets.host.push_back(target_at(*stage, "host", address, "the host at " + words_of(address)));
    return stage;
}

/// Another VM whose port is watched.
struct Watched {
    std::string session;
    Place place;
    std::shared_ptr<ProbePort> port;
    std::string greeting_nonce;
};

/// Everything that a run opens.
struct Run {
    Place place;
    std::shared_ptr<ProbePort> port;
    std::vector<Watched> watched;
    std::shared_ptr<Stage> stage;
    std::string greeting;  ///< of the port, once frames were put in
};

std::vector<std::string> nonces_of(const Environment& environment, std::size_t count) {
    static const char digits[] = "0123456789abcdef";
    std::vector<std::string> nonces(count);
    for (auto& nonce : nonces) {
        std::array<std::uint8_t, 8> bytes{};
        environment.random->fill(bytes);
        for (auto byte : bytes) {
            nonce += digits[byte >> 4];
            nonce += digits[byte & 15];
        }
    }
    return nonces;
}

Task<void> pause_for(Environment environment, Duration time, Call call) {
    co_await environment.clock->sleep_until(environment.clock->monotonic_now() + time, call.stop);
    if (call.stop.stop_requested()) throw Error(Errc::cancelled, "cancelled: a probe");
}

/// The port of each neighbour that can be had.
Task<void> watch_neighbours(Environment environment, std::shared_ptr<Run> run, std::vector<ProbeSite> neighbours,
                            Call call) {
    auto work = [neighbours] {
        std::vector<std::optional<Place>> places;
        for (const auto& neighbour : neighbours) try {
                places.emplace_back(place_of(*neighbour.facts));
            } catch (const Error&) {
                places.emplace_back();
            }
        return places;
    };
    auto places = co_await run_blocking(environment.blocking, work);
    std::vector<std::size_t> order;
    for (std::size_t i = 0; i < places.size(); ++i)
        if (places[i]) order.push_back(i);
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
        return (places[a]->bridge == run->place.bridge) > (places[b]->bridge == run->place.bridge);
    });
    for (auto i : order) {
        if (run->watched.size() == most_watched) break;
        Watched watched{neighbours[i].facts->session_id, *places[i], nullptr, {}};
        try {
            watched.port = co_await neighbours[i].source->open_probe_port(call);
        } catch (const Error& error) {
            if (error.errc() == Errc::cancelled) throw;
            continue;  // one that ended meanwhile, or has no port
        }
        run->watched.push_back(std::move(watched));
    }
}

/// A frame that the neighbour's network lets through to it: then silence there means something.
Task<void> greet(Watched& watched, std::string nonce, Call call) {
    const auto& link = watched.place.link;
    if (link.user_mode) {
        auto greeting = frames::arp_request(link.guest.mac, link.guest, link.gateway.address);
        co_await watched.port->send(greeting, call);
        co_return;
    }
    watched.greeting_nonce = std::move(nonce);
    Wire tap(watched.place.tap);
    tap.send(frames::udp(link.gateway, link.guest, 9, 9, watched.greeting_nonce));
}

/// Those that cannot be greeted have ended: they are watched no longer, and what they had is closed.
Task<void> greet_neighbours(std::shared_ptr<Run> run, std::vector<std::string> nonces, Call call) {
    for (std::size_t i = 0; i < run->watched.size();) {
        bool ended = false;
        try {
            co_await greet(run->watched[i], nonces.at(i), call);
        } catch (const Error& error) {
            if (error.errc() == Errc::cancelled || error.errc() == Errc::timeout) throw;
            ended = true;
        }
        if (!ended) {
            ++i;
            continue;
        }
        auto port = run->watched[i].port;
        run->watched.erase(run->watched.begin() + static_cast<std::ptrdiff_t>(i));
        co_await port->close();
    }
}

/// The truth again: networks that learn addresses from frames have learnt those of the attempts. A VM that is gone has
/// no network to teach.
Task<void> tell_the_truth(Environment environment, std::shared_ptr<Run> run) {
    Call within{Deadline::after(*environment.clock, 1s), {}, {}};
    try {
        if (run->greeting.empty()) co_return;
        co_await run->port->send(run->greeting, within);
        co_await pause_for(environment, 20ms, within);
    } catch (const Error&) {
        // It is gone.
    }
}

bool delivered(const std::vector<PortFrame>& seen, const std::string& nonce) {
    return std::any_of(seen.begin(), seen.end(), [&](const PortFrame& frame) {
        return !frame.from_guest && frame.bytes.find(nonce) != std::string::npos;
    });
}

/// What the ports saw so far.
ProbeSightings sightings_at_ports(const Run& run) {
    ProbeSightings seen;
    seen.own = run.port->seen();
    seen.own_whole = run.port->sees_all();
    for (const auto& watched : run.watched) {
        seen.others[watched.session] = watched.port->seen();
        if (watched.port->sees_all()) seen.others_whole.insert(watched.session);
    }
    return seen;
}

/// And what everybody else saw. Takes its time: it reads every frame for every step.
void add_sightings(Run& run, const ProbePlan& plan, ProbeSightings& seen) {
    for (const auto& [name, canary] : run.stage->canaries) {
        canary->look();
        if (canary->tcp_alive()) seen.controls.insert("tcp:" + name);
        if (canary->udp_alive()) seen.controls.insert("udp:" + name);
        if (canary->was_connected()) seen.connected.insert(name);
        seen.payloads.insert(canary->payloads().begin(), canary->payloads().end());
    }
    bool answers = run.place.link.user_mode && port_answers(run.place.link, seen.own);
    for (const auto& frame : run.stage->bridge ? run.stage->bridge->received() : std::vector<std::string>()) {
        answers = answers || frame.find(plan.greeting_nonce) != std::string::npos;
        // The bridge itself is on the guest's network: it may hear what is for everybody there, or for another guest.
        for (const auto& step : plan.steps)
            if (step.fact != "probe.host" && step.fact != "probe.guests" && frame.find(step.nonce) != std::string::npos)
                seen.payloads.insert(step.payload);
    }
    // Of what came in unseen, nobody knows what it was.
    answers = answers && !(run.stage->bridge && run.stage->bridge->lost());
    if (answers) seen.controls.insert("port");
    for (const auto& watched : run.watched) {
        const auto& link = watched.place.link;
        const auto& frames = seen.others.at(watched.session);
        bool heard = link.user_mode ? port_answers(link, frames) : delivered(frames, watched.greeting_nonce);
        if (heard) seen.controls.insert("receiver:" + watched.session);
    }
}

Task<ProbeOutcomes> attempt_all(Environment environment, std::shared_ptr<Run> run, Call call) {
    auto nonces = nonces_of(environment, most_steps + 1 + most_watched);
    std::vector<std::string> theirs(nonces.end() - most_watched, nonces.end());
    co_await greet_neighbours(run, theirs, call);
    for (const auto& watched : run->watched)
        run->stage->targets.neighbours.push_back({watched.session, watched.place.link.guest});
    auto plan = plan_probes(run->place.link, run->stage->targets, nonces);
    run->greeting = plan.greeting;
    co_await run->port->send(plan.greeting, call);
    co_await pause_for(environment, greeting_time, call);
    for (const auto& step : plan.steps) {
        co_await run->port->send(step.frame, call);
        co_await pause_for(environment, pace, call);
    }
    co_await tell_the_truth(environment, run);
    run->greeting.clear();
    co_await pause_for(environment, window, call);
    auto seen = sightings_at_ports(*run);
    auto judging = [run, plan, seen]() mutable {
        add_sightings(*run, plan, seen);
        return judge_steps(plan.steps, seen);
    };
    auto found = co_await run_blocking(environment.blocking, judging);
    ProbeOutcomes outcomes;
    for (auto& [name, value] : found) {
        auto count = std::to_string(value["attempts"].size());
        outcomes[name] = {std::move(value), {}, count + " attempts from the port of its network card"};
    }
    co_return outcomes;
}

Task<ProbeOutcomes> open_and_attempt(Environment environment, std::shared_ptr<Run> run, ProbeSite subject,
                                     std::vector<ProbeSite> neighbours, Call call) {
    auto nonces = nonces_of(environment, 3);
    auto prepare = [run, subject, nonces] {
        run->place = place_of(*subject.facts);
        try {
            run->stage = set_stage(run->place, nonces);
        } catch (const std::system_error& error) {
            throw Error(Errc::unsupported, std::string("its network namespace cannot be entered: ") + error.what());
        }
        return true;
    };
    co_await run_blocking(environment.blocking, prepare);
    run->port = co_await subject.source->open_probe_port(call);
    co_await watch_neighbours(environment, run, std::move(neighbours), call);
    co_return co_await attempt_all(environment, run, call);
}

}  // namespace

Task<ProbeOutcomes> probe_network(Environment environment, ProbeSite subject, std::vector<ProbeSite> neighbours,
                                  Call call) {
    auto run = std::make_shared<Run>();
    ProbeOutcomes outcomes;
    std::exception_ptr cancelled;
    std::string why = "there was nothing to try it with";
    try {
        outcomes = co_await open_and_attempt(environment, run, subject, neighbours, call);
    } catch (const Error& error) {
        why = error.message() + (error.remote_message().empty() ? "" : " (" + error.remote_message() + ")");
        if (error.errc() == Errc::cancelled) cancelled = std::current_exception();
    } catch (const std::exception& error) {
        why = std::string("the probe broke off: ") + error.what();
    }
    if (run->port) co_await tell_the_truth(environment, run);
    if (run->port) co_await run->port->close();
    for (const auto& watched : run->watched) co_await watched.port->close();
    if (cancelled) std::rethrow_exception(cancelled);
    for (const char* name : {"probe.gate", "probe.guests", "probe.metadata", "probe.host", "probe.spoofing"})
        if (!outcomes.contains(name)) outcomes[name] = {nullptr, why, "the port of its network card"};
    co_return outcomes;
}

}  // namespace infrastructure_sdk::isolation
