#include <sstream>

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include "core/tree_builder.hpp"

namespace infrastructure_sdk {
namespace {

int line_of(const YAML::Mark& mark) { return mark.is_null() ? 0 : mark.line + 1; }

// The problem is recorded; the rest of the document is of no use.
struct GiveUp {};

// The event interface, not YAML::Load: a loaded graph shares aliased nodes, so that a small document can unfold into a
// huge one, and it drops duplicate keys.
class Reader final : public YAML::EventHandler {
public:
    void OnDocumentStart(const YAML::Mark&) override {}
    void OnDocumentEnd() override {}

    void OnNull(const YAML::Mark& mark, YAML::anchor_t) override { value(plain_scalar("", line_of(mark))); }

    void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
        builder_.problem(line_of(mark), "aliases are not allowed; write the value again");
        value(other(mark));
    }

    void OnAnchor(const YAML::Mark& mark, const std::string&) override {
        builder_.problem(line_of(mark), "anchors are not allowed");
    }

    void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t, const std::string& text) override {
        // yaml-cpp's tags of untagged scalars: "?" when plain, "!" when quoted.
        bool quoted = tag == "!";
        check_tag(mark, tag);
        if (expects_key()) {
            builder_.key(text, line_of(mark));
            keys_.back() = false;
            return;
        }
        if (!quoted) return value(plain_scalar(text, line_of(mark)));
        Node node;
        node.kind = Node::Kind::text;
        node.text = text;
        node.line = line_of(mark);
        value(std::move(node));
    }

    void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                         YAML::EmitterStyle::value) override {
        start(mark, tag, Node::Kind::list);
    }
    void OnSequenceEnd() override { end(); }
    void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                    YAML::EmitterStyle::value) override {
        start(mark, tag, Node::Kind::map);
    }
    void OnMapEnd() override { end(); }

    TreeBuilder& builder() { return builder_; }

private:
    static Node other(const YAML::Mark& mark) {
        Node node;
        node.kind = Node::Kind::other;
        node.line = line_of(mark);
        return node;
    }

    bool expects_key() const { return builder_.in_map() && keys_.back(); }

    void value(Node node) {
        if (expects_key()) return odd_key(node.line);
        builder_.add(std::move(node));
        if (builder_.in_map()) keys_.back() = true;
    }

    void odd_key(int line) {
        builder_.problem(line, "a key must be a text");
        builder_.key("", line);
        keys_.back() = false;
    }

    void start(const YAML::Mark& mark, const std::string& tag, Node::Kind kind) {
        check_tag(mark, tag);
        if (expects_key()) {
            builder_.problem(line_of(mark), "a key must be a text");
            throw GiveUp{};
        }
        if (!builder_.open(kind, line_of(mark))) throw GiveUp{};
        keys_.push_back(true);
    }

    void end() {
        builder_.close();
        keys_.pop_back();
        if (builder_.in_map()) keys_.back() = true;
    }

    void check_tag(const YAML::Mark& mark, const std::string& tag) {
        if (tag.empty() || tag == "?" || tag == "!") return;
        builder_.problem(line_of(mark), "tags are not allowed");
    }

    TreeBuilder builder_;
    std::vector<bool> keys_;  // per open container: a map waits for a key
};

}  // namespace

Document parse_yaml(const std::string& text) {
    Document refused;
    if (too_large(text, refused)) return refused;
    Reader reader;
    try {
        std::istringstream stream(text);
        YAML::Parser parser(stream);
        parser.HandleNextDocument(reader);
        Reader rest;
        if (parser.HandleNextDocument(rest)) reader.builder().problem(0, "only one YAML document is allowed");
    } catch (const GiveUp&) {
    } catch (const YAML::Exception& error) {
        reader.builder().problem(line_of(error.mark), "this is not YAML: " + error.msg);
    }
    return reader.builder().take();
}

}  // namespace infrastructure_sdk
