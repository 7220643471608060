#pragma once
// The port of a VM's network card, by QEMU's own filters: two mirrors bring copies of what passes, and a redirector
// takes what is put in. Source: qemu.org/docs/master/system/invocation.html, "filter-mirror", "filter-redirector".

#include <memory>
#include <string>
#include <vector>

#include "providers/qemu/qmp_client.hpp"
#include <infrastructure_sdk/vm/evidence_source.hpp>

namespace infrastructure_sdk::qemu {

/// Cuts the stream of a mirror into frames: a length, the length of the virtio header in front of the frame, both, the
/// frame. Pure.
class FrameSplitter {
public:
    /// Frames without their virtio header.
    std::vector<std::string> feed(const std::string& bytes);
    /// What came is no stream of frames; nothing more is given out.
    bool broken() const { return broken_; }
    /// Of the last frame; nullopt before the first.
    std::optional<std::size_t> header_bytes() const { return header_; }

private:
    std::string rest_;
    std::optional<std::size_t> header_;
    bool broken_ = false;
};
/// A frame as the redirector takes it.
std::string framed(const std::string& frame, std::size_t header_bytes);

/// Removes whatever of a port is there, e.g. that of an owner who died. A VM that is gone has nothing.
Task<void> clear_probe_port(Environment environment, std::shared_ptr<QmpClient> client);

/// One at a time for each VM: what a port that was never closed left behind is removed first.
/// @throws Error(provider) with QEMU's words, e.g. when the VM has no card; what QmpClient throws
Task<std::shared_ptr<ProbePort>> open_probe_port(Environment environment, std::shared_ptr<QmpClient> client, Call call);

}  // namespace infrastructure_sdk::qemu
