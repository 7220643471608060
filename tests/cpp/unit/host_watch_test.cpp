// What is heard of the files of VMs, and of whom.

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>

#include <sys/stat.h>

#include "core/async_tools.hpp"
#include "isolation/host_watch.hpp"
#include "support/real_runtime.hpp"
#include "support/temporary_directory.hpp"

namespace infrastructure_sdk {
namespace {

namespace fs = std::filesystem;
using isolation::HostWatch;

/// Lives on the executor.
class Ear {
public:
    Ear(Environment environment, const std::string& directory)
        : environment_(environment), changed_(environment.executor) {
        auto heard = [this](std::string vm) {
            heard_.insert(std::move(vm));
            changed_.notify_all();
        };
        watch_ = std::make_unique<HostWatch>(environment, directory, heard);
    }
    /// False when that was not heard within ten seconds.
    Task<bool> hears(std::string vm) {
        Call patience{Deadline::after(*environment_.clock, std::chrono::seconds(10)), {}, {}};
        while (!heard_.contains(vm) && !patience.deadline.expired(*environment_.clock))
            co_await changed_.wait(*environment_.clock, patience);
        co_return heard_.erase(vm) > 0;
    }
    bool heard_of(const std::string& vm) const { return heard_.contains(vm); }
    Task<void> close() { co_await watch_->close(); }

private:
    Environment environment_;
    Signal changed_;
    std::set<std::string> heard_;
    std::unique_ptr<HostWatch> watch_;
};

void write(const fs::path& path) { std::ofstream(path) << "x"; }

Task<void> story(Environment environment, fs::path place) {
    fs::create_directories(place / "vm-1" / "guest");
    fs::create_directories(place / "vm-2");
    write(place / "vm-1" / "guest" / "disk");
    Ear ear(environment, place.string());

    fs::permissions(place / "vm-1" / "guest" / "disk", fs::perms::owner_read);
    bool heard = co_await ear.hears("vm-1");
    EXPECT_TRUE(heard) << "a change of mode in its guest folder";
    EXPECT_FALSE(ear.heard_of("vm-2"));

    write(place / "vm-2" / "new");
    heard = co_await ear.hears("vm-2");
    EXPECT_TRUE(heard) << "a new file";

    // A VM that comes is no news; what happens in its folder is.
    fs::create_directory(place / "vm-3");
    write(place / "vm-2" / "after");
    heard = co_await ear.hears("vm-2");
    EXPECT_TRUE(heard);
    write(place / "vm-3" / "file");
    heard = co_await ear.hears("vm-3");
    EXPECT_TRUE(heard) << "a folder that was made later is listened to";

    fs::remove(place / "vm-1" / "guest" / "disk");
    heard = co_await ear.hears("vm-1");
    EXPECT_TRUE(heard) << "a removal";
    co_await ear.close();
    // Closed, it hears nothing any more, and closing again is harmless.
    write(place / "vm-2" / "later");
    co_await ear.close();
    EXPECT_FALSE(ear.heard_of("vm-2"));
}

TEST(HostWatch, HearsOfEachVmsOwnFiles) {
    test::TemporaryDirectory place;
    RealRuntime run;
    run(story(run.runtime.environment(), place.path()));
}

Task<void> nothing_there(Environment environment) {
    Ear ear(environment, "/nonexistent/vms");
    co_await ear.close();
}

TEST(HostWatch, AFolderThatIsNotThereIsNoTrouble) {
    RealRuntime run;
    run(nothing_there(run.runtime.environment()));
}

}  // namespace
}  // namespace infrastructure_sdk
