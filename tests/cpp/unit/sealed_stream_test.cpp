// Sealed streams: what was sealed opens, and nothing else does.

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "core/sealed_stream.hpp"
#include "core/seeded_random.hpp"
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {

using Text = std::string;

const StreamIdentity alices{"11111111-2222-4333-8444-555555555555", 3};

Secret key_of(char fill) { return Secret(Text(Aead::key_bytes, fill)); }

Text text_of(Bytes bytes) { return {bytes.begin(), bytes.end()}; }

Text random_text(SeededRandom& random, std::size_t size) {
    Text text(size, '\0');
    random.fill({reinterpret_cast<std::uint8_t*>(text.data()), text.size()});
    return text;
}

/// Header and chunks.
Text sealed(const Text& plain, const Secret& key = key_of('k'), const StreamIdentity& identity = alices) {
    SealedStream stream(key, identity);
    Text out = stream.header();
    for (std::size_t at = 0; !stream.complete(); at += plain_chunk_bytes)
        out += text_of(stream.seal(bytes_of(plain.substr(std::min(at, plain.size()), plain_chunk_bytes))));
    return out;
}

/// As a reader of a file does it; nullopt when any of it is refused.
std::optional<Text> opened(const Text& file, const Secret& key = key_of('k'),
                           const StreamIdentity& identity = alices) try {
    SealedStream stream(key, identity);
    if (file.substr(0, sealed_header_bytes) != stream.header()) return std::nullopt;
    Text out;
    for (std::size_t at = sealed_header_bytes; !stream.complete(); at += sealed_chunk_bytes)
        out += text_of(stream.open(bytes_of(file)
                                       .subspan(std::min(at, file.size()))
                                       .first(std::min(sealed_chunk_bytes, file.size() - std::min(at, file.size())))));
    return out;
} catch (const Error& error) {
    EXPECT_EQ(error.errc(), Errc::provider);
    return std::nullopt;
}

TEST(Aead, KnowsTheTestVector) {
    // McGrew, Viega: "The Galois/Counter Mode of Operation", test case 14.
    Aead aead(Secret(Text(32, '\0')));
    std::uint8_t out[32];
    Text plain(16, '\0');
    aead.seal({}, {}, bytes_of(plain), out);
    const std::uint8_t expected[] = {0xce, 0xa7, 0x40, 0x3d, 0x4d, 0x60, 0x6b, 0x6e, 0x07, 0x4e, 0xc5,
                                     0xd3, 0xba, 0xf3, 0x9d, 0x18, 0xd0, 0xd1, 0xc8, 0xa7, 0x99, 0x99,
                                     0x6b, 0xf0, 0x26, 0x5b, 0x98, 0xb5, 0xd4, 0x8a, 0xb9, 0x19};
    EXPECT_TRUE(std::equal(std::begin(out), std::end(out), expected));
}

TEST(Aead, RefusesAKeyOfAnotherLength) {
    EXPECT_THROW(Aead(Secret(Text(16, 'k'))), Error);
    EXPECT_THROW(Aead{Secret{}}, Error);
}

TEST(SealedStream, OpensToWhatWasSealed) {
    SeededRandom random(1);
    for (std::size_t size : {std::size_t{0}, std::size_t{1}, plain_chunk_bytes - 1, plain_chunk_bytes,
                             plain_chunk_bytes + 1, 3 * plain_chunk_bytes, 3 * plain_chunk_bytes + 777}) {
        auto plain = random_text(random, size);
        auto file = sealed(plain);
        EXPECT_EQ(opened(file), plain) << size;
        if (size > 32) {
            EXPECT_EQ(file.find(plain.substr(0, 32)), Text::npos) << "it is there in the clear";
        }
    }
}

TEST(SealedStream, BothEndsCountTheSameDigest) {
    SealedStream writer(key_of('k'), alices), reader(key_of('k'), alices), other(key_of('o'), alices);
    auto chunk = text_of(writer.seal(bytes_of("memory")));
    reader.open(bytes_of(chunk));
    other.seal(bytes_of("memory"));
    EXPECT_EQ(writer.digest(), reader.digest());
    EXPECT_NE(writer.digest(), other.digest());
    EXPECT_TRUE(writer.complete() && reader.complete());
}

TEST(SealedStream, RefusesAnyFlippedBit) {
    SeededRandom random(2);
    const auto file = sealed(random_text(random, 2 * plain_chunk_bytes + 100));
    auto flipped = [&](std::size_t at, int bit) {
        auto changed = file;
        changed[at] = static_cast<char>(changed[at] ^ (1 << bit));
        return opened(changed);
    };
    for (std::size_t at = 0; at < sealed_header_bytes; ++at)
        for (int bit = 0; bit < 8; ++bit) EXPECT_FALSE(flipped(at, bit)) << at;
    for (int i = 0; i < 200; ++i) {
        auto at = random.below(file.size());
        EXPECT_FALSE(flipped(at, static_cast<int>(random.below(8)))) << at;
    }
}

TEST(SealedStream, RefusesAnyTruncationAndAnythingAppended) {
    SeededRandom random(3);
    const auto file = sealed(random_text(random, 3 * plain_chunk_bytes));
    std::vector<std::size_t> lengths{0, sealed_header_bytes, file.size() - 1};
    for (std::size_t chunks = 1; chunks <= 3; ++chunks)
        lengths.push_back(sealed_header_bytes + chunks * sealed_chunk_bytes);
    for (int i = 0; i < 200; ++i) lengths.push_back(random.below(file.size()));
    for (auto length : lengths) EXPECT_FALSE(opened(file.substr(0, length))) << length;
    for (const auto& tail : {Text(1, '\0'), Text(Aead::tag_bytes, '\0'), file.substr(sealed_header_bytes)})
        EXPECT_FALSE(opened(file + tail));
}

TEST(SealedStream, RefusesChunksThatAreMovedDoubledOrLeftOut) {
    SeededRandom random(4);
    const auto file = sealed(random_text(random, 3 * plain_chunk_bytes + 5));
    auto chunk = [&](std::size_t index) {
        return file.substr(sealed_header_bytes + index * sealed_chunk_bytes, sealed_chunk_bytes);
    };
    const auto header = file.substr(0, sealed_header_bytes);
    ASSERT_TRUE(opened(header + chunk(0) + chunk(1) + chunk(2) + chunk(3)));
    EXPECT_FALSE(opened(header + chunk(1) + chunk(0) + chunk(2) + chunk(3)));
    EXPECT_FALSE(opened(header + chunk(0) + chunk(1) + chunk(1) + chunk(3)));
    EXPECT_FALSE(opened(header + chunk(0) + chunk(2) + chunk(3)));
    EXPECT_FALSE(opened(header + chunk(0) + chunk(0) + chunk(1) + chunk(2) + chunk(3)));
}

TEST(SealedStream, RefusesTheStreamOfAnotherKeyVmOrEpoch) {
    const auto file = sealed("memory");
    StreamIdentity bobs{"99999999-2222-4333-8444-555555555555", 3}, later{alices.subject, 4};
    EXPECT_FALSE(opened(file, key_of('x')));
    EXPECT_FALSE(opened(file, key_of('k'), bobs));
    EXPECT_FALSE(opened(file, key_of('k'), later));
    // Not the header's word alone is believed: the tags cover it.
    EXPECT_FALSE(opened(sealed_header(bobs) + file.substr(sealed_header_bytes), key_of('k'), bobs));
}

TEST(SealedStream, RefusesToGoOnAfterItsEnd) {
    SealedStream writer(key_of('k'), alices);
    auto chunk = text_of(writer.seal(bytes_of("end")));
    EXPECT_THROW(writer.seal(bytes_of("more")), Error);
    SealedStream reader(key_of('k'), alices);
    reader.open(bytes_of(chunk));
    EXPECT_THROW(reader.open(bytes_of(chunk)), Error);
    EXPECT_THROW(sealed_header({Text(37, 'x'), 1}), Error);
}

}  // namespace
}  // namespace infrastructure_sdk
