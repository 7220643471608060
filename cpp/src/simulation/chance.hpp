#pragma once
// Draws in whole numbers: no library's distribution and no rounding of a machine changes them.

#include <algorithm>

#include "core/seeded_random.hpp"

namespace infrastructure_sdk {

/// The seed of one stream of many. Streams whose seeds lie a multiple of SplitMix64's own increment apart would be one
/// stream, shifted; so another multiplier is used and what comes of it is mixed.
inline std::uint64_t stream_seed(std::uint64_t seed, std::uint64_t number) {
    return SeededRandom(SeededRandom(seed).next() + 0xd1342543de82ef95ull * (number + 1)).next();
}

class Chance {
public:
    explicit Chance(std::uint64_t seed) : random_(seed) {}

    /// True in this share of the cases, to the millionth.
    bool share(double of_one) { return random_.chance(static_cast<std::uint32_t>(of_one * 1'000'000 + 0.5)); }
    /// -spread .. spread, most often near 0.
    Duration around_zero(Duration spread) {
        // Named, as the order of two draws in one expression is the compiler's choice.
        const auto more = part_of(spread, random_.next());
        const auto less = part_of(spread, random_.next());
        return more - less;
    }
    /// Exponential (von Neumann 1951: compares uniform numbers only), between a tenth and five times of its mean.
    Duration exponential(Duration mean) {
        std::int64_t whole = 0;
        for (;;) {
            const auto first = random_.next();
            bool odd = true;
            for (auto last = first, next = random_.next(); next < last; last = next, next = random_.next()) odd = !odd;
            if (!odd) {
                ++whole;
                continue;
            }
            const auto drawn = mean * std::min<std::int64_t>(whole, 5) + part_of(mean, first);
            return std::clamp(drawn, mean / 10, mean * 5);
        }
    }

private:
    /// length * fraction / 2^64
    static Duration part_of(Duration length, std::uint64_t fraction) {
        __extension__ using Wide = unsigned __int128;
        const auto product = static_cast<Wide>(static_cast<std::uint64_t>(length.count())) * fraction;
        return Duration(static_cast<std::int64_t>(product >> 64));
    }

    SeededRandom random_;
};

}  // namespace infrastructure_sdk
