#pragma once
// The shapes of the facts that checks read. A reader gives nullopt for anything that it does not understand, down to
// the last field: that is "could not look".

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "isolation/procfs.hpp"

namespace infrastructure_sdk::isolation {

using Json = nlohmann::json;

/// Any text; one that must say something.
std::optional<std::string> read_string(const Json&);
std::optional<std::string> read_word(const Json&);
std::optional<bool> read_flag(const Json&);
std::optional<Json> read_object(const Json&);

/// proc.threads: [status text of every thread], not empty.
std::optional<std::vector<ThreadStatus>> read_threads(const Json&);

/// proc.files: [{fd,target,kind,device,inode,access,mapped,interface} and of files and block devices also
/// {mode,uid,has_acl,locks,encryption,folder:{mode,uid,has_acl}}], not empty: a process without descriptors is gone.
std::optional<std::vector<OpenFile>> read_files(const Json&);

/// proc.sockets: {"tcp":[{address,port}],"unix":[{path,mode,folder_mode}],"strange":n}
struct Sockets {
    struct Tcp {
        std::string address;
        std::uint64_t port = 0;
    };
    struct Unix {
        std::string path;
        std::optional<unsigned> mode, folder_mode;  ///< nullopt: the file was not found
    };
    std::vector<Tcp> tcp;
    std::vector<Unix> local;
    std::uint64_t strange = 0;  ///< sockets in no table
};
std::optional<Sockets> read_sockets(const Json&);

/// proc.namespaces, sys.init_namespaces: {"net": inode, ...}, each of net, pid, mnt, ipc, user.
std::optional<std::map<std::string, std::uint64_t>> read_namespaces(const Json&);

/// proc.maps: writable mappings of files that are shared, or lie on huge pages: [{device,inode,path,shared,huge}]
struct Mapping {
    std::uint64_t device = 0, inode = 0;
    std::string path;
    bool shared = false, huge = false;
};
std::optional<std::vector<Mapping>> read_maps(const Json&);

/// cgroup.pids, cgroup.memory, cgroup.swap, cgroup.hugetlb: limits from the process's group up, [{path,limit}], where
/// null is none. The answer is the smallest.
struct Limit {
    std::optional<std::uint64_t> smallest;
};
std::optional<Limit> read_limit(const Json&);
/// cgroup.cpu: [{path,quota_us,period_us}]; the smallest in cores.
std::optional<std::optional<double>> read_cpu_limit(const Json&);

/// Lists and maps of plain things.
std::optional<std::vector<std::string>> read_strings(const Json&);
std::optional<std::vector<std::uint64_t>> read_numbers(const Json&);
std::optional<std::map<std::string, std::string>> read_texts(const Json&);  ///< not empty
std::optional<std::map<std::string, std::uint64_t>> read_counts(const Json&);

/// sys.swaps: [{name,encryption}]
struct Swap {
    std::string name, encryption;
};
std::optional<std::vector<Swap>> read_swaps(const Json&);

/// sys.taps: [{name,master,isolated,hairpin}]
struct Tap {
    std::string name, master;
    bool isolated = false, hairpin = false;
};
std::optional<std::vector<Tap>> read_taps(const Json&);

/// file.directory: [{name,kind,mode,uid,has_acl}] with the directory itself as "."; or {"declared":false}: no folder
/// was declared as the VM's, which is nullopt of the inner.
std::optional<std::optional<std::vector<FileStatus>>> read_folder(const Json&);

/// process.promises
struct Promises {
    bool exclusive = false, encrypted = false, confidential = false;
    std::vector<std::uint64_t> ports;
    std::string network;  ///< the mode; empty = none was promised
};
std::optional<Promises> read_promises(const Json&);
/// process.paths; {"declared":false} is nullopt of the inner.
struct Paths {
    std::string vm_directory, image_directory;
};
std::optional<std::optional<Paths>> read_paths(const Json&);

/// hmp:info network. NICs with their addresses, and back ends with their options.
struct Network {
    struct Backend {
        std::string name, type, options;
        bool restricted() const;  ///< user networking that reaches nothing
    };
    std::vector<std::string> macs;  ///< lower case
    std::vector<Backend> backends;
    std::vector<Backend> filters;  ///< what sees, holds up or copies frames on their way
};
std::optional<Network> read_network(const Json&);
/// hmp:info usernet: forwarded host ports.
struct Forward {
    std::string address;
    std::uint64_t port = 0;
};
std::optional<std::vector<Forward>> read_forwards(const Json&);
/// qmp:query-rx-filter: main addresses, lower case.
std::optional<std::vector<std::string>> read_filters(const Json&);

/// qmp:query-named-block-nodes, not empty or empty.
struct BlockNode {
    std::string driver, filename, backing, data_file;
    bool read_only = false, encrypted = false;
};
std::optional<std::vector<BlockNode>> read_blocks(const Json&);
/// qomlist: types of the children, e.g. "virtio-blk-pci".
std::optional<std::vector<std::string>> read_children(const Json&);
/// qmp:query-pci: "vendor:device" of every function, in hex.
std::optional<std::vector<std::string>> read_pci(const Json&);
/// qmp:query-cpus-fast, not empty.
struct Vcpu {
    std::uint64_t thread = 0;
    std::string path;
};
std::optional<std::vector<Vcpu>> read_vcpus(const Json&);
/// qmp:query-version: major, minor, micro.
std::optional<std::array<std::uint64_t, 3>> read_version(const Json&);

/// probe.*: what was tried, not empty. Network probes tell all, others `control`, `received` (it went through).
struct Attempt {
    std::string target;
    bool control = false;    ///< the positive control succeeded
    bool left_port = false;  ///< it was seen leaving the guest
    bool received = false;   ///< the canary saw the nonce
    std::string answer;      ///< "none", "target" or "enforcement": who answered with a refusal
    std::uint64_t attempts = 0;
    std::optional<std::uint64_t> drops;  ///< of the drop counter; nullopt = there is none
};
std::optional<std::vector<Attempt>> read_probe(const Json&);

/// A file that QEMU uses as a disk: a block device, or a regular file open for reading and writing that is no memory.
/// Logs are opened for writing only.
bool is_writable_disk(const OpenFile& file);
bool is_stored(const OpenFile& file);  ///< regular file or block device

}  // namespace infrastructure_sdk::isolation
