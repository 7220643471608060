#pragma once
// The statements that are signed, and how they are read again. Pure.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "core/ed25519_pem.hpp"
#include <infrastructure_sdk/isolation/isolation.hpp>

namespace infrastructure_sdk::isolation {

inline constexpr const char* statement_payload_type = "application/vnd.in-toto+json";
inline constexpr const char* report_predicate = "urn:infrastructure-sdk:isolation-report:v1";
inline constexpr const char* rotation_predicate = "urn:infrastructure-sdk:key-rotation:v1";
inline constexpr const char* anchor_predicate = "urn:infrastructure-sdk:isolation-anchor:v1";
inline constexpr const char* waiver_predicate = "urn:infrastructure-sdk:isolation-waiver:v1";

/// Where a report stands among those of its session.
struct ChainPlace {
    std::uint64_t sequence = 1;
    std::string previous;  ///< SHA-256 of the envelope before it, hex; empty for the first
};

struct SigningMoment {
    WallTime wall;
    MonotonicTime monotonic;
    std::string boot_id;
};

/// The head of a session's chain, and the oldest report that is still kept.
struct AnchoredChain {
    std::string session_id;
    std::uint64_t first = 1;
    std::uint64_t last = 0;
    std::string digest;  ///< of the last one's envelope
};

/// Whom a report is of, as one digest.
std::string subject_digest(const std::string& session_id, const std::string& vm_id, const std::string& instance_epoch);

/// All of these are the canonical bytes: JSON in one line with sorted keys.
std::string report_statement(const IsolationReport& report, const ChainPlace& place, const SigningMoment& moment);
std::string rotation_statement(const Ed25519Key& from, const Ed25519Key& to, WallTime now);
std::string anchor_statement(const std::vector<AnchoredChain>& chains, WallTime now);
std::string waiver_statement(const Waiver& waiver);

struct Statement {
    std::string predicate_type;
    nlohmann::json subject;  ///< the first and only one
    nlohmann::json predicate;
};
/// Only canonical bytes with one subject that has a SHA-256 digest.
std::optional<Statement> parse_statement(const std::string& payload);

struct SignedReport {
    ChainPlace place;
    SigningMoment moment;
    nlohmann::json report;  ///< as `to_json` of an IsolationReport
};
/// nullopt when a field is missing or of another type, or the subject is not the report's.
std::optional<SignedReport> signed_report_of(const Statement& statement);
/// The new key of a rotation.
std::optional<Ed25519Key> rotated_key_of(const Statement& statement);
std::optional<std::vector<AnchoredChain>> anchored_chains_of(const Statement& statement);
std::optional<Waiver> waiver_of(const Statement& statement);

/// What in a report is not what its own evidence supports: statuses, score, verdict, subject. Empty when all is.
/// @throws nlohmann::json::exception or Error(validation) when it is no report.
std::vector<std::string> contradictions(const nlohmann::json& report);

}  // namespace infrastructure_sdk::isolation
