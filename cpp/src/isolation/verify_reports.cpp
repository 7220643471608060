#include <infrastructure_sdk/isolation/signed_report.hpp>

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <string_view>

#include "core/dsse.hpp"
#include "core/ed25519.hpp"
#include "core/sha256.hpp"
#include "isolation/statement.hpp"
#include <infrastructure_sdk/duration.hpp>
#include <infrastructure_sdk/error.hpp>
#include <infrastructure_sdk/json.hpp>

namespace infrastructure_sdk {
namespace {

using isolation::AnchoredChain;
using isolation::SignedReport;
using isolation::Statement;
using Kind = ReportProblemKind;

/// One line of a file.
struct Line {
    std::string where;
    std::string text;
};

std::vector<Line> lines_of(const ReportFile& file) {
    std::vector<Line> lines;
    std::string_view rest = file.text;
    if (rest.ends_with('\n')) rest.remove_suffix(1);
    for (std::size_t number = 1;; ++number) {
        auto end = rest.find('\n');
        lines.push_back({file.name + ":" + std::to_string(number), std::string(rest.substr(0, end))});
        if (end == std::string_view::npos) return lines;
        rest.remove_prefix(end + 1);
    }
}

/// The keys that are trusted, by id. A key's age counts up with every rotation.
class Keyring {
public:
    struct Entry {
        Ed25519Key key;
        std::size_t age;
    };

    explicit Keyring(const std::vector<std::string>& pems) {
        for (const auto& pem : pems) {
            std::string before;
            for (const auto& key : parse_public_pem(pem, "trusted_keys")) {
                auto id = key_id_of(key);
                bool fresh = entries_.try_emplace(id, Entry{key, entries_.size()}).second;
                if (!before.empty() && fresh) successors_.try_emplace(before, id);
                before = id;
            }
        }
    }

    bool empty() const { return entries_.empty(); }

    /// The signer when the one signature holds.
    std::optional<Entry> signer(const DsseEnvelope& envelope, ReportProblem& problem) const {
        if (envelope.payload_type != isolation::statement_payload_type || envelope.signatures.size() != 1) {
            problem.kind = Kind::malformed;
            problem.message = "it is no in-toto statement with one signature";
            return std::nullopt;
        }
        const auto& signature = envelope.signatures.front();
        auto found = entries_.find(signature.key_id);
        if (found == entries_.end()) {
            problem.kind = Kind::untrusted;
            problem.message = "it is signed by the key " + signature.key_id + ", which is not trusted";
            return std::nullopt;
        }
        auto bytes = dsse_pae(envelope.payload_type, envelope.payload);
        if (!ed25519_verify(found->second.key, bytes, signature.signature)) {
            problem.kind = Kind::bad_signature;
            problem.message = "its signature does not fit its bytes";
            return std::nullopt;
        }
        return found->second;
    }

    /// Takes up the key that a rotation leads to. Envelopes of other kinds are passed over. A key has one successor:
    /// false for a second one, which whoever has stolen a replaced key could make. Keys that are trusted together
    /// stand oldest first, so the successor of all but the last is known.
    bool follow(const DsseEnvelope& envelope) {
        ReportProblem ignored{};
        auto by = signer(envelope, ignored);
        if (!by) return true;
        auto statement = isolation::parse_statement(envelope.payload);
        auto next = statement ? isolation::rotated_key_of(*statement) : std::nullopt;
        if (!next) return true;
        auto id = key_id_of(*next);
        if (successors_.try_emplace(envelope.signatures.front().key_id, id).first->second != id) return false;
        auto& entry = entries_.try_emplace(id, Entry{*next, 0}).first->second;
        entry.age = std::max(entry.age, by->age + 1);
        return true;
    }

private:
    std::map<std::string, Entry> entries_;
    std::map<std::string, std::string> successors_;  // by key id
};

/// The reports of one session so far.
struct Chain {
    VerifiedReport last;
    isolation::SigningMoment moment;
    std::size_t key_age = 0;
    std::uint64_t first = 0;
    std::size_t count = 0;
    std::map<std::uint64_t, std::string> digests;  ///< by sequence
};

class Verifier {
public:
    explicit Verifier(const VerifyRequest& request) : request_(request), keys_(request.trusted_keys) {
        if (keys_.empty())
            throw Error(Errc::validation, "trusted_keys: none was given; allowed: one or more Ed25519 public keys",
                        {{"field", "trusted_keys"}, {"allowed", "one or more Ed25519 public keys"}});
        if (request.files.empty())
            throw Error(Errc::validation, "files: none was given", {{"field", "files"}, {"allowed", "one or more"}});
        if (request.maximum_age && (!request.now || *request.maximum_age <= Duration::zero()))
            throw Error(Errc::validation, "maximum_age: it needs the time of today and must be above zero",
                        {{"field", "maximum_age"}, {"allowed", "above 0"}});
    }

    Verification run() {
        std::vector<std::vector<Line>> files;
        for (const auto& file : request_.files) {
            files.push_back(lines_of(file));
            for (const auto& line : files.back())
                if (auto envelope = parse_dsse(line.text); envelope && !keys_.follow(*envelope))
                    refuse(Kind::forked, line.where, "its key was replaced by another key too");
        }
        for (const auto& file : files) {
            file_session_.clear();
            for (const auto& line : file) read(line);
        }
        finish();
        return std::move(out_);
    }

private:
    void refuse(Kind kind, const std::string& where, std::string message) {
        out_.problems.push_back({kind, where, std::move(message)});
    }

    /// The statement of an envelope whose signature holds.
    std::optional<Statement> trusted(const std::string& text, const std::string& where, Keyring::Entry& by,
                                     std::string& key_id) {
        auto envelope = parse_dsse(text);
        if (!envelope) return refuse(Kind::malformed, where, "it is not an envelope in its one spelling"), std::nullopt;
        ReportProblem problem{Kind::malformed, where, ""};
        auto signer = keys_.signer(*envelope, problem);
        if (!signer) return out_.problems.push_back(problem), std::nullopt;
        by = *signer;
        key_id = envelope->signatures.front().key_id;
        auto statement = isolation::parse_statement(envelope->payload);
        if (!statement) refuse(Kind::malformed, where, "it is no statement in canonical form");
        return statement;
    }

    void read(const Line& line) {
        Keyring::Entry by{};
        std::string key_id;
        auto statement = trusted(line.text, line.where, by, key_id);
        if (!statement) return;
        if (statement->predicate_type == isolation::rotation_predicate) {
            if (!isolation::rotated_key_of(*statement))
                refuse(Kind::malformed, line.where, "it is no rotation of a key");
            return;
        }
        auto found = isolation::signed_report_of(*statement);
        if (!found) return refuse(Kind::malformed, line.where, "it is no isolation report");
        try {
            take(line, *found, by.age, key_id);
        } catch (const nlohmann::json::exception&) {
            refuse(Kind::malformed, line.where, "its report lacks a field");
        } catch (const Error& error) {
            refuse(Kind::malformed, line.where, "its report cannot be read: " + error.message());
        }
    }

    void take(const Line& line, const SignedReport& found, std::size_t key_age, const std::string& key_id) {
        const auto& document = found.report;
        VerifiedReport report{line.where,
                              document.at("id"),
                              document.at("session_id"),
                              document.at("vm_id"),
                              document.at("instance_epoch"),
                              found.place.sequence,
                              sha256_hex(line.text),
                              key_id,
                              parse_rfc3339(document.at("created_at").get<std::string>()),
                              document.at("verdict"),
                              document.at("lower"),
                              document.at("upper")};
        for (const auto& text : isolation::contradictions(document)) refuse(Kind::contradictory, line.where, text);
        if (!request_.session_id.empty() && report.session_id != request_.session_id)
            refuse(Kind::foreign_session, line.where,
                   "it is of session " + report.session_id + ", not of " + request_.session_id);
        if (file_session_.empty()) file_session_ = report.session_id;
        if (report.session_id != file_session_)
            refuse(Kind::foreign_session, line.where,
                   "it is of session " + report.session_id + " among those of " + file_session_);
        link(chains_[report.session_id], report, found, key_age);
        out_.reports.push_back(std::move(report));
    }

    /// The report's place behind those before it.
    void link(Chain& chain, const VerifiedReport& report, const SignedReport& found, std::size_t key_age) {
        auto [known, fresh] = chain.digests.try_emplace(report.sequence, report.digest);
        if (!fresh) {
            bool same = known->second == report.digest;
            return refuse(same ? Kind::replayed : Kind::forked, report.where,
                          same ? "this report was given before"
                               : "another report has the sequence " + std::to_string(report.sequence) + " too");
        }
        if ((report.sequence == 1) != found.place.previous.empty())
            refuse(Kind::malformed, report.where, "only a first report has none before it");
        if (chain.count == 0) {
            chain.first = report.sequence;
        } else if (report.sequence < chain.last.sequence) {
            return refuse(Kind::reordered, report.where,
                          "report " + std::to_string(report.sequence) + " stands behind report " +
                              std::to_string(chain.last.sequence));
        } else {
            follows(chain, report, found, key_age);
        }
        ++chain.count;
        chain.last = report;
        chain.moment = found.moment;
        chain.key_age = std::max(chain.key_age, key_age);
    }

    void follows(const Chain& chain, const VerifiedReport& report, const SignedReport& found, std::size_t key_age) {
        if (report.sequence != chain.last.sequence + 1 || found.place.previous != chain.last.digest)
            refuse(Kind::gap, report.where,
                   "report " + std::to_string(report.sequence) + " does not follow the report " +
                       std::to_string(chain.last.sequence) + " that stands before it");
        if (key_age < chain.key_age)
            refuse(Kind::retired_key, report.where, "it is signed by a key that had been replaced before");
        bool same_boot = found.moment.boot_id == chain.moment.boot_id;
        bool wall_back = found.moment.wall < chain.moment.wall;
        if (same_boot ? found.moment.monotonic < chain.moment.monotonic : wall_back)
            refuse(Kind::clock, report.where, "it was signed before the report that stands before it");
        else if (wall_back) out_.notes.push_back(report.where + ": the clock was set back before it was signed");
    }

    std::optional<std::vector<AnchoredChain>> anchor() {
        if (!request_.anchor) return std::nullopt;
        Keyring::Entry by{};
        std::string key_id, text = *request_.anchor;
        if (text.ends_with('\n')) text.pop_back();
        auto statement = trusted(text, "anchor", by, key_id);
        auto chains = statement ? isolation::anchored_chains_of(*statement) : std::nullopt;
        if (statement && !chains) refuse(Kind::malformed, "anchor", "it is no head record");
        return chains;
    }

    void finish() {
        auto anchored = anchor();
        std::set<std::string> named;
        if (anchored)
            for (const auto& head : *anchored) {
                named.insert(head.session_id);
                against(head);
            }
        for (const auto& [session, chain] : chains_) {
            if (!named.contains(session)) unanchored(session, chain);
            if (request_.maximum_age && *request_.now - chain.last.created_at > *request_.maximum_age)
                refuse(Kind::stale, chain.last.where,
                       "it was made at " + to_rfc3339(chain.last.created_at) + ", more than " +
                           to_string(*request_.maximum_age) + " ago");
        }
        if (out_.reports.empty() && out_.problems.empty())
            refuse(Kind::malformed, request_.files.front().name, "no report is there");
    }

    void against(const AnchoredChain& head) {
        auto found = chains_.find(head.session_id);
        if (found == chains_.end()) {
            auto text = "session " + head.session_id + " is in the anchor, and no report of it was given";
            if (request_.complete) refuse(Kind::truncated, head.session_id, text);
            else out_.notes.push_back(text);
            return;
        }
        const auto& chain = found->second;
        if (chain.last.sequence < head.last)
            refuse(Kind::truncated, head.session_id,
                   "the anchor knows report " + std::to_string(head.last) + ", the last one given is " +
                       std::to_string(chain.last.sequence));
        auto at = chain.digests.find(head.last);
        if (at != chain.digests.end() && at->second != head.digest)
            refuse(Kind::forked, head.session_id,
                   "report " + std::to_string(head.last) + " is another one than the anchor's");
        if (chain.first > head.first && (chain.count > 1 || request_.complete))
            refuse(Kind::truncated, head.session_id,
                   "the anchor knows report " + std::to_string(head.first) + ", the first one given is " +
                       std::to_string(chain.first));
    }

    void unanchored(const std::string& session, const Chain& chain) {
        if (chain.first > 1) {
            auto text = "the first report given of session " + session + " is number " + std::to_string(chain.first);
            if (chain.count > 1 || request_.complete)
                refuse(Kind::truncated, session, text + "; earlier ones are missing");
            else out_.notes.push_back(text + ": it was checked by itself");
        }
        out_.notes.push_back("without an anchor that names session " + session + " later reports may be missing");
    }

    const VerifyRequest& request_;
    Keyring keys_;
    Verification out_;
    std::map<std::string, Chain> chains_;
    std::string file_session_;
};

}  // namespace

const char* name_of(ReportProblemKind kind) noexcept {
    constexpr std::array<const char*, 13> names{
        "malformed",       "untrusted", "bad_signature", "replayed", "reordered",     "gap",  "forked",
        "foreign_session", "truncated", "retired_key",   "clock",    "contradictory", "stale"};
    return names[static_cast<std::size_t>(kind)];
}

Verification verify_reports(const VerifyRequest& request) { return Verifier(request).run(); }

void to_json(nlohmann::json& document, const Verification& verification) {
    auto reports = nlohmann::json::array(), problems = nlohmann::json::array();
    for (const auto& report : verification.reports)
        reports.push_back({{"where", report.where},
                           {"report_id", report.report_id},
                           {"session_id", report.session_id},
                           {"vm_id", report.vm_id},
                           {"instance_epoch", report.instance_epoch},
                           {"sequence", report.sequence},
                           {"digest", report.digest},
                           {"key_id", report.key_id},
                           {"created_at", to_rfc3339(report.created_at)},
                           {"verdict", report.verdict},
                           {"lower", report.lower},
                           {"upper", report.upper}});
    for (const auto& problem : verification.problems)
        problems.push_back({{"kind", name_of(problem.kind)}, {"where", problem.where}, {"message", problem.message}});
    document = {{"ok", verification.ok()}, {"reports", reports}, {"problems", problems}, {"notes", verification.notes}};
}

}  // namespace infrastructure_sdk
