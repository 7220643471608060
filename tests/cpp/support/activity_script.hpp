#pragma once
// Samples of a session that does what a test says.

#include <set>
#include <vector>

#include <infrastructure_sdk/session/activity.hpp>

namespace infrastructure_sdk::test {

/// What goes on during a step. Rates hold for the whole step; numbers of clients and so on are of its end.
struct Doing {
    double cpu = 0;      ///< % of one core
    double net = 0;      ///< B/s
    double disk = 0;     ///< B/s
    double input = 0;    ///< per minute
    double execs = 0;    ///< started per minute
    double touches = 0;  ///< per minute
    std::uint32_t clients = 0;
    std::uint32_t forwarded = 0;
    std::uint32_t users = 0;
    std::uint32_t exec = 0;
    std::uint32_t holds = 0;
    bool agent = false;
    std::set<ActivitySignal> unseen{};
};

class ActivityScript {
public:
    WallTime start() const { return start_; }
    Duration elapsed() const { return elapsed_; }
    /// Lets time pass.
    void pass(Duration step, const Doing& doing);
    /// A look at this moment; `doing` gives numbers of clients and what cannot be seen.
    ActivitySample look(const Doing& doing) const;
    /// `pass`, then `look`.
    ActivitySample step(Duration step, const Doing& doing);
    /// A look now, then one after each of `count` steps.
    std::vector<ActivitySample> looks(int count, Duration step, const Doing& doing);

    /// Another execution: its counters begin at 0.
    void restart();
    /// Counters of one signal begin at 0, in the same execution.
    void reset(ActivitySignal signal);

private:
    WallTime start_ = parse_rfc3339("2026-03-02T09:00:00Z");
    Duration elapsed_{};
    int execution_ = 1;
    double cpu_ns_ = 0, net_ = 0, disk_ = 0, input_ = 0, execs_ = 0, touches_ = 0;
};

}  // namespace infrastructure_sdk::test
