// Reports in a store: signed, chained, kept for a while, and the key that signs them.

#include <gtest/gtest.h>

#include <gmock/gmock.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include <sys/stat.h>

#include "core/async_tools.hpp"
#include "support/real_runtime.hpp"
#include "support/signed_reports.hpp"
#include "support/temporary_directory.hpp"
#include <infrastructure_sdk/error.hpp>
#include <infrastructure_sdk/isolation/report_ledger.hpp>
#include <infrastructure_sdk/isolation/waivers.hpp>

namespace infrastructure_sdk {
namespace {

namespace fs = std::filesystem;
using test::TemporaryDirectory;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

class ReportLedgerTest : public testing::Test {
protected:
    ReportLedgerTest() : store_(make_memory_store(environment())) { open(); }

    const Environment& environment() const { return run_.runtime.environment(); }
    /// As the next process does.
    void open(std::size_t kept = 50) {
        ledger_ = std::make_unique<ReportLedger>(environment(), store_, ReportLedgerOptions{keys(), "boot", kept});
        run_(ledger_->open());
    }
    std::string keys() const { return place_.path() + "/keys"; }
    std::vector<fs::path> key_files() const {
        std::vector<fs::path> found;
        for (const auto& entry : fs::directory_iterator(keys())) found.push_back(entry.path());
        return found;
    }
    KeptReport keep(const std::string& session, const std::string& id) {
        return run_(ledger_->keep(test::make_report(session, id, environment().clock->wall_now()), Call{}));
    }
    Verification verify(const std::string& session, const std::string& trusted, bool anchored = true) {
        VerifyRequest request;
        request.files = {{"chain", run_(ledger_->chain(session))}};
        request.trusted_keys = {trusted};
        if (anchored) request.anchor = run_(ledger_->anchor({session}));
        request.complete = anchored;
        return verify_reports(request);
    }
    std::string public_keys() { return run_(ledger_->public_keys()); }
    template <class F>
    Errc errc_of(F call) {
        try {
            call();
        } catch (const Error& error) {
            return error.errc();
        }
        return Errc::internal;
    }

    RealRuntime run_;
    TemporaryDirectory place_;
    std::shared_ptr<Store> store_;
    std::unique_ptr<ReportLedger> ledger_;
};

TEST_F(ReportLedgerTest, KeepsSignsAndChains) {
    keep("s-a", "a1");
    keep("s-b", "b1");
    auto second = keep("s-a", "a2");
    EXPECT_EQ(second.sequence, 2u);
    EXPECT_EQ(second.digest, sha256_hex(second.envelope));
    EXPECT_EQ(run_(ledger_->get("a2")).envelope, second.envelope);
    auto history = run_(ledger_->history("s-a"));
    ASSERT_THAT(history, SizeIs(2));
    EXPECT_EQ(history[0].report_id, "a1");
    EXPECT_THAT(run_(ledger_->history("s-")), IsEmpty());
    auto found = verify("s-a", public_keys());
    EXPECT_TRUE(found.ok()) << nlohmann::json(found).dump(2);
    EXPECT_THAT(found.notes, IsEmpty());
    EXPECT_EQ(errc_of([&] { run_(ledger_->get("nothing")); }), Errc::not_found);
    EXPECT_EQ(errc_of([&] { run_(ledger_->anchor({"s-c"})); }), Errc::not_found);
}

TEST_F(ReportLedgerTest, GoesOnAfterAReopening) {
    auto before = public_keys();
    keep("s-a", "a1");
    open();
    EXPECT_EQ(keep("s-a", "a2").sequence, 2u);
    EXPECT_EQ(public_keys(), before);
    EXPECT_TRUE(verify("s-a", before).ok());
}

TEST_F(ReportLedgerTest, ReportsOfOneMomentGetDifferentNumbers) {
    TaskGroup group(environment().executor);
    auto one = [](ReportLedger* ledger, IsolationReport report) -> Task<void> {
        co_await ledger->keep(report, Call{});
    };
    auto all = [&]() -> Task<void> {
        for (int i = 0; i < 8; ++i)
            group.spawn(environment().logger, "keep",
                        one(ledger_.get(), test::make_report("s-a", "a" + std::to_string(i), test::noon)));
        co_await group.join();
    };
    run_(all());
    EXPECT_THAT(run_(ledger_->history("s-a")), SizeIs(8));
    EXPECT_TRUE(verify("s-a", public_keys()).ok());
}

TEST_F(ReportLedgerTest, KeepsTheLastReportsOnly) {
    open(2);
    for (int i = 1; i <= 5; ++i) keep("s-a", "a" + std::to_string(i));
    auto history = run_(ledger_->history("s-a"));
    ASSERT_THAT(history, SizeIs(2));
    EXPECT_EQ(history[0].sequence, 4u);
    EXPECT_EQ(errc_of([&] { run_(ledger_->get("a3")); }), Errc::not_found);
    EXPECT_TRUE(verify("s-a", public_keys()).ok());  // the anchor says where the kept ones begin
    EXPECT_FALSE(verify("s-a", public_keys(), false).ok());
}

TEST_F(ReportLedgerTest, ForgetsEndedSessionsAndKeepsWhereTheirChainsEnded) {
    for (const char* session : {"s-ended", "s-running"})
        for (const char* id : {"/1", "/2"}) keep(session, std::string(session) + id);
    const auto copy = run_(ledger_->chain("s-ended"));
    const auto now = environment().clock->wall_now();
    EXPECT_EQ(run_(ledger_->forget({}, now - std::chrono::hours(1))), 0u);  // too young
    EXPECT_EQ(run_(ledger_->forget({"s-running"}, now + std::chrono::hours(1))), 2u);
    EXPECT_THAT(run_(ledger_->history("s-ended")), IsEmpty());
    EXPECT_EQ(errc_of([&] { run_(ledger_->get("s-ended/1")); }), Errc::not_found);
    EXPECT_THAT(run_(ledger_->history("s-running")), SizeIs(2));
    EXPECT_TRUE(verify("s-running", public_keys()).ok());
    // A copy is still checked against an anchor of today.
    VerifyRequest request;
    request.files = {{"copy", copy}};
    request.trusted_keys = {public_keys()};
    request.anchor = run_(ledger_->anchor({"s-ended"}));
    request.complete = true;
    EXPECT_TRUE(verify_reports(request).ok());
    request.files.front().text = copy.substr(0, copy.find('\n') + 1);
    EXPECT_FALSE(verify_reports(request).ok());
    EXPECT_EQ(run_(ledger_->forget({"s-running"}, now + std::chrono::hours(1))), 0u);
}

TEST_F(ReportLedgerTest, RotatesItsKey) {
    auto first = public_keys();
    keep("s-a", "a1");
    auto id = run_(ledger_->rotate(Call{}));
    EXPECT_EQ(keep("s-a", "a2").key_id, id);
    auto second = run_(ledger_->rotate(Call{}));
    open();
    EXPECT_EQ(keep("s-a", "a3").key_id, second);
    EXPECT_TRUE(verify("s-a", first).ok()) << nlohmann::json(verify("s-a", first)).dump(2);
    EXPECT_THAT(parse_public_pem(public_keys(), "keys"), SizeIs(3));
    ASSERT_THAT(key_files(), SizeIs(1));
    EXPECT_EQ(key_files()[0].stem(), second);
}

TEST_F(ReportLedgerTest, TheKeyIsPrivate) {
    struct stat status{};
    ASSERT_THAT(key_files(), SizeIs(1));
    ASSERT_EQ(::stat(key_files()[0].c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, 0600u);
    ASSERT_EQ(::stat(keys().c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, 0700u);
    ASSERT_EQ(::chmod(key_files()[0].c_str(), 0640), 0);
    EXPECT_EQ(errc_of([&] { open(); }), Errc::permission_denied);
}

TEST_F(ReportLedgerTest, ALostKeyIsReplacedByOneThatNobodyVouchesFor) {
    auto first = public_keys();
    keep("s-a", "a1");
    fs::remove(key_files()[0]);
    open();
    keep("s-a", "a2");
    EXPECT_FALSE(verify("s-a", first).ok());
    EXPECT_TRUE(verify("s-a", public_keys()).ok());
}

TEST_F(ReportLedgerTest, AnUnfinishedRotationLeavesNothing) {
    auto first = public_keys();
    std::ofstream(keys() + "/" + std::string(64, 'a') + ".pem") << "left behind";
    open();
    EXPECT_THAT(key_files(), SizeIs(1));
    EXPECT_EQ(public_keys(), first);
}

TEST_F(ReportLedgerTest, AKeyFileThatIsNoneOrAnotherIsRefused) {
    auto path = key_files()[0];
    std::ofstream(path) << private_pem(test::secret_key(3)).reveal();
    EXPECT_EQ(errc_of([&] { open(); }), Errc::store);
    std::ofstream(path) << "nonsense";
    EXPECT_EQ(errc_of([&] { open(); }), Errc::store);
}

Waiver waiver_for(const std::string& check) {
    return {"w-1", check, "s-a", "no KVM in the lab", "the owner", test::noon + std::chrono::hours(24)};
}

TEST(Waivers, ASignedOneAcceptsAFailureAndLeavesTheScore) {
    auto report = test::make_report("s-a", "a1", test::noon);
    auto failed = std::find_if(report.findings.begin(), report.findings.end(),
                               [](const Finding& f) { return f.status() == FindingStatus::fail; });
    auto text = sign_waiver(waiver_for(failed->check().id), private_pem(test::secret_key(4)));
    auto waivers = read_waivers(text, "waivers", {public_pem(test::public_half(4))});
    ASSERT_THAT(waivers, SizeIs(1));
    auto before = report.score;
    apply_waivers(report, waivers, test::noon);
    EXPECT_EQ(failed->status(), FindingStatus::waived);
    EXPECT_THAT(failed->reason(), HasSubstr("no KVM in the lab"));
    ASSERT_THAT(report.waivers, SizeIs(1));
    auto after = score(report.findings, test::noon);
    EXPECT_EQ(after.lower, before.lower);
    EXPECT_EQ(after.upper, before.upper);
    EXPECT_EQ(after.verdict, before.verdict);
    // And the verifier agrees.
    VerifyRequest request;
    test::SignedChain chain("s-a");
    request.files = {{"file", chain.add(report)}};
    request.trusted_keys = {public_pem(test::public_half(1))};
    EXPECT_TRUE(verify_reports(request).ok()) << nlohmann::json(verify_reports(request)).dump(2);
}

TEST(Waivers, EndedOrForeignOnesAreNotApplied) {
    for (auto change : {+[](Waiver& w) { w.expires_at = test::noon; }, +[](Waiver& w) { w.session_id = "s-b"; },
                        +[](Waiver& w) { w.check_id = "CMP-01"; }}) {
        auto report = test::make_report("s-a", "a1", test::noon);
        auto failed = std::find_if(report.findings.begin(), report.findings.end(), [](const Finding& f) {
            return f.status() == FindingStatus::fail && f.check().id != std::string("CMP-01");
        });
        auto waiver = waiver_for(failed->check().id);
        change(waiver);
        apply_waivers(report, {waiver}, test::noon);
        EXPECT_EQ(failed->status(), FindingStatus::fail);
    }
}

TEST(Waivers, AFileWithAnyOtherLineIsRefused) {
    auto line = sign_waiver(waiver_for("MEM-01"), private_pem(test::secret_key(4)));
    auto refused = [&](const std::string& text, std::uint8_t key = 4) {
        try {
            read_waivers(text, "waivers", {public_pem(test::public_half(key))});
        } catch (const Error& error) {
            return error.context().at("field");
        }
        return std::string("none");
    };
    EXPECT_EQ(refused(line + line), "none");
    EXPECT_EQ(refused(line + "nonsense\n"), "waivers:2");
    EXPECT_EQ(refused(line, 5), "waivers:1");
    auto flipped = line;
    flipped[20] = flipped[20] == 'A' ? 'B' : 'A';
    EXPECT_EQ(refused(flipped), "waivers:1");
    EXPECT_EQ(refused(test::SignedChain("s-a", 4).add()), "waivers:1");
}

TEST(Waivers, AnIncompleteOneIsNotSigned) {
    auto field_of = [](Waiver waiver, const std::string& key) {
        try {
            sign_waiver(waiver, Secret(key));
        } catch (const Error& error) {
            return error.context().at("field");
        }
        return std::string("none");
    };
    auto key = private_pem(test::secret_key(4)).reveal();
    EXPECT_EQ(field_of(waiver_for("MEM-01"), key), "none");
    EXPECT_EQ(field_of(waiver_for("MEM-99"), key), "check_id");
    EXPECT_EQ(field_of(waiver_for("MEM-01"), public_pem(test::public_half(4))), "private_key");
    auto waiver = waiver_for("MEM-01");
    waiver.reason.clear();
    EXPECT_EQ(field_of(waiver, key), "reason");
    waiver = waiver_for("MEM-01");
    waiver.approved_by.clear();
    EXPECT_EQ(field_of(waiver, key), "approved_by");
}

}  // namespace
}  // namespace infrastructure_sdk
