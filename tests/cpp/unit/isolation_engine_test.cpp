// The isolation engine upon a fake VM: this very process. It never throws because something could not be seen, and
// never takes the facts of one VM for those of another. And what it reads of /proc by itself.

#include <gtest/gtest.h>

#include <gmock/gmock.h>

#include <algorithm>
#include <atomic>
#include <latch>
#include <map>
#include <stop_token>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "core/async_tools.hpp"
#include "core/cgroup_place.hpp"
#include "isolation/collection.hpp"
#include "isolation/readings.hpp"
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
        say("process.paths", {{"vm_directory", std::move(directory)}, {"image_directory", "/nowhere"}});
        test::Scene scene;
        auto wanted = isolation::wanted_by({});
        for (const auto& name : wanted.own)
            for (const char* prefix : {"qmp:", "qom", "hmp:", "process.promises", "agent."})
                if (name.starts_with(prefix)) say(name, scene[name]);
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
        co_return Fact{name, "qmp", name, "node", value.dump(), "", now, instance};
    }

    std::map<std::string, std::vector<json>> answers;
    WallTime now;
    std::string instance;
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
        EXPECT_EQ(report.findings.size(), 50u);
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
    ASSERT_EQ(report.findings.size(), 50u);
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
    EXPECT_EQ(found["RUN-10"], Status::pass);
    EXPECT_EQ(found["NET-04"], Status::unknown);  // no probe was run
    EXPECT_EQ(found["MEM-06"], Status::pass);
    EXPECT_EQ(found["NET-12"], Status::pass);
}

OwnCheck own_check(const std::string& id, std::function<OwnVerdict(const OwnFacts&)> judge) {
    OwnCheck check;
    check.id = id;
    check.layer = Layer::runtime;
    check.severity = Severity::critical;
    check.title = "It is as we want it";
    check.facts = {"qmp:query-uuid", "neighbours:qmp:query-uuid"};
    check.judge = std::move(judge);
    return check;
}

TEST_F(IsolationEngineTest, OwnChecksAreInTheReportAndTroubleNobodyElse) {
    const auto plain = validate();
    engine_.add_check(own_check("ACME-PASS", [](const OwnFacts& facts) {
        EXPECT_EQ(json::parse(facts.at("qmp:query-uuid"))["UUID"], "uuid-a");
        EXPECT_EQ(json::parse(facts.at("neighbours:qmp:query-uuid")).size(), 1u);
        return OwnVerdict{FindingStatus::pass, "as we want it"};
    }));
    engine_.add_check(own_check("ACME-FAIL", [](const OwnFacts&) { return OwnVerdict{FindingStatus::fail, "no"}; }));
    engine_.add_check(
        own_check("ACME-RAISE", [](const OwnFacts&) -> OwnVerdict { throw std::runtime_error("a bug of ours"); }));
    engine_.add_check(own_check("ACME-WAIVE", [](const OwnFacts&) { return OwnVerdict{FindingStatus::waived, ""}; }));
    auto lying = own_check("ACME-LIE", [](const OwnFacts&) { return OwnVerdict{FindingStatus::pass, "all is well"}; });
    lying.floor = Strength::e4;  // what it reads is no probe
    engine_.add_check(lying);
    auto report = validate({{"session-2", VmId{}, neighbour()}});
    ASSERT_EQ(report.findings.size(), plain.findings.size() + 5);
    auto found = statuses(report);
    EXPECT_EQ(found["ACME-PASS"], Status::pass);
    EXPECT_EQ(found["ACME-FAIL"], Status::fail);
    EXPECT_EQ(found["ACME-RAISE"], Status::unknown);
    EXPECT_EQ(found["ACME-WAIVE"], Status::unknown);
    EXPECT_EQ(found["ACME-LIE"], Status::unknown);
    EXPECT_EQ(report.score.verdict, Verdict::not_isolated);
    EXPECT_LE(report.score.lower, 10);
    for (const auto& finding : report.findings) {
        const std::string id = finding.check().id;
        if (id == "ACME-RAISE") {
            EXPECT_THAT(finding.reason(), HasSubstr("a bug of ours"));
        } else if (id == "ACME-PASS") {
            EXPECT_EQ(finding.evidence().size(), 2u);
        }
    }
    EXPECT_EQ(validate({}, {Layer::memory}).findings.size(), 8u);
    // Without its facts it is not asked.
    source_->refuse("qmp:query-uuid");
    found = statuses(validate({{"session-2", VmId{}, neighbour()}}));
    for (const char* id : {"ACME-PASS", "ACME-FAIL", "ACME-LIE"}) EXPECT_EQ(found[id], Status::unknown) << id;
}

TEST_F(IsolationEngineTest, AnOwnCheckThatHangsIsNotAskedAgain) {
    std::stop_source stop;
    std::latch released(1);
    std::atomic<int> asked{0};
    engine_.add_check(own_check("ACME-HANG", [&](const OwnFacts&) {
        if (++asked > 1) return OwnVerdict{FindingStatus::pass, "at last"};
        stop.request_stop();  // as if patience had ended
        released.wait();
        return OwnVerdict{FindingStatus::pass, "late"};
    }));
    engine_.add_check(own_check("ACME-QUICK", [](const OwnFacts&) { return OwnVerdict{FindingStatus::pass, "yes"}; }));
    IsolationSubject subject{"session-1", VmId{uuid}, source_};
    std::vector<IsolationSubject> others{{"session-2", VmId{}, neighbour()}};
    Call call{Deadline(), stop.get_token(), ""};
    auto found = statuses(run_(engine_.validate(subject, others, {}, call)));
    EXPECT_EQ(found["ACME-HANG"], Status::unknown);
    found = statuses(validate(others));
    EXPECT_EQ(found["ACME-HANG"], Status::unknown);
    EXPECT_EQ(found["ACME-QUICK"], Status::pass);
    EXPECT_EQ(asked, 1);
    released.count_down();
    while (asked == 1) found = statuses(validate(others));
    EXPECT_EQ(found["ACME-HANG"], Status::pass);
}

TEST_F(IsolationEngineTest, AnOwnCheckThatIsNoneIsRefused) {
    auto judge = [](const OwnFacts&) { return OwnVerdict{}; };
    engine_.add_check(own_check("ACME-01", judge));
    const std::vector<std::pair<const char*, std::function<void(OwnCheck&)>>> wrong{
        {"id", [](OwnCheck& c) { c.id = "CMP-01"; }},
        {"id", [](OwnCheck& c) { c.id = "ACME-01"; }},
        {"id", [](OwnCheck& c) { c.id = "acme"; }},
        {"id", [](OwnCheck& c) { c.id = "ACME-02\n"; }},
        {"floor", [](OwnCheck& c) { c.floor = Strength::e0; }},
        {"title", [](OwnCheck& c) { c.title.clear(); }},
        {"facts", [](OwnCheck& c) { c.facts.clear(); }},
        {"facts", [](OwnCheck& c) { c.facts = {"proc.nothing"}; }},
        {"facts", [](OwnCheck& c) { c.facts = {"probe.gate"}; }},
        {"judge", [](OwnCheck& c) { c.judge = nullptr; }},
    };
    for (const auto& [field, change] : wrong) {
        auto check = own_check("ACME-02", judge);
        change(check);
        try {
            engine_.add_check(check);
            ADD_FAILURE() << field;
        } catch (const Error& error) {
            EXPECT_EQ(error.errc(), Errc::validation);
            EXPECT_EQ(error.context().at("field"), field);
        }
    }
    EXPECT_EQ(validate().findings.size(), 51u);
}

/// What a probe cannot do is told; what it can is of this instance.
TEST_F(IsolationEngineTest, AProbeThatHasNoWayInIsUnknown) {
    std::vector<IsolationSubject> subjects{{"session-1", VmId{uuid}, source_}}, none;
    auto report = run_(engine_.audit_with_probes(subjects, none, {}, probed_checks(), Call{})).front();
    auto found = statuses(report);
    for (const char* id : {"NET-03", "NET-04", "NET-05", "NET-07", "NET-11"})
        EXPECT_EQ(found[id], Status::unknown) << id;
    EXPECT_EQ(found["RUN-09"], Status::pass);
    // Another instance has no part in it.
    source_->say("process.identity", FakeSource::identity(100));
    EXPECT_EQ(statuses(validate())["RUN-09"], Status::unknown);
    source_->say("process.identity", FakeSource::identity());
    EXPECT_EQ(statuses(validate())["RUN-09"], Status::pass);
}

TEST_F(IsolationEngineTest, LooksAtTheWantedLayersOnly) {
    auto report = validate({}, {Layer::memory, Layer::network});
    ASSERT_EQ(report.findings.size(), 21u);
    EXPECT_STREQ(report.findings[0].check().id, "MEM-01");
    EXPECT_STREQ(report.findings[20].check().id, "NET-13");
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
        EXPECT_NE(found["STO-05"], Status::pass) << paths;
        EXPECT_EQ(found["STO-04"], Status::unknown) << paths;
    }
}

TEST_F(IsolationEngineTest, IsUnknownWhereTheSourceFails) {
    source_->refuse("qmp:query-rx-filter");
    source_->say("qmp:query-version", json("text"));
    auto found = statuses(validate());
    EXPECT_EQ(found["NET-12"], Status::unknown);
    EXPECT_EQ(found["RUN-10"], Status::unknown);
    EXPECT_EQ(found["MEM-06"], Status::pass);
}

TEST_F(IsolationEngineTest, ComparesWithNeighboursAndDoesNotForgetThoseItCouldNotSee) {
    auto different = neighbour(), same = neighbour(), refusing = neighbour(), nameless = neighbour();
    auto network = [](FakeSource& source) { source.say("hmp:info network", ""); };
    for (const auto& other : {different, refusing, nameless}) network(*other);
    different->answers["qmp:query-rx-filter"][0][0]["main-mac"] = "52:54:00:aa:bb:01";
    refusing->refuse("qmp:query-rx-filter");
    nameless->say("qmp:query-rx-filter", json::array({{{"name", "net0"}}}));
    auto status = [&](std::vector<IsolationSubject> neighbours) {
        return statuses(validate(std::move(neighbours)))["NET-12"];
    };
    IsolationSubject b{"b", VmId{uuid}, different};
    EXPECT_EQ(status({b}), Status::pass);
    EXPECT_EQ(status({b, {"c", VmId{uuid}, same}}), Status::fail);
    EXPECT_EQ(status({{"c", VmId{uuid}, refusing}, b}), Status::unknown);
    EXPECT_EQ(status({{"c", VmId{uuid}, nameless}, b}), Status::unknown);
    EXPECT_EQ(status({{"c", VmId{uuid}, refusing}, {"d", VmId{uuid}, same}}), Status::fail);
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

TEST_F(IsolationEngineTest, TakesNothingFromANeighbourThatIsAnotherVm) {
    auto other = neighbour();
    other->say("hmp:info network", "");
    auto report = run_(engine_.validate({"session-1", VmId{uuid}, source_}, {{"b", VmId{"b"}, other}}, {}, Call{}));
    EXPECT_EQ(statuses(report)["NET-12"], Status::unknown);
}

TEST_F(IsolationEngineTest, RefusesAFactThatIsOfAnotherInstance) {
    source_->instance = "boot/1/2/other";
    auto found = statuses(validate());
    EXPECT_EQ(found["RUN-10"], Status::unknown);
    EXPECT_EQ(found["RUN-02"], Status::fail);  // read by the engine itself
}

TEST_F(IsolationEngineTest, AnAuditJudgesEachAgainstAllOthers) {
    auto other = neighbour();
    std::vector<IsolationSubject> subjects{{"a", VmId{uuid}, source_}, {"b", VmId{}, other}};
    auto reports = run_(engine_.audit(subjects, {}, {}, Call{}));
    ASSERT_EQ(reports.size(), 2u);
    for (std::size_t i = 0; i < 2; ++i) {
        EXPECT_EQ(reports[i].session_id, i == 0 ? "a" : "b");
        ASSERT_EQ(reports[i].findings.size(), 50u);
        EXPECT_EQ(statuses(reports[i])["NET-12"], Status::fail);
        EXPECT_EQ(statuses(reports[i])["MEM-03"], Status::fail);
    }
    EXPECT_TRUE(run_(engine_.audit({}, {}, {}, Call{})).empty());
}

/// Tells when its probe is under way, and that goes on when it is let go.
class HeldSource : public FakeSource {
public:
    HeldSource(std::string directory, Executor executor) : FakeSource(std::move(directory)), changed(executor) {}
    Task<Fact> collect(std::string name, Call call) override {
        // Before and after a look, and after the probes.
        if (name == "process.identity" && ++identities == 3) {
            order->push_back("a probe of " + label);
            changed.notify_all();
            while (held) co_await changed.wait();
        }
        co_return co_await FakeSource::collect(std::move(name), call);
    }
    int identities = 0;
    bool held = true;
    Signal changed;
    std::string label;
    std::vector<std::string>* order = nullptr;
};

Task<void> probe_and_tell(IsolationEngine& engine, IsolationSubject subject, std::vector<std::string>& order) {
    std::vector<IsolationSubject> subjects{subject}, none;
    std::vector<Layer> all;
    std::vector<std::string> probes{"RUN-09"};
    Call call;
    co_await engine.audit_with_probes(subjects, none, all, probes, call);
    order.push_back("the report of " + subject.session_id);
}

/// Two VMs are to be probed and a third is looked at, while the probe of the first is held.
Task<void> look_meanwhile(const Environment& environment, IsolationEngine& engine, IsolationSubject first,
                          IsolationSubject second, IsolationSubject looked, std::vector<std::string>& order) {
    auto& held = static_cast<HeldSource&>(*first.source);
    static_cast<HeldSource&>(*second.source).held = false;
    TaskGroup group(environment.executor);
    group.spawn(environment.logger, "a probe", probe_and_tell(engine, first, order));
    while (order.empty()) co_await held.changed.wait();
    group.spawn(environment.logger, "a probe", probe_and_tell(engine, second, order));
    std::vector<IsolationSubject> subjects{looked}, neighbours{first};
    std::vector<Layer> all;
    Call call;
    co_await engine.audit(subjects, neighbours, all, call);
    order.push_back("the look");
    held.held = false;
    held.changed.notify_all();
    co_await group.join();
}

TEST_F(IsolationEngineTest, LooksGoOnBesideProbesWhichWaitForEachOther) {
    std::vector<std::string> order;
    auto source = [&](const char* label) {
        auto made = std::make_shared<HeldSource>(directory_.path(), environment().executor);
        made->label = label;
        made->order = &order;
        made->now = environment().clock->wall_now();
        return made;
    };
    auto first = source("a"), second = source("b");
    run_(look_meanwhile(environment(), engine_, {"a", VmId{uuid}, first}, {"b", VmId{uuid}, second},
                        {"c", VmId{uuid}, source_}, order));
    ASSERT_EQ(order.size(), 5u);
    EXPECT_THAT(std::vector(order.begin(), order.begin() + 2), testing::ElementsAre("a probe of a", "the look"));
    EXPECT_THAT(order, testing::Contains("a probe of b"));
    EXPECT_EQ(order.back(), "the report of b");
}

std::map<std::string, Fact> facts_of(std::int64_t pid, const std::set<std::string>& names,
                                     const std::string& directory = "") {
    isolation::ProcessSubject subject{pid, directory, true, WallTime(), std::make_shared<isolation::DigestCache>()};
    std::map<std::string, Fact> found;
    for (auto& held : isolation::collect_process(subject, names)) found[held->fact().name] = held->fact();
    for (auto& held : isolation::collect_host(names, WallTime(), *subject.round))
        found[held->fact().name] = held->fact();
    return found;
}

TEST(IsolationCollectors, SayWhyOfAProcessThatIsGone) {
    auto wanted = isolation::wanted_by({});
    auto found = facts_of(1 << 30, wanted.own, "/nowhere/at/all");
    for (const auto& [name, fact] : found) {
        EXPECT_EQ(fact.json.empty(), !fact.could_not_look.empty()) << name;
        EXPECT_FALSE(fact.source.empty() || fact.locator.empty()) << name;
        if (name.starts_with("proc.") || name.starts_with("cgroup.") || name.starts_with("file.")) {
            EXPECT_NE(fact.could_not_look, "") << name;
        }
    }
}

TEST(IsolationCollectors, AllLocalFactsOfTheCatalogueAreCollectedBySomebody) {
    auto wanted = isolation::wanted_by({});
    auto found = facts_of(::getpid(), wanted.own, "/tmp");
    for (const auto& name : wanted.own) {
        bool host = name.starts_with("proc.") || name.starts_with("sys.") || name.starts_with("cgroup.") ||
                    name.starts_with("file.") || name == "nft.ruleset" || name == "iptables.rules";
        EXPECT_EQ(found.contains(name), host) << name;
    }
}

TEST(IsolationCollectors, ReadThisProcess) {
    test::TemporaryDirectory directory;
    auto path = directory / "open";
    int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    ASSERT_GE(fd, 0);
    ::fchmod(fd, 0640);
    struct stat status{};
    ::fstat(fd, &status);
    auto found = facts_of(::getpid(),
                          {"proc.threads", "proc.files", "proc.namespaces", "file.directory", "proc.maps",
                           "proc.sockets", "cgroup.memory", "cgroup.cpu", "sys.swaps"},
                          directory.path());
    auto value = [&](const char* name) { return json::parse(found[name].json); };
    auto threads = isolation::read_threads(value("proc.threads"));
    ASSERT_TRUE(threads);
    EXPECT_THAT(threads->front().uids, Contains(::getuid()));
    EXPECT_FALSE(threads->front().cpus.empty());
    auto files = isolation::read_files(value("proc.files"));
    ASSERT_TRUE(files);
    auto file = std::find_if(files->begin(), files->end(), [fd](const auto& f) { return f.number == fd; });
    ASSERT_NE(file, files->end());
    EXPECT_EQ(file->target, path);
    EXPECT_EQ(file->inode, status.st_ino);
    EXPECT_EQ(file->device, status.st_dev);
    EXPECT_EQ(file->mode, 0640u);
    EXPECT_EQ(file->locks, 0u);
    EXPECT_EQ(file->folder_mode, 0700u);
    EXPECT_TRUE(isolation::is_writable_disk(*file));
    ::close(fd);
    EXPECT_TRUE(isolation::read_namespaces(value("proc.namespaces")));
    EXPECT_TRUE(isolation::read_maps(value("proc.maps")));
    EXPECT_TRUE(isolation::read_sockets(value("proc.sockets")));
    EXPECT_TRUE(isolation::read_limit(value("cgroup.memory"))) << found["cgroup.memory"].could_not_look;
    EXPECT_TRUE(isolation::read_cpu_limit(value("cgroup.cpu"))) << found["cgroup.cpu"].could_not_look;
    EXPECT_TRUE(isolation::read_swaps(value("sys.swaps")));
    auto folder = isolation::read_folder(value("file.directory"));
    ASSERT_TRUE(folder && *folder);
    ASSERT_EQ((*folder)->size(), 2u);
    EXPECT_EQ((**folder)[0].name, ".");
    EXPECT_EQ((**folder)[0].mode, 0700u);
    EXPECT_EQ((**folder)[1].name, "open");
    EXPECT_EQ((**folder)[1].uid, ::geteuid());
}

TEST(IsolationCollectors, SeeALockOfADisk) {
    test::TemporaryDirectory directory;
    int fd = ::open((directory / "disk").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ASSERT_GE(fd, 0);
    struct flock lock{};
    lock.l_type = F_RDLCK;
    lock.l_start = 201;
    lock.l_len = 1;
    ASSERT_EQ(::fcntl(fd, F_OFD_SETLK, &lock), 0);
    auto files = isolation::read_files(json::parse(facts_of(::getpid(), {"proc.files"})["proc.files"].json));
    ASSERT_TRUE(files);
    for (const auto& file : *files) {
        if (file.number == fd) {
            EXPECT_EQ(file.locks, 1u);
        }
    }
    ::close(fd);
}

TEST(IsolationCollectors, FindTheGroupOfEitherVersion) {
    const std::string mounts =
        "30 23 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
        "31 23 0:27 /docker/x /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
        "32 23 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
    const std::string groups = "4:memory:/docker/x/vm\n1:cpu,cpuacct:/a/b\n0::/unified/path\n";
    auto parsed = parse_cgroup_mounts(mounts);
    ASSERT_EQ(parsed.size(), 3u);
    auto place = [&](const char* name) { return place_of(groups, parsed, name); };
    EXPECT_EQ(place("cpu")->mount + place("cpu")->path, "/sys/fs/cgroup/cpu/a/b");
    EXPECT_EQ(place("memory")->mount + place("memory")->path, "/sys/fs/cgroup/memory/vm");
    EXPECT_EQ(place("pids")->mount + place("pids")->path, "/sys/fs/cgroup/unified/unified/path");
    EXPECT_EQ(place("pids")->version, 2);
    EXPECT_FALSE(place_of(groups, {}, "cpu"));
}

}  // namespace
}  // namespace infrastructure_sdk
