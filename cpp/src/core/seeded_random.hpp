#pragma once
// Random numbers for simulations: the same seed gives the same bytes everywhere. Not for secrets.

#include <infrastructure_sdk/clock.hpp>

namespace infrastructure_sdk {

/// SplitMix64 (Steele, Lea, Flood 2014).
class SeededRandom final : public Random {
public:
    explicit SeededRandom(std::uint64_t seed) : state_(seed) {}
    void fill(std::span<std::uint8_t> bytes) override {
        for (std::size_t i = 0; i < bytes.size(); i += 8) {
            auto word = next();
            for (std::size_t j = i; j < bytes.size() && j < i + 8; ++j, word >>= 8)
                bytes[j] = static_cast<std::uint8_t>(word);
        }
    }
    std::uint64_t next() {
        std::uint64_t z = (state_ += 0x9e3779b97f4a7c15ull);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
        return z ^ (z >> 31);
    }
    /// 0 to `below` - 1; the bias is below 2^-32 for what simulations ask.
    std::uint64_t below(std::uint64_t limit) { return limit ? next() % limit : 0; }
    /// True in `per_million` of a million cases.
    bool chance(std::uint32_t per_million) { return below(1'000'000) < per_million; }

private:
    std::uint64_t state_;
};

}  // namespace infrastructure_sdk
