#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/sha256.hpp"
#include "isolation/collectors/reading.hpp"

namespace infrastructure_sdk::isolation {

FileText read_file(const std::string& path) {
    FileText result;
    int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) {
        result.error = errno;
        return result;
    }
    std::string text;
    char part[16384];
    ssize_t got = 0;
    while ((got = ::read(fd, part, sizeof part)) > 0 || (got < 0 && errno == EINTR))
        if (got > 0) text.append(part, static_cast<std::size_t>(got));
    if (got < 0) result.error = errno;
    else result.text = std::move(text);
    ::close(fd);
    return result;
}

Reading reading_of_file(const std::string& path) {
    auto file = read_file(path);
    if (!file.text) return could_not(std::strerror(file.error));
    return {nlohmann::json(std::move(*file.text)), {}};
}

std::shared_ptr<HeldFact> held_fact(const char* name, const char* source, std::string locator, Reading reading,
                                    WallTime now) {
    Fact fact{name, source, std::move(locator), "node", {}, std::move(reading.why), now, {}};
    if (!reading.value) return std::make_shared<HeldFact>(std::move(fact));
    try {
        fact.json = reading.value->dump();
    } catch (const nlohmann::json::exception&) {
        // Bytes that are no text are replaced, and what is judged is what the report shows.
        fact.json = reading.value->dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
        return std::make_shared<HeldFact>(std::move(fact));
    }
    return std::make_shared<HeldFact>(std::move(fact), std::move(*reading.value));
}

std::optional<std::string> DigestCache::digest(const std::string& path) {
    struct stat status{};
    if (::stat(path.c_str(), &status) != 0) return std::nullopt;
    auto key = std::to_string(status.st_dev) + "/" + std::to_string(status.st_ino) + "/" +
               std::to_string(status.st_size) + "/" + std::to_string(status.st_mtim.tv_sec) + "." +
               std::to_string(status.st_mtim.tv_nsec) + "/" + std::to_string(status.st_ctim.tv_sec) + "." +
               std::to_string(status.st_ctim.tv_nsec);
    std::lock_guard lock(mutex_);
    auto it = known_.find(key);
    if (it != known_.end()) return it->second;
    auto file = read_file(path);
    if (!file.text) return std::nullopt;
    return known_[key] = sha256_hex(*file.text);
}

}  // namespace infrastructure_sdk::isolation
