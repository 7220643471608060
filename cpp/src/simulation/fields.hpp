#pragma once
// Reads the fields of a JSON object one by one; a wrong one is named with its value and what is allowed.

#include <algorithm>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "core/did_you_mean.hpp"
#include <infrastructure_sdk/clock.hpp>
#include <infrastructure_sdk/duration.hpp>
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {

[[noreturn]] inline void refuse_field(const std::string& field, const std::string& value, const std::string& allowed) {
    throw Error(Errc::validation, field + ": '" + value.substr(0, 200) + "' is not allowed; " + allowed,
                {{"field", field}, {"value", value.substr(0, 200)}, {"allowed", allowed}});
}

/// A time of the years that simulations know: nanoseconds in 64 bits end in 2262.
inline WallTime read_time(const std::string& field, const std::string& text) {
    const auto year = text.substr(0, 4);
    if (text.size() > 4 && text[4] == '-' && (year < "1970" || year > "2200"))
        refuse_field(field, text, "a year of 1970 to 2200 is needed");
    try {
        return parse_rfc3339(text);
    } catch (const Error&) {
        refuse_field(field, text, "a time such as \"2026-01-05T09:00:00Z\" is needed");
    }
}

class Fields {
public:
    /// @param where names the object in errors, such as "fleet"; it must outlive this.
    Fields(const nlohmann::json& object, std::string where) : object_(object), where_(std::move(where)) {
        if (!object.is_object()) refuse_field(where_, shown(object), "an object is needed");
    }

    /// The value under a key; nullptr when it is absent or null.
    const nlohmann::json* find(const char* key) {
        known_.emplace_back(key);
        auto it = object_.find(key);
        return it == object_.end() || it->is_null() ? nullptr : &*it;
    }
    std::string name(const char* key) const { return where_.empty() ? key : where_ + "." + key; }

    void read(const char* key, std::string& into) {
        if (const auto* value = find(key)) {
            if (!value->is_string()) refuse_field(name(key), shown(*value), "a text is needed");
            into = value->get<std::string>();
        }
    }
    void read(const char* key, bool& into) {
        if (const auto* value = find(key)) {
            if (!value->is_boolean()) refuse_field(name(key), shown(*value), "true or false is needed");
            into = value->get<bool>();
        }
    }
    void read(const char* key, Duration& into) {
        if (const auto* value = find(key)) {
            if (!value->is_string()) refuse_field(name(key), shown(*value), "a duration such as \"1h30m\" is needed");
            auto text = value->get<std::string>();
            const bool negative = text.starts_with("-");
            into = parse_duration(negative ? text.substr(1) : text, name(key));
            if (negative) into = -into;
        }
    }
    void read(const char* key, WallTime& into) {
        std::string text;
        read(key, text);
        if (text.empty()) return;
        into = read_time(name(key), text);
    }
    /// Of 0 to 1.
    void read_share(const char* key, double& into) {
        if (const auto* value = find(key)) {
            const bool fits = value->is_number() && value->get<double>() >= 0 && value->get<double>() <= 1;
            if (!fits) refuse_field(name(key), shown(*value), "a number of 0 to 1 is needed");
            into = value->get<double>();
        }
    }
    template <class Integer>
    void read_count(const char* key, Integer& into) {
        if (const auto* value = find(key)) {
            if (!value->is_number_unsigned()) refuse_field(name(key), shown(*value), "a whole number is needed");
            into = static_cast<Integer>(value->get<std::uint64_t>());
        }
    }

    /// Refuses what was not asked for.
    void finish() const {
        for (const auto& [key, value] : object_.items()) {
            if (std::find(known_.begin(), known_.end(), key) != known_.end()) continue;
            std::string allowed = "known fields:";
            for (const auto& name : known_) allowed += " " + name;
            if (auto guess = did_you_mean(key, known_); !guess.empty()) allowed += "; did you mean '" + guess + "'?";
            refuse_field(name(key.c_str()), shown(value), allowed);
        }
    }

    static std::string shown(const nlohmann::json& value) {
        return value.is_string() ? value.get<std::string>()
                                 : value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
    }

private:
    const nlohmann::json& object_;
    std::string where_;
    std::vector<std::string> known_;
};

/// @throws Error(validation) naming the text when it is not JSON.
inline nlohmann::json parse_object(std::string_view text, const std::string& what) {
    auto parsed = nlohmann::json::parse(text, nullptr, false);
    if (parsed.is_discarded()) refuse_field(what, std::string(text.substr(0, 80)), "a JSON object is needed");
    return parsed;
}

}  // namespace infrastructure_sdk
