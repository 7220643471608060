#include "session/console_tokens.hpp"

#include <array>

#include "core/sha256.hpp"

namespace infrastructure_sdk {

Secret ConsoleTokens::issue(ConsoleGrant grant, Random& random, MonotonicTime now) {
    constexpr std::size_t most = 64;
    std::erase_if(grants_, [now](const auto& entry) { return entry.second.expires <= now; });
    std::size_t out = 0;
    auto first = grants_.end();
    for (auto it = grants_.begin(); it != grants_.end(); ++it) {
        if (it->second.session != grant.session) continue;
        ++out;
        if (first == grants_.end() || it->second.expires < first->second.expires) first = it;
    }
    if (out >= most) grants_.erase(first);
    std::array<std::uint8_t, 32> bytes{};
    random.fill(bytes);
    std::string text;
    for (auto byte : bytes)
        for (auto half : {byte >> 4, byte & 0xf}) text += "0123456789abcdef"[half];
    grants_[sha256_hex(text)] = std::move(grant);
    return Secret(std::move(text));
}

std::optional<ConsoleGrant> ConsoleTokens::redeem(const Secret& token, const std::string& session,
                                                  const std::string& execution, MonotonicTime now) {
    auto found = grants_.extract(sha256_hex(token.reveal()));
    if (found.empty()) return std::nullopt;
    auto& grant = found.mapped();
    if (grant.session != session || grant.execution != execution || grant.expires <= now) return std::nullopt;
    return std::move(grant);
}

}  // namespace infrastructure_sdk
