#include <infrastructure_sdk/vm/guest_agent.hpp>

#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {

Error lacking(const char* what) {
    return Error(Errc::unsupported, std::string("this guest's agent cannot ") + what, {{"capability", "guest_exec"}});
}

}  // namespace

Task<std::shared_ptr<GuestProcess>> GuestAgent::start(ExecRequest, Call) {
    throw lacking("follow a command");
    co_return nullptr;
}

Task<std::string> GuestAgent::read_file_part(std::string, std::uint64_t, std::size_t, Call) {
    throw lacking("read a part of a file");
    co_return std::string();
}

Task<void> GuestAgent::write_file_part(std::string, std::uint64_t, std::string, Call) {
    throw lacking("write a part of a file");
    co_return;
}

Task<std::vector<GuestFileEntry>> GuestAgent::list_files(std::string, Call) {
    throw lacking("list a folder");
    co_return std::vector<GuestFileEntry>();
}

}  // namespace infrastructure_sdk
