#pragma once
// Reports that somebody else can check: in-toto statements (v1) in DSSE envelopes signed with Ed25519, chained by
// digest for each session. Sources: github.com/in-toto/attestation (spec/v1), github.com/secure-systems-lab/dsse.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include <infrastructure_sdk/clock.hpp>

namespace infrastructure_sdk {

/// A file of signed reports of one session: an envelope a line, in the order of their sequence; rotations of keys stand
/// among them. `name` is for messages.
struct ReportFile {
    std::string name;
    std::string text;
};

struct VerifyRequest {
    /// Checked in this order. A session may go on in the next file.
    std::vector<ReportFile> files;
    /// Texts with Ed25519 public keys in PEM form, older keys first. A key that a trusted one rotated to is trusted
    /// too; each key may be replaced once. Give all keys of an installation: a stolen old one then names no other.
    std::vector<std::string> trusted_keys;
    /// A signed head record that was kept elsewhere: what it names must be there.
    std::optional<std::string> anchor;
    /// Every report must be of this session; empty = any.
    std::string session_id;
    /// Also refuse a chain that does not begin with its first report, and a session that the anchor names but no file
    /// holds.
    bool complete = false;
    /// With both, the last report of each session must not be older than this.
    std::optional<WallTime> now;
    std::optional<Duration> maximum_age;
};

enum class ReportProblemKind {
    malformed,        ///< not an envelope in its one spelling, or not a statement of ours
    untrusted,        ///< signed by a key that is not trusted
    bad_signature,    ///< the signature does not fit the bytes
    replayed,         ///< the same report twice
    reordered,        ///< an earlier report after a later one
    gap,              ///< reports between two are missing, or the digest of the one before does not fit
    forked,           ///< two reports with one sequence, or two keys that replaced one
    foreign_session,  ///< of another session than its file or the request
    truncated,        ///< the anchor knows later or earlier reports, or a chain's beginning is missing
    retired_key,      ///< signed by a key that had been replaced before
    clock,            ///< made before the report in front of it
    contradictory,    ///< the score or a status is not what its own evidence supports
    stale,            ///< older than asked for
};
const char* name_of(ReportProblemKind) noexcept;

struct ReportProblem {
    ReportProblemKind kind;
    std::string where;  ///< "FILE:LINE"; for what is missing, the session
    std::string message;
};

/// What was signed, of a report whose signature holds.
struct VerifiedReport {
    std::string where;
    std::string report_id;
    std::string session_id;
    std::string vm_id;
    std::string instance_epoch;
    std::uint64_t sequence = 0;
    std::string digest;  ///< SHA-256 of the envelope's text, hex
    std::string key_id;
    WallTime created_at;
    std::string verdict;
    double lower = 0;
    double upper = 100;
};

struct Verification {
    std::vector<VerifiedReport> reports;  ///< in the order given
    std::vector<ReportProblem> problems;
    std::vector<std::string> notes;  ///< what was not asked for and may matter: a chain that begins later, no anchor
    bool ok() const { return problems.empty() && !reports.empty(); }
};

/// Pure and thread-safe; needs no store, clock or network. Signatures are checked before anything in the payload is
/// read; the score is computed again from the findings.
///
/// It does not show that the collector told the truth, nor, without an anchor, that no later report was left out.
/// @throws Error(validation) naming `trusted_keys`, `files` or `maximum_age` when the request cannot be checked at all.
Verification verify_reports(const VerifyRequest& request);

/// The fields by name, and `ok`.
void to_json(nlohmann::json& json, const Verification& verification);

}  // namespace infrastructure_sdk
