#include "core/luks_disk.hpp"

#include <algorithm>
#include <array>
#include <memory>

#include <openssl/evp.h>

#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {

constexpr std::size_t sector = 512;
constexpr std::size_t master_key_bytes = 64;  // XTS takes two keys of AES-256
constexpr std::size_t digest_bytes = 20, salt_bytes = 32, hash_bytes = 32;
constexpr std::uint32_t stripes = 4000;
constexpr std::uint32_t iterations = 1000;  // the least that QEMU itself uses
constexpr std::uint32_t slots = 8;
constexpr std::uint32_t first_slot_sector = 8;
constexpr std::uint32_t slot_sectors = 504;  // the stripes of a key, up to the next 4 KiB
constexpr std::uint32_t payload_sector = first_slot_sector + slots * slot_sectors;

void put(std::string& text, std::uint64_t value, int size) {
    for (int shift = 8 * (size - 1); shift >= 0; shift -= 8) text += static_cast<char>(value >> shift & 0xff);
}

void put(std::string& text, const std::string& word, std::size_t size) {
    text += word + std::string(size - word.size(), '\0');
}

std::string random_bytes(Random& random, std::size_t size) {
    std::string bytes(size, '\0');
    random.fill({reinterpret_cast<std::uint8_t*>(bytes.data()), size});
    return bytes;
}

const unsigned char* bytes_at(const std::string& text) { return reinterpret_cast<const unsigned char*>(text.data()); }
unsigned char* bytes_at(std::string& text) { return reinterpret_cast<unsigned char*>(text.data()); }

[[noreturn]] void not_available(const char* what) { throw Error(Errc::internal, std::string(what) + " failed"); }

std::string pbkdf2(const std::string& secret, const std::string& salt, std::size_t size) {
    std::string key(size, '\0');
    if (PKCS5_PBKDF2_HMAC(secret.data(), static_cast<int>(secret.size()), bytes_at(salt), static_cast<int>(salt.size()),
                          iterations, EVP_sha256(), static_cast<int>(size), bytes_at(key)) != 1)
        not_available("PBKDF2");
    return key;
}

/// Each part of a hash's length becomes the hash of its number and itself (section 5.2, AF-splitter's H2).
std::string diffuse(const std::string& block) {
    std::string out;
    for (std::uint32_t part = 0; part * hash_bytes < block.size(); ++part) {
        std::string in;
        put(in, part, 4);
        in += block.substr(part * hash_bytes, hash_bytes);
        std::array<unsigned char, EVP_MAX_MD_SIZE> hash{};
        unsigned length = 0;
        if (EVP_Digest(in.data(), in.size(), hash.data(), &length, EVP_sha256(), nullptr) != 1)
            not_available("SHA-256");
        out.append(reinterpret_cast<const char*>(hash.data()), length);
    }
    return out;
}

void mix(std::string& block, const std::string& other, std::size_t at) {
    for (std::size_t i = 0; i < block.size(); ++i) block[i] = static_cast<char>(block[i] ^ other[at + i]);
}

/// Blown up so that no part of it is of use alone: who erases any of it erases the key.
std::string split(const std::string& key, Random& random) {
    std::string out = random_bytes(random, key.size() * (stripes - 1));
    std::string block(key.size(), '\0');
    for (std::uint32_t i = 0; i + 1 < stripes; ++i) {
        mix(block, out, i * key.size());
        block = diffuse(block);
    }
    mix(block, key, 0);
    return out + block;
}

std::string encrypt_sectors(const std::string& key, const std::string& plain) {
    std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)> cipher(EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_free);
    std::string out(plain.size(), '\0');
    for (std::size_t at = 0; at < plain.size(); at += sector) {
        std::array<unsigned char, 16> number{};  // plain64: the sector's, little-endian
        for (int i = 0; i < 8; ++i)
            number[static_cast<std::size_t>(i)] = static_cast<unsigned char>(at / sector >> 8 * i);
        int written = 0;
        if (!cipher ||
            EVP_EncryptInit_ex(cipher.get(), EVP_aes_256_xts(), nullptr, bytes_at(key), number.data()) != 1 ||
            EVP_EncryptUpdate(cipher.get(), bytes_at(out) + at, &written, bytes_at(plain) + at, sector) != 1)
            not_available("AES-256-XTS");
    }
    return out;
}

/// The header and the one slot in use.
struct Luks {
    std::string header;
    std::string slot;
};

Luks luks(const Secret& passphrase, Random& random) {
    const Secret master(random_bytes(random, master_key_bytes));
    const auto salt = random_bytes(random, salt_bytes), slot_salt = random_bytes(random, salt_bytes);
    Luks result;
    auto& text = result.header;
    text = std::string("LUKS\xba\xbe\0\1", 8);
    put(text, "aes", 32);
    put(text, "xts-plain64", 32);
    put(text, "sha256", 32);
    put(text, payload_sector, 4);
    put(text, master_key_bytes, 4);
    text += pbkdf2(master.reveal(), salt, digest_bytes) + salt;
    put(text, iterations, 4);
    put(text, make_uuid(random), 40);
    constexpr std::uint32_t in_use = 0x00ac71f3, free = 0x0000dead;
    for (std::uint32_t slot = 0; slot < slots; ++slot) {
        put(text, slot == 0 ? in_use : free, 4);
        put(text, slot == 0 ? iterations : 0, 4);
        text += slot == 0 ? slot_salt : std::string(salt_bytes, '\0');
        put(text, first_slot_sector + slot * slot_sectors, 4);
        put(text, stripes, 4);
    }
    const Secret slot_key(pbkdf2(passphrase.reveal(), slot_salt, master_key_bytes));
    result.slot = encrypt_sectors(slot_key.reveal(), split(master.reveal(), random));
    return result;
}

constexpr std::uint64_t cluster = 64 << 10;
constexpr std::uint64_t clusters_of(std::uint64_t bytes) { return (bytes + cluster - 1) / cluster; }

}  // namespace

SparseFile encrypted_disk(std::uint64_t size, const Secret& passphrase, Random& random) {
    constexpr std::uint64_t most = std::uint64_t{64} << 40, per_entry = cluster * (cluster / 8);
    if (size == 0 || size > most)
        throw Error(Errc::validation, "disk_size: " + std::to_string(size) + " bytes are not possible; 1 to 64Ti",
                    {{"field", "disk_size"}, {"value", std::to_string(size)}, {"allowed", "1 to 64Ti"}});
    size = (size + sector - 1) / sector * sector;
    const auto entries = (size + per_entry - 1) / per_entry;
    // The header, the table of reference counts, its one block, LUKS, the table of tables.
    constexpr std::uint64_t counts_at = cluster, block_at = 2 * cluster, luks_at = 3 * cluster;
    constexpr std::uint64_t luks_bytes = std::uint64_t{payload_sector} * sector;
    const auto table_at = luks_at + clusters_of(luks_bytes) * cluster;
    const auto used = table_at / cluster + std::max<std::uint64_t>(1, clusters_of(entries * 8));

    std::string header("QFI\xfb\0\0\0\3", 8);
    header += std::string(12, '\0');  // no backing file
    put(header, 16, 4);               // clusters of 2^16 bytes
    put(header, size, 8);
    put(header, 2, 4);  // LUKS
    put(header, entries, 4);
    put(header, table_at, 8);
    put(header, counts_at, 8);
    put(header, 1, 4);
    header += std::string(4 + 8 + 3 * 8, '\0');  // no snapshots, no features
    put(header, 4, 4);                           // counts of 2^4 bits
    put(header, 112, 4);
    header += std::string(8, '\0');  // compression: zlib
    put(header, 0x0537be77, 4);      // where the encryption header is
    put(header, 16, 4);
    put(header, luks_at, 8);
    put(header, luks_bytes, 8);
    header += std::string(8, '\0');  // the last extension

    std::string counts, block;
    put(counts, block_at, 8);
    for (std::uint64_t i = 0; i < used; ++i) put(block, 1, 2);
    auto encryption = luks(passphrase, random);
    return {used * cluster,
            {{0, header},
             {counts_at, counts},
             {block_at, block},
             {luks_at, encryption.header},
             {luks_at + first_slot_sector * sector, encryption.slot}}};
}

}  // namespace infrastructure_sdk
