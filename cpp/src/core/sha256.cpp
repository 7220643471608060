#include "core/sha256.hpp"

#include <cerrno>
#include <cstring>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <openssl/evp.h>
#include <unistd.h>

#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {

using Digest = std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)>;

Digest begin() {
    Digest digest(EVP_MD_CTX_new(), EVP_MD_CTX_free);
    if (!digest || EVP_DigestInit_ex(digest.get(), EVP_sha256(), nullptr) != 1)
        throw Error(Errc::internal, "SHA-256 is not available");
    return digest;
}

std::string finish(Digest& digest) {
    unsigned char bytes[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    EVP_DigestFinal_ex(digest.get(), bytes, &size);
    constexpr char digits[] = "0123456789abcdef";
    std::string text;
    for (unsigned i = 0; i < size; ++i) {
        text += digits[bytes[i] >> 4];
        text += digits[bytes[i] & 15];
    }
    return text;
}

/// From `offset` to the end of the file or to about `limit`; returns how far it came.
off_t take_in(Digest& digest, int fd, off_t offset, off_t limit) {
    std::vector<char> buffer(1 << 20);
    while (offset < limit) {
        auto got = ::pread(fd, buffer.data(), buffer.size(), offset);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) throw Error(Errc::provider, std::string("a file cannot be read: ") + std::strerror(errno));
        if (got == 0) return offset;
        EVP_DigestUpdate(digest.get(), buffer.data(), static_cast<std::size_t>(got));
        offset += got;
    }
    return offset;
}

}  // namespace

std::string sha256_hex(std::string_view bytes) {
    auto digest = begin();
    EVP_DigestUpdate(digest.get(), bytes.data(), bytes.size());
    return finish(digest);
}

std::string sha256_hex_of_file(int fd) {
    auto digest = begin();
    take_in(digest, fd, 0, std::numeric_limits<off_t>::max());
    return finish(digest);
}

struct GrowingFileDigest::Impl {
    int fd;
    off_t offset = 0;
    Digest digest = begin();
};

GrowingFileDigest::GrowingFileDigest(int fd) : impl_(new Impl{fd}) {}
GrowingFileDigest::~GrowingFileDigest() = default;

bool GrowingFileDigest::advance() {
    constexpr off_t most = 64 << 20;
    auto from = std::exchange(impl_->offset, take_in(impl_->digest, impl_->fd, impl_->offset, impl_->offset + most));
    // A hint, so that little is left to write when the file is complete.
    if (impl_->offset != from) (void)::sync_file_range(impl_->fd, from, impl_->offset - from, SYNC_FILE_RANGE_WRITE);
    return impl_->offset != from;
}

std::string GrowingFileDigest::finish() { return infrastructure_sdk::finish(impl_->digest); }

}  // namespace infrastructure_sdk
