#include "isolation/signing_keys.hpp"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/ed25519.hpp"
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk::isolation {
namespace fs = std::filesystem;
namespace {

struct OpenFile {
    explicit OpenFile(int number) : fd(number) {}
    OpenFile(const OpenFile&) = delete;
    OpenFile& operator=(const OpenFile&) = delete;
    ~OpenFile() {
        if (fd >= 0) ::close(fd);
    }
    int fd;
};

[[noreturn]] void refuse(const std::string& path, const std::string& why, Errc errc = Errc::store) {
    throw Error(errc, "the signing key " + path + " " + why, {{"path", path}});
}

void sync_directory(const std::string& path) {
    OpenFile folder(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (folder.fd < 0 || ::fsync(folder.fd) != 0) refuse(path, std::string("cannot be kept: ") + std::strerror(errno));
}

}  // namespace

Ed25519Key SigningKeys::make(Random& random) const {
    if (::mkdir(directory_.c_str(), 0700) == 0) sync_directory(fs::path(directory_).parent_path().string());
    else if (errno != EEXIST) refuse(directory_, std::string("cannot be kept: ") + std::strerror(errno));
    Ed25519Key secret{};
    random.fill(secret);
    auto path = path_of(key_id_of(ed25519_public_key(secret)));
    auto text = private_pem(secret);
    OpenFile file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
    const auto& bytes = text.reveal();
    if (file.fd < 0 || ::fchmod(file.fd, 0600) != 0 ||
        ::write(file.fd, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size()) || ::fsync(file.fd) != 0)
        refuse(path, std::string("cannot be written: ") + std::strerror(errno));
    sync_directory(directory_);
    return secret;
}

std::optional<Ed25519Key> SigningKeys::load(const std::string& key_id) const {
    auto path = path_of(key_id);
    OpenFile file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    if (file.fd < 0 && errno == ENOENT) return std::nullopt;
    struct stat status{};
    if (file.fd < 0 || ::fstat(file.fd, &status) != 0 || !S_ISREG(status.st_mode))
        refuse(path, std::string("cannot be read: ") + std::strerror(errno));
    if ((status.st_mode & 077) != 0 || status.st_uid != ::geteuid())
        refuse(path, "may be used by others: it must belong to this user and have mode 0600", Errc::permission_denied);
    std::string text(4096, '\0');
    auto size = ::read(file.fd, text.data(), text.size());
    if (size < 0) refuse(path, std::string("cannot be read: ") + std::strerror(errno));
    text.resize(static_cast<std::size_t>(size));
    try {
        auto secret = parse_private_pem(Secret(std::move(text)), "signing key");
        if (key_id_of(ed25519_public_key(secret)) == key_id) return secret;
    } catch (const Error&) {
        refuse(path, "is no Ed25519 key");
    }
    refuse(path, "is another key than its name says");
}

void SigningKeys::keep_only(const std::string& key_id) const {
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(directory_, error))
        if (entry.path().extension() == ".pem" && entry.path().stem() != key_id) fs::remove(entry.path(), error);
    if (error) refuse(directory_, "cannot be tidied up: " + error.message());
    sync_directory(directory_);
}

}  // namespace infrastructure_sdk::isolation
