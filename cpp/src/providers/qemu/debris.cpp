#include "providers/qemu/debris.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "providers/qemu/command_line.hpp"
#include "providers/qemu/process.hpp"
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk::qemu {
namespace fs = std::filesystem;
namespace {

const std::string in_guest = std::string(file_name::guest) + "/";
const std::string in_tpm = in_guest + file_name::tpm + "/";

bool is_own_file(const std::string& name) {
    static const std::array<std::string, 2> outside{file_name::record, std::string(file_name::record) + ".new"};
    static const std::array<std::string, 11> inside{
        file_name::disk, file_name::memory, file_name::serial, file_name::log,      file_name::qmp,    file_name::agent,
        file_name::vnc,  file_name::screen, file_name::base,   file_name::firmware, file_name::tpm_log};
    // What swtpm writes in its folder.
    if (name.starts_with(in_tpm)) return name.back() != '/';
    if (name.starts_with(in_guest))
        return std::find(inside.begin(), inside.end(), name.substr(in_guest.size())) != inside.end();
    return std::find(outside.begin(), outside.end(), name) != outside.end();
}

bool begins_with_own_prefix(const std::string& name) {
    for (const std::string prefix : {scratch_prefix, removed_prefix})
        if (name.starts_with(prefix) && is_uuid(name.substr(prefix.size()))) return true;
    return false;
}

std::string uuid_in(const std::string& name) { return name.size() < 36 ? name : name.substr(name.size() - 36); }

/// The names in a folder, with that prefix; the guest folder and the TPM's in it are looked into.
void list_files(const fs::path& folder, const std::string& prefix, std::vector<std::string>& names) {
    std::error_code error;
    for (const auto& file : fs::directory_iterator(folder, error)) {
        auto type = file.symlink_status(error).type();
        auto name = prefix + file.path().filename().string();
        if (type == fs::file_type::directory && (name == file_name::guest || name + "/" == in_tpm)) {
            list_files(file.path(), name + "/", names);
            continue;
        }
        bool plain = type == fs::file_type::regular || type == fs::file_type::socket || type == fs::file_type::fifo;
        names.push_back(name + (plain ? "" : "/"));
    }
    // What could not be read is not known to be ours.
    if (error) names.push_back("?/");
}

FolderEntry look_at(const fs::path& path) {
    FolderEntry entry;
    entry.name = path.filename().string();
    std::error_code error;
    entry.directory = fs::symlink_status(path, error).type() == fs::file_type::directory;
    if (!entry.directory) return entry;
    list_files(path, "", entry.files);
    bool record = std::find(entry.files.begin(), entry.files.end(), file_name::record) != entry.files.end();
    if (!record || !is_uuid(entry.name)) entry.process = find_vm_process(uuid_in(entry.name)).has_value();
    return entry;
}

[[noreturn]] void refuse_removal(const std::string& path, const std::string& why) {
    throw Error(Errc::store, "the folder of a VM cannot be removed: " + why, {{"path", path}});
}

/// @throws Error(provider)
void need_end(const ProcessIdentity& process, int patience_ms) {
    if (!end_process(process, patience_ms))
        throw Error(Errc::provider, "the process of VM " + process.vm_uuid + " did not end", {{"vm", process.vm_uuid}});
}

/// swtpm ends with its VM; this waits for it. It does not name its VM, but it runs in its folder.
void await_tpm(const fs::path& guest, const std::string& uuid) {
    std::error_code error;
    for (const auto& entry : fs::directory_iterator("/proc", error)) {
        auto name = entry.path().filename().string();
        if (name.find_first_not_of("0123456789") != std::string::npos) continue;
        std::error_code unreadable;
        if (fs::read_symlink(entry.path() / "cwd", unreadable) != guest || unreadable) continue;
        auto pid = std::stoll(name);
        constexpr int own_end_patience_ms = 2'000;
        if (auto started = start_time_ticks(pid)) end_process({boot_id(), pid, *started, uuid}, own_end_patience_ms);
    }
}

}  // namespace

bool is_uuid(const std::string& text) {
    if (text.size() != 36) return false;
    for (std::size_t i = 0; i < text.size(); ++i) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        bool hex = (text[i] >= '0' && text[i] <= '9') || (text[i] >= 'a' && text[i] <= 'f');
        if (dash ? text[i] != '-' : !hex) return false;
    }
    return true;
}

Debris judge(const FolderEntry& entry) {
    if (!entry.directory) return Debris::leave;
    if (is_uuid(entry.name) &&
        std::find(entry.files.begin(), entry.files.end(), file_name::record) != entry.files.end())
        return Debris::vm;
    bool named = is_uuid(entry.name) || begins_with_own_prefix(entry.name);
    bool ours = named && std::all_of(entry.files.begin(), entry.files.end(), is_own_file);
    return ours && !entry.process ? Debris::remove : Debris::leave;
}

std::vector<std::string> sweep(const std::string& folder) {
    std::vector<std::string> left;
    std::error_code error;
    for (const auto& path : fs::directory_iterator(folder, error)) {
        auto entry = look_at(path.path());
        auto verdict = judge(entry);
        if (verdict == Debris::remove) fs::remove_all(path.path(), error);
        if (verdict == Debris::leave || (verdict == Debris::remove && error)) left.push_back(entry.name);
    }
    std::sort(left.begin(), left.end());
    return left;
}

std::string set_folder_aside(const std::string& directory) {
    fs::path path(directory);
    auto aside = path.parent_path() / (removed_prefix + path.filename().string());
    std::error_code error;
    fs::remove_all(aside, error);
    fs::rename(path, aside, error);
    if (error) refuse_removal(directory, error.message());
    return aside.string();
}

void remove_set_aside(const std::string& directory) {
    std::error_code error;
    fs::remove_all(directory, error);
    if (error) refuse_removal(directory, error.message());
}

void remove_without_record(const std::string& directory, const std::string& uuid) {
    if (auto process = find_vm_process(uuid)) {
        std::error_code error;
        auto place = fs::read_symlink("/proc/" + std::to_string(process->pid) + "/cwd", error);
        if (error || place != fs::weakly_canonical(fs::path(directory) / file_name::guest, error))
            throw Error(Errc::provider,
                        "process " + std::to_string(process->pid) + " calls itself VM " + uuid +
                            " but does not run in its folder; it is left alone",
                        {{"vm", uuid}, {"reason", "IdentityMismatch"}});
        need_end(*process, 0);
    }
    await_tpm(fs::weakly_canonical(fs::path(directory) / file_name::guest), uuid);
    std::error_code error;
    if (fs::exists(directory, error)) remove_set_aside(set_folder_aside(directory));
}

}  // namespace infrastructure_sdk::qemu
