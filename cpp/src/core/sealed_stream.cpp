#include "core/sealed_stream.hpp"

#include <algorithm>

#include "core/sha256.hpp"
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {

constexpr std::string_view magic = "ISDKSEAL";
constexpr std::uint32_t format = 1;
constexpr std::size_t subject_bytes = 36;

void put(std::string& text, std::uint64_t value, int size) {
    for (int shift = 8 * (size - 1); shift >= 0; shift -= 8) text += static_cast<char>(value >> shift & 0xff);
}

[[noreturn]] void refuse(const std::string& why) {
    throw Error(Errc::provider, "a sealed stream is not used: " + why, {{"reason", "NotAuthentic"}});
}

}  // namespace

std::string sealed_header(const StreamIdentity& identity) {
    if (identity.subject.size() > subject_bytes) throw Error(Errc::internal, "the subject of a stream is too long");
    std::string header(magic);
    put(header, format, 4);
    put(header, plain_chunk_bytes, 4);
    put(header, identity.epoch, 8);
    header += identity.subject;
    header.resize(sealed_header_bytes, '\0');
    return header;
}

SealedStream::SealedStream(const Secret& key, const StreamIdentity& identity)
    : aead_(key), header_(sealed_header(identity)), buffer_(sealed_chunk_bytes) {}

std::string SealedStream::digest() const { return sha256_hex(header_ + tags_); }

Aead::Nonce SealedStream::next_nonce(bool last) {
    Aead::Nonce nonce{};
    nonce[3] = last ? 1 : 0;
    for (int i = 0; i < 8; ++i) nonce[4 + i] = static_cast<std::uint8_t>(count_ >> (56 - 8 * i));
    return nonce;
}

void SealedStream::note(Bytes sealed, bool last) {
    auto tag = sealed.last(Aead::tag_bytes);
    tags_.append(tag.begin(), tag.end());
    ++count_;
    complete_ = last;
}

Bytes SealedStream::seal(Bytes plain) {
    if (complete_ || plain.size() > plain_chunk_bytes) throw Error(Errc::internal, "a stream is sealed past its end");
    const bool last = plain.size() < plain_chunk_bytes;
    aead_.seal(next_nonce(last), bytes_of(header_), plain, buffer_.data());
    Bytes sealed(buffer_.data(), plain.size() + Aead::tag_bytes);
    note(sealed, last);
    return sealed;
}

Bytes SealedStream::open(Bytes sealed) {
    if (complete_) refuse("it goes on after its end");
    if (sealed.size() > sealed_chunk_bytes) throw Error(Errc::internal, "a chunk is too long");
    if (sealed.size() < Aead::tag_bytes) refuse("it ends too early");
    const bool last = sealed.size() < sealed_chunk_bytes;
    if (!aead_.open(next_nonce(last), bytes_of(header_), sealed, buffer_.data()))
        refuse("chunk " + std::to_string(count_) + " is not what was sealed");
    note(sealed, last);
    return {buffer_.data(), sealed.size() - Aead::tag_bytes};
}

}  // namespace infrastructure_sdk
