#pragma once
// A state directory on a real host: real lock, SQLite, QEMU processes of machines that run their firmware only. Its
// owners are processes that die by SIGKILL; what they leave is looked for in /proc and on the disk.

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "support/crash_points.hpp"
#include "support/temporary_directory.hpp"
#include <infrastructure_sdk/environment.hpp>
#include <infrastructure_sdk/session/session_engine.hpp>

namespace infrastructure_sdk::test {

/// Images of machines without an operating system: `firmware` is ready at once, `mute` never answers on its agent.
class FirmwareImages {
public:
    FirmwareImages();
    std::string path() const { return directory_.path(); }
    static std::map<std::string, Template> templates();

private:
    TemporaryDirectory directory_;
};

/// One owner of a state directory, in this process. The destructor lets go of it without touching a VM.
class RealOwner {
public:
    /// `die` is called at the point that is armed. @throws Error when the directory has another owner.
    RealOwner(const std::string& state_directory, const std::string& images, std::function<void()> die);
    ~RealOwner();

    /// Adopts, finishes, reaps.
    void recover();
    SessionEngine& engine() { return *engine_; }
    VmProvider& provider() { return *provider_; }
    CrashPoints& points() { return *points_; }
    Call call() const;
    /// @throws what the task throws
    template <class T>
    T run(Task<T> task);
    /// All sessions, terminated ones too.
    std::vector<Session> sessions();
    std::vector<Record> records(const std::string& kind);
    /// Waits until no session is in a transient state. False = out of time.
    bool rest(Duration at_most);
    /// Ends every session. @returns what did not end.
    std::vector<std::string> end_all();

private:
    Runtime runtime_;
    std::unique_ptr<OwnerLock> lock_;
    CrashPointsPtr points_;
    std::shared_ptr<Store> disk_;
    std::shared_ptr<VmProvider> provider_;
    std::unique_ptr<SessionEngine> engine_;
};

/// A process that runs as a VM, or as the TPM of one, somewhere below a state directory.
struct VmProcess {
    std::int64_t pid = 0;
    std::string uuid;
    bool tpm = false;
};
std::vector<VmProcess> vm_processes(const std::string& state_directory);

/// What is wrong with a host whose owner recovered and rests. Each begins with its kind and a colon: "orphan process",
/// "orphan folder", "stale socket", "double VM", "lost", "stuck", "failed", "reservation", "state", "debris".
std::vector<std::string> faults_of(RealOwner& owner, const std::string& state_directory,
                                   const std::vector<std::string>& acknowledged);
/// What is there although every session has ended.
std::vector<std::string> leavings_of(RealOwner& owner, const std::string& state_directory);

/// Every point by name: around each commit, each verb, and after each effect of the QEMU provider.
std::vector<std::string> crash_point_names();

/// A child process owns `state_directory`, carries out a seeded story and is killed by SIGKILL at the `number`-th
/// passing of `point` (empty = at any). Call it while this process has no thread.
struct Death {
    bool reached = false;                   ///< it died there; false = the story came to its end before
    std::vector<std::string> acknowledged;  ///< sessions whose creation was confirmed before
    std::string trouble;                    ///< what the child could not do, if anything
};
Death live_and_die(const std::string& state_directory, const std::string& images, std::uint64_t seed,
                   const std::string& point, std::size_t number);

}  // namespace infrastructure_sdk::test

#include <infrastructure_sdk/detail/run.hpp>

template <class T>
T infrastructure_sdk::test::RealOwner::run(Task<T> task) {
    return infrastructure_sdk::run(runtime_, std::move(task));
}
