#include "providers/qemu/vm_record.hpp"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include <fcntl.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "providers/qemu/command_line.hpp"
#include <infrastructure_sdk/duration.hpp>
#include <infrastructure_sdk/error.hpp>
#include <infrastructure_sdk/json.hpp>

namespace infrastructure_sdk::qemu {
using nlohmann::json;

void to_json(json& document, const MemoryOrigin& origin) {
    document = {{"vm", origin.vm}, {"epoch", origin.epoch}, {"mac_address", origin.mac_address}, {"qemu", origin.qemu}};
}

void from_json(const json& document, MemoryOrigin& origin) {
    origin = {document.at("vm").get<std::string>(), document.at("epoch").get<std::uint64_t>(),
              document.at("mac_address").get<std::string>(), document.at("qemu").get<std::string>()};
}

std::string to_text(const VmRecord& record) {
    const auto& spec = record.spec;
    json document{{"schema", 1},
                  {"spec",
                   {{"id", spec.id.value},
                    {"name", spec.name},
                    {"owner_session", spec.owner_session},
                    {"owner_user", spec.owner_user},
                    {"encryption", name_of(spec.encryption)},
                    {"image",
                     {{"name", spec.image.name},
                      {"version", spec.image.version},
                      {"kernel", spec.image.kernel},
                      {"initrd", spec.image.initrd},
                      {"kernel_arguments", spec.image.kernel_arguments},
                      {"disk", spec.image.disk},
                      {"disk_format", spec.image.disk_format},
                      {"disk_size_bytes", spec.image.disk_size_bytes},
                      {"disc", spec.image.disc}}},
                    {"machine", spec.machine},
                    {"firmware", name_of(spec.firmware)},
                    {"tpm", spec.tpm},
                    {"enlightenments", spec.enlightenments},
                    {"clock", name_of(spec.clock)},
                    {"cpu_count", spec.cpu_count},
                    {"pin_cpus", spec.pin_cpus},
                    {"watchdog", spec.watchdog},
                    {"limits",
                     {{"cpu_milli", spec.limits.cpu_milli},
                      {"disk_iops", spec.limits.disk_iops},
                      {"disk_bytes_per_second", spec.limits.disk_bytes_per_second},
                      {"network_bytes_per_second", spec.limits.network_bytes_per_second}}},
                    {"memory_bytes", spec.memory_bytes},
                    {"disk_size_bytes", spec.disk_size_bytes},
                    {"snapshot", spec.snapshot},
                    {"display", spec.display},
                    {"network", name_of(spec.network)},
                    {"bridge", spec.bridge},
                    {"mac_address", spec.mac_address},
                    {"channels", spec.channels},
                    {"boot_timeout", to_string(spec.boot_timeout)}}},
                  {"phase", name_of(record.phase)},
                  {"resuming", record.resuming},
                  {"reason", record.reason},
                  {"message", record.message},
                  {"execution_id", record.execution_id},
                  {"accelerator", record.accelerator},
                  {"program", record.program},
                  {"arguments", record.arguments},
                  {"uid", record.uid ? json(*record.uid) : json(nullptr)},
                  {"process", record.process ? json(*record.process) : json(nullptr)},
                  {"tpm_process", record.tpm_process ? json(*record.tpm_process) : json(nullptr)},
                  {"network_interface", record.network_interface},
                  {"firmware_code", record.firmware_code},
                  {"groups", record.groups},
                  {"limits", json::array()},
                  {"host_cpus", record.host_cpus},
                  {"snapshotting", record.snapshotting},
                  {"image_identity", record.image_identity},
                  {"donor", record.donor},
                  {"cloning", record.cloning},
                  {"launched_from", record.launch.from},
                  {"launch_reason", record.launch.reason},
                  {"memory_sha256", record.memory_sha256},
                  {"memory_key", record.memory_key},
                  {"memory_epoch", record.memory_epoch},
                  {"origin", record.origin ? json(*record.origin) : json(nullptr)},
                  {"disk_key", record.disk_key},
                  {"stray_disk_key", record.stray_disk_key},
                  {"base_key", record.base_key}};
    for (const auto& limit : record.limits)
        document["limits"].push_back({limit.resource, limit.limit, limit.enforced_by, limit.reason});
    return document.dump(1, ' ', false, json::error_handler_t::replace) + "\n";
}

namespace {

std::optional<ProcessIdentity> process_from(const json& process) {
    if (process.is_null()) return std::nullopt;
    return ProcessIdentity{process.at("boot_id").get<std::string>(), process.at("pid").get<std::int64_t>(),
                           process.at("start_time_ticks").get<std::uint64_t>(),
                           process.at("vm_uuid").get<std::string>()};
}

}  // namespace

namespace {

/// Of records of older owners there is nothing to read.
void read_limits(const json& document, VmRecord& record) {
    const auto& from = document.at("spec");
    record.spec.pin_cpus = from.value("pin_cpus", false);
    record.spec.watchdog = from.value("watchdog", false);
    if (auto limits = from.find("limits"); limits != from.end())
        record.spec.limits = {limits->at("cpu_milli").get<std::int64_t>(), limits->at("disk_iops").get<std::uint64_t>(),
                              limits->at("disk_bytes_per_second").get<std::uint64_t>(),
                              limits->at("network_bytes_per_second").get<std::uint64_t>()};
    record.groups = document.value("groups", std::vector<std::string>());
    record.host_cpus = document.value("host_cpus", std::vector<int>());
    if (auto limits = document.find("limits"); limits != document.end())
        for (const auto& limit : *limits)
            record.limits.push_back({limit.at(0).get<std::string>(), limit.at(1).get<std::uint64_t>(),
                                     limit.at(2).get<std::string>(), limit.at(3).get<std::string>()});
}

}  // namespace

VmRecord record_from_text(const std::string& text) try {
    auto document = json::parse(text);
    const auto& from = document.at("spec");
    const auto& image = from.at("image");
    VmRecord record;
    auto& spec = record.spec;
    spec.id.value = from.at("id").get<std::string>();
    spec.name = from.at("name").get<std::string>();
    spec.owner_session = from.at("owner_session").get<std::string>();
    spec.image.name = image.at("name").get<std::string>();
    spec.image.version = image.at("version").get<std::string>();
    spec.image.kernel = image.at("kernel").get<std::string>();
    spec.image.initrd = image.at("initrd").get<std::string>();
    spec.image.kernel_arguments = image.at("kernel_arguments").get<std::string>();
    spec.image.disk = image.at("disk").get<std::string>();
    spec.image.disk_format = image.at("disk_format").get<std::string>();
    spec.image.disk_size_bytes = image.at("disk_size_bytes").get<std::uint64_t>();
    spec.machine = from.at("machine").get<std::string>();
    spec.cpu_count = from.at("cpu_count").get<int>();
    spec.memory_bytes = from.at("memory_bytes").get<std::uint64_t>();
    spec.disk_size_bytes = from.at("disk_size_bytes").get<std::uint64_t>();
    // Records of older owners have none.
    spec.snapshot = from.value("snapshot", "");
    spec.image.disc = image.value("disc", "");
    spec.firmware = parse_firmware(from.value("firmware", "bios"));
    spec.tpm = from.value("tpm", false);
    spec.enlightenments = from.value("enlightenments", std::vector<std::string>());
    spec.clock = parse_clock_base(from.value("clock", "utc"));
    spec.owner_user = from.value("owner_user", "");
    spec.encryption = parse_encryption(from.value("encryption", "off"));
    record.memory_key = document.value("memory_key", "");
    record.memory_epoch = document.value("memory_epoch", std::uint64_t{0});
    if (auto origin = document.value("origin", json(nullptr)); !origin.is_null())
        record.origin = origin.get<MemoryOrigin>();
    record.disk_key = document.value("disk_key", "");
    record.stray_disk_key = document.value("stray_disk_key", "");
    record.base_key = document.value("base_key", "");
    record.tpm_process = process_from(document.value("tpm_process", json(nullptr)));
    record.firmware_code = document.value("firmware_code", "");
    record.snapshotting = document.value("snapshotting", "");
    record.donor = document.value("donor", false);
    record.cloning = document.value("cloning", false);
    record.launch = {document.value("launched_from", ""), document.value("launch_reason", "")};
    spec.display = from.at("display").get<bool>();
    spec.network = parse_network_mode(from.at("network").get<std::string>());
    spec.bridge = from.value("bridge", "");
    record.network_interface = document.value("network_interface", "");
    spec.mac_address = from.at("mac_address").get<std::string>();
    spec.channels = from.at("channels").get<std::vector<std::string>>();
    spec.boot_timeout = parse_duration(from.at("boot_timeout").get<std::string>(), "boot_timeout");
    record.phase = parse_vm_state(document.at("phase").get<std::string>());
    record.resuming = document.at("resuming").get<bool>();
    record.reason = document.at("reason").get<std::string>();
    record.message = document.at("message").get<std::string>();
    record.execution_id = document.at("execution_id").get<std::string>();
    record.accelerator = document.at("accelerator").get<std::string>();
    record.program = document.at("program").get<std::string>();
    record.arguments = document.at("arguments").get<std::vector<std::string>>();
    if (const auto& uid = document.at("uid"); !uid.is_null()) record.uid = uid.get<unsigned>();
    record.process = process_from(document.at("process"));
    record.image_identity = document.at("image_identity").get<std::string>();
    record.memory_sha256 = document.at("memory_sha256").get<std::string>();
    read_limits(document, record);
    return record;
} catch (const json::exception& error) {
    throw Error(Errc::provider, std::string("a VM record cannot be read: ") + error.what());
}

std::string guest_folder(const std::string& directory) { return directory + "/" + file_name::guest; }

ImageFiles files_of(const VmRecord& record, const std::string& directory) {
    auto image = record.spec.image;
    if (!record.spec.snapshot.empty()) image.disk = guest_folder(directory) + "/" + file_name::base;
    return image;
}

VmState settle(const VmRecord& record, bool alive, const std::string& status) {
    switch (record.phase) {
        case VmState::starting:
        case VmState::running:
        case VmState::paused:
        case VmState::suspending:
        case VmState::stopping:
            if (!alive) {
                // The memory file is complete before the process ends and is kept until a resume succeeded. A guest
                // that may have run since has changed its disk: the file does not fit it any more. One that begins with
                // a snapshot's memory has not begun.
                if (!record.memory_sha256.empty() && !record.origin && record.phase != VmState::running)
                    return VmState::suspended;
                return record.phase == VmState::starting ? VmState::stopped : VmState::failed;
            }
            if (status.empty()) return VmState::unknown;
            if (record.cloning) return VmState::starting;
            if (status == "running") return VmState::running;
            if (status == "inmigrate") return VmState::starting;
            // While its memory is copied it stands still, and goes on afterwards.
            if (status == "postmigrate")
                return record.phase == VmState::running ? VmState::paused : VmState::suspending;
            return VmState::paused;
        default: return record.phase;
    }
}

void save_record(const std::string& directory, const VmRecord& record) {
    auto refuse = [&](const std::string& what) {
        throw Error(
            Errc::store,
            "the record of VM " + record.spec.id.value + " cannot be written: " + what + ": " + std::strerror(errno),
            {{"vm", record.spec.id.value}});
    };
    auto text = to_text(record);
    auto target = std::filesystem::path(directory) / file_name::record;
    auto scratch = target.string() + ".new";
    int fd = ::open(scratch.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) refuse(scratch);
    bool good = ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()) && ::fdatasync(fd) == 0;
    ::close(fd);
    if (!good) refuse("write");
    if (::rename(scratch.c_str(), target.c_str()) != 0) refuse("rename");
    // What a record says of a memory file must not be older than the file after a loss of power.
    int folder = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool synced = folder >= 0 && ::fsync(folder) == 0;
    if (folder >= 0) ::close(folder);
    if (!synced) refuse("bringing the folder to disk");
}

std::optional<VmRecord> load_record(const std::string& directory) {
    std::ifstream file(std::filesystem::path(directory) / file_name::record, std::ios::binary);
    if (!file) return std::nullopt;
    return record_from_text({std::istreambuf_iterator<char>(file), {}});
}

}  // namespace infrastructure_sdk::qemu
