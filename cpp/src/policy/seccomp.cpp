#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstring>
#include <string>
#include <vector>

#include <grp.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <infrastructure_sdk/error.hpp>
#include <infrastructure_sdk/policy/process_host.hpp>

namespace infrastructure_sdk {
namespace {

#if defined(__x86_64__)
constexpr unsigned architecture = AUDIT_ARCH_X86_64;
constexpr unsigned foreign_bit = 0x40000000;  // the x32 numbers
#elif defined(__aarch64__)
constexpr unsigned architecture = AUDIT_ARCH_AARCH64;
constexpr unsigned foreign_bit = 0;
#else
constexpr unsigned architecture = 0;
constexpr unsigned foreign_bit = 0;
#endif

using Program = std::vector<sock_filter>;

void load(Program& program, std::size_t offset) {
    program.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<unsigned>(offset)));
}
void answer(Program& program, unsigned with) { program.push_back(BPF_STMT(BPF_RET | BPF_K, with)); }

void load_argument(Program& program, unsigned number) {
    load(program, offsetof(seccomp_data, args) + number * sizeof(std::uint64_t));  // the low half: little endian
}

void allow(Program& program, long call) {
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(call), 0, 1));
    answer(program, SECCOMP_RET_ALLOW);
}

/// The call if its argument is `value`; else EPERM.
void allow_where_equal(Program& program, long call, unsigned argument, unsigned value) {
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(call), 0, 4));
    load_argument(program, argument);
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1));
    answer(program, SECCOMP_RET_ALLOW);
    answer(program, SECCOMP_RET_ERRNO | EPERM);
}

/// The call if none of these bits is set in its argument; else EPERM.
void allow_without_bits(Program& program, long call, unsigned argument, unsigned bits) {
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(call), 0, 4));
    load_argument(program, argument);
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, bits, 1, 0));
    answer(program, SECCOMP_RET_ALLOW);
    answer(program, SECCOMP_RET_ERRNO | EPERM);
}

/// Memory that is no file and holds no code; else EPERM.
void allow_plain_memory(Program& program) {
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(SYS_mmap), 0, 6));
    load_argument(program, 2);
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 3, 0));
    load_argument(program, 3);
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, MAP_ANONYMOUS, 0, 1));
    answer(program, SECCOMP_RET_ALLOW);
    answer(program, SECCOMP_RET_ERRNO | EPERM);
}

Program make_filter(int socket) {
    Program program;
    load(program, offsetof(seccomp_data, arch));
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, architecture, 1, 0));
    answer(program, SECCOMP_RET_KILL_PROCESS);
    load(program, offsetof(seccomp_data, nr));
    if (foreign_bit != 0) {
        program.push_back(BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, foreign_bit, 0, 1));
        answer(program, SECCOMP_RET_KILL_PROCESS);
    }
    for (long call : {SYS_munmap, SYS_mremap, SYS_madvise, SYS_brk, SYS_futex, SYS_rt_sigprocmask, SYS_rt_sigreturn,
                      SYS_exit, SYS_exit_group})
        allow(program, call);
    auto descriptor = static_cast<unsigned>(socket);
    allow_where_equal(program, SYS_read, 0, descriptor);
    allow_where_equal(program, SYS_write, 0, descriptor);
    allow_plain_memory(program);
    allow_without_bits(program, SYS_mprotect, 2, PROT_EXEC);
    answer(program, SECCOMP_RET_ERRNO | EPERM);
    return program;
}

[[noreturn]] void refuse(const char* step, int code) {
    throw Error(Errc::unsupported, std::string("no sandbox for policies: ") + step + ": " + std::strerror(code),
                {{"capability", "seccomp"}});
}

/// The kernel forgets whom to die with when the user changes.
void stop_being_root() {
    constexpr uid_t nobody = 65534;
    if (::geteuid() != 0) return;
    if (::setgroups(0, nullptr) != 0) refuse("setgroups", errno);
    if (::setresgid(nobody, nobody, nobody) != 0) refuse("setresgid", errno);
    if (::setresuid(nobody, nobody, nobody) != 0) refuse("setresuid", errno);
    if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) refuse("parent_death", errno);
}

}  // namespace

void enter_policy_sandbox(int socket) {
    if (architecture == 0) refuse("this processor", ENOSYS);
    stop_being_root();
    auto program = make_filter(socket);
    sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) refuse("no_new_privs", errno);
    if (::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) refuse("seccomp", errno);
}

}  // namespace infrastructure_sdk
