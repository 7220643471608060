#pragma once
// So that a failed comparison shows the words of admission as documents.

#include <ostream>

#include <nlohmann/json.hpp>

#include <infrastructure_sdk/json.hpp>

namespace infrastructure_sdk {

inline void PrintTo(const Amounts& amounts, std::ostream* out) { *out << nlohmann::json(amounts).dump(); }
inline void PrintTo(const Limit& limit, std::ostream* out) { *out << nlohmann::json(limit).dump(); }
inline void PrintTo(const Reservation& reservation, std::ostream* out) { *out << nlohmann::json(reservation).dump(); }
inline void PrintTo(const Denial& denial, std::ostream* out) { *out << nlohmann::json(denial).dump(); }
inline void PrintTo(const UsageLine& line, std::ostream* out) { *out << nlohmann::json(line).dump(); }

}  // namespace infrastructure_sdk
