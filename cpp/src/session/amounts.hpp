#pragma once
// One table of the resources that limits count: name, field, range and text form. Pure.

#include <array>
#include <cstdint>
#include <string>

#include <infrastructure_sdk/session/limits.hpp>

namespace infrastructure_sdk {

constexpr std::array<LimitResource, 7> limit_resources{
    LimitResource::sessions,       LimitResource::cpu, LimitResource::memory,
    LimitResource::disk,           LimitResource::gpu, LimitResource::money_per_hour,
    LimitResource::money_per_month};

/// Subjects before the host: who is above a quota of his own is told so, not that the host is full.
constexpr std::array<LimitScope, 4> limit_scopes{LimitScope::user, LimitScope::tenant, LimitScope::template_,
                                                 LimitScope::host};

bool is_money(LimitResource resource);
bool is_count(LimitResource resource);

/// "3", "500m", "8Gi", "0.50": as in a limits document, without quotes.
std::string amount_text(LimitResource resource, std::int64_t amount);

/// @param field named in the error. @throws Error(validation)
std::int64_t parse_amount(LimitResource resource, const std::string& text, const std::string& field);

/// @throws Error(validation) when an amount is negative or more than `parse_amount` can give.
void require_amount(LimitResource resource, std::int64_t amount, const std::string& field);
void require_amounts(const Amounts& amounts);

}  // namespace infrastructure_sdk
