#pragma once
// One sample measured against counters seen before. Numbers only: the detector decides on them, `describe` makes words.

#include <infrastructure_sdk/session/idleness.hpp>

namespace infrastructure_sdk {

/// How a value came about.
enum class MeasurementBasis {
    seen,
    absent,        ///< not in the sample
    first_look,    ///< nothing to compare with
    too_long_ago,  ///< the look before is further away than `longest_gap`
    went_back,     ///< the counter was restarted; its value is what happened since then at least
    no_time,       ///< both looks are of the same moment
};

struct Measurement {
    SignalReading::State state = SignalReading::State::unknown;
    MeasurementBasis basis = MeasurementBasis::absent;
    double amount = 0;    ///< per second, or a count
    Duration interval{};  ///< since the look before, where there is one
    /// The time since the look before is lost: the next look cannot cover it.
    bool lost() const {
        return basis == MeasurementBasis::first_look || basis == MeasurementBasis::too_long_ago ||
               basis == MeasurementBasis::went_back;
    }
};

using Counters = std::array<CounterMark, IdleMemory::counter_count>;
using Measurements = std::array<Measurement, activity_signal_count>;

Measurements measure(const Counters& before, const ActivitySample& now, const IdleThresholds& thresholds);

/// Counters that are absent keep their mark, so that the next look covers the hole.
void remember(Counters& counters, const ActivitySample& sample);

std::vector<SignalReading> describe(const Measurements& measurements, const ActivitySample& sample);

}  // namespace infrastructure_sdk
