#include "policy/frozen.hpp"

#include <array>

#include <cxxabi.h>

namespace infrastructure_sdk::bindings {
namespace py = pybind11;
namespace {

/// An object of such a class.
struct Object {
    PyObject head;
    const FrozenClass* kind;
    std::shared_ptr<const void> value;  ///< a part shares that of its whole
    /// Made when they are asked for. They do not hold the object, so there are no circles.
    std::array<Object*, FrozenClass::most_parts> parts;
};

Object& object_of(PyObject* self) { return *reinterpret_cast<Object*>(self); }
Object& object_of(py::handle object) { return object_of(object.ptr()); }

/// What a function for Python returns, with Python's error set instead of an exception.
template <class F>
PyObject* guarded(F function) {
    try {
        return function();
    } catch (py::error_already_set& error) {
        error.restore();
    } catch (abi::__forced_unwind&) {
        throw;
    } catch (...) {
        py::detail::try_translate_exceptions();
    }
    return nullptr;
}

PyObject* get_field(PyObject* self, void* closure) {
    const auto& field = *static_cast<const FrozenField*>(closure);
    auto& object = object_of(self);
    return guarded([&] {
        if (field.part < 0) return field.show(object.value.get()).release().ptr();
        auto*& part = object.parts[static_cast<std::size_t>(field.part)];
        if (!part) {
            std::shared_ptr<const void> shared(object.value, field.part_of(object.value.get()));
            part = &object_of(field.part_class()->wrap(std::move(shared)).release());
        }
        return Py_NewRef(&part->head);
    });
}

PyObject* get_point(PyObject* self, void*) { return PyUnicode_InternFromString(object_of(self).kind->traits.point); }

PyObject* to_json(PyObject* self, PyObject*) {
    auto& object = object_of(self);
    return guarded([&] { return py::str(object.kind->traits.to_json(object.value.get())).release().ptr(); });
}

PyObject* compare(PyObject* self, PyObject* other, int operation) {
    if ((operation != Py_EQ && operation != Py_NE) || Py_TYPE(self) != Py_TYPE(other)) Py_RETURN_NOTIMPLEMENTED;
    auto& object = object_of(self);
    bool is_equal = object.kind->traits.is_equal(object.value.get(), object_of(other).value.get());
    return PyBool_FromLong(is_equal == (operation == Py_EQ));
}

PyObject* represent_object(PyObject* self) {
    return guarded([&] { return py::str(object_of(self).kind->represent(self)).release().ptr(); });
}

/// Nothing: an object is whole when it is made. It is there to have the signature of the class.
int initialize(PyObject*, PyObject*, PyObject*) { return 0; }

void deallocate(PyObject* self) {
    auto* type = Py_TYPE(self);
    auto& object = object_of(self);
    for (auto* part : object.parts) Py_XDECREF(reinterpret_cast<PyObject*>(part));
    object.value.~shared_ptr();
    type->tp_free(self);
    Py_DECREF(type);
}

[[noreturn]] void refuse(const std::string& why) { throw py::type_error(why); }

}  // namespace

/// A value on its way from the arguments of a constructor.
struct FrozenClass::Filling {
    const FrozenClass& kind;
    std::shared_ptr<void> value = kind.traits.make();
    std::uint64_t given = 0;

    std::size_t find(py::handle name) const {
        const auto& fields = kind.fields_;
        for (std::size_t i = 0; i < fields.size(); ++i)
            if (fields[i].key == name.ptr()) return i;
        for (std::size_t i = 0; i < fields.size(); ++i)
            if (PyUnicode_CompareWithASCIIString(name.ptr(), fields[i].name.c_str()) == 0) return i;
        refuse(kind.name_ + "() has no argument " + std::string(py::repr(name)));
    }
    void take(py::handle name, py::handle argument) {
        auto at = find(name);
        const auto& field = kind.fields_[at];
        if (!field.take(value.get(), argument, field.name.c_str()))
            refuse(kind.name_ + "(): " + field.name + " must be " + field.type + ", not " +
                   (PyUnicode_Check(argument.ptr()) && field.type == "str" ? "one with lone surrogates"
                                                                           : Py_TYPE(argument.ptr())->tp_name));
        given |= std::uint64_t(1) << at;
    }
    PyObject* finish() {
        for (std::size_t i = 0; i < kind.fields_.size(); ++i)
            if (kind.fields_[i].is_required && !(given >> i & 1))
                refuse(kind.name_ + "() needs the argument " + kind.fields_[i].name);
        return const_cast<FrozenClass&>(kind).wrap(std::move(value)).release().ptr();
    }
};

void FrozenClass::add(FrozenField field) {
    field.key = PyUnicode_InternFromString(field.name.c_str());
    if (!field.key) throw py::error_already_set();
    fields_.push_back(std::move(field));
}

std::string FrozenClass::signature() const {
    std::string text = name_ + "(*";
    auto standard = traits.make();
    for (bool required : {true, false})
        for (const auto& field : fields_) {
            if (field.is_required != required) continue;
            text += ", " + field.name;
            if (required) continue;
            auto shown = field.show ? field.show(standard.get()) : py::none();
            // Maps and parts tell themselves as calls, which are no constants.
            bool is_constant = field.show && Py_TYPE(shown.ptr()) != &PyDictProxy_Type;
            text += "=" + (is_constant ? std::string(py::repr(shown)) : "...");
        }
    return text + ")";
}

void FrozenClass::finish(py::module_& module) {
    full_name_ = std::string(py::str(module.attr("__name__"))) + "." + name_;
    full_doc_ = signature() + "\n--\n\n" + doc_;
    py::tuple names(fields_.size());
    for (std::size_t i = 0; i < fields_.size(); ++i) {
        names[i] = py::reinterpret_borrow<py::object>(fields_[i].key);
        attributes_.push_back({fields_[i].name.c_str(), get_field, nullptr, fields_[i].doc.c_str(), &fields_[i]});
    }
    if (traits.point)
        attributes_.push_back({"point", get_point, nullptr, "The decision point that it belongs to.", nullptr});
    attributes_.push_back({});
    if (traits.to_json)
        methods_.push_back({"to_json", to_json, METH_NOARGS, "to_json(self) -> str\n\nOne line, keys sorted."});
    methods_.push_back({});
    std::array slots{PyType_Slot{Py_tp_doc, full_doc_.data()},
                     PyType_Slot{Py_tp_new, reinterpret_cast<void*>(traits.make_new)},
                     PyType_Slot{Py_tp_init, reinterpret_cast<void*>(initialize)},
                     PyType_Slot{Py_tp_dealloc, reinterpret_cast<void*>(deallocate)},
                     PyType_Slot{Py_tp_richcompare, reinterpret_cast<void*>(compare)},
                     PyType_Slot{Py_tp_repr, reinterpret_cast<void*>(represent_object)},
                     PyType_Slot{Py_tp_getset, attributes_.data()},
                     PyType_Slot{Py_tp_methods, methods_.data()},
                     PyType_Slot{0, nullptr}};
    PyType_Spec spec{full_name_.c_str(), sizeof(Object), 0, Py_TPFLAGS_DEFAULT, slots.data()};
    auto made = py::reinterpret_steal<py::object>(PyType_FromSpec(&spec));
    if (!made) throw py::error_already_set();
    made.attr("__match_args__") = names;
    type_ = reinterpret_cast<PyTypeObject*>(made.ptr());
    type_->tp_vectorcall = traits.call;
    type_->tp_flags |= Py_TPFLAGS_IMMUTABLETYPE;
    PyType_Modified(type_);
    module.attr(name_.c_str()) = made;
    made.release();
}

py::object FrozenClass::wrap(std::shared_ptr<const void> value) {
    auto* made = type_->tp_alloc(type_, 0);
    if (!made) throw py::error_already_set();
    auto& object = object_of(made);
    object.kind = this;
    new (&object.value) std::shared_ptr<const void>(std::move(value));
    object.parts = {};
    return py::reinterpret_steal<py::object>(made);
}

const void* FrozenClass::value_of(py::handle object) { return object_of(object).value.get(); }

void FrozenClass::let_go_of_borrowed(py::handle whole) const {
    auto& object = object_of(whole);
    bool is_held = Py_REFCNT(whole.ptr()) > 1;
    for (auto* part : object.parts) is_held = is_held || (part && Py_REFCNT(&part->head) > 1);
    if (!is_held) return;
    object.value = traits.copy(object.value.get());
    for (const auto& field : fields_) {
        auto* part = field.part < 0 ? nullptr : object.parts[static_cast<std::size_t>(field.part)];
        if (part) part->value = {object.value, field.part_of(object.value.get())};
    }
}

PyObject* FrozenClass::construct(PyObject* const* arguments, std::size_t count, PyObject* names) const {
    return guarded([&] {
        if (count > 0) refuse(name_ + "() takes its arguments by name");
        Filling filling{*this};
        for (Py_ssize_t i = 0, named = names ? PyTuple_GET_SIZE(names) : 0; i < named; ++i)
            filling.take(PyTuple_GET_ITEM(names, i), arguments[i]);
        return filling.finish();
    });
}

PyObject* FrozenClass::construct(PyObject* arguments, PyObject* named) const {
    return guarded([&] {
        if (PyTuple_GET_SIZE(arguments) > 0) refuse(name_ + "() takes its arguments by name");
        Filling filling{*this};
        PyObject *name = nullptr, *argument = nullptr;
        for (Py_ssize_t at = 0; named && PyDict_Next(named, &at, &name, &argument);) filling.take(name, argument);
        return filling.finish();
    });
}

std::string FrozenClass::represent(py::handle object) const {
    std::string text = name_ + "(";
    for (const auto& field : fields_) {
        auto shown = py::reinterpret_steal<py::object>(get_field(object.ptr(), const_cast<FrozenField*>(&field)));
        if (!shown) throw py::error_already_set();
        text += (text.back() == '(' ? "" : ", ") + field.name + "=" + std::string(py::repr(shown));
    }
    return text + ")";
}

}  // namespace infrastructure_sdk::bindings
