#include <infrastructure_sdk/session/activity.hpp>

#include <array>

#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {

struct SignalRow {
    const char* name;
    bool presence;
};
constexpr std::array<SignalRow, activity_signal_count> signals{{{"connection", true},
                                                                {"input", false},
                                                                {"guest_cpu", false},
                                                                {"network", false},
                                                                {"disk", false},
                                                                {"users", true},
                                                                {"heartbeat", true},
                                                                {"exec", false},
                                                                {"hold", false},
                                                                {"touch", false}}};
constexpr std::array<const char*, 3> reading_names{"active", "quiet", "unknown"};

const SignalRow& row_of(ActivitySignal signal) { return signals[static_cast<std::size_t>(signal)]; }

}  // namespace

const char* name_of(ActivitySignal signal) noexcept { return row_of(signal).name; }
bool is_presence(ActivitySignal signal) noexcept { return row_of(signal).presence; }
const char* name_of(SignalReading::State state) noexcept { return reading_names[static_cast<std::size_t>(state)]; }

ActivitySignal parse_activity_signal(const std::string& name) {
    std::string allowed;
    for (std::size_t i = 0; i < signals.size(); ++i) {
        if (name == signals[i].name) return static_cast<ActivitySignal>(i);
        allowed += (i ? ", " : "") + std::string(signals[i].name);
    }
    throw Error(Errc::validation, "unknown activity signal '" + name + "'; allowed: " + allowed,
                {{"field", "signal"}, {"value", name}, {"allowed", allowed}});
}

}  // namespace infrastructure_sdk
