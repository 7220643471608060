#pragma once
// One tree for YAML, TOML and JSON, with the line of every node and with duplicate keys kept, so that a reader can
// name both. Pure.

#include <string>
#include <string_view>
#include <vector>

namespace infrastructure_sdk {

struct Node {
    enum class Kind { null, boolean, integer, number, text, list, map, other };
    Kind kind = Kind::null;
    std::string key;             ///< within a map
    std::string text;            ///< of a scalar, as it was written; "true" or "false" for a boolean
    std::vector<Node> children;  ///< of a list or map, in the order of the document
    int line = 0;                ///< from 1; 0 = unknown. Of the key within a map
};

struct DocumentProblem {
    int line = 0;
    std::string message;  ///< never quotes a value: it may be a secret
};

/// `root` is what could be read; when there are problems it may be incomplete.
struct Document {
    Node root;
    std::vector<DocumentProblem> problems;
};

/// Documents larger than 1 MiB or nested deeper than 32 are refused by all three.
/// YAML: the 1.2 core schema (`yes`, `on` and `0777` are a text, a text and an integer); one document; anchors,
/// aliases, tags and keys that are not a plain text are problems.
Document parse_yaml(const std::string& text);
Document parse_toml(const std::string& text);
Document parse_json(const std::string& text);

/// A word as YAML's 1.2 core schema reads it when it is not quoted.
Node plain_scalar(std::string text, int line);
/// "a text", "a list", ... for messages.
const char* describe(Node::Kind kind) noexcept;

constexpr std::size_t document_size_limit = 1u << 20;
constexpr std::size_t document_depth_limit = 32;

}  // namespace infrastructure_sdk
