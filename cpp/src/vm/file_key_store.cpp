// Keys of users as files. Each file is replaced as a whole: whoever dies leaves the old one or the new one.

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <mutex>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "core/aead.hpp"
#include "core/base64.hpp"
#include "core/hmac.hpp"
#include "core/sha256.hpp"
#include <infrastructure_sdk/error.hpp>
#include <infrastructure_sdk/vm/key_store.hpp>

namespace infrastructure_sdk {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

constexpr const char* master_name = "master.key";

[[noreturn]] void refuse(const std::string& what, const std::string& path) {
    throw Error(Errc::store, what + ": " + path + ": " + std::strerror(errno), {{"path", path}});
}

[[noreturn]] void no_key(const char* reason, const std::string& user, const std::string& why) {
    throw Error(Errc::provider, "a key of user '" + user + "' cannot be opened: " + why,
                {{"reason", reason}, {"user", user}});
}

void sync_folder(const std::string& path) {
    int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool good = fd >= 0 && ::fsync(fd) == 0;
    if (fd >= 0) ::close(fd);
    if (!good) refuse("the folder of keys cannot be brought to disk", path);
}

/// All of it or none of it, and on disk.
void write_file(const std::string& folder, const std::string& name, const std::string& bytes) {
    auto path = folder + "/" + name, scratch = folder + "/.new-" + name;
    int fd = ::open(scratch.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) refuse("a key file cannot be made", scratch);
    bool good = ::write(fd, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()) && ::fsync(fd) == 0;
    ::close(fd);
    if (!good) refuse("a key file cannot be written", scratch);
    if (::rename(scratch.c_str(), path.c_str()) != 0) refuse("a key file cannot be named", path);
    sync_folder(folder);
}

/// nullopt when it is not there. A file that others may read is not believed.
std::optional<std::string> read_file(const std::string& path) {
    int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT) return std::nullopt;
    if (fd < 0) refuse("a key file cannot be read", path);
    struct stat status{};
    std::string bytes;
    bool good = ::fstat(fd, &status) == 0 && status.st_size < (1 << 20);
    bytes.resize(good ? static_cast<std::size_t>(status.st_size) : 0);
    good = good && ::read(fd, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size());
    ::close(fd);
    if (!good) refuse("a key file cannot be read", path);
    if ((status.st_mode & 0077) != 0)
        throw Error(Errc::permission_denied, path + " may be read by others; chmod 600 it", {{"path", path}});
    return bytes;
}

/// What is overwritten may survive below the file system; the key in it is wrapped by the master key all the same.
void shred(const std::string& path) {
    int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) return;
    struct stat status{};
    if (::fstat(fd, &status) == 0) {
        std::string zeros(static_cast<std::size_t>(status.st_size), '\0');
        if (::pwrite(fd, zeros.data(), zeros.size(), 0) != static_cast<ssize_t>(zeros.size()) || ::fsync(fd) != 0) {
            ::close(fd);
            refuse("a key file cannot be overwritten", path);
        }
    }
    ::close(fd);
    if (::unlink(path.c_str()) != 0) refuse("a key file cannot be removed", path);
}

/// nonce, sealed bytes, tag.
std::string seal(const Secret& key, std::string_view context, const Secret& plain, Random& random) {
    Aead aead(key);
    Aead::Nonce nonce{};
    random.fill(nonce);
    std::string bytes(nonce.begin(), nonce.end());
    bytes.resize(nonce.size() + plain.reveal().size() + Aead::tag_bytes);
    aead.seal(nonce, bytes_of(context), bytes_of(plain.reveal()),
              reinterpret_cast<std::uint8_t*>(bytes.data()) + nonce.size());
    return base64_encode(bytes);
}

std::optional<Secret> open(const Secret& key, std::string_view context, const std::string& text) {
    auto bytes = base64_decode(text);
    if (!bytes || bytes->size() < Aead::nonce_bytes + Aead::tag_bytes) return std::nullopt;
    Aead::Nonce nonce{};
    std::copy_n(bytes->begin(), nonce.size(), nonce.begin());
    std::string plain(bytes->size() - Aead::nonce_bytes - Aead::tag_bytes, '\0');
    Aead aead(key);
    bool good = aead.open(nonce, bytes_of(context), bytes_of(*bytes).subspan(nonce.size()),
                          reinterpret_cast<std::uint8_t*>(plain.data()));
    return good ? std::optional(Secret(std::move(plain))) : std::nullopt;
}

/// Unambiguous, whatever the parts hold.
std::string context_of(const char* what, const std::string& user, const std::string& purpose) {
    return json{what, user, purpose}.dump(-1, ' ', true, json::error_handler_t::replace);
}

struct StoredKey {
    UserKey key;
    std::string wrapped;  ///< by the master key
};

class FileKeyStore final : public KeyStore {
public:
    FileKeyStore(std::string directory, Secret master, std::shared_ptr<Clock> clock, std::shared_ptr<Random> random)
        : directory_(std::move(directory)), clock_(std::move(clock)), random_(std::move(random)) {
        std::error_code error;
        fs::create_directories(directory_, error);
        if (error || ::chmod(directory_.c_str(), 0700) != 0) refuse("the folder of keys cannot be made", directory_);
        constexpr std::size_t shortest = 32;
        if (!master.empty() && master.reveal().size() < shortest)
            throw Error(Errc::configuration, "vm.master_key: it is too short; at least 32 bytes",
                        {{"field", "vm.master_key"}, {"value", Secret::redacted()}, {"allowed", "32 bytes or more"}});
        if (master.empty()) master = own_master();
        master_ = Secret(hmac_sha256(master.reveal(), "infrastructure-sdk master key 1"));
    }

    std::string wrap(const std::string& user, const std::string& purpose, const Secret& data_key) override {
        std::scoped_lock lock(mutex_);
        auto stored = load(user);
        if (stored.empty()) stored = append(user, stored);
        const auto& newest = stored.back();
        return newest.key.id + ":" + seal(key_of(user, newest), context_of("data", user, purpose), data_key, *random_);
    }

    Secret unwrap(const std::string& user, const std::string& purpose, const std::string& wrapped) override {
        std::scoped_lock lock(mutex_);
        auto colon = wrapped.find(':');
        auto id = wrapped.substr(0, colon);
        auto stored = load(user);
        auto found = std::find_if(stored.begin(), stored.end(), [&](const auto& key) { return key.key.id == id; });
        if (found == stored.end()) no_key("KeyMissing", user, "key '" + id + "' is not there; it may have been erased");
        auto plain = open(key_of(user, *found), context_of("data", user, purpose), wrapped.substr(colon + 1));
        if (!plain) no_key("WrongKey", user, "it was not wrapped for " + purpose);
        return *plain;
    }

    bool is_current(const std::string& user, const std::string& wrapped) override {
        std::scoped_lock lock(mutex_);
        auto stored = load(user);
        return !stored.empty() && wrapped.starts_with(stored.back().key.id + ":");
    }

    void add_key(const std::string& user) override {
        std::scoped_lock lock(mutex_);
        append(user, load(user));
    }

    void retire_old_keys(const std::string& user) override {
        std::scoped_lock lock(mutex_);
        auto stored = load(user);
        if (stored.size() > 1) save(user, {stored.back()});
    }

    void erase(const std::string& user) override {
        std::scoped_lock lock(mutex_);
        shred(path_of(user));
        shred(directory_ + "/.new-" + name_of(user));
        sync_folder(directory_);
    }

    std::vector<UserKeys> list() override {
        std::scoped_lock lock(mutex_);
        std::vector<UserKeys> users;
        std::error_code error;
        for (const auto& entry : fs::directory_iterator(directory_, error)) {
            auto name = entry.path().filename().string();
            if (name.starts_with(".") || !name.ends_with(".json")) continue;
            UserKeys user;
            for (const auto& stored : read(entry.path(), user.user_id)) user.keys.push_back(stored.key);
            users.push_back(std::move(user));
        }
        if (error) refuse("the folder of keys cannot be read", directory_);
        std::sort(users.begin(), users.end(), [](const auto& a, const auto& b) { return a.user_id < b.user_id; });
        return users;
    }

private:
    static std::string name_of(const std::string& user) { return sha256_hex(user).substr(0, 32) + ".json"; }
    std::string path_of(const std::string& user) const { return directory_ + "/" + name_of(user); }

    Secret random_key() {
        std::string bytes(Aead::key_bytes, '\0');
        random_->fill({reinterpret_cast<std::uint8_t*>(bytes.data()), bytes.size()});
        return Secret(std::move(bytes));
    }

    Secret own_master() {
        if (auto bytes = read_file(directory_ + "/" + master_name)) {
            if (bytes->size() == Aead::key_bytes) return Secret(std::move(*bytes));
            throw Error(Errc::store, "the master key is damaged: " + directory_ + "/" + master_name,
                        {{"path", directory_ + "/" + master_name}, {"reason", "MasterKeyDamaged"}});
        }
        auto made = random_key();
        write_file(directory_, master_name, made.reveal());
        return made;
    }

    Secret key_of(const std::string& user, const StoredKey& stored) const {
        auto key = open(master_, context_of("user", user, stored.key.id), stored.wrapped);
        if (!key) no_key("WrongKey", user, "the master key is not the one that wrapped it");
        return *key;
    }

    std::vector<StoredKey> read(const std::string& path, std::string& user) const try {
        auto text = read_file(path);
        if (!text) return {};
        auto document = json::parse(*text);
        user = document.at("user").get<std::string>();
        std::vector<StoredKey> stored;
        for (const auto& key : document.at("keys"))
            stored.push_back({{key.at("id").get<std::string>(), parse_rfc3339(key.at("created_at").get<std::string>())},
                              key.at("wrapped").get<std::string>()});
        return stored;
    } catch (const json::exception& error) {
        throw Error(Errc::store, "a key file is damaged: " + path + ": " + error.what(), {{"path", path}});
    }

    std::vector<StoredKey> load(const std::string& user) const {
        std::string named;
        return read(path_of(user), named);
    }

    void save(const std::string& user, const std::vector<StoredKey>& stored) const {
        auto keys = json::array();
        for (const auto& key : stored)
            keys.push_back(
                {{"id", key.key.id}, {"created_at", to_rfc3339(key.key.created_at)}, {"wrapped", key.wrapped}});
        json document{{"schema", 1}, {"user", user}, {"keys", keys}};
        write_file(directory_, name_of(user), document.dump(1, ' ', false, json::error_handler_t::replace) + "\n");
    }

    std::vector<StoredKey> append(const std::string& user, std::vector<StoredKey> stored) {
        StoredKey made;
        made.key = {"key-" + make_uuid(*random_).substr(0, 8), clock_->wall_now()};
        made.wrapped = seal(master_, context_of("user", user, made.key.id), random_key(), *random_);
        stored.push_back(std::move(made));
        save(user, stored);
        return stored;
    }

    std::mutex mutex_;
    std::string directory_;
    std::shared_ptr<Clock> clock_;
    std::shared_ptr<Random> random_;
    Secret master_;
};

}  // namespace

std::shared_ptr<KeyStore> make_file_key_store(std::string directory, Secret master_key, std::shared_ptr<Clock> clock,
                                              std::shared_ptr<Random> random) {
    return std::make_shared<FileKeyStore>(std::move(directory), std::move(master_key), std::move(clock),
                                          std::move(random));
}

}  // namespace infrastructure_sdk
