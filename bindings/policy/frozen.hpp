#pragma once
// Classes whose objects hold one C++ value each, compare by it, are told by their fields and cannot be changed: neither
// the objects nor, for a policy that would lie about others, the classes. They are made with Python's own interface:
// each question to a policy makes and reads some of these objects. All of it needs the GIL.

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include <pybind11/pybind11.h>

namespace infrastructure_sdk::bindings {

class FrozenClass;

/// One field of the C++ value.
struct FrozenField {
    std::string name, type, doc;  ///< `type` as an error tells it
    bool is_required = false;
    PyObject* key = nullptr;  ///< the name, interned
    /// Throws.
    pybind11::object (*show)(const void* value) = nullptr;
    /// False = it has another type. Throws what its value is refused with.
    bool (*take)(void* value, pybind11::handle given, const char* name) = nullptr;
    /// Of a field that is the value of a frozen class: its place in the objects' `parts`, where it is and its class.
    int part = -1;
    const void* (*part_of)(const void* value) = nullptr;
    FrozenClass* (*part_class)() = nullptr;
};

/// What such a class knows of its type.
struct FrozenTraits {
    std::shared_ptr<void> (*make)() = nullptr;  ///< with the defaults of the constructor
    std::shared_ptr<void> (*copy)(const void* value) = nullptr;
    bool (*is_equal)(const void* one, const void* other) = nullptr;
    vectorcallfunc call = nullptr;
    newfunc make_new = nullptr;
    const char* point = nullptr;                          ///< of requests
    std::string (*to_json)(const void* value) = nullptr;  ///< of requests and decisions
};

/// Lives for ever, as Python's classes here do.
class FrozenClass {
public:
    static constexpr std::size_t most_parts = 2;

    FrozenClass(std::string name, std::string doc, FrozenTraits traits)
        : traits(traits), name_(std::move(name)), doc_(std::move(doc)) {}
    void add(FrozenField field);
    /// Makes the class when all fields are there.
    void finish(pybind11::module_& module);

    pybind11::object wrap(std::shared_ptr<const void> value);
    bool holds(pybind11::handle object) const { return Py_TYPE(object.ptr()) == type_; }
    /// Of an object that it holds.
    static const void* value_of(pybind11::handle object);
    /// The object holds a value that will be gone: if somebody else has the object or a part of it, they get a copy.
    void let_go_of_borrowed(pybind11::handle object) const;

    PyObject* construct(PyObject* const* arguments, std::size_t count, PyObject* names) const;
    PyObject* construct(PyObject* arguments, PyObject* named) const;
    std::string represent(pybind11::handle object) const;

    const FrozenTraits traits;

private:
    struct Filling;
    std::string signature() const;

    std::string name_, doc_, full_name_, full_doc_;
    std::deque<FrozenField> fields_;
    std::vector<PyGetSetDef> attributes_;
    std::vector<PyMethodDef> methods_;
    PyTypeObject* type_ = nullptr;
};

/// The class of T's objects; none before it was bound.
template <class T>
inline FrozenClass* frozen_class = nullptr;

template <class T>
const T* frozen_value(pybind11::handle object) {
    if (!frozen_class<T> || !frozen_class<T>->holds(object)) return nullptr;
    return static_cast<const T*>(FrozenClass::value_of(object));
}

template <class T>
pybind11::object to_frozen(T value) {
    return frozen_class<T>->wrap(std::make_shared<T>(std::move(value)));
}

}  // namespace infrastructure_sdk::bindings
