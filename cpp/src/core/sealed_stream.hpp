#pragma once
// A stream of bytes as an authenticated file: a header, then chunks under AES-256-GCM. Pure: bytes in, bytes out.
//
// The header names whose stream it is and the how manieth; it is part of what each chunk's tag covers. The nonce of a
// chunk is its number and whether it is the last, as in the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizar:
// "Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance", 2015): so a chunk that is changed, moved,
// doubled or left out, and an end that comes early or late, are found. Every chunk but the last is full, so no lengths
// are stored. A key seals one stream only.

#include <cstdint>
#include <string>
#include <vector>

#include "core/aead.hpp"

namespace infrastructure_sdk {

struct StreamIdentity {
    std::string subject;      ///< at most 36 bytes: an RFC 4122 UUID
    std::uint64_t epoch = 0;  ///< grows with each stream of the subject
};

constexpr std::size_t sealed_header_bytes = 64;
constexpr std::size_t plain_chunk_bytes = 256 << 10;
constexpr std::size_t sealed_chunk_bytes = plain_chunk_bytes + Aead::tag_bytes;

std::string sealed_header(const StreamIdentity& identity);

/// What both ends keep count of.
class SealedStream {
public:
    SealedStream(const Secret& key, const StreamIdentity& identity);
    const std::string& header() const noexcept { return header_; }
    /// The last chunk is through.
    bool complete() const noexcept { return complete_; }
    /// SHA-256 of the header and of all tags so far, in lower-case hex: it pins every byte.
    std::string digest() const;

    /// Seals the next chunk. One that is not full, which an empty one is, ends the stream. @return its bytes, valid
    /// until the next call.
    Bytes seal(Bytes plain);
    /// Opens the next chunk, likewise. @throws Error(provider, reason=NotAuthentic)
    Bytes open(Bytes sealed);

private:
    Aead::Nonce next_nonce(bool last);
    void note(Bytes sealed, bool last);

    Aead aead_;
    std::string header_;
    std::string tags_;
    std::uint64_t count_ = 0;
    bool complete_ = false;
    std::vector<std::uint8_t> buffer_;
};

}  // namespace infrastructure_sdk
