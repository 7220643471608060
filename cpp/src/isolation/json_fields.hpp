#pragma once
// Strict access to the fields of a document: a missing field or another type is no value.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace infrastructure_sdk::isolation::fields {

using Json = nlohmann::json;

inline const Json* at(const Json& object, const char* key) {
    if (!object.is_object()) return nullptr;
    auto it = object.find(key);
    return it == object.end() ? nullptr : &*it;
}

inline bool get(const Json& object, const char* key, std::string& into) {
    auto value = at(object, key);
    if (!value || !value->is_string()) return false;
    into = value->get<std::string>();
    return true;
}
inline bool get(const Json& object, const char* key, bool& into) {
    auto value = at(object, key);
    if (!value || !value->is_boolean()) return false;
    into = value->get<bool>();
    return true;
}
/// What was made here holds signed numbers where what was parsed has unsigned ones.
inline bool is_count(const Json& value) {
    return value.is_number_unsigned() || (value.is_number_integer() && value.get<std::int64_t>() >= 0);
}
inline bool get(const Json& object, const char* key, std::uint64_t& into) {
    auto value = at(object, key);
    if (!value || !is_count(*value)) return false;
    into = value->get<std::uint64_t>();
    return true;
}
inline bool get(const Json& object, const char* key, unsigned& into) {
    std::uint64_t wide = 0;
    if (!get(object, key, wide) || wide > 07777) return false;
    into = static_cast<unsigned>(wide);
    return true;
}
/// null is a value: "there is none".
template <class T>
bool get(const Json& object, const char* key, std::optional<T>& into) {
    auto value = at(object, key);
    if (value && value->is_null()) return into.reset(), true;
    T inner{};
    if (!get(object, key, inner)) return false;
    into = inner;
    return true;
}

/// Every element by `read`, or nothing.
template <class T, class F>
std::optional<std::vector<T>> each(const Json& list, F read) {
    if (!list.is_array()) return std::nullopt;
    std::vector<T> found;
    for (const auto& item : list) {
        T element{};
        if (!read(item, element)) return std::nullopt;
        found.push_back(std::move(element));
    }
    return found;
}

template <class T>
std::optional<std::map<std::string, T>> each_value(const Json& object) {
    if (!object.is_object()) return std::nullopt;
    std::map<std::string, T> found;
    for (const auto& [key, value] : object.items())
        if (!get(object, key.c_str(), found[key])) return std::nullopt;
    return found;
}

}  // namespace infrastructure_sdk::isolation::fields
