#pragma once
// Chains of signed reports, made without a store.

#include <string>
#include <vector>

#include "core/dsse.hpp"
#include "core/ed25519.hpp"
#include "core/sha256.hpp"
#include "isolation/statement.hpp"
#include "support/isolation_findings.hpp"
#include <infrastructure_sdk/isolation/signed_report.hpp>

namespace infrastructure_sdk::test {

inline const WallTime noon{std::chrono::seconds(1'780'000'000)};

inline Ed25519Key secret_key(std::uint8_t number) {
    Ed25519Key key{};
    key.fill(number);
    return key;
}
inline Ed25519Key public_half(std::uint8_t number) { return ed25519_public_key(secret_key(number)); }

/// Every check with a status of its own, upon evidence that supports it.
inline IsolationReport make_report(const std::string& session, const std::string& id, WallTime at) {
    IsolationReport report;
    report.id = id;
    report.session_id = session;
    report.vm_id = "vm of " + session;
    report.instance_epoch = "boot/4711/99/uuid";
    report.created_at = at;
    std::size_t turn = 0;
    for (const auto& check : check_catalogue()) {
        constexpr FindingStatus statuses[] = {FindingStatus::pass, FindingStatus::fail, FindingStatus::unknown,
                                              FindingStatus::not_applicable};
        auto evidence = evidence_for(check, at);
        evidence.session_id = session;
        evidence.strength = Strength::e4;
        evidence.excerpt = "a \"quoted\" excerpt, caf\xc3\xa9";
        report.findings.push_back(make_finding(check, statuses[turn++ % 4], {evidence}));
    }
    report.score = score(report.findings, at);
    report.layers = layer_scores(report.findings, at);
    return report;
}

/// Signs reports of one session one after the other.
class SignedChain {
public:
    explicit SignedChain(std::string session, std::uint8_t key = 1) : session_(std::move(session)), key_(key) {}

    const std::string& add() {
        auto number = envelopes.size() + 1;
        return add(make_report(session_, session_ + "/r" + std::to_string(number), now()));
    }
    const std::string& add(const IsolationReport& report) {
        isolation::ChainPlace place{envelopes.size() + 1, envelopes.empty() ? "" : sha256_hex(envelopes.back())};
        isolation::SigningMoment moment{now() + wall_step, MonotonicTime(std::chrono::minutes(envelopes.size())), boot};
        return envelopes.emplace_back(signed_by(key_, isolation::report_statement(report, place, moment)));
    }
    SignedChain& of(std::size_t count) {
        while (envelopes.size() < count) add();
        return *this;
    }
    static std::string signed_by(std::uint8_t key, std::string statement) {
        return dsse_text(dsse_sign(isolation::statement_payload_type, std::move(statement), secret_key(key)));
    }
    /// The rotation to another key, which signs from now on.
    std::string rotate(std::uint8_t next) {
        auto text = signed_by(key_, isolation::rotation_statement(public_half(key_), public_half(next), now()));
        key_ = next;
        return text;
    }
    void use_key(std::uint8_t key) { key_ = key; }
    isolation::AnchoredChain head() const { return {session_, 1, envelopes.size(), sha256_hex(envelopes.back())}; }
    WallTime now() const { return noon + std::chrono::minutes(envelopes.size()); }

    std::vector<std::string> envelopes;
    std::string boot = "boot";
    Duration wall_step{};

private:
    std::string session_;
    std::uint8_t key_;
};

inline std::string joined(const std::vector<std::string>& lines) {
    std::string text;
    for (const auto& line : lines) text += line + "\n";
    return text;
}

}  // namespace infrastructure_sdk::test
