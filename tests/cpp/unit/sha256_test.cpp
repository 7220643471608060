#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include <unistd.h>

#include "core/sha256.hpp"

namespace infrastructure_sdk {
namespace {

/// An open file without a name.
class UnnamedFile {
public:
    UnnamedFile() {
        char path[] = "/tmp/sha256-test-XXXXXX";
        fd_ = ::mkstemp(path);
        ::unlink(path);
    }
    ~UnnamedFile() { ::close(fd_); }
    int fd() const { return fd_; }
    void append(const std::string& text) {
        ASSERT_EQ(::write(fd_, text.data(), text.size()), static_cast<ssize_t>(text.size()));
    }

private:
    int fd_;
};

TEST(Sha256, KnowsTheTestVector) {
    EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(GrowingFileDigest, OfAFileThatGrewIsThatOfTheWholeFile) {
    UnnamedFile file;
    GrowingFileDigest digest(file.fd());
    EXPECT_FALSE(digest.advance());
    std::string whole;
    for (const auto& part : {std::string("a"), std::string(3 << 20, 'b'), std::string("c")}) {
        file.append(part);
        whole += part;
        EXPECT_TRUE(digest.advance());
        EXPECT_FALSE(digest.advance());
    }
    EXPECT_EQ(sha256_hex_of_file(file.fd()), sha256_hex(whole));
    EXPECT_EQ(digest.finish(), sha256_hex(whole));
}

}  // namespace
}  // namespace infrastructure_sdk
