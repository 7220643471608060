// Checks on disks and files.

#include <algorithm>
#include <filesystem>
#include <set>

#include "isolation/checks/judges.hpp"
#include "isolation/look.hpp"
#include "isolation/probes/verdict.hpp"
#include "isolation/readings.hpp"

namespace infrastructure_sdk::isolation {
namespace {

using Key = std::pair<std::uint64_t, std::uint64_t>;
using Files = std::vector<OpenFile>;

Key key_of(const OpenFile& file) { return {file.device, file.inode}; }

Files writable_disks(const Files& files) {
    Files disks;
    std::copy_if(files.begin(), files.end(), std::back_inserter(disks), is_writable_disk);
    return disks;
}

bool is_inside(const std::string& path, const std::string& folder) {
    if (folder.empty()) return false;
    auto relative = std::filesystem::path(path).lexically_normal().lexically_relative(folder);
    return !relative.empty() && *relative.begin() != "..";
}

/// The VM's folder in plain form with a slash at its end; empty when nobody declared one.
std::optional<std::string> read_own_folder(const Json& value) {
    auto paths = read_paths(value);
    if (!paths) return std::nullopt;
    if (!*paths) return std::string();
    return (std::filesystem::path((*paths)->vm_directory) / "").lexically_normal().string();
}

struct Digest {
    std::string path, actual, registered;
};
/// file.digests: [{path,actual,registered}]
std::optional<std::vector<Digest>> read_digests(const Json& value) {
    if (!value.is_array()) return std::nullopt;
    std::vector<Digest> list;
    for (const auto& item : value) {
        auto path = text_at(item, "path"), actual = text_at(item, "actual"), registered = text_at(item, "registered");
        if (!path || !actual || !registered || actual->empty()) return std::nullopt;
        list.push_back({*path, *actual, *registered});
    }
    return list;
}

/// Nodes that open a file or a device by themselves.
bool is_protocol(const BlockNode& node) {
    return node.driver == "file" || node.driver == "host_device" || node.driver == "host_cdrom";
}

/// The file behind a node's name: a relative one lies in QEMU's working directory, which is the VM's, and
/// "/dev/fdset/N" is one of the open files.
bool names_inside(const std::string& name, const Paths& paths) {
    auto path = name.starts_with("file:") ? name.substr(5) : name;
    if (!path.starts_with('/')) path = paths.vm_directory + "/" + path;
    return path.starts_with("/dev/fdset/") || is_inside(path, paths.vm_directory) ||
           is_inside(path, paths.image_directory);
}

void judge_owner(Look& look, const std::string& name, unsigned mode, std::uint64_t uid, bool has_acl,
                 std::uint64_t expected) {
    if ((mode & 0077) != 0) look.fault(name + " is open to others");
    // What root owns is closed to other sessions too.
    if (uid != expected && uid != 0) look.fault(name + " belongs to uid " + std::to_string(uid));
    if (has_acl) look.fault(name + " has an ACL");
}

}  // namespace

Finding judge_sto_01(const CheckDefinition& check, const Facts& facts) {
    Look look(check, facts);
    auto files = look.need("proc.files", read_files);
    std::set<Key> own;
    for (const auto& disk : writable_disks(files ? *files : Files())) own.insert(key_of(disk));
    look.saw("proc.files", std::to_string(own.size()) + " writable disks");
    for (const auto& [session, theirs] : look.neighbours("proc.files", read_files))
        for (const auto& file : theirs)
            if (is_writable_disk(file) && own.contains(key_of(file)))
                look.fault("session " + session + " writes to the same disk " + file.target);
    return look.conclude("no other session writes to a disk of this one");
}

Finding judge_sto_02(const CheckDefinition& check, const Facts& facts) {
    Look look(check, facts);
    auto files = look.need("proc.files", read_files);
    auto nodes = look.need("qmp:query-named-block-nodes", read_blocks);
    auto threads = look.need("proc.threads", read_threads);
    if (look.is_blind()) return look.conclude({});
    auto uid = threads->front().uids.front();
    std::size_t shared = 0, bases = 0;
    for (const auto& node : *nodes) bases += is_protocol(node) && node.read_only;
    for (const auto& file : *files) {
        if (!is_stored(file) || file.writable || file.mapped || file.number <= 2) continue;
        ++shared;
        if ((file.mode & 0222) != 0) look.fault(file.target + " can be written to");
        if (file.uid == uid && uid != 0) look.fault(file.target + " belongs to the VM's own uid");
    }
    look.saw("proc.files", std::to_string(shared) + " files open for reading only");
    look.saw("qmp:query-named-block-nodes", std::to_string(bases) + " read-only files");
    look.saw("proc.threads", "uid " + std::to_string(uid));
    if (bases > shared) look.blind("could not look at every base image: QEMU names more than it holds open");
    if (bases == 0 && shared == 0) return look.absent("it uses no shared image");
    auto digests = look.need("file.digests", read_digests);
    for (const auto& item : digests ? *digests : std::vector<Digest>())
        if (item.actual != item.registered) look.fault(item.path + " is not the image that was registered");
    if (digests && digests->size() < bases) look.blind("could not look at file.digests: an image is missing");
    look.saw("file.digests", digests ? std::to_string(digests->size()) + " images as registered" : "");
    return look.conclude("its base images are read-only and as they were registered");
}

Finding judge_sto_03(const CheckDefinition& check, const Facts& facts) {
    Look look(check, facts);
    auto files = look.need("proc.files", read_files);
    if (!files) return look.conclude({});
    std::set<Key> locked;
    for (const auto& file : *files)
        if (file.locks > 0) locked.insert(key_of(file));
    auto disks = writable_disks(*files);
    std::size_t held = 0;
    for (const auto& disk : disks) {
        if (locked.contains(key_of(disk))) ++held;
        else look.fault(disk.target + " is open for writing without a lock");
    }
    look.saw("proc.files", std::to_string(held) + " of " + std::to_string(disks.size()) + " writable disks locked");
    if (disks.empty()) return look.absent("the VM has no writable disk");
    return look.conclude("every writable disk is locked against a second user");
}

Finding judge_sto_04(const CheckDefinition& check, const Facts& facts) {
    Look look(check, facts);
    auto nodes = look.need("qmp:query-named-block-nodes", read_blocks);
    auto files = look.need("proc.files", read_files);
    auto paths = look.need("process.paths", read_paths);
    if (paths && !*paths) look.blind("could not look: nobody declared where this VM's images lie");
    if (look.is_blind()) return look.conclude({});
    const auto& allowed = **paths;
    look.saw("qmp:query-named-block-nodes", std::to_string(nodes->size()) + " block nodes");
    look.saw("process.paths", allowed.vm_directory + " and " + allowed.image_directory);
    for (const auto& node : *nodes)
        for (const auto& name : {is_protocol(node) ? node.filename : std::string(), node.backing, node.data_file})
            if (!name.empty() && !name.starts_with("json:") && !names_inside(name, allowed))
                look.fault(node.driver + " node points to " + name);
    std::size_t disks = 0;
    for (const auto& file : *files) {
        if (!is_stored(file) || !(file.locks > 0 || is_writable_disk(file))) continue;
        ++disks;
        if (!is_inside(file.target, allowed.vm_directory) && !is_inside(file.target, allowed.image_directory))
            look.fault(file.target + " lies outside of this VM's folders");
    }
    look.saw("proc.files", std::to_string(disks) + " disks open");
    return look.conclude("every image lies in the VM's folder or among the registered images");
}

Finding judge_sto_05(const CheckDefinition& check, const Facts& facts) {
    Look look(check, facts);
    auto files = look.need("proc.files", read_files);
    auto threads = look.need("proc.threads", read_threads);
    auto folder = look.need("file.directory", read_folder);
    if (!threads) return look.conclude({});
    auto uid = threads->front().uids.front();
    std::size_t looked = 0;
    for (const auto& disk : writable_disks(files ? *files : Files())) {
        ++looked;
        judge_owner(look, disk.target, disk.mode, disk.uid, disk.has_acl, uid);
        if (!disk.folder_seen) look.blind("could not look at the folder of " + disk.target);
        else
            judge_owner(look, "the folder of " + disk.target, disk.folder_mode, disk.folder_uid, disk.folder_has_acl,
                        uid);
    }
    for (const auto& file : folder && *folder ? **folder : std::vector<FileStatus>()) {
        if (file.kind == "socket") continue;  // RUN-07
        ++looked;
        judge_owner(look, file.name, file.mode, file.uid, file.has_acl, uid);
    }
    look.saw("proc.files", "the modes of the writable disks");
    look.saw("proc.threads", "uid " + std::to_string(uid));
    look.saw("file.directory", std::to_string(looked) + " entries");
    if (facts.value("probe.disks")) judge_probe(look, "probe.disks");
    return look.conclude("its folder, disks and files are open to uid " + std::to_string(uid) + " only");
}

Finding judge_sto_06(const CheckDefinition& check, const Facts& facts) {
    Look look(check, facts);
    auto nodes = look.need("qmp:query-named-block-nodes", read_blocks);
    std::size_t devices = 0;
    for (const char* name : {"qomlist:/machine/peripheral", "qomlist:/machine/peripheral-anon"}) {
        auto types = look.need(name, read_children);
        for (const auto& type : types ? *types : std::vector<std::string>()) {
            ++devices;
            if (type.starts_with("virtio-9p") || type.starts_with("vhost-user-fs") || type.starts_with("virtio-fs"))
                look.fault("device " + type + " shows a folder of the host to the guest");
        }
        look.saw(name, types ? std::to_string(types->size()) + " devices" : "");
    }
    for (const auto& node : nodes ? *nodes : std::vector<BlockNode>())
        if (node.driver == "vvfat") look.fault("a disk shows a folder of the host to the guest: " + node.filename);
    look.saw("qmp:query-named-block-nodes", nodes ? std::to_string(nodes->size()) + " block nodes" : "");
    return look.conclude("no folder of the host is shown to the guest");
}

Finding judge_sto_07(const CheckDefinition& check, const Facts& facts) {
    Look look(check, facts);
    auto promises = look.need("process.promises", read_promises);
    auto files = look.need("proc.files", read_files);
    if (!promises || !files) return look.conclude({});
    look.saw("process.promises", promises->encrypted ? "encrypted" : "not encrypted");
    look.saw("proc.files", "open files");
    if (!promises->encrypted) return look.absent("encryption of disks was not promised");
    auto nodes = look.need("qmp:query-named-block-nodes", read_blocks);
    auto disks = writable_disks(*files);
    bool below =
        std::all_of(disks.begin(), disks.end(), [](const auto& disk) { return disk.encryption.starts_with("CRYPT-"); });
    bool inside = nodes && !nodes->empty();
    for (const auto& node : nodes ? *nodes : std::vector<BlockNode>())
        if (!node.read_only && !is_protocol(node)) inside = inside && (node.encrypted || node.driver == "luks");
    look.saw("qmp:query-named-block-nodes", inside ? "encrypted by QEMU" : "not encrypted by QEMU");
    if (nodes && !below && !inside) look.fault("encryption was promised and a disk is not encrypted");
    return look.conclude("every writable disk is encrypted");
}

Finding judge_sto_08(const CheckDefinition& check, const Facts& facts) {
    Look look(check, facts);
    auto files = look.need("proc.files", read_files);
    auto others = look.neighbours("proc.files", read_files);
    auto folders = look.neighbours("process.paths", read_own_folder);
    std::set<Key> read;
    for (const auto& file : files ? *files : Files())
        if (is_stored(file) && !file.writable && !file.mapped && file.number > 2) {
            read.insert(key_of(file));
            const auto target = std::filesystem::path(file.target).lexically_normal().string();
            for (const auto& [session, folder] : folders)
                if (!folder.empty() && target.starts_with(folder))
                    look.fault("it reads " + file.target + " of session " + session);
        }
    for (const auto& [session, theirs] : others)
        for (const auto& disk : theirs)
            if (is_writable_disk(disk) && read.contains(key_of(disk)))
                look.fault("it reads the disk " + disk.target + " of session " + session);
    look.saw("proc.files", std::to_string(read.size()) + " files open for reading only");
    return look.conclude("none of its images comes from another session");
}

Finding judge_sto_09(const CheckDefinition& check, const Facts& facts) {
    Look look(check, facts);
    judge_probe(look, "probe.leftovers");
    return look.conclude("a fresh disk reads as zeros, and nothing is left of ended sessions");
}

}  // namespace infrastructure_sdk::isolation
