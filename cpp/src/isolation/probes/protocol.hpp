#pragma once
// Two-sided probes of a VM's network: from what is known of the VM to the frames that are sent, and from what was seen
// at both ends to evidence. Pure. The frames are put in where the VM's card meets its network: no guest is asked and
// none is believed. A step counts as stopped only when its control went through, it was seen leaving, and whoever must
// not see it was seen to see nothing.

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "isolation/probes/frames.hpp"
#include <infrastructure_sdk/vm/evidence_source.hpp>

namespace infrastructure_sdk::isolation {

/// How the VM is connected.
struct ProbeLink {
    frames::Endpoint guest, gateway;
    bool user_mode = false;      ///< QEMU's user-mode network; else a tap
    bool restricted = false;     ///< user mode that forwards nothing
    bool own_namespace = false;  ///< its process has a network namespace of its own
};

/// A canary as a target.
struct ProbeTarget {
    std::string name;     ///< of the canary
    std::string address;  ///< IPv4, bytes, as the guest would say it
    std::string words;    ///< for people
    std::uint16_t tcp_port = 0, udp_port = 0;
};

/// Another VM whose port is watched.
struct ProbeNeighbour {
    std::string session;
    frames::Endpoint guest;
};

struct ProbeTargets {
    std::vector<ProbeTarget> allowed;                         ///< what they must let through, as a control
    std::vector<ProbeTarget> denied;                          ///< what the network's rules must stop
    std::vector<ProbeTarget> host;                            ///< on the host
    std::vector<std::pair<std::string, std::uint16_t>> open;  ///< (address, port) where the host listens
    std::vector<ProbeNeighbour> neighbours;
};

/// One attempt.
struct ProbeStep {
    std::string fact;    ///< "probe.host"; empty: a control, which must go through
    std::string target;  ///< for people
    std::string frame;
    std::string nonce;    ///< bytes of the frame by which it is known again
    std::string payload;  ///< of UDP: what a canary would read
    std::string address;  ///< whom the packet is for; bytes
    std::uint16_t from_port = 0, to_port = 0;
    std::optional<std::uint32_t> sequence;  ///< of TCP
    std::vector<std::string> controls;      ///< names of what must have gone through
    std::string canary;                     ///< whose TCP socket must see nobody; empty = it has none
    std::vector<std::string> receivers;     ///< sessions whose ports must not see it
    bool listens = false;                   ///< somebody is known to listen there: a refusal is not the target's
};

/// The most steps of one run: what is more is left out, which shows as a target less.
constexpr std::size_t most_steps = 64;

struct ProbePlan {
    std::string greeting;  ///< a frame that is allowed; sent first, it is the control of the port
    std::string
        greeting_nonce;  ///< on a tap: what then arrives at its bridge; empty in user mode, where it is answered
    std::vector<ProbeStep> steps;
};
/// @param nonces at least `most_steps` + 1 distinct texts of 16 characters
ProbePlan plan_probes(const ProbeLink& link, const ProbeTargets& targets, const std::vector<std::string>& nonces);

/// What was seen.
struct ProbeSightings {
    std::vector<PortFrame> own;
    bool own_whole = false;                                ///< nothing of it was missed
    std::map<std::string, std::vector<PortFrame>> others;  ///< by session
    std::set<std::string> others_whole;
    /// Names of those that went through: "port", "tcp:CANARY", "udp:CANARY", "receiver:SESSION".
    std::set<std::string> controls;
    std::set<std::string> connected;  ///< canaries that somebody connected to
    std::set<std::string> payloads;   ///< that canaries read
};
/// In user mode: the greeting was answered, so the control "port" went through.
bool port_answers(const ProbeLink& link, const std::vector<PortFrame>& own);
/// fact -> {"attempts": [...]}, see `read_probe`. Facts without a step are not there.
std::map<std::string, nlohmann::json> judge_steps(const std::vector<ProbeStep>& steps, const ProbeSightings& sightings);

}  // namespace infrastructure_sdk::isolation
