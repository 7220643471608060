#pragma once
// Checks one value, or one map of values, against rows of a field table. Pure.

#include <span>
#include <string>
#include <vector>

#include "core/document.hpp"
#include <infrastructure_sdk/config/config.hpp>

namespace infrastructure_sdk {

struct CheckedValue {
    std::string text;     ///< canonical; "" = unset
    std::string problem;  ///< empty when the value is good
};
CheckedValue check_value(const ConfigField& field, const Node& node);

/// "a duration such as 90s or 1h30m, at least 1s"
std::string allowed_values(const ConfigField& field);
/// What may be shown of a value: secrets never, nothing long, no control characters.
std::string shown_value(const ConfigField& field, const Node& node);
/// The last part of the path.
std::string leaf_name(const ConfigField& field);
std::vector<std::string> choices_of(const ConfigField& field);
/// {"type": ..., "description": ..., "default": ...} as a JSON object: what `check_value` accepts, as far as JSON
/// Schema can say it.
std::string value_schema(const ConfigField& field);

/// Collects problems of one source; past 100 it only counts, so a hostile document cannot fill the memory.
class ProblemList {
public:
    explicit ProblemList(std::string source) : source_(std::move(source)) {}
    /// "config.yaml:12", or the source alone for line 0.
    std::string origin(int line) const;
    void add(ConfigProblem problem);
    void add(const Document& document);
    bool empty() const { return problems_.empty(); }
    std::vector<ConfigProblem> take();

private:
    std::string source_;
    std::vector<ConfigProblem> problems_;
    std::size_t more_ = 0;
};

/// The members of `map` whose key is in `known`; unknown and repeated keys become problems, keys that start with "x-"
/// are skipped. @param prefix "vm." for the paths in problems.
/// @param everywhere paths to suggest for a key that belongs elsewhere.
std::vector<const Node*> known_members(const Node& map, const std::string& prefix,
                                       const std::vector<std::string>& known, ProblemList& problems,
                                       const std::vector<std::string>& everywhere = {});

struct ReadValue {
    const ConfigField* field;
    std::string text;
    std::string origin;
};
/// The good values of `map`, whose keys are the leaf names of `fields`; nulls are skipped. The rest as above.
std::vector<ReadValue> read_values(const Node& map, const std::string& prefix, std::span<const ConfigField> fields,
                                   ProblemList& problems, const std::vector<std::string>& everywhere = {});
/// One a line, indented.
std::string list_problems(const std::vector<ConfigProblem>& problems);
/// @param what "template t.yaml". @param problems at least one. @throws Error(validation) with all of them.
[[noreturn]] void refuse_document(const std::string& what, const std::vector<ConfigProblem>& problems);

}  // namespace infrastructure_sdk
