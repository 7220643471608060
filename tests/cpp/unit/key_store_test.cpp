// Keys of users in files.

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include <sys/stat.h>

#include "support/temporary_directory.hpp"
#include <infrastructure_sdk/error.hpp>
#include <infrastructure_sdk/vm/key_store.hpp>

namespace infrastructure_sdk {
namespace {

namespace fs = std::filesystem;

class FileKeys : public ::testing::Test {
protected:
    std::shared_ptr<KeyStore> make(const std::string& master = {}) {
        return make_file_key_store(place_ / "keys", Secret(master), make_system_clock(), make_system_random());
    }
    /// The reason of the refusal; empty when it opened.
    std::string refusal(KeyStore& keys, const std::string& user, const std::string& purpose,
                        const std::string& wrapped) {
        try {
            keys.unwrap(user, purpose, wrapped);
        } catch (const Error& error) {
            for (const auto& [name, value] : error.context())
                if (name == "reason") return value;
            return error.message();
        }
        return {};
    }
    fs::path file_of(const std::string& text) {
        for (const auto& entry : fs::directory_iterator(place_ / "keys")) {
            std::ifstream file(entry.path());
            std::string bytes((std::istreambuf_iterator<char>(file)), {});
            if (bytes.find(text) != std::string::npos) return entry.path();
        }
        return {};
    }
    test::TemporaryDirectory place_;
    const Secret data_{std::string(32, 'd')};
};

TEST_F(FileKeys, UnwrapWhatTheyWrappedInALaterLifeToo) {
    auto wrapped = make()->wrap("alice", "disk 1", data_);
    EXPECT_EQ(make()->unwrap("alice", "disk 1", wrapped), data_);
    EXPECT_EQ(wrapped.find(data_.reveal()), std::string::npos);
    EXPECT_NE(wrapped, make()->wrap("alice", "disk 1", data_)) << "a nonce was used twice";
}

TEST_F(FileKeys, OpenForTheirUserAndPurposeOnly) {
    auto keys = make();
    auto wrapped = keys->wrap("alice", "disk 1", data_);
    keys->wrap("bob", "disk 1", data_);
    EXPECT_EQ(refusal(*keys, "alice", "disk 2", wrapped), "WrongKey");
    EXPECT_EQ(refusal(*keys, "bob", "disk 1", wrapped), "KeyMissing");
    EXPECT_EQ(refusal(*keys, "nobody", "disk 1", wrapped), "KeyMissing");
    EXPECT_EQ(refusal(*keys, "alice", "disk 1", ""), "KeyMissing");
    EXPECT_EQ(refusal(*keys, "alice", "disk 1", wrapped.substr(0, wrapped.find(':') + 1)), "WrongKey");
    for (std::size_t at = wrapped.find(':') + 1; at < wrapped.size(); ++at) {
        auto changed = wrapped;
        changed[at] = changed[at] == 'A' ? 'B' : 'A';
        EXPECT_EQ(refusal(*keys, "alice", "disk 1", changed), "WrongKey") << at;
    }
}

TEST_F(FileKeys, RotateInStepsThatCanBeCutOff) {
    auto keys = make();
    auto old = keys->wrap("alice", "disk 1", data_);
    EXPECT_TRUE(keys->is_current("alice", old));
    keys->add_key("alice");
    EXPECT_EQ(keys->list().at(0).keys.size(), 2u);
    EXPECT_FALSE(keys->is_current("alice", old));
    EXPECT_EQ(keys->unwrap("alice", "disk 1", old), data_) << "nothing was wrapped anew yet";
    auto renewed = keys->wrap("alice", "disk 1", data_);
    EXPECT_TRUE(keys->is_current("alice", renewed));
    keys->retire_old_keys("alice");
    EXPECT_EQ(keys->list().at(0).keys.size(), 1u);
    EXPECT_EQ(make()->unwrap("alice", "disk 1", renewed), data_);
    EXPECT_EQ(refusal(*keys, "alice", "disk 1", old), "KeyMissing");
}

TEST_F(FileKeys, AreGoneWhenTheyAreErased) {
    auto keys = make();
    auto wrapped = keys->wrap("alice", "disk 1", data_);
    auto bobs = keys->wrap("bob", "disk 1", data_);
    keys->erase("alice");
    keys->erase("nobody");
    EXPECT_EQ(refusal(*keys, "alice", "disk 1", wrapped), "KeyMissing");
    EXPECT_EQ(keys->unwrap("bob", "disk 1", bobs), data_);
    EXPECT_EQ(file_of("alice"), fs::path());
    keys->wrap("alice", "disk 1", data_);
    EXPECT_EQ(refusal(*keys, "alice", "disk 1", wrapped), "KeyMissing") << "a new key is another key";
}

TEST_F(FileKeys, NeedTheMasterKeyThatWrappedThem) {
    const std::string first(32, '1'), second(40, '2');
    auto wrapped = make(first)->wrap("alice", "disk 1", data_);
    EXPECT_EQ(make(first)->unwrap("alice", "disk 1", wrapped), data_);
    EXPECT_EQ(refusal(*make(second), "alice", "disk 1", wrapped), "WrongKey");
    EXPECT_EQ(refusal(*make(), "alice", "disk 1", wrapped), "WrongKey");
    try {
        make("hunter2");
        ADD_FAILURE() << "a short master key was taken";
    } catch (const Error& error) {
        EXPECT_EQ(error.errc(), Errc::configuration);
        EXPECT_EQ(std::string(error.what()).find("hunter2"), std::string::npos);
        for (const auto& [name, value] : error.context()) EXPECT_EQ(value.find("hunter2"), std::string::npos) << name;
    }
}

TEST_F(FileKeys, AreClosedToOthersAndHoldNoKeyInTheClear) {
    auto keys = make();
    keys->wrap("../../etc/passwd\n", "disk 1", data_);
    EXPECT_EQ(keys->list().at(0).user_id, "../../etc/passwd\n");
    EXPECT_EQ(fs::status(place_ / "keys").permissions(), fs::perms::owner_all);
    for (const auto& entry : fs::directory_iterator(place_ / "keys"))
        EXPECT_EQ(entry.status().permissions(), fs::perms::owner_read | fs::perms::owner_write) << entry.path();
    auto file = file_of("passwd");
    ::chmod(file.c_str(), 0644);
    EXPECT_THROW(keys->list(), Error) << "others may have read it";
}

TEST_F(FileKeys, SayWhichFileIsDamaged) {
    auto keys = make();
    keys->wrap("alice", "disk 1", data_);
    auto file = file_of("alice");
    std::ofstream(file) << "{";
    try {
        keys->wrap("alice", "disk 1", data_);
        ADD_FAILURE() << "a damaged file was replaced";
    } catch (const Error& error) {
        EXPECT_EQ(error.errc(), Errc::store);
        EXPECT_NE(error.message().find(file.string()), std::string::npos) << error.message();
    }
    std::ofstream(place_ / "keys/master.key") << "cut";
    EXPECT_THROW(make(), Error);
}

}  // namespace
}  // namespace infrastructure_sdk
