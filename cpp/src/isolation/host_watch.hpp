#pragma once
// Hears of what happens on the host that may change how sessions are isolated: files, links, packet rules, page
// merging.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/async_tools.hpp"

namespace infrastructure_sdk::isolation {

/// Says that something happened, never what: who hears it looks. What cannot be listened to here is logged and left
/// out. Used on the executor only.
class HostWatch {
public:
    /// @param directory holds a folder for each VM, named as it
    /// @param heard gets a VM's name for its own files, and "" for what concerns all
    HostWatch(Environment environment, std::string directory, std::function<void(std::string)> heard);
    ~HostWatch();
    /// Completes when nothing is listened to any more.
    Task<void> close();

private:
    struct Source;
    using SourcePtr = std::shared_ptr<Source>;

    void listen(const char* what, int fd);
    Task<void> hear(SourcePtr source);
    void open_files();
    void watch_folder(const std::string& path, std::uint32_t events, std::string vm);
    void take_files(SourcePtr source);

    Environment environment_;
    std::string directory_;
    std::function<void(std::string)> heard_;
    TaskGroup tasks_;
    std::vector<SourcePtr> sources_;
    struct Folder {
        std::string path;
        std::string vm;  // empty = the folder of all, or a file of the host
    };
    int files_ = -1;
    std::map<int, Folder> folders_;  // by inotify's number
};

}  // namespace infrastructure_sdk::isolation
