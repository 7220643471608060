#pragma once
// Builds a Document from the events of a parser.

#include <string>
#include <vector>

#include "core/document.hpp"

namespace infrastructure_sdk {

/// Open containers are kept by value and moved into their parent when they close, so nothing points into a vector that
/// grows.
class TreeBuilder {
public:
    /// The key of the next value.
    void key(std::string name, int line) {
        pending_key_ = std::move(name);
        key_line_ = line;
    }

    void add(Node node) {
        if (open_.empty()) {
            document_.root = std::move(node);
            return;
        }
        if (open_.back().kind == Node::Kind::map) {
            node.key = std::move(pending_key_);
            node.line = key_line_;
        }
        open_.back().children.push_back(std::move(node));
    }

    /// False when the document is nested too deep; nothing was opened then.
    bool open(Node::Kind kind, int line) {
        if (open_.size() >= document_depth_limit) {
            problem(line, "it is nested deeper than " + std::to_string(document_depth_limit) + " levels");
            return false;
        }
        Node node;
        node.kind = kind;
        node.line = line;
        if (!open_.empty() && open_.back().kind == Node::Kind::map) {
            node.key = std::move(pending_key_);
            node.line = key_line_;
        }
        open_.push_back(std::move(node));
        return true;
    }

    void close() {
        Node node = std::move(open_.back());
        open_.pop_back();
        if (open_.empty()) document_.root = std::move(node);
        else open_.back().children.push_back(std::move(node));
    }

    bool in_map() const { return !open_.empty() && open_.back().kind == Node::Kind::map; }
    void problem(int line, std::string message) { document_.problems.push_back({line, std::move(message)}); }
    Document take() {
        while (!open_.empty()) close();
        return std::move(document_);
    }

private:
    Document document_;
    std::vector<Node> open_;
    std::string pending_key_;
    int key_line_ = 0;
};

inline bool too_large(const std::string& text, Document& document) {
    if (text.size() <= document_size_limit) return false;
    document.problems.push_back({0, "it is larger than 1 MiB"});
    return true;
}

}  // namespace infrastructure_sdk
