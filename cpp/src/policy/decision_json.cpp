// Requests and decisions as JSON.

#include <cmath>
#include <set>

#include <nlohmann/json.hpp>

#include <infrastructure_sdk/error.hpp>

#include "policy/decision_fields.hpp"
#include "policy/shallow_json.hpp"

namespace infrastructure_sdk {
namespace {

using nlohmann::json;

constexpr double longest_seconds = 9e9;  // of 64-bit nanoseconds

json write(const std::string& value) { return value; }
json write(double value) { return value; }
json write(std::int64_t value) { return value; }
json write(bool value) { return value; }
json write(WallTime value) { return to_rfc3339(value); }
json write(Duration value) { return std::chrono::duration<double>(value).count(); }
json write(SessionAction value) { return name_of(value); }
json write(AdmitDecision::Action value) { return name_of(value); }
json write(const std::map<std::string, std::string>& value) { return value; }
json write(const std::vector<std::string>& value) { return value; }
template <class T>
json write(const std::optional<T>& value) {
    return value ? write(*value) : json();
}

struct Writer {
    json& document;
    template <class T>
    void operator()(const char* name, const T& value) {
        document[name] = written(value);
    }
    template <class T>
    static json written(const T& value) {
        if constexpr (requires(Writer& visit) { policy::fields(visit, value); }) {
            auto inner = json::object();
            Writer visit{inner};
            policy::fields(visit, value);
            return inner;
        } else {
            return write(value);
        }
    }
    static json written(const std::vector<PlaceCandidate>& values) {
        auto list = json::array();
        for (const auto& value : values) list.push_back(written(value));
        return list;
    }
};

std::string one_line(const json& document) { return document.dump(-1, ' ', false, json::error_handler_t::replace); }

/// Where a value stands and what it may be.
[[noreturn]] void refuse(const std::string& field, const json& value, const std::string& allowed) {
    auto text = one_line(value).substr(0, 200);
    throw Error(Errc::validation, field + ": " + text + " is not allowed; " + allowed,
                {{"field", field}, {"value", text}, {"allowed", allowed}});
}

template <class T>
struct Tag {};

/// Reads the fields of one object; each is optional.
struct Reader {
    const json& document;
    std::string path;
    std::set<std::string> known = {};

    template <class T>
    void operator()(const char* name, T& value) {
        known.insert(name);
        auto it = document.find(name);
        if (it != document.end()) value = read(Tag<T>{}, path.empty() ? std::string(name) : path + "." + name, *it);
    }

    void refuse_others() const {
        std::string allowed;
        for (const auto& name : known) allowed += (allowed.empty() ? "" : ", ") + name;
        for (const auto& [name, value] : document.items())
            if (!known.contains(name))
                refuse(path.empty() ? name : path + "." + name, value, "there is no such field: " + allowed);
    }

    template <class T>
    static T object(const std::string& path, const json& value) {
        if (!value.is_object()) refuse(path, value, "an object");
        T result;
        Reader visit{value, path};
        policy::fields(visit, result);
        visit.refuse_others();
        return result;
    }

    static std::string read(Tag<std::string>, const std::string& path, const json& value) {
        if (!value.is_string()) refuse(path, value, "a text");
        return value.get<std::string>();
    }
    static double read(Tag<double>, const std::string& path, const json& value) {
        if (!value.is_number()) refuse(path, value, "a number");
        return value.get<double>();
    }
    static std::int64_t read(Tag<std::int64_t>, const std::string& path, const json& value) {
        const bool fits = value.is_number_integer() &&
                          (!value.is_number_unsigned() || value.get<std::uint64_t>() <= std::uint64_t(INT64_MAX));
        if (!fits) refuse(path, value, "a whole number");
        return value.get<std::int64_t>();
    }
    static bool read(Tag<bool>, const std::string& path, const json& value) {
        if (!value.is_boolean()) refuse(path, value, "true, false");
        return value.get<bool>();
    }
    static WallTime read(Tag<WallTime>, const std::string& path, const json& value) {
        try {
            if (value.is_string()) return parse_rfc3339(value.get<std::string>());
        } catch (const Error&) {
        }
        refuse(path, value, "an RFC 3339 time in UTC");
    }
    static Duration read(Tag<Duration>, const std::string& path, const json& value) {
        const auto seconds = value.is_number() ? value.get<double>() : NAN;
        if (!(std::abs(seconds) <= longest_seconds)) refuse(path, value, "seconds, at most 9e9");
        return Duration(std::llround(seconds * 1e9));
    }
    template <class Enum, class Parse>
    static Enum word(const std::string& path, const json& value, Parse parse) {
        if (!value.is_string()) refuse(path, value, "a text");
        try {
            return parse(value.get<std::string>());
        } catch (const Error& error) {
            refuse(path, value, error.context().at("allowed"));
        }
    }
    static SessionAction read(Tag<SessionAction>, const std::string& path, const json& value) {
        return word<SessionAction>(path, value, parse_session_action);
    }
    static AdmitDecision::Action read(Tag<AdmitDecision::Action>, const std::string& path, const json& value) {
        return word<AdmitDecision::Action>(path, value, parse_admit_action);
    }
    static std::map<std::string, std::string> read(Tag<std::map<std::string, std::string>>, const std::string& path,
                                                   const json& value) {
        if (!value.is_object()) refuse(path, value, "an object of texts");
        std::map<std::string, std::string> found;
        for (const auto& [key, item] : value.items()) found[key] = read(Tag<std::string>{}, path + "." + key, item);
        return found;
    }
    template <class T>
    static std::vector<T> read(Tag<std::vector<T>>, const std::string& path, const json& value) {
        if (!value.is_array()) refuse(path, value, "a list");
        std::vector<T> found;
        for (const auto& item : value) found.push_back(read(Tag<T>{}, path + "." + std::to_string(found.size()), item));
        return found;
    }
    template <class T>
    static std::optional<T> read(Tag<std::optional<T>>, const std::string& path, const json& value) {
        if (value.is_null()) return std::nullopt;
        return read(Tag<T>{}, path, value);
    }
    static PolicySession read(Tag<PolicySession>, const std::string& path, const json& value) {
        return object<PolicySession>(path, value);
    }
    static PolicyUsage read(Tag<PolicyUsage>, const std::string& path, const json& value) {
        return object<PolicyUsage>(path, value);
    }
    static PlaceCandidate read(Tag<PlaceCandidate>, const std::string& path, const json& value) {
        return object<PlaceCandidate>(path, value);
    }
};

json parse_object(const std::string& text, const char* what) {
    auto document = policy::parse_shallow_json(text);
    if (!document.is_object())
        throw Error(Errc::validation, std::string(what) + ": it is not a JSON object of at most 32 levels",
                    {{"field", what}, {"value", text.substr(0, 200)}, {"allowed", "a JSON object, 32 levels deep"}});
    return document;
}

template <std::size_t at = 0>
PolicyRequest request_at(std::size_t point, const json& document) {
    if constexpr (at + 1 < decision_point_count)
        if (point != at) return request_at<at + 1>(point, document);
    return Reader::object<std::variant_alternative_t<at, PolicyRequest>>("", document);
}

}  // namespace

std::string to_json(const PolicyRequest& request) {
    auto document = std::visit([](const auto& asked) { return Writer::written(asked); }, request);
    document["point"] = name_of(point_of(request));
    document["schema_version"] = policy_schema_version;
    return one_line(document);
}

std::string to_json(const PolicyDecision& decision) {
    return one_line(std::visit([](const auto& given) { return Writer::written(given); }, decision));
}

PolicyRequest policy_request_from_json(const std::string& text) {
    auto document = parse_object(text, "request");
    if (!document.contains("point")) refuse("point", json(), "the name of a decision point");
    auto point = Reader::word<DecisionPoint>("point", document["point"], parse_decision_point);
    const auto version = document.value("schema_version", json(policy_schema_version));
    if (!version.is_number_integer() || version < 1 || version > policy_schema_version)
        refuse("schema_version", version, "1 to " + std::to_string(policy_schema_version));
    document.erase("point");
    document.erase("schema_version");
    return request_at(static_cast<std::size_t>(point), document);
}

PolicyDecision policy_decision_from_json(DecisionPoint point, const std::string& text) {
    const auto document = parse_object(text, "decision");
    switch (point) {
        case DecisionPoint::admit: return Reader::object<AdmitDecision>("", document);
        case DecisionPoint::place: return Reader::object<PlaceDecision>("", document);
        case DecisionPoint::size: return Reader::object<SizeDecision>("", document);
        default: return Reader::object<SessionDecision>("", document);
    }
}

}  // namespace infrastructure_sdk
