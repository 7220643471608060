#include "json_to_python.hpp"

namespace infrastructure_sdk::bindings {
namespace py = pybind11;

py::object to_python(const nlohmann::json& value) {
    using Type = nlohmann::json::value_t;
    switch (value.type()) {
        case Type::boolean: return py::bool_(value.get<bool>());
        case Type::number_integer: return py::int_(value.get<std::int64_t>());
        case Type::number_unsigned: return py::int_(value.get<std::uint64_t>());
        case Type::number_float: return py::float_(value.get<double>());
        case Type::string: {
            const auto& text = value.get_ref<const std::string&>();
            return py::reinterpret_steal<py::object>(
                PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "replace"));
        }
        case Type::array: {
            py::list list;
            for (const auto& item : value) list.append(to_python(item));
            return list;
        }
        case Type::object: {
            py::dict dict;
            for (const auto& [key, item] : value.items()) dict[py::str(key)] = to_python(item);
            return dict;
        }
        default: return py::none();
    }
}

}  // namespace infrastructure_sdk::bindings
