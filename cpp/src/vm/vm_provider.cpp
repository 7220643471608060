#include <infrastructure_sdk/vm/vm_provider.hpp>

#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {

void VmProvider::check_spec(const VmSpec&) const {}
std::vector<VmPlace> VmProvider::places(const VmSpec&) const { return {}; }
void VmProvider::on_suspicion(std::function<void(VmId)>) {}
namespace {

Error no_snapshots(const Capabilities& capabilities) {
    return Error(Errc::unsupported, "provider " + capabilities.provider + " cannot take snapshots",
                 {{"capability", "snapshot"}});
}

Error no_encryption(const Capabilities& capabilities) {
    return Error(Errc::unsupported, "provider " + capabilities.provider + " encrypts nothing",
                 {{"capability", "encryption"}});
}

}  // namespace

Task<void> VmProvider::snapshot(VmId, std::string, SnapshotMode, Call) {
    throw no_snapshots(capabilities());
    co_return;
}

Task<std::optional<VmSnapshot>> VmProvider::inspect_snapshot(std::string, Call) { co_return std::nullopt; }

Task<std::vector<std::string>> VmProvider::list_snapshots(Call) { co_return std::vector<std::string>(); }

Task<GuestStreamPtr> VmProvider::open_port(VmId, std::uint16_t, Call) {
    throw Error(Errc::unsupported, "provider " + capabilities().provider + " cannot forward ports",
                {{"capability", "forward"}});
    co_return nullptr;
}

Task<void> VmProvider::assign(VmId, std::string, Call) { co_return; }

Task<KeyRotation> VmProvider::rotate_keys(std::string, Call) {
    throw no_encryption(capabilities());
    co_return KeyRotation();
}

Task<void> VmProvider::erase_keys(std::string, Call) {
    throw no_encryption(capabilities());
    co_return;
}

Task<std::vector<UserKeys>> VmProvider::list_keys(Call) {
    throw no_encryption(capabilities());
    co_return std::vector<UserKeys>();
}

Task<void> VmProvider::delete_snapshot(std::string, Call) { co_return; }

}  // namespace infrastructure_sdk
