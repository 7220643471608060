#include "vm/guest_identity.hpp"

#include <gtest/gtest.h>

#include <array>
#include <set>
#include <sstream>

#include "core/base64.hpp"
#include "core/ed25519.hpp"
#include "core/seeded_random.hpp"
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {

TEST(GuestIdentity, NothingOfItIsEverTheSame) {
    SeededRandom random(1);
    std::set<std::string> seen;
    for (int i = 0; i < 50; ++i) {
        auto identity = make_guest_identity(random, "s-1");
        EXPECT_EQ(identity.machine_id.size(), 32u);
        EXPECT_EQ(identity.random_seed.size(), 64u);
        EXPECT_EQ(identity.machine_id.find_first_not_of("0123456789abcdef"), std::string::npos);
        for (const auto& part :
             {identity.machine_id, identity.random_seed, identity.ssh_private_key, identity.ssh_public_key})
            EXPECT_TRUE(seen.insert(part).second) << part;
    }
}

TEST(GuestIdentity, TheSameBytesGiveTheSameIdentity) {
    SeededRandom one(7), other(7);
    EXPECT_EQ(make_guest_identity(one, "s-1").ssh_private_key, make_guest_identity(other, "s-1").ssh_private_key);
}

TEST(GuestIdentity, ThePrivateKeyHoldsThePublicOne) {
    SeededRandom random(3);
    auto identity = make_guest_identity(random, "s-0123456789abcdef");
    ASSERT_TRUE(identity.ssh_public_key.starts_with("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI"));
    EXPECT_TRUE(identity.ssh_public_key.ends_with(" s-0123456789abcdef"));
    auto blob = base64_decode(identity.ssh_public_key.substr(12, 68)).value();
    ASSERT_EQ(blob.size(), 51u);
    std::string body;
    std::istringstream lines(identity.ssh_private_key);
    std::string line;
    std::getline(lines, line);
    EXPECT_EQ(line, "-----BEGIN OPENSSH PRIVATE KEY-----");
    while (std::getline(lines, line) && !line.starts_with("-----")) {
        EXPECT_LE(line.size(), 70u);
        body += line;
    }
    EXPECT_EQ(line, "-----END OPENSSH PRIVATE KEY-----");
    auto file = base64_decode(body).value();
    EXPECT_TRUE(file.starts_with(std::string("openssh-key-v1\0", 15)));
    EXPECT_NE(file.find(blob), std::string::npos);
    auto half = blob.substr(19);
    std::size_t times = 0;
    for (std::size_t at = file.find(half); at != std::string::npos; at = file.find(half, at + 1)) ++times;
    EXPECT_EQ(times, 3u) << "in the public part, beside the secret, and behind it";
}

TEST(Ed25519, GivesThePublicKeyOfTheRfc) {
    // RFC 8032, 7.1, test 1.
    auto bytes = [](const std::string& hex) {
        std::array<std::uint8_t, 32> result{};
        for (std::size_t i = 0; i < result.size(); ++i)
            result[i] = static_cast<std::uint8_t>(std::stoi(hex.substr(2 * i, 2), nullptr, 16));
        return result;
    };
    EXPECT_EQ(ed25519_public_key(bytes("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")),
              bytes("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"));
}

TEST(GuestIdentity, OnlyAHostnameIsAHostname) {
    SeededRandom random(1);
    for (const char* bad : {"", "a'b", "a b", "-a", "a-", "a\nb", "ä", "a.b"}) {
        try {
            make_guest_identity(random, bad);
            ADD_FAILURE() << bad;
        } catch (const Error& error) {
            EXPECT_EQ(error.errc(), Errc::validation);
        }
    }
    EXPECT_THROW(make_guest_identity(random, std::string(64, 'a')), Error);
}

TEST(GuestIdentity, TheScriptIsOfQuotedValuesOnly) {
    SeededRandom random(1);
    auto identity = make_guest_identity(random, "s-1");
    auto script = identity_script(identity);
    for (const auto& part : {identity.hostname, identity.machine_id, identity.random_seed, identity.ssh_private_key,
                             identity.ssh_public_key}) {
        EXPECT_NE(script.find("'" + part + "'"), std::string::npos) << part;
        EXPECT_EQ(part.find('\''), std::string::npos);
    }
    // The files say the same.
    for (const auto& file : identity_files(identity)) {
        auto line = "'" + file.bytes.substr(0, file.bytes.size() - 1) + "' >" + file.path + "\n";
        bool named =
            file.bytes == identity.hostname + "\n" && script.find(" >" + file.path + "\n") != std::string::npos;
        EXPECT_TRUE(named || script.find(line) != std::string::npos) << file.path;
    }
    EXPECT_TRUE(script.starts_with("set -e\n")) << "what fails is told";
}

}  // namespace
}  // namespace infrastructure_sdk
