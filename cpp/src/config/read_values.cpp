#include <algorithm>
#include <set>

#include "config/value.hpp"
#include "core/did_you_mean.hpp"

namespace infrastructure_sdk {
namespace {

constexpr std::size_t problem_limit = 100;

std::string join(const std::vector<std::string>& words) {
    std::string text;
    for (const auto& word : words) text += (text.empty() ? "" : ", ") + word;
    return text;
}

std::string shown_key(const std::string& key) {
    ConfigField plain{"", ConfigType::text, "", "", "", "", "", ""};
    Node node;
    node.text = key;
    node.kind = Node::Kind::text;
    return shown_value(plain, node);
}

/// The same name in another section, when there is exactly one.
std::string find_elsewhere(const std::string& key, const std::vector<std::string>& everywhere) {
    std::string found;
    for (const auto& path : everywhere) {
        if (!path.ends_with("." + key)) continue;
        if (!found.empty()) return {};
        found = path;
    }
    return found;
}

}  // namespace

std::string ProblemList::origin(int line) const { return line > 0 ? source_ + ":" + std::to_string(line) : source_; }

void ProblemList::add(ConfigProblem problem) {
    if (problems_.size() < problem_limit) problems_.push_back(std::move(problem));
    else ++more_;
}

void ProblemList::add(const Document& document) {
    for (const auto& problem : document.problems) add({{}, {}, {}, origin(problem.line), {}, problem.message});
}

std::vector<ConfigProblem> ProblemList::take() {
    if (more_ > 0) problems_.push_back({{}, {}, {}, source_, {}, "and " + std::to_string(more_) + " more problems"});
    more_ = 0;
    return std::move(problems_);
}

std::vector<const Node*> known_members(const Node& map, const std::string& prefix,
                                       const std::vector<std::string>& known, ProblemList& problems,
                                       const std::vector<std::string>& everywhere) {
    std::vector<const Node*> members;
    std::set<std::string> seen;
    for (const auto& node : map.children) {
        if (node.key.starts_with("x-")) continue;
        auto path = prefix + shown_key(node.key);
        auto origin = problems.origin(node.line);
        // Neither problem shows the value: it may be a secret under a misspelt name.
        if (!seen.insert(node.key).second) {
            problems.add({path, Secret::redacted(), {}, origin, {}, "the key is there twice"});
        } else if (std::find(known.begin(), known.end(), node.key) == known.end()) {
            auto guess = did_you_mean(node.key, known);
            guess = guess.empty() ? find_elsewhere(node.key, everywhere) : prefix + guess;
            problems.add({path, Secret::redacted(), join(known), origin, guess, "there is no such key"});
        } else {
            members.push_back(&node);
        }
    }
    return members;
}

std::vector<ReadValue> read_values(const Node& map, const std::string& prefix, std::span<const ConfigField> fields,
                                   ProblemList& problems, const std::vector<std::string>& everywhere) {
    std::vector<ReadValue> values;
    std::vector<std::string> known;
    for (const auto& field : fields) known.push_back(leaf_name(field));
    for (const auto* node : known_members(map, prefix, known, problems, everywhere)) {
        auto index = std::find(known.begin(), known.end(), node->key) - known.begin();
        const auto& field = fields[static_cast<std::size_t>(index)];
        if (node->kind == Node::Kind::null) continue;
        auto checked = check_value(field, *node);
        auto origin = problems.origin(node->line);
        if (checked.problem.empty()) values.push_back({&field, checked.text, origin});
        else
            problems.add({prefix + node->key, shown_value(field, *node), allowed_values(field), origin,
                          did_you_mean(node->text, choices_of(field)), checked.problem});
    }
    return values;
}

std::string list_problems(const std::vector<ConfigProblem>& problems) {
    std::string text;
    for (const auto& problem : problems) {
        text += "\n  " + problem.origin + ": ";
        if (!problem.path.empty()) {
            text += problem.path;
            // An unknown or repeated key is wrong whatever its value.
            if (!problem.value.empty() && problem.value != Secret::redacted()) text += " = '" + problem.value + "'";
            text += ": ";
        }
        text += problem.message;
        if (!problem.did_you_mean.empty()) text += "; did you mean '" + problem.did_you_mean + "'?";
        if (!problem.allowed.empty()) text += "; allowed: " + problem.allowed;
    }
    return text;
}

void refuse_document(const std::string& what, const std::vector<ConfigProblem>& problems) {
    auto count = problems.size();
    const auto& first = problems.front();
    throw Error(Errc::validation,
                (count == 1 ? "1 problem" : std::to_string(count) + " problems") + " in the " + what + ":" +
                    list_problems(problems),
                {{"field", first.path},
                 {"value", first.value},
                 {"allowed", first.allowed},
                 {"origin", first.origin},
                 {"did_you_mean", first.did_you_mean}});
}

}  // namespace infrastructure_sdk
