#include <infrastructure_sdk/secret.hpp>

#include <utility>

#include <openssl/crypto.h>

namespace infrastructure_sdk {

Secret::Secret(std::string value) : value_(std::move(value)) {}
Secret::Secret(const Secret&) = default;

Secret::Secret(Secret&& other) noexcept : value_(std::move(other.value_)) {
    OPENSSL_cleanse(other.value_.data(), other.value_.size());
    other.value_.clear();
}

Secret& Secret::operator=(Secret other) noexcept {
    value_.swap(other.value_);
    return *this;
}

Secret::~Secret() { OPENSSL_cleanse(value_.data(), value_.size()); }

bool operator==(const Secret& a, const Secret& b) {
    return a.value_.size() == b.value_.size() && CRYPTO_memcmp(a.value_.data(), b.value_.data(), a.value_.size()) == 0;
}

}  // namespace infrastructure_sdk
