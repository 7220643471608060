#include <infrastructure_sdk/store/store.hpp>

#include <fstream>

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>

#include "support/child_process.hpp"
#include "support/store_suite.hpp"

namespace infrastructure_sdk::test {
namespace {

using testing::HasSubstr;

mode_t mode_of(const std::string& path) {
    struct stat status{};
    return ::stat(path.c_str(), &status) == 0 ? status.st_mode & 07777 : 0;
}

nlohmann::json holder_in(const std::string& directory) {
    std::ifstream file(directory + "/owner.lock");
    return nlohmann::json::parse(file);
}

void tell(int to, const std::string& line) {
    auto text = line + "\n";
    if (::write(to, text.data(), text.size()) != static_cast<ssize_t>(text.size())) ::_exit(2);
}

class OwnerLockTest : public testing::Test {
protected:
    OwnerLock acquire() { return OwnerLock::acquire(state_, *clock_); }

    std::shared_ptr<Clock> clock_ = make_system_clock();
    TemporaryDirectory directory_;
    std::string state_ = directory_ / "nested/state";
};

TEST_F(OwnerLockTest, MakesTheDirectoryAndAPrivateFileWhateverTheUmask) {
    std::filesystem::create_directory(directory_ / "nested");
    auto before = ::umask(0);
    auto lock = acquire();
    ::umask(before);
    EXPECT_EQ(mode_of(state_), 0711u);
    EXPECT_EQ(mode_of(state_ + "/owner.lock"), 0600u);
}

TEST_F(OwnerLockTest, LeavesTheModeOfAnExistingDirectory) {
    std::filesystem::create_directories(state_);
    ::chmod(state_.c_str(), 0700);
    auto lock = acquire();
    EXPECT_EQ(mode_of(state_), 0700u);
}

TEST_F(OwnerLockTest, WritesWhoHoldsIt) {
    auto earliest = clock_->wall_now();
    auto lock = acquire();
    auto holder = holder_in(state_);
    EXPECT_EQ(holder.at("pid"), ::getpid());
    EXPECT_THAT(holder.at("command").get<std::string>(), testing::Not(testing::IsEmpty()));
    EXPECT_GE(parse_rfc3339(holder.at("since")), earliest);
    EXPECT_EQ(holder.at("boot_id").get<std::string>().size(), 36u);
}

TEST_F(OwnerLockTest, NamesTheHolderToAnotherProcess) {
    auto lock = acquire();
    auto holder = holder_in(state_);
    ChildProcess child([&](int to) {
        try {
            acquire();
            tell(to, "acquired");
        } catch (const Error& error) {
            auto context = error.context();
            tell(to, name_of(error.errc()));
            tell(to, context["pid"]);
            tell(to, context["command"]);
            tell(to, context["since"]);
            tell(to, error.message());
        }
    });
    EXPECT_EQ(child.read_line(), "conflict");
    EXPECT_EQ(child.read_line(), std::to_string(::getpid()));
    EXPECT_EQ(child.read_line(), holder.at("command"));
    EXPECT_EQ(child.read_line(), holder.at("since"));
    EXPECT_THAT(child.read_line(), HasSubstr("owned by process " + std::to_string(::getpid())));
    EXPECT_EQ(child.wait(), 0);
    EXPECT_EQ(holder_in(state_), holder);
}

TEST_F(OwnerLockTest, IsRefusedASecondTimeInOneProcess) {
    auto lock = acquire();
    EXPECT_EQ(error_of([&] { acquire(); }).errc(), Errc::conflict);
}

TEST_F(OwnerLockTest, IsFreeAfterKill9OfItsHolder) {
    ChildProcess child([&](int to) {
        auto lock = acquire();
        tell(to, "acquired");
        for (;;) ::pause();
    });
    ASSERT_EQ(child.read_line(), "acquired");
    auto error = error_of([&] { acquire(); });
    EXPECT_EQ(error.errc(), Errc::conflict);
    EXPECT_EQ(error.context().at("pid"), std::to_string(child.pid()));
    child.kill();
    auto lock = acquire();
    EXPECT_EQ(holder_in(state_).at("pid"), ::getpid());
}

TEST_F(OwnerLockTest, IsNotInheritedAcrossExec) {
    auto lock = acquire();
    ChildProcess child([&](int to) {
        ::dup2(to, 1);
        ::execl("/bin/sh", "sh", "-c", "echo started; kill -STOP $$", static_cast<char*>(nullptr));
    });
    ASSERT_EQ(child.read_line(), "started");
    {
        auto released = std::move(lock);
    }
    auto again = acquire();
    EXPECT_EQ(holder_in(state_).at("pid"), ::getpid());
}

TEST_F(OwnerLockTest, MovesItsHoldAndReleasesTheOneThatIsReplaced) {
    auto lock = acquire();
    OwnerLock moved = std::move(lock);
    EXPECT_EQ(error_of([&] { acquire(); }).errc(), Errc::conflict);
    moved = OwnerLock::acquire(directory_ / "other", *clock_);
    auto again = acquire();
}

TEST_F(OwnerLockTest, NamesAHolderThatItCannotReadAsUnknown) {
    auto lock = acquire();
    for (const char* content : {"", "not json", "[1]", R"({"pid":"x"})"}) {
        std::ofstream(state_ + "/owner.lock", std::ios::trunc) << content;
        auto error = error_of([&] { acquire(); });
        EXPECT_EQ(error.errc(), Errc::conflict) << content;
        EXPECT_EQ(error.context().at("command"), "unknown") << content;
    }
}

TEST_F(OwnerLockTest, RefusesASymbolicLinkAndLeavesItsTargetAlone) {
    std::filesystem::create_directories(state_);
    auto target = directory_ / "target";
    std::ofstream(target) << "precious";
    std::filesystem::create_symlink(target, state_ + "/owner.lock");
    auto error = error_of([&] { acquire(); });
    EXPECT_EQ(error.errc(), Errc::store);
    EXPECT_THAT(error.message(), HasSubstr("symbolic link"));
    std::string content;
    std::ifstream(target) >> content;
    EXPECT_EQ(content, "precious");
}

TEST_F(OwnerLockTest, RefusesAPathThatIsAFile) {
    std::ofstream(directory_ / "file") << "";
    state_ = directory_ / "file";
    auto error = error_of([&] { acquire(); });
    EXPECT_EQ(error.errc(), Errc::store);
    EXPECT_EQ(error.context().at("field"), "store.state_directory");
}

}  // namespace
}  // namespace infrastructure_sdk::test
