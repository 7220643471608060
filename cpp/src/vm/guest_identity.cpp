#include "vm/guest_identity.hpp"

#include <algorithm>
#include <array>
#include <cctype>

#include "core/base64.hpp"
#include "core/ed25519.hpp"
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {

using Bytes32 = std::array<std::uint8_t, 32>;

Bytes32 draw(Random& random) {
    Bytes32 bytes{};
    random.fill(bytes);
    return bytes;
}

std::string hex(std::string_view bytes) {
    constexpr char digits[] = "0123456789abcdef";
    std::string text;
    for (unsigned char byte : bytes) {
        text += digits[byte >> 4];
        text += digits[byte & 15];
    }
    return text;
}

std::string text_of(const Bytes32& bytes) { return {bytes.begin(), bytes.end()}; }

/// RFC 4251: a length in four bytes, then the bytes.
std::string field(const std::string& bytes) {
    auto size = static_cast<std::uint32_t>(bytes.size());
    std::string text;
    for (int shift = 24; shift >= 0; shift -= 8) text += static_cast<char>((size >> shift) & 0xff);
    return text + bytes;
}

/// https://cvsweb.openbsd.org/src/usr.bin/ssh/PROTOCOL.key
std::string private_key_file(const Bytes32& secret, const Bytes32& half, const std::string& comment,
                             const std::string& check) {
    const std::string kind = "ssh-ed25519";
    auto blob = field(kind) + field(text_of(half));
    auto inside =
        check + check + field(kind) + field(text_of(half)) + field(text_of(secret) + text_of(half)) + field(comment);
    for (char pad = 1; inside.size() % 8 != 0; ++pad) inside += pad;
    std::string one_key("\0\0\0\1", 4);
    auto encoded = base64_encode(std::string("openssh-key-v1\0", 15) + field("none") + field("none") + field("") +
                                 one_key + field(blob) + field(inside));
    std::string file = "-----BEGIN OPENSSH PRIVATE KEY-----\n";
    for (std::size_t at = 0; at < encoded.size(); at += 70) file += encoded.substr(at, 70) + "\n";
    return file + "-----END OPENSSH PRIVATE KEY-----";
}

}  // namespace

GuestIdentity make_guest_identity(Random& random, const std::string& hostname) {
    auto plain = [](unsigned char c) { return std::isalnum(c) || c == '-'; };
    if (hostname.empty() || hostname.size() > 63 || hostname.front() == '-' || hostname.back() == '-' ||
        !std::all_of(hostname.begin(), hostname.end(), plain))
        throw Error(Errc::validation, "hostname: '" + hostname + "' is not allowed; 1 to 63 letters, digits, hyphens",
                    {{"field", "hostname"}, {"value", hostname}, {"allowed", "RFC 1123"}});
    GuestIdentity identity;
    identity.hostname = hostname;
    identity.machine_id = hex(text_of(draw(random)).substr(0, 16));
    identity.random_seed = hex(text_of(draw(random)));
    auto secret = draw(random);
    auto half = ed25519_public_key(secret);
    identity.ssh_private_key = private_key_file(secret, half, hostname, text_of(draw(random)).substr(0, 4));
    identity.ssh_public_key =
        "ssh-ed25519 " + base64_encode(field("ssh-ed25519") + field(text_of(half))) + " " + hostname;
    return identity;
}

std::string identity_script(const GuestIdentity& identity) {
    return "set -e\n"
           "name='" +
           identity.hostname +
           "'\n"
           "umask 022\n"
           "echo '" +
           identity.random_seed +
           "' >/dev/urandom\n"
           "echo \"$name\" >/proc/sys/kernel/hostname\n"
           "echo \"$name\" >/etc/hostname\n"
           "echo '" +
           identity.machine_id +
           "' >/etc/machine-id\n"
           "if [ -f /var/lib/dbus/machine-id ] && [ ! -L /var/lib/dbus/machine-id ]; then\n"
           "  echo '" +
           identity.machine_id +
           "' >/var/lib/dbus/machine-id\n"
           "fi\n"
           "[ -d /etc/ssh ] || mkdir -p /etc/ssh\n"
           "for file in /etc/ssh/ssh_host_*; do\n"
           "  case $file in *_ed25519_key|*_ed25519_key.pub|*'*') ;; *) rm -f \"$file\" ;; esac\n"
           "done\n"
           "echo '" +
           identity.ssh_public_key +
           "' >/etc/ssh/ssh_host_ed25519_key.pub\n"
           "umask 077\n"
           "echo '" +
           identity.ssh_private_key +
           "' >/etc/ssh/ssh_host_ed25519_key\n"
           // A server that runs has read the old keys.
           "if [ -f /run/sshd.pid ]; then read pid </run/sshd.pid; kill -HUP \"$pid\"\n"
           "elif [ -f /var/lib/dbus/machine-id ] && [ ! -L /var/lib/dbus/machine-id ]; then :\n"
           "else echo '" +
           std::string(files_suffice) + "'; fi\n";
}

std::vector<GuestFile> identity_files(const GuestIdentity& identity) {
    return {{"/dev/urandom", identity.random_seed + "\n"},
            {"/proc/sys/kernel/hostname", identity.hostname + "\n"},
            {"/etc/hostname", identity.hostname + "\n"},
            {"/etc/machine-id", identity.machine_id + "\n"},
            {"/etc/ssh/ssh_host_ed25519_key.pub", identity.ssh_public_key + "\n"},
            {"/etc/ssh/ssh_host_ed25519_key", identity.ssh_private_key + "\n"}};
}

}  // namespace infrastructure_sdk
