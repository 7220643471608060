#include <infrastructure_sdk/isolation/report_ledger.hpp>

#include <nlohmann/json.hpp>

#include "core/async_tools.hpp"
#include "core/dsse.hpp"
#include "core/ed25519.hpp"
#include "core/sha256.hpp"
#include "isolation/signing_keys.hpp"
#include "isolation/statement.hpp"
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {

using isolation::AnchoredChain;
using nlohmann::json;

constexpr const char* report_kind = "isolation-report";       ///< SESSION/SEQUENCE -> the report
constexpr const char* place_kind = "isolation-report-place";  ///< report id -> SESSION/SEQUENCE
constexpr const char* chain_kind = "isolation-chain";         ///< session -> first, last, digest
constexpr const char* key_kind = "isolation-key";             ///< number -> public key, and the rotation that led to it

/// Orders as the numbers do.
std::string padded(std::uint64_t number) {
    auto digits = std::to_string(number);
    return std::string(20 - digits.size(), '0') + digits;
}

std::string place_of(const std::string& session_id, std::uint64_t sequence) {
    return session_id + "/" + padded(sequence);
}

std::string stored(const KeptReport& report) {
    return json{{"report_id", report.report_id}, {"session_id", report.session_id},
                {"sequence", report.sequence},   {"digest", report.digest},
                {"key_id", report.key_id},       {"created_at", to_rfc3339(report.created_at)},
                {"verdict", report.verdict},     {"lower", report.lower},
                {"upper", report.upper},         {"envelope", report.envelope}}
        .dump();
}

KeptReport report_of(const Record& record) {
    auto document = json::parse(record.json);
    return {document.at("report_id"), document.at("session_id"),
            document.at("sequence"),  document.at("digest"),
            document.at("key_id"),    parse_rfc3339(document.at("created_at").get<std::string>()),
            document.at("verdict"),   document.at("lower"),
            document.at("upper"),     document.at("envelope")};
}

struct StoredChain {
    AnchoredChain chain;
    std::uint64_t version = 0;
};

StoredChain chain_of(const Record& record) {
    auto document = json::parse(record.json);
    return {{record.id, document.at("first"), document.at("last"), document.at("digest")}, record.version};
}

/// A key that the installation signs or signed with.
struct KeyRecord {
    Ed25519Key key{};
    std::string rotation;  ///< the envelope that the key before it signed; empty for the first
};

KeyRecord key_of(const Record& record) {
    auto document = json::parse(record.json);
    return {parse_public_pem(document.at("public_key").get<std::string>(), "public_key").front(),
            document.at("rotation")};
}

Put put_key(std::size_t number, const KeyRecord& record) {
    json document{{"public_key", public_pem(record.key)}, {"rotation", record.rotation}};
    return {key_kind, padded(number), document.dump(), 0};
}

}  // namespace

struct ReportLedger::Impl {
    Impl(Environment e, std::shared_ptr<Store> s, ReportLedgerOptions o)
        : environment(e), store(std::move(s)), options(std::move(o)), keys(options.key_directory), turn(e.executor) {}

    Environment environment;
    std::shared_ptr<Store> store;
    ReportLedgerOptions options;
    isolation::SigningKeys keys;
    AsyncMutex turn;  ///< a report is signed when the one before it is on disk
    Ed25519Key secret{};
    std::size_t key_number = 0;

    Ed25519Key public_key() const { return ed25519_public_key(secret); }
    std::string signed_text(std::string statement) const {
        return dsse_text(dsse_sign(isolation::statement_payload_type, std::move(statement), secret));
    }
    Task<std::vector<Record>> all(std::string kind, std::string prefix);
    Task<std::vector<KeyRecord>> all_keys();
    Task<StoredChain> chain(std::string session_id);
    Task<std::size_t> forget_chain(std::string session_id, WallTime before);
    Task<Ed25519Key> make_key();
    Task<void> replace_lost_key(std::string id);
};

/// The records of a kind whose id begins with `prefix`.
Task<std::vector<Record>> ReportLedger::Impl::all(std::string kind, std::string prefix) {
    std::vector<Record> found;
    std::string after = prefix;
    constexpr std::size_t page = 100;
    for (;;) {
        auto records = co_await store->list(kind, after, page);
        for (auto& record : records) {
            if (!record.id.starts_with(prefix)) co_return found;
            after = record.id;
            found.push_back(std::move(record));
        }
        if (records.size() < page) co_return found;
    }
}

Task<std::vector<KeyRecord>> ReportLedger::Impl::all_keys() {
    auto records = co_await all(key_kind, "");
    std::vector<KeyRecord> found;
    for (const auto& record : records) found.push_back(key_of(record));
    co_return found;
}

/// Version 0 when there is none yet.
Task<StoredChain> ReportLedger::Impl::chain(std::string session_id) {
    auto record = co_await store->get(chain_kind, session_id);
    if (record) co_return chain_of(*record);
    StoredChain none;
    none.chain.session_id = session_id;
    co_return none;
}

Task<Ed25519Key> ReportLedger::Impl::make_key() {
    auto work = [this] { return keys.make(*environment.random); };
    co_return co_await run_blocking(environment.blocking, work);
}

/// Sessions must go on; nobody vouches for the new key, so who verifies has to be given it.
Task<void> ReportLedger::Impl::replace_lost_key(std::string id) {
    environment.logger->log(LogLevel::error, "isolation.reports",
                            "the signing key " + options.key_directory + "/" + id +
                                ".pem is gone; reports are signed with a new key from now on");
    secret = co_await make_key();
    KeyRecord record{public_key(), ""};
    Batch batch;
    batch.puts.push_back(put_key(++key_number, record));
    co_await store->commit(batch);
}

ReportLedger::ReportLedger(Environment environment, std::shared_ptr<Store> store, ReportLedgerOptions options)
    : impl_(std::make_unique<Impl>(std::move(environment), std::move(store), std::move(options))) {}
ReportLedger::~ReportLedger() = default;

Task<void> ReportLedger::open() {
    auto& impl = *impl_;
    auto known = co_await impl.all_keys();
    if (known.empty()) {
        impl.secret = co_await impl.make_key();
        KeyRecord first{impl.public_key(), ""};
        Batch batch;
        batch.puts.push_back(put_key(0, first));
        co_await impl.store->commit(batch);
        known.push_back(first);
    }
    impl.key_number = known.size() - 1;
    auto id = key_id_of(known.back().key);
    auto work = [&impl, id] {
        auto secret = impl.keys.load(id);
        // What a death in the middle of a rotation left behind.
        if (secret) impl.keys.keep_only(id);
        return secret;
    };
    auto secret = co_await run_blocking(impl.environment.blocking, work);
    if (secret) impl.secret = *secret;
    else co_await impl.replace_lost_key(id);
}

Task<KeptReport> ReportLedger::keep(IsolationReport report, Call call) {
    auto& impl = *impl_;
    auto turn = co_await impl.turn.lock(*impl.environment.clock, call, "keeping an isolation report");
    auto before = co_await impl.chain(report.session_id);
    isolation::ChainPlace place{before.chain.last + 1, before.chain.digest};
    isolation::SigningMoment moment{impl.environment.clock->wall_now(), impl.environment.clock->monotonic_now(),
                                    impl.options.boot_id};
    KeptReport kept;
    kept.report_id = report.id;
    kept.session_id = report.session_id;
    kept.sequence = place.sequence;
    kept.envelope = impl.signed_text(isolation::report_statement(report, place, moment));
    kept.digest = sha256_hex(kept.envelope);
    kept.key_id = key_id_of(impl.public_key());
    kept.created_at = report.created_at;
    kept.verdict = name_of(report.score.verdict);
    kept.lower = report.score.lower;
    kept.upper = report.score.upper;

    auto first = before.chain.first;
    Batch batch;
    for (; kept.sequence - first >= impl.options.kept_reports; ++first) {
        auto gone = place_of(kept.session_id, first);
        if (auto record = co_await impl.store->get(report_kind, gone))
            batch.erases.push_back({place_kind, report_of(*record).report_id});
        batch.erases.push_back({report_kind, gone});
    }
    auto own = place_of(kept.session_id, kept.sequence);
    json head{{"first", first}, {"last", kept.sequence}, {"digest", kept.digest}};
    batch.puts.push_back({report_kind, own, stored(kept), 0});
    batch.puts.push_back({place_kind, kept.report_id, json{{"place", own}}.dump(), 0});
    batch.puts.push_back({chain_kind, kept.session_id, head.dump(), before.version});
    co_await impl.store->commit(batch);
    co_return kept;
}

Task<KeptReport> ReportLedger::get(std::string report_id) {
    auto place = co_await impl_->store->get(place_kind, report_id);
    if (place) {
        auto record = co_await impl_->store->get(report_kind, json::parse(place->json).at("place"));
        if (record) co_return report_of(*record);
    }
    throw Error(Errc::not_found, "there is no report '" + report_id + "'",
                {{"field", "report_id"}, {"value", report_id}});
}

Task<std::vector<KeptReport>> ReportLedger::history(std::string session_id) {
    auto records = co_await impl_->all(report_kind, session_id + "/");
    std::vector<KeptReport> found;
    for (const auto& record : records) found.push_back(report_of(record));
    co_return found;
}

Task<std::string> ReportLedger::chain(std::string session_id) {
    Call call;
    // A report that is kept meanwhile may be signed by a key that was not read.
    auto turn = co_await impl_->turn.lock(*impl_->environment.clock, call, "reading the reports of a session");
    auto keys = co_await impl_->all_keys();
    auto reports = co_await history(session_id);
    std::string text;
    for (const auto& key : keys)
        if (!key.rotation.empty()) text += key.rotation + "\n";
    for (const auto& report : reports) text += report.envelope + "\n";
    co_return text;
}

Task<std::size_t> ReportLedger::forget(std::set<std::string> running, WallTime before) {
    auto chains = co_await impl_->all(chain_kind, "");
    std::size_t forgotten = 0;
    for (const auto& chain : chains)
        if (!running.contains(chain.id)) forgotten += co_await impl_->forget_chain(chain.id, before);
    co_return forgotten;
}

/// When its last report is that old. One chain in a turn: new reports do not wait for all of them.
Task<std::size_t> ReportLedger::Impl::forget_chain(std::string session_id, WallTime before) {
    Call call;
    auto held = co_await turn.lock(*environment.clock, call, "forgetting old reports");
    auto known = co_await chain(session_id);
    auto last = co_await store->get(report_kind, place_of(session_id, known.chain.last));
    if (!last || report_of(*last).created_at >= before) co_return 0;
    auto reports = co_await all(report_kind, session_id + "/");
    // The chain's own record stays: it is what an anchor says of the session.
    Batch batch;
    for (const auto& report : reports) {
        batch.erases.push_back({report_kind, report.id});
        batch.erases.push_back({place_kind, report_of(report).report_id});
    }
    co_await store->commit(batch);
    co_return reports.size();
}

Task<std::string> ReportLedger::anchor(std::vector<std::string> session_ids) {
    std::vector<AnchoredChain> chains;
    for (const auto& id : session_ids) {
        auto found = co_await impl_->chain(id);
        if (found.version == 0)
            throw Error(Errc::not_found, "session '" + id + "' has no report", {{"field", "session"}, {"value", id}});
        chains.push_back(found.chain);
    }
    if (session_ids.empty()) {
        auto records = co_await impl_->all(chain_kind, "");
        for (const auto& record : records) chains.push_back(chain_of(record).chain);
    }
    co_return impl_->signed_text(isolation::anchor_statement(chains, impl_->environment.clock->wall_now())) + "\n";
}

Task<std::string> ReportLedger::public_keys() {
    auto keys = co_await impl_->all_keys();
    std::string text;
    for (const auto& key : keys) text += public_pem(key.key);
    co_return text;
}

Task<std::string> ReportLedger::rotate(Call call) {
    auto& impl = *impl_;
    auto turn = co_await impl.turn.lock(*impl.environment.clock, call, "rotating the signing key");
    auto next = co_await impl.make_key();
    auto next_public = ed25519_public_key(next);
    auto statement = isolation::rotation_statement(impl.public_key(), next_public, impl.environment.clock->wall_now());
    KeyRecord record{next_public, impl.signed_text(statement)};
    Batch batch;
    batch.puts.push_back(put_key(impl.key_number + 1, record));
    co_await impl.store->commit(batch);
    impl.secret = next;
    ++impl.key_number;
    auto id = key_id_of(next_public);
    auto work = [&impl, id] {
        impl.keys.keep_only(id);
        return true;
    };
    co_await run_blocking(impl.environment.blocking, work);
    co_return id;
}

}  // namespace infrastructure_sdk
