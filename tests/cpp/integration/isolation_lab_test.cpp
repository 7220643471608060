// The lab: real QEMU processes, paused and without a guest, each beside a good twin that differs in one property. The
// property fails its check, and no other check but the declared companions changes.

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <set>

#include "support/lab_process.hpp"
#include "support/real_runtime.hpp"
#include "support/temporary_directory.hpp"
#include <infrastructure_sdk/error.hpp>
#include <infrastructure_sdk/isolation/isolation_engine.hpp>
#include <infrastructure_sdk/providers/qemu.hpp>

namespace infrastructure_sdk {
namespace {

using test::LabLaunch;
using test::LabProcess;
using Statuses = std::map<std::string, std::string>;

struct Seeded {
    std::string name, check;
    /// Changes one property; `neighbour` is the process that runs beside it, and `spare` a file of it.
    std::function<void(LabLaunch&, const LabProcess& neighbour)> seed;
    std::set<std::string> companions{};
    std::string good = "pass";  ///< of the check in the good twin
};

constexpr unsigned subject_uid = 615001;

std::vector<Seeded> seeded_faults() {
    using L = LabLaunch;
    using N = const LabProcess&;
    return {
        {"merge-any", "MEM-01", [](L& l, N) { l.merge_any = true; }},
        {"mergeable", "MEM-01", [](L& l, N) { l.machine = "pc,dump-guest-core=off,memory-backend=ram"; }},
        {"hard-link", "STO-01", [](L& l, N n) { l.disk = n.launch().disk + ".link"; }},
        {"unlocked", "STO-03", [](L& l, N) { l.disk_locked = false; }},
        {"shared-memory", "MEM-02", [](L& l, N n) { l.memory_file = n.launch().memory_file; }},
        {"no-seccomp", "RUN-02", [](L& l, N) { l.sandbox.clear(); }, {"RUN-03"}},
        {"vnc-none", "RUN-07", [](L& l, N) { l.more = {"-vnc", "127.0.0.1:0,to=9000"}; }},
        // Without a probe the good twin is only not known to be bad.
        {"slirp-open", "NET-07", [](L& l, N) { l.network = "user,id=net0,ipv6=off"; }, {"NET-01", "NET-02"}, "unknown"},
        {"duplicate-mac", "NET-12", [](L& l, N n) { l.mac = n.launch().mac; }},
        {"open-socket", "RUN-07", [](L& l, N) { l.open_socket = true; }},
        {"tcp-monitor", "RUN-07",
         [](L& l, N) {
             l.more = {"-chardev", "socket,id=mon,host=127.0.0.1,port=0,server=on,wait=off", "-mon", "chardev=mon"};
         }},
        {"root", "RUN-01", [](L& l, N) { l.uid = 0; }},
        {"open-disk", "STO-05", [](L& l, N) { l.disk_mode = 0644; }},
        {"core-dump", "MEM-06", [](L& l, N) { l.machine = "pc,mem-merge=off,memory-backend=ram"; }},
        {"more-devices", "RUN-12", [](L& l, N) { l.more = {"-device", "e1000,romfile=,mac=52:54:00:01:02:09"}; }},
        {"shared-folder",
         "STO-06",
         [](L& l, N) { l.more = {"-virtfs", "local,path=.,mount_tag=host,security_model=none"}; },
         {"RUN-12"}},
        {"forward", "NET-13",
         [](L& l, N) { l.network = "user,id=net0,restrict=on,ipv6=off,hostfwd=tcp:127.0.0.1:0-:22"; }},
        {"second-network", "NET-09", [](L& l, N) { l.more = {"-netdev", "hubport,id=net1,hubid=0"}; }},
    };
}

class IsolationLab : public testing::Test {
protected:
    void SetUp() override {
        if (::geteuid() != 0) GTEST_SKIP() << "only root may start processes under other uids";
        ::chmod(place_.path().c_str(), 0711);
        LabLaunch launch;
        launch.disk_locked = false;
        launch.runs = true;
        launch.mac = "52:54:00:01:02:02";
        launch.memory_file = shared_file("shared.ram", 32u << 20);
        launch.disk = shared_file("shared.disk", 1u << 20);
        ASSERT_EQ(::link(launch.disk.c_str(), (launch.disk + ".link").c_str()), 0);
        neighbour_ = std::make_unique<LabProcess>(place_.path(), "neighbour", launch);
    }

    /// Of the subject's uid, in the folder of nobody in particular; the neighbour, which is root's, may use it too.
    std::string shared_file(const std::string& name, off_t size) {
        auto folder = std::filesystem::path(place_.path()) / (name + ".d");
        std::filesystem::create_directory(folder);
        auto path = (folder / name).string();
        int fd = ::open(path.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
        EXPECT_EQ(::ftruncate(fd, size), 0);
        EXPECT_EQ(::fchown(fd, subject_uid, subject_uid), 0);
        ::close(fd);
        EXPECT_EQ(::chown(folder.c_str(), subject_uid, subject_uid), 0);
        EXPECT_EQ(::chmod(folder.c_str(), 0700), 0);
        return path;
    }

    static LabLaunch good() {
        LabLaunch launch;
        launch.uid = subject_uid;
        launch.mac = "52:54:00:01:02:01";
        return launch;
    }

    std::shared_ptr<EvidenceSource> evidence(const LabProcess& process, bool with_monitor = true) {
        return make_process_evidence(run_.runtime.environment(),
                                     {process.pid(), with_monitor ? process.socket() : std::string()});
    }

    IsolationReport report(const LabProcess& process) {
        EXPECT_TRUE(process.is_up()) << process.pid();
        std::vector<IsolationSubject> subjects{{"subject", VmId{}, evidence(process)},
                                               {"neighbour", VmId{}, evidence(*neighbour_)}};
        return run_(engine_.audit(subjects, {}, {}, Call{})).front();
    }
    static Statuses statuses(const IsolationReport& report) {
        Statuses found;
        for (const auto& finding : report.findings) found[finding.check().id] = name_of(finding.status());
        return found;
    }
    static std::string reason(const IsolationReport& report, const std::string& check) {
        for (const auto& finding : report.findings)
            if (finding.check().id == check) return finding.reason();
        return "?";
    }

    test::TemporaryDirectory place_;
    RealRuntime run_;
    IsolationEngine engine_{run_.runtime.environment()};
    std::unique_ptr<LabProcess> neighbour_;
};

TEST_F(IsolationLab, EverySeededFaultFailsItsCheckAndOnlyTheDeclaredCompanions) {
    LabProcess twin(place_.path(), "good", good());
    ASSERT_TRUE(neighbour_->is_up());
    auto good_report = report(twin);
    auto before = statuses(good_report);
    const auto faults = seeded_faults();
    RecordProperty("faults", static_cast<int>(faults.size()));
    for (const auto& fault : faults) {
        auto launch = good();
        fault.seed(launch, *neighbour_);
        LabProcess bad(place_.path(), fault.name, launch);
        auto bad_report = report(bad);
        auto after = statuses(bad_report);
        EXPECT_EQ(before[fault.check], fault.good) << fault.name << ": " << reason(good_report, fault.check);
        EXPECT_EQ(after[fault.check], "fail") << fault.name << ": " << reason(bad_report, fault.check);
        for (const auto& [check, status] : after) {
            bool expected = check == fault.check || fault.companions.contains(check);
            EXPECT_EQ(status != before[check], expected)
                << fault.name << ": " << check << " was " << before[check] << " (" << reason(good_report, check)
                << ") and is " << status << " (" << reason(bad_report, check) << ")";
        }
    }
}

TEST_F(IsolationLab, WithoutAMonitorWhatNeedsItIsUnknownForThatReason) {
    LabProcess twin(place_.path(), "good", good());
    ASSERT_TRUE(twin.is_up() && neighbour_->is_up());
    std::vector<IsolationSubject> subjects{{"subject", VmId{}, evidence(twin, false)},
                                           {"neighbour", VmId{}, evidence(*neighbour_, false)}};
    auto reports = run_(engine_.audit(subjects, {}, {}, Call{}));
    auto found = statuses(reports.front());
    for (const char* check : {"NET-01", "NET-12", "RUN-07", "RUN-10", "RUN-12", "STO-04", "STO-06"}) {
        EXPECT_EQ(found[check], "unknown") << check << ": " << reason(reports.front(), check);
        if (std::string(check) != "STO-04") {
            EXPECT_NE(reason(reports.front(), check).find("no QMP socket is at hand"), std::string::npos) << check;
        }
    }
    for (const char* check : {"MEM-01", "MEM-02", "RUN-01", "RUN-02", "STO-01", "STO-03", "STO-05"})
        EXPECT_EQ(found[check], "pass") << check << ": " << reason(reports.front(), check);
    EXPECT_EQ(statuses(reports.back())["RUN-01"], "fail");
    EXPECT_EQ(statuses(reports.back())["STO-03"], "fail");
}

/// What only trying shows. The guests are machines that run without a system: nothing in them takes part.
TEST_F(IsolationLab, ProbesFailTheSeededFaultsAndPassTheirGoodTwin) {
    auto probed = [&](const LabProcess& process) {
        EXPECT_TRUE(process.is_up() && neighbour_->is_up());
        std::vector<IsolationSubject> subjects{{"subject", VmId{}, evidence(process)}};
        std::vector<IsolationSubject> neighbours{{"neighbour", VmId{}, evidence(*neighbour_)}};
        return run_(engine_.audit_with_probes(subjects, neighbours, {}, probed_checks(), Call{})).front();
    };
    auto launch = good();
    launch.runs = true;
    LabProcess twin(place_.path(), "good", launch);
    auto report = probed(twin);
    auto before = statuses(report);
    for (const char* check : {"NET-03", "NET-04", "NET-05", "NET-07", "NET-11", "RUN-08", "RUN-09", "STO-05"})
        EXPECT_EQ(before[check], "pass") << check << ": " << reason(report, check);
    for (const auto& finding : report.findings)
        if (std::string(finding.check().id) == "NET-04") {
            EXPECT_EQ(finding.evidence().back().source, "probe");
            EXPECT_EQ(finding.evidence().back().strength, Strength::e4);
            EXPECT_EQ(finding.evidence().back().instance_epoch, report.instance_epoch);
        }
    // What was found is remembered of this process, and of no other.
    EXPECT_EQ(statuses(this->report(twin))["NET-04"], "pass");

    auto open_network = launch;
    open_network.network = "user,id=net0,ipv6=off";
    LabProcess reaching(place_.path(), "reaching", open_network);
    EXPECT_EQ(statuses(this->report(reaching))["NET-04"], "unknown");
    report = probed(reaching);
    auto after = statuses(report);
    for (const char* check : {"NET-03", "NET-04", "NET-07"})
        EXPECT_EQ(after[check], "fail") << check << ": " << reason(report, check);
    for (const char* check : {"NET-05", "NET-11"}) EXPECT_NE(after[check], "pass") << reason(report, check);
    for (const char* check : {"RUN-08", "RUN-09", "STO-05"}) EXPECT_EQ(after[check], "pass") << check;

    auto open_socket = launch;
    open_socket.open_socket = true;
    LabProcess used(place_.path(), "used", open_socket);
    report = probed(used);
    after = statuses(report);
    EXPECT_EQ(after["RUN-08"], "fail") << reason(report, "RUN-08");
    for (const char* check : {"NET-03", "NET-04", "NET-05", "NET-07", "NET-11", "STO-05"})
        EXPECT_EQ(after[check], "pass") << check << ": " << reason(report, check);
}

/// Looks go on beside probes, whose parts are nobody's fault.
TEST_F(IsolationLab, AnOpenPortChangesNothingThatALookSees) {
    auto launch = good();
    launch.runs = true;
    LabProcess twin(place_.path(), "good", launch);
    ASSERT_TRUE(twin.is_up());
    auto source = evidence(twin);
    std::vector<IsolationSubject> subjects{{"subject", VmId{}, source}};
    auto look = [&] { return statuses(run_(engine_.audit(subjects, {}, {}, Call{})).front()); };
    auto before = look();
    auto port = run_(source->open_probe_port(Call{}));
    auto network = run_(source->collect("hmp:info network", Call{}));
    EXPECT_NE(network.json.find("probe-sent"), std::string::npos) << network.json << network.could_not_look;
    EXPECT_EQ(look(), before);
    EXPECT_EQ(before["NET-09"], "pass");
    run_(port->close());
}

/// A port that is not there, and a VM that stands still: nothing is known.
TEST_F(IsolationLab, AProbeThatCannotBeMadeProvesNothing) {
    auto launch = good();
    LabProcess paused(place_.path(), "paused", launch);
    std::vector<IsolationSubject> subjects{{"subject", VmId{}, evidence(paused)}}, none;
    ASSERT_TRUE(paused.is_up());
    auto found = statuses(run_(engine_.audit_with_probes(subjects, none, {}, probed_checks(), Call{})).front());
    for (const char* check : {"NET-03", "NET-04", "NET-05", "NET-07", "NET-11"}) EXPECT_EQ(found[check], "unknown");
    subjects.front().source = evidence(paused, false);
    found = statuses(run_(engine_.audit_with_probes(subjects, none, {}, {"NET-04"}, Call{})).front());
    EXPECT_EQ(found["NET-04"], "unknown");
    EXPECT_THROW(run_(engine_.audit_with_probes(subjects, none, {}, {"NET-99"}, Call{})), Error);
}

TEST_F(IsolationLab, FindsTheProcessesOfTheHostAndNoOther) {
    LabProcess twin(place_.path(), "good", good());
    ASSERT_TRUE(twin.is_up() && neighbour_->is_up());
    std::set<std::int64_t> pids;
    for (const auto& process : find_qemu_processes()) pids.insert(process.pid);
    EXPECT_TRUE(pids.contains(twin.pid()) && pids.contains(neighbour_->pid()));
    EXPECT_FALSE(pids.contains(::getpid()));
}

TEST_F(IsolationLab, NothingIsProvenOfAProcessThatEnded) {
    std::int64_t pid = 0;
    {
        LabProcess twin(place_.path(), "good", good());
        ASSERT_TRUE(twin.is_up());
        pid = twin.pid();
    }
    std::vector<IsolationSubject> subjects{
        {"gone", VmId{}, make_process_evidence(run_.runtime.environment(), {pid, {}})}};
    auto reports = run_(engine_.audit(subjects, {}, {}, Call{}));
    ASSERT_EQ(reports.front().findings.size(), 50u);
    for (const auto& finding : reports.front().findings)
        EXPECT_EQ(finding.status(), FindingStatus::unknown) << finding.check().id;
}

}  // namespace
}  // namespace infrastructure_sdk
