// The isolation engine upon a fake VM: this very process. It never throws because something could not be seen, and
// never takes the facts of one VM for those of another. And what it reads of /proc by itself.

#include <gtest/gtest.h>

#include <gmock/gmock.h>

#include <algorithm>
#include <map>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "isolation/procfs.hpp"
#include "support/isolation_scene.hpp"
#include "support/real_runtime.hpp"
#include "support/temporary_directory.hpp"
#include <infrastructure_sdk/error.hpp>
#include <infrastructure_sdk/isolation/isolation_engine.hpp>

namespace infrastructure_sdk {
namespace {

using nlohmann::json;
using testing::Contains;
using testing::HasSubstr;
using Status = FindingStatus;

const std::string uuid = "11111111-2222-4333-8444-555555555555";

/// Answers from a table; a name with several answers gives them in turn and then the last for ever.
class FakeSource : public EvidenceSource {
public:
    explicit FakeSource(std::string directory) {
        say("process.identity", identity());
        say("process.paths", {{"vm_directory", std::move(directory)}});
        say("process.uid", {{"expected_uid", ::geteuid()}});
        test::Scene scene;
        for (const char* name : {"qmp:query-kvm", "qmp:query-chardev", "qmp:query-vnc", "qmp:query-rx-filter",
                                 "qom:/machine:dump-guest-core"})
            say(name, scene[name]);
    }
    void say(const std::string& name, json answer) { answers[name].assign(1, std::move(answer)); }
    void refuse(const std::string& name) { answers[name].clear(); }
    static json identity(std::uint64_t start_time = 99) {
        return {{"boot_id", "boot"}, {"pid", ::getpid()}, {"start_time_ticks", start_time}, {"vm_uuid", uuid}};
    }

    Task<Fact> collect(std::string name, Call) override {
        auto& left = answers[name];
        if (left.empty()) throw Error(failure, "refused");
        auto value = left.front();
        if (left.size() > 1) left.erase(left.begin());
        co_return Fact{name, "qmp", name, "node", value.dump(), "", now};
    }

    std::map<std::string, std::vector<json>> answers;
    WallTime now;
    Errc failure = Errc::internal;
};

class IsolationEngineTest : public testing::Test {
protected:
    IsolationEngineTest() { source_->now = environment().clock->wall_now(); }

    const Environment& environment() const { return run_.runtime.environment(); }
    IsolationReport validate(std::vector<IsolationSubject> neighbours = {}, std::vector<Layer> layers = {}) {
        return run_(
            engine_.validate({"session-1", VmId{uuid}, source_}, std::move(neighbours), std::move(layers), Call{}));
    }
    static std::map<std::string, Status> statuses(const IsolationReport& report) {
        std::map<std::string, Status> found;
        for (const auto& finding : report.findings) found[finding.check().id] = finding.status();
        return found;
    }
    static void expect_all_unknown(const IsolationReport& report, const std::string& reason) {
        EXPECT_EQ(report.findings.size(), 10u);
        EXPECT_EQ(report.score.verdict, Verdict::unproven);
        for (const auto& finding : report.findings) {
            EXPECT_EQ(finding.status(), Status::unknown) << finding.check().id << ": " << finding.reason();
            EXPECT_THAT(finding.reason(), HasSubstr(reason));
        }
    }
    std::shared_ptr<FakeSource> neighbour() { return std::make_shared<FakeSource>(directory_.path()); }

    test::TemporaryDirectory directory_;
    RealRuntime run_;
    IsolationEngine engine_{environment()};
    std::shared_ptr<FakeSource> source_ = std::make_shared<FakeSource>(directory_.path());
};

TEST_F(IsolationEngineTest, ReportsEveryCheckInOrderWithEvidenceOfThisInstance) {
    auto report = validate();
    ASSERT_EQ(report.findings.size(), 10u);
    EXPECT_EQ(report.session_id, "session-1");
    EXPECT_EQ(report.vm_id, uuid);
    EXPECT_EQ(report.instance_epoch, "boot/" + std::to_string(::getpid()) + "/99/" + uuid);
    for (std::size_t i = 1; i < report.findings.size(); ++i)
        EXPECT_LT(std::string(report.findings[i - 1].check().id), report.findings[i].check().id);
    for (const auto& finding : report.findings)
        for (const auto& item : finding.evidence()) {
            EXPECT_EQ(item.session_id, "session-1");
            EXPECT_EQ(item.instance_epoch, report.instance_epoch);
        }
    auto found = statuses(report);
    EXPECT_EQ(found["CMP-01"], Status::fail);  // says KVM, holds none
    EXPECT_EQ(found["RUN-02"], Status::fail);
    EXPECT_EQ(found["STO-05"], Status::pass);
    EXPECT_EQ(found["MEM-06"], Status::pass);
    EXPECT_EQ(found["NET-12"], Status::pass);
}

TEST_F(IsolationEngineTest, LooksAtTheWantedLayersOnly) {
    auto report = validate({}, {Layer::memory, Layer::network});
    ASSERT_EQ(report.findings.size(), 3u);
    EXPECT_STREQ(report.findings[0].check().id, "MEM-01");
    EXPECT_STREQ(report.findings[2].check().id, "NET-12");
}

TEST_F(IsolationEngineTest, TakesNothingOfAnotherVm) {
    source_->answers["process.identity"][0]["vm_uuid"] = "99999999-2222-4333-8444-555555555555";
    expect_all_unknown(validate(), "is another's");
}

TEST_F(IsolationEngineTest, TakesNothingWhenTheProcessChangedMeanwhile) {
    for (const json& later : {FakeSource::identity(100), json{{"boot_id", "boot"}, {"pid", ::getpid()}}, json()}) {
        source_->say("process.identity", FakeSource::identity());
        source_->answers["process.identity"].push_back(later);
        expect_all_unknown(validate(), "identity changed");
    }
}

TEST_F(IsolationEngineTest, TakesNothingWithoutAFullIdentity) {
    for (const char* key : {"boot_id", "pid", "start_time_ticks", "vm_uuid"})
        for (const json& value :
             {json(), json(""), json(0), json(-1), json("x"), json(1.5), json::array(), json::object()}) {
            if (value == "x" && std::string(key) == "boot_id") continue;  // a boot id like any other
            auto identity = FakeSource::identity();
            identity[key] = value;
            source_->say("process.identity", identity);
            expect_all_unknown(validate(), "could not look at the VM's process");
        }
    for (const json& value : {json(), json("text"), json::array(), json::object()}) {
        source_->say("process.identity", value);
        expect_all_unknown(validate(), "could not look at the VM's process");
    }
}

TEST_F(IsolationEngineTest, DoesNotThrowWhenTheProcessIsGone) {
    auto identity = FakeSource::identity();
    identity["pid"] = 1 << 30;  // above every pid_max
    source_->say("process.identity", identity);
    auto found = statuses(validate());
    for (const char* check : {"CMP-01", "MEM-01", "RUN-01", "RUN-02", "RUN-03", "RUN-07", "STO-03"})
        EXPECT_EQ(found[check], Status::unknown) << check;
}

TEST_F(IsolationEngineTest, DoesNotThrowOnAStrangeDirectory) {
    for (const json& paths :
         {json{{"vm_directory", 7}}, json{{"vm_directory", "/nowhere/at/all"}}, json(), json("text"), json::object()}) {
        source_->say("process.paths", paths);
        auto found = statuses(validate());
        EXPECT_EQ(found["STO-05"], Status::unknown) << paths;
        EXPECT_EQ(found["RUN-07"], Status::unknown) << paths;
    }
}

TEST_F(IsolationEngineTest, IsUnknownWhereTheSourceFails) {
    source_->refuse("qmp:query-rx-filter");
    source_->say("qmp:query-kvm", json("text"));
    auto found = statuses(validate());
    EXPECT_EQ(found["NET-12"], Status::unknown);
    EXPECT_EQ(found["CMP-01"], Status::unknown);
    EXPECT_EQ(found["MEM-06"], Status::pass);
}

TEST_F(IsolationEngineTest, ComparesWithNeighboursAndDoesNotForgetThoseItCouldNotSee) {
    auto different = neighbour(), same = neighbour(), refusing = neighbour(), nameless = neighbour();
    different->answers["qmp:query-rx-filter"][0][0]["main-mac"] = "52:54:00:aa:bb:01";
    refusing->refuse("qmp:query-rx-filter");
    nameless->say("qmp:query-rx-filter", json::array({{{"name", "net0"}}}));
    auto status = [&](std::vector<IsolationSubject> neighbours) {
        return statuses(validate(std::move(neighbours)))["NET-12"];
    };
    IsolationSubject b{"b", VmId{"b"}, different};
    EXPECT_EQ(status({b}), Status::pass);
    EXPECT_EQ(status({b, {"c", VmId{"c"}, same}}), Status::fail);
    EXPECT_EQ(status({{"c", VmId{"c"}, refusing}, b}), Status::unknown);
    EXPECT_EQ(status({{"c", VmId{"c"}, nameless}, b}), Status::unknown);
    EXPECT_EQ(status({{"c", VmId{"c"}, refusing}, {"d", VmId{"d"}, same}}), Status::fail);
}

TEST_F(IsolationEngineTest, TellsACancellationApartFromBlindness) {
    source_->refuse("process.identity");
    source_->failure = Errc::cancelled;
    EXPECT_THROW(validate(), Error);
    source_->say("process.identity", FakeSource::identity());
    std::stop_source stop;
    stop.request_stop();
    try {
        run_(engine_.validate({"session-1", VmId{uuid}, source_}, {}, {}, Call{Deadline(), stop.get_token(), ""}));
        FAIL();
    } catch (const Error& error) {
        EXPECT_EQ(error.errc(), Errc::cancelled);
    }
}

TEST(Procfs, GivesNothingForWhatCannotBeRead) {
    EXPECT_FALSE(isolation::read_text("/nowhere/at/all"));
    EXPECT_FALSE(isolation::read_text("/proc"));  // opens, but does not read
    EXPECT_FALSE(isolation::read_text("/proc/self/mem"));
    EXPECT_FALSE(isolation::read_thread_statuses(1 << 30));
    EXPECT_FALSE(isolation::read_open_files(1 << 30));
    EXPECT_FALSE(isolation::read_directory("/nowhere/at/all"));
    EXPECT_FALSE(isolation::read_directory("/proc/self/status"));
}

TEST(Procfs, ReadsThisProcess) {
    auto statuses = isolation::read_thread_statuses(::getpid());
    ASSERT_TRUE(statuses);
    for (const auto& text : *statuses) {
        auto status = isolation::parse_thread_status(text);
        ASSERT_TRUE(status) << text;
        EXPECT_THAT(status->uids, Contains(::getuid()));
    }
    test::TemporaryDirectory directory;
    auto path = directory / "open";
    int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    ASSERT_GE(fd, 0);
    ::fchmod(fd, 0640);
    struct stat status{};
    ::fstat(fd, &status);
    auto files = isolation::read_open_files(::getpid());
    ASSERT_TRUE(files);
    auto found = std::find_if(files->begin(), files->end(), [fd](const auto& file) { return file.number == fd; });
    ASSERT_NE(found, files->end());
    EXPECT_EQ(found->target, path);
    EXPECT_EQ(found->inode, status.st_ino);
    EXPECT_TRUE(found->writable && found->regular);
    ::close(fd);

    auto listing = isolation::read_directory(directory.path());
    ASSERT_TRUE(listing);
    ASSERT_EQ(listing->size(), 2u);
    EXPECT_EQ((*listing)[0].name, ".");
    EXPECT_EQ((*listing)[0].mode, 0700u);
    EXPECT_EQ((*listing)[1].name, "open");
    EXPECT_EQ((*listing)[1].mode, 0640u);
    EXPECT_EQ((*listing)[1].uid, ::geteuid());
    EXPECT_FALSE((*listing)[1].has_acl || (*listing)[1].is_directory);
}

}  // namespace
}  // namespace infrastructure_sdk
