#include "session/amounts.hpp"

#include <charconv>
#include <limits>

#include "core/money.hpp"
#include <infrastructure_sdk/quantity.hpp>

namespace infrastructure_sdk {
namespace {

enum class Form { count, cores, bytes, money };

constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();

struct Row {
    const char* name;
    std::int64_t Amounts::* field;
    Form form;
};
// In the order of the enum.
constexpr std::array<Row, 7> rows{{{"sessions", &Amounts::sessions, Form::count},
                                   {"cpu", &Amounts::cpu_milli, Form::cores},
                                   {"memory", &Amounts::memory_bytes, Form::bytes},
                                   {"disk", &Amounts::disk_bytes, Form::bytes},
                                   {"gpu", &Amounts::gpus, Form::count},
                                   {"money_per_hour", &Amounts::money_per_hour_micros, Form::money},
                                   {"money_per_month", &Amounts::money_per_month_micros, Form::money}}};
constexpr std::array<const char*, 4> scope_names{"user", "tenant", "host", "template"};

const Row& row(LimitResource resource) { return rows[static_cast<std::size_t>(resource)]; }

/// Quantity holds thousandths, so it has fewer bytes than 63 bits do.
constexpr std::int64_t most_of(Form form) { return form == Form::bytes ? most / 1000 : most; }

[[noreturn]] void reject(const std::string& field, const std::string& value, const char* why, const char* allowed) {
    throw Error(Errc::validation, field + ": '" + value + "' is not allowed (" + why + "); " + allowed,
                {{"field", field}, {"value", value}, {"allowed", allowed}});
}

std::int64_t parse_count(const std::string& text, const std::string& field) {
    std::int64_t count = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
    if (error != std::errc() || end != text.data() + text.size() || count < 0)
        reject(field, text, "it is not a count", "an integer of at least 0");
    return count;
}

}  // namespace

const char* name_of(LimitScope scope) noexcept { return scope_names[static_cast<std::size_t>(scope)]; }
const char* name_of(LimitResource resource) noexcept { return rows[static_cast<std::size_t>(resource)].name; }

bool is_money(LimitResource resource) { return row(resource).form == Form::money; }
bool is_count(LimitResource resource) { return row(resource).form == Form::count; }

std::string amount_text(LimitResource resource, std::int64_t amount) {
    switch (row(resource).form) {
        case Form::count: break;
        case Form::cores: return Quantity::from_milli(amount).to_string();
        case Form::bytes:
            // A sum may be more than a Quantity can hold.
            if (amount > most_of(Form::bytes)) break;
            return Quantity::from_units(amount).to_string();
        case Form::money: return money_text(amount);
    }
    return std::to_string(amount);
}

std::int64_t parse_amount(LimitResource resource, const std::string& text, const std::string& field) {
    switch (row(resource).form) {
        case Form::count: break;
        case Form::cores: return Quantity::parse(text, field).milli();
        case Form::bytes: {
            auto bytes = Quantity::parse(text, field).value();
            require_amount(resource, bytes, field);
            return bytes;
        }
        case Form::money: return parse_money(text, field);
    }
    return parse_count(text, field);
}

void require_amount(LimitResource resource, std::int64_t amount, const std::string& field) {
    constexpr const char* allowed = "an amount of at least 0";
    if (amount < 0) reject(field, std::to_string(amount), "it is negative", allowed);
    if (amount > most_of(row(resource).form)) reject(field, std::to_string(amount), "it is out of range", allowed);
}

void require_amounts(const Amounts& amounts) {
    for (auto resource : limit_resources) require_amount(resource, amounts.of(resource), name_of(resource));
}

std::int64_t& Amounts::of(LimitResource resource) { return this->*row(resource).field; }
std::int64_t Amounts::of(LimitResource resource) const { return this->*row(resource).field; }

Amounts& Amounts::operator+=(const Amounts& other) {
    Amounts sum;
    for (const auto& [name, field, form] : rows) {
        constexpr const char* allowed = "a sum of amounts of at least 0";
        if (this->*field < 0 || other.*field < 0) reject(name, std::to_string(other.*field), "it is negative", allowed);
        if (this->*field > most - other.*field)
            reject(name, std::to_string(other.*field), "the sum is out of range", allowed);
        sum.*field = this->*field + other.*field;
    }
    return *this = sum;
}

Amounts& Amounts::operator-=(const Amounts& other) {
    Amounts rest;
    for (const auto& [name, field, form] : rows) {
        constexpr const char* allowed = "an amount of at least 0 that is no more than there is";
        if (this->*field < 0 || other.*field < 0) reject(name, std::to_string(other.*field), "it is negative", allowed);
        if (other.*field > this->*field) reject(name, std::to_string(other.*field), "there is less", allowed);
        rest.*field = this->*field - other.*field;
    }
    return *this = rest;
}

std::partial_ordering operator<=>(const Amounts& left, const Amounts& right) {
    auto order = std::partial_ordering::equivalent;
    for (const auto& [name, field, form] : rows) {
        std::partial_ordering here = left.*field <=> right.*field;
        if (here == 0) continue;
        if (order != 0 && order != here) return std::partial_ordering::unordered;
        order = here;
    }
    return order;
}

}  // namespace infrastructure_sdk
