#pragma once
// How a check judges: it looks at one fact after another, notes faults and what it could not see, and concludes. A
// fault that was seen is a failure even when other things could not be seen; a pass needs everything.

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "isolation/facts.hpp"

namespace infrastructure_sdk::isolation {

class Look {
public:
    Look(const CheckDefinition& check, const Facts& facts) : check_(check), facts_(facts) {}

    /// The fact as `read` understands it. Without it (nullptr) the check is blind.
    template <class T>
    const T* need(const std::string& name, std::optional<T> (*read)(const nlohmann::json&)) {
        const auto* result = facts_.as(name, read);
        if (!result) blind(facts_.why(name));
        return result;
    }
    /// The same without becoming blind: for what only adds to the picture.
    template <class T>
    const T* may(const std::string& name, std::optional<T> (*read)(const nlohmann::json&)) const {
        return facts_.as(name, read);
    }
    std::string why(const std::string& name) const { return facts_.why(name); }

    template <class T>
    struct Neighbour {
        const std::string& session;
        const T& fact;
    };
    /// The fact of every neighbour; blind where one could not be seen.
    template <class T>
    std::vector<Neighbour<T>> neighbours(const std::string& name, std::optional<T> (*read)(const nlohmann::json&)) {
        std::vector<Neighbour<T>> found;
        if (!facts_.neighbours) {
            blind("could not look at neighbours:" + name + ": nobody listed the other sessions");
            return found;
        }
        for (const auto& other : *facts_.neighbours) {
            const auto* result = other->as(name, read);
            if (result) found.push_back({other->session_id, *result});
            else blind("a neighbour could not be looked at: " + other->session_id + ": " + other->why(name));
        }
        saw_neighbours(name, "compared with " + std::to_string(facts_.neighbours->size()) + " other sessions");
        return found;
    }

    void saw(const std::string& name, const std::string& excerpt) {
        if (facts_.value(name)) evidence_.push_back(facts_.evidence(check_, name, excerpt));
    }
    void fault(std::string text) { faults_.push_back(std::move(text)); }
    void blind(std::string text) { blind_.push_back(std::move(text)); }
    bool is_blind() const { return !blind_.empty(); }

    /// fail, else unknown, else pass.
    Finding conclude(std::string sentence) {
        if (!faults_.empty()) return Finding::fail(check_, evidence_, faults_.front());
        if (!blind_.empty()) return Finding::unknown(check_, blind_.front(), evidence_);
        return Finding::pass(check_, evidence_, std::move(sentence));
    }
    /// fail, else unknown, else not_applicable.
    Finding absent(std::string reason) {
        if (!faults_.empty() || !blind_.empty()) return conclude({});
        return Finding::not_applicable(check_, evidence_, std::move(reason));
    }

private:
    void saw_neighbours(const std::string& name, const std::string& excerpt) {
        evidence_.push_back(facts_.neighbour_evidence(check_, name, excerpt));
    }

    const CheckDefinition& check_;
    const Facts& facts_;
    std::vector<Evidence> evidence_;
    std::vector<std::string> faults_, blind_;
};

}  // namespace infrastructure_sdk::isolation
