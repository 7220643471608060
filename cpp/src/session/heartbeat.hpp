#pragma once
// Whether a guest's agent is there. Pure.

#include <optional>

namespace infrastructure_sdk {

/// Takes in what each look at a guest found. A single silence is none: a busy guest may miss one.
class Heartbeat {
public:
    static constexpr unsigned silent_looks = 3;  ///< in a row, until it counts as silent

    /// @param answered nullopt = nobody asked it
    /// @returns true = it answers, false = it has been silent for long enough; nullopt = not known
    std::optional<bool> hear(std::optional<bool> answered) {
        if (!answered) return std::nullopt;
        silent_ = *answered ? 0 : silent_ + 1;
        if (*answered) return true;
        return silent_ >= silent_looks ? std::optional(false) : std::nullopt;
    }

private:
    unsigned silent_ = 0;
};

}  // namespace infrastructure_sdk
