// Firmware variables and the TPM of a VM. swtpm is given one end of a socket pair and QEMU the other: there is no name
// to connect to, and whoever of the two is left ends when the other is gone, also when the owner dies between the two
// starts.

#include <cerrno>
#include <cstring>
#include <filesystem>

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "providers/qemu/command_line.hpp"
#include "providers/qemu/control_groups.hpp"
#include "providers/qemu/descriptors.hpp"
#include "providers/qemu/process.hpp"
#include "providers/qemu/provider.hpp"

namespace infrastructure_sdk::qemu {
namespace fs = std::filesystem;
namespace {

constexpr int own_end_patience_ms = 2'000;  // swtpm ends by itself as soon as QEMU has

void give_to(const std::optional<unsigned>& uid, const std::string& path, unsigned mode) {
    bool good = ::chmod(path.c_str(), mode) == 0 && (!uid || ::chown(path.c_str(), *uid, *uid) == 0);
    if (!good)
        throw Error(Errc::permission_denied,
                    "a file of a VM cannot be given to its uid: " + std::string(std::strerror(errno)),
                    {{"path", path}});
}

}  // namespace

void make_machine_files(VmRecord& record, const HostFacts& host, const std::string& guest) {
    if (const auto& files = host.files_for(record.spec.firmware); record.spec.firmware != Firmware::bios && files) {
        auto variables = guest + "/" + file_name::firmware;
        fs::copy_file(files->variables, variables);
        give_to(record.uid, variables, 0600);
        record.firmware_code = files->code;
    }
    if (record.spec.tpm) {
        auto folder = guest + "/" + file_name::tpm;
        fs::create_directory(folder);
        give_to(record.uid, folder, 0700);
    }
}

/// Starts swtpm. @returns the end of the socket pair that is QEMU's.
Task<int> QemuProvider::start_tpm(VmPtr vm) {
    auto self = shared_from_this();
    co_await end_tpm(vm);
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        throw Error(Errc::provider, std::string("a socket pair for the TPM: ") + std::strerror(errno));
    Descriptors theirs, for_qemu;
    theirs.add(ends[0]);
    for_qemu.add(ends[1]);
    Launch request;
    request.program = host_.tpm_program;
    request.arguments = tpm_command_line();
    request.directory = guest_folder(vm->directory);
    request.log_file = file_name::tpm_log;
    request.uid = vm->record.uid;
    request.descriptors.emplace_back(ends[0], inherited::tpm);
    Call no_limit;
    auto guard = co_await vm->writing.lock(*environment_.clock, no_limit, "saving a VM's record");
    auto record = vm->record;
    auto directory = vm->directory;
    // Who the process is stands on disk before it runs anything.
    auto work = [request, record, directory]() mutable {
        auto note = [&](int pid) {
            record.tpm_process =
                ProcessIdentity{boot_id(), pid, start_time_ticks(pid).value_or(0), record.spec.id.value};
            (void)join_groups(record.groups, pid);
            save_record(directory, record);
        };
        launch(request, note);
        return *record.tpm_process;
    };
    vm->record.tpm_process = co_await run_blocking(environment_.blocking, work);
    co_return for_qemu.release(ends[1]);
}

/// When it completes swtpm is gone, or was told so in the log.
Task<void> QemuProvider::end_tpm(VmPtr vm) {
    if (!vm->record.tpm_process) co_return;
    auto self = shared_from_this();
    auto identity = *vm->record.tpm_process;
    vm->record.tpm_process.reset();
    auto work = [identity] { return end_process(identity, own_end_patience_ms); };
    if (!co_await run_blocking(environment_.blocking, work))
        environment_.logger->log(LogLevel::error, "vm.qemu", "the TPM process of a VM did not end",
                                 {{"vm", identity.vm_uuid}, {"pid", std::to_string(identity.pid)}});
}

}  // namespace infrastructure_sdk::qemu
