#pragma once
// Kubernetes quantities, exact: "500m", "2", "4Gi", "1e3", "1.5G".

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

namespace infrastructure_sdk {

/// A non-negative number held in thousandths, exactly. Range 0 .. 9.2e15 units.
class Quantity {
public:
    constexpr Quantity() = default;
    static constexpr Quantity from_milli(std::int64_t milli) {
        Quantity q;
        q.milli_ = milli;
        return q;
    }
    static Quantity from_units(std::int64_t units);

    /// @param field named in the error.
    /// @throws Error(validation) when outside the grammar, negative, finer than 1/1000 or out of range.
    static Quantity parse(std::string_view text, std::string_view field = "quantity");

    constexpr std::int64_t milli() const { return milli_; }
    /// Rounded up, as Kubernetes' Value().
    constexpr std::int64_t value() const { return milli_ / 1000 + (milli_ % 1000 != 0 ? 1 : 0); }
    /// Canonical: binary suffix if it divides exactly and is at least 1Ki, else decimal, else "m".
    std::string to_string() const;

    friend constexpr auto operator<=>(const Quantity&, const Quantity&) = default;

private:
    std::int64_t milli_ = 0;
};

}  // namespace infrastructure_sdk
