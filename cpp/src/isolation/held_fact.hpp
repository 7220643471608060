#pragma once
// One fact, and what was made of it.

#include <algorithm>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <typeindex>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <infrastructure_sdk/vm/evidence_source.hpp>

namespace infrastructure_sdk::isolation {

/// A fact with what was made of it once: many checks, and those of all neighbours, ask the same. Thread-safe.
class HeldFact {
public:
    explicit HeldFact(Fact fact) : fact_(std::move(fact)) {}
    /// `value` is what the fact's text says.
    HeldFact(Fact fact, nlohmann::json value) : fact_(std::move(fact)), parsed_(std::move(value)) {}
    const Fact& fact() const { return fact_; }
    /// nullptr when there is none, or it makes no sense.
    const nlohmann::json* value();
    /// As `read` understands it; nullptr when it does not.
    template <class T>
    const T* as(std::optional<T> (*read)(const nlohmann::json&)) {
        const auto* json = value();
        if (!json) return nullptr;
        std::lock_guard guard(mutex_);
        const auto reader = reinterpret_cast<void (*)()>(read);
        auto known = std::find_if(understood_.begin(), understood_.end(),
                                  [&](const auto& one) { return one.reader == reader && one.type == typeid(T); });
        if (known == understood_.end())
            known =
                understood_.insert(known, {reader, typeid(T), std::make_shared<const std::optional<T>>(read(*json))});
        const auto& result = *static_cast<const std::optional<T>*>(known->value.get());
        return result ? &*result : nullptr;
    }
    /// Hex.
    const std::string& sha256();

private:
    /// Of the few readers that a fact has.
    struct Understood {
        void (*reader)();
        std::type_index type;
        std::shared_ptr<const void> value;
    };

    const Fact fact_;
    std::mutex mutex_;
    std::optional<nlohmann::json> parsed_;
    std::string sha256_;
    std::vector<Understood> understood_;
};

}  // namespace infrastructure_sdk::isolation
