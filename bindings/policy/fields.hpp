#pragma once
// How the fields of frozen classes are shown to Python and taken from it. All of it needs the GIL.

#include "policy/frozen.hpp"
#include "policy/values.hpp"

namespace pybind11::detail {
/// In sequences.
template <>
struct type_caster<infrastructure_sdk::PlaceCandidate> {
    PYBIND11_TYPE_CASTER(infrastructure_sdk::PlaceCandidate, const_name("PlaceCandidate"));
    bool load(handle source, bool) {
        const auto* found = infrastructure_sdk::bindings::frozen_value<infrastructure_sdk::PlaceCandidate>(source);
        if (found) value = *found;
        return found != nullptr;
    }
};
}  // namespace pybind11::detail

namespace infrastructure_sdk::bindings {

/// Shown as itself, within what it is a field of.
template <class T>
concept FrozenPart = std::is_same_v<T, PolicySession> || std::is_same_v<T, PolicyUsage>;

inline pybind11::object show(const std::string& text) {
    auto* made = PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "replace");
    if (!made) throw pybind11::error_already_set();
    return pybind11::reinterpret_steal<pybind11::object>(made);
}
inline pybind11::object show(double value) { return pybind11::float_(value); }
inline pybind11::object show(std::int64_t value) { return pybind11::int_(value); }
inline pybind11::object show(bool value) { return pybind11::bool_(value); }
inline pybind11::object show(WallTime time) { return to_datetime(time); }
inline pybind11::object show(Duration length) { return pybind11::float_(to_seconds(length)); }
inline pybind11::object show_name(const char* name) {
    return pybind11::reinterpret_steal<pybind11::object>(PyUnicode_InternFromString(name));
}
inline pybind11::object show(SessionAction action) { return show_name(name_of(action)); }
inline pybind11::object show(AdmitDecision::Action action) { return show_name(name_of(action)); }
inline pybind11::object show(const PlaceCandidate& candidate) { return to_frozen(candidate); }
pybind11::object show(const std::map<std::string, std::string>& map);
template <class T>
pybind11::object show(const std::vector<T>& items) {
    pybind11::tuple tuple(items.size());
    for (std::size_t i = 0; i < items.size(); ++i) tuple[i] = show(items[i]);
    return tuple;
}
template <class T>
pybind11::object show(const std::optional<T>& value) {
    return value ? show(*value) : pybind11::none();
}

// False = it has another type. @throws Error(validation) naming the field, or Python's ValueError.
template <class T>
bool take(pybind11::handle given, T& value, const char*) {
    pybind11::detail::make_caster<T> caster;
    if (!caster.load(given, true)) return false;
    value = pybind11::detail::cast_op<T>(std::move(caster));
    return true;
}
template <FrozenPart T>
bool take(pybind11::handle given, T& value, const char*) {
    const auto* found = frozen_value<T>(given);
    if (found) value = *found;
    return found != nullptr;
}
inline bool take(pybind11::handle given, WallTime& value, const char*) { return from_datetime(given, value); }
inline bool take(pybind11::handle given, Duration& value, const char* field) {
    double seconds = 0;
    if (!take(given, seconds, field)) return false;
    value = from_seconds(seconds, field);
    return true;
}
inline bool take(pybind11::handle given, SessionAction& value, const char* field) {
    std::string name;
    if (!take(given, name, field)) return false;
    value = parse_session_action(name);
    return true;
}
inline bool take(pybind11::handle given, AdmitDecision::Action& value, const char* field) {
    std::string name;
    if (!take(given, name, field)) return false;
    value = parse_admit_action(name);
    return true;
}
template <class T>
bool take(pybind11::handle given, std::optional<T>& value, const char* field) {
    value.reset();
    return given.is_none() || take(given, value.emplace(), field);
}

/// As an error tells it.
template <class T>
std::string type_name() {
    if constexpr (std::is_same_v<T, PolicySession>) return "PolicySession";
    else if constexpr (std::is_same_v<T, PolicyUsage>) return "PolicyUsage";
    else if constexpr (std::is_same_v<T, PlaceCandidate>) return "PlaceCandidate";
    else if constexpr (std::is_same_v<T, double> || std::is_same_v<T, Duration>) return "float";
    else if constexpr (std::is_same_v<T, bool>) return "bool";
    else if constexpr (std::is_same_v<T, std::int64_t>) return "int";
    else if constexpr (std::is_same_v<T, WallTime>) return "datetime.datetime";
    else if constexpr (std::is_same_v<T, std::map<std::string, std::string>>) return "Mapping[str, str]";
    else if constexpr (requires { typename T::allocator_type; } && !std::is_same_v<T, std::string>)
        return "Sequence[" + type_name<typename T::value_type>() + "]";
    else if constexpr (requires(T value) { value.has_value(); }) return type_name<typename T::value_type>() + " | None";
    else return "str";
}

/// Makes a frozen class out of T's fields; the initial value has the defaults of its constructor.
template <class T>
class Frozen {
public:
    Frozen(pybind11::module_& module, const char* name, const char* doc, T initial = {})
        : module_(module), name_(name), doc_(doc) {
        initial_value() = std::move(initial);
        traits_.make = [] { return std::shared_ptr<void>(std::make_shared<T>(initial_value())); };
        traits_.copy = [](const void* value) {
            return std::shared_ptr<void>(std::make_shared<T>(*static_cast<const T*>(value)));
        };
        traits_.is_equal = [](const void* one, const void* other) {
            return *static_cast<const T*>(one) == *static_cast<const T*>(other);
        };
        traits_.call = [](PyObject*, PyObject* const* arguments, std::size_t count, PyObject* names) {
            return frozen_class<T>->construct(arguments, static_cast<std::size_t>(PyVectorcall_NARGS(count)), names);
        };
        traits_.make_new = [](PyTypeObject*, PyObject* arguments, PyObject* named) {
            return frozen_class<T>->construct(arguments, named);
        };
    }

    template <auto member>
    Frozen& required(const char* name, const char* doc) {
        return field<member>(name, doc, true);
    }
    template <auto member>
    Frozen& optional(const char* name, const char* doc) {
        return field<member>(name, doc, false);
    }

    /// With `to_json`, and of requests the point.
    template <class Variant>
    void done_as() {
        if constexpr (std::is_same_v<Variant, PolicyRequest>) traits_.point = name_of(point_of(PolicyRequest(T())));
        traits_.to_json = [](const void* value) {
            return infrastructure_sdk::to_json(Variant(*static_cast<const T*>(value)));
        };
        done();
    }
    void done() {
        frozen_class<T> = new FrozenClass(name_, doc_, traits_);
        for (auto& field : fields_) frozen_class<T>->add(std::move(field));
        frozen_class<T>->finish(module_);
    }

private:
    template <auto member>
    static auto& at(const void* value) {
        return static_cast<const T*>(value)->*member;
    }
    template <auto member>
    Frozen& field(const char* name, const char* doc, bool is_required) {
        using M = std::remove_cvref_t<decltype(at<member>(nullptr))>;
        FrozenField field{name, type_name<M>(), doc, is_required};
        field.take = [](void* value, pybind11::handle given, const char* name) {
            return take(given, static_cast<T*>(value)->*member, name);
        };
        if constexpr (FrozenPart<M>) {
            field.part = parts_++;
            field.part_of = [](const void* value) -> const void* { return &at<member>(value); };
            field.part_class = [] { return frozen_class<M>; };
        } else {
            field.show = [](const void* value) { return show(at<member>(value)); };
        }
        fields_.push_back(std::move(field));
        return *this;
    }
    static T& initial_value() {
        static T value;
        return value;
    }

    pybind11::module_& module_;
    const char *name_, *doc_;
    FrozenTraits traits_;
    std::vector<FrozenField> fields_;
    int parts_ = 0;
};

}  // namespace infrastructure_sdk::bindings
