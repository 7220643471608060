#pragma once
// One fact, and what was made of it.

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <typeindex>
#include <utility>

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
        auto& known = understood_[{reinterpret_cast<void (*)()>(read), typeid(T)}];
        if (!known) known = std::make_shared<const std::optional<T>>(read(*json));
        const auto& result = *static_cast<const std::optional<T>*>(known.get());
        return result ? &*result : nullptr;
    }
    /// Hex.
    const std::string& sha256();

private:
    const Fact fact_;
    std::mutex mutex_;
    std::optional<nlohmann::json> parsed_;
    std::string sha256_;
    std::map<std::pair<void (*)(), std::type_index>, std::shared_ptr<const void>> understood_;
};

}  // namespace infrastructure_sdk::isolation
