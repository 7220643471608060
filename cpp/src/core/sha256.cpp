#include "core/sha256.hpp"

#include <cerrno>
#include <cstring>
#include <memory>
#include <vector>

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

}  // namespace

std::string sha256_hex(std::string_view bytes) {
    auto digest = begin();
    EVP_DigestUpdate(digest.get(), bytes.data(), bytes.size());
    return finish(digest);
}

std::string sha256_hex_of_file(int fd) {
    auto digest = begin();
    std::vector<char> buffer(1 << 20);
    off_t offset = 0;
    for (;;) {
        auto got = ::pread(fd, buffer.data(), buffer.size(), offset);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) throw Error(Errc::provider, std::string("a file cannot be read: ") + std::strerror(errno));
        if (got == 0) return finish(digest);
        EVP_DigestUpdate(digest.get(), buffer.data(), static_cast<std::size_t>(got));
        offset += got;
    }
}

}  // namespace infrastructure_sdk
