#include "policy/fields.hpp"

#include <cmath>

#include <datetime.h>

#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk::bindings {
namespace py = pybind11;
namespace {

void need_datetime() {
    if (!PyDateTimeAPI) PyDateTime_IMPORT;
    if (!PyDateTimeAPI) throw py::error_already_set();
}

}  // namespace

py::object to_datetime(WallTime time) {
    need_datetime();
    using namespace std::chrono;
    auto day = floor<days>(time);
    year_month_day date(day);
    hh_mm_ss clock(floor<microseconds>(time - day));
    auto* made = PyDateTimeAPI->DateTime_FromDateAndTime(
        static_cast<int>(date.year()), static_cast<int>(static_cast<unsigned>(date.month())),
        static_cast<int>(static_cast<unsigned>(date.day())), static_cast<int>(clock.hours().count()),
        static_cast<int>(clock.minutes().count()), static_cast<int>(clock.seconds().count()),
        static_cast<int>(clock.subseconds().count()), PyDateTime_TimeZone_UTC, PyDateTimeAPI->DateTimeType);
    if (!made) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(made);
}

bool from_datetime(py::handle object, WallTime& time) {
    need_datetime();
    if (!object || !PyDateTime_Check(object.ptr())) return false;
    if (object.attr("utcoffset")().is_none()) throw py::value_error("a time needs a time zone, e.g. datetime.UTC");
    auto epoch = to_datetime(WallTime());
    auto since = py::reinterpret_steal<py::object>(PyNumber_Subtract(object.ptr(), epoch.ptr()));
    if (!since) throw py::error_already_set();
    using namespace std::chrono;
    auto* delta = since.ptr();
    if (std::abs(PyDateTime_DELTA_GET_DAYS(delta)) > 100'000)  // beyond what nanoseconds in 64 bits can hold
        throw py::value_error("a time must lie between 1700 and 2240");
    time = WallTime(days(PyDateTime_DELTA_GET_DAYS(delta)) + seconds(PyDateTime_DELTA_GET_SECONDS(delta)) +
                    microseconds(PyDateTime_DELTA_GET_MICROSECONDS(delta)));
    return true;
}

Duration from_seconds(double seconds, const char* field) {
    constexpr double most = 100.0 * 366 * 86'400;
    if (!(seconds >= 0 && seconds <= most))
        throw Error(Errc::validation, std::string(field) + " must be seconds from 0 to " + std::to_string(most),
                    {{"field", field}, {"value", std::to_string(seconds)}, {"allowed", "0 to 100 years"}});
    return Duration(std::llround(seconds * 1e9));
}

py::object show(const std::map<std::string, std::string>& map) {
    py::dict dict;
    for (const auto& [key, value] : map) dict[show(key)] = show(value);
    return py::reinterpret_steal<py::object>(PyDictProxy_New(dict.ptr()));
}

py::object to_python(PolicyRequest request) {
    return std::visit([](auto&& value) { return to_frozen(std::move(value)); }, std::move(request));
}

py::object to_python(const PolicyDecision& decision) {
    return std::visit([](const auto& value) { return to_frozen(value); }, decision);
}

ShownRequest::ShownRequest(const PolicyRequest& request)
    : object_(std::visit(
          []<class T>(const T& value) {
              // Owned by nobody.
              return frozen_class<T>->wrap(std::shared_ptr<const void>(std::shared_ptr<const void>(), &value));
          },
          request)),
      class_(std::visit([]<class T>(const T&) { return frozen_class<T>; }, request)) {}

ShownRequest::~ShownRequest() { class_->let_go_of_borrowed(object_); }

namespace {

template <class Variant, std::size_t Index = 0>
std::optional<Variant> alternative_from(py::handle object) {
    if constexpr (Index == std::variant_size_v<Variant>) {
        return std::nullopt;
    } else {
        if (const auto* value = frozen_value<std::variant_alternative_t<Index, Variant>>(object)) return *value;
        return alternative_from<Variant, Index + 1>(object);
    }
}

}  // namespace

std::optional<PolicyDecision> decision_from(py::handle object) { return alternative_from<PolicyDecision>(object); }
std::optional<PolicyRequest> request_from(py::handle object) { return alternative_from<PolicyRequest>(object); }

}  // namespace infrastructure_sdk::bindings
