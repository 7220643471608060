#include <cstddef>
#include <iterator>

#include <nlohmann/json.hpp>

#include "core/tree_builder.hpp"

namespace infrastructure_sdk {
namespace {

// The parser reports no lines; counting them as it consumes characters gives the line of every event.
class CountingIterator {
public:
    using iterator_category = std::input_iterator_tag;
    using value_type = char;
    using difference_type = std::ptrdiff_t;
    using pointer = const char*;
    using reference = const char&;

    CountingIterator(const char* at, int* line) : at_(at), line_(line) {}
    reference operator*() const { return *at_; }
    CountingIterator& operator++() {
        if (*at_ == '\n') ++*line_;
        ++at_;
        return *this;
    }
    CountingIterator operator++(int) {
        auto old = *this;
        ++*this;
        return old;
    }
    friend bool operator==(const CountingIterator& a, const CountingIterator& b) { return a.at_ == b.at_; }
    friend bool operator!=(const CountingIterator& a, const CountingIterator& b) { return a.at_ != b.at_; }

private:
    const char* at_;
    int* line_;
};

class Handler final : public nlohmann::json_sax<nlohmann::json> {
public:
    explicit Handler(const int& line) : line_(line) {}

    bool null() override { return scalar(Node::Kind::null, {}); }
    bool boolean(bool value) override { return scalar(Node::Kind::boolean, value ? "true" : "false"); }
    bool number_integer(number_integer_t value) override { return scalar(Node::Kind::integer, std::to_string(value)); }
    bool number_unsigned(number_unsigned_t value) override {
        return scalar(Node::Kind::integer, std::to_string(value));
    }
    bool number_float(number_float_t, const string_t& written) override { return scalar(Node::Kind::number, written); }
    bool string(string_t& value) override { return scalar(Node::Kind::text, std::move(value)); }
    bool binary(binary_t&) override { return false; }
    bool start_object(std::size_t) override { return builder.open(Node::Kind::map, line_); }
    bool start_array(std::size_t) override { return builder.open(Node::Kind::list, line_); }
    bool key(string_t& name) override {
        builder.key(std::move(name), line_);
        return true;
    }
    bool end_object() override { return closed(); }
    bool end_array() override { return closed(); }
    // The parser's own message quotes what it read last.
    bool parse_error(std::size_t, const std::string&, const nlohmann::json::exception&) override {
        builder.problem(line_, "this is not JSON: the syntax is wrong here");
        return false;
    }

    TreeBuilder builder;

private:
    bool closed() {
        builder.close();
        return true;
    }
    bool scalar(Node::Kind kind, std::string text) {
        Node node;
        node.kind = kind;
        node.text = std::move(text);
        node.line = line_;
        builder.add(std::move(node));
        return true;
    }
    const int& line_;
};

}  // namespace

Document parse_json(const std::string& text) {
    Document refused;
    if (too_large(text, refused)) return refused;
    int line = 1;
    Handler handler(line);
    CountingIterator first(text.data(), &line), last(text.data() + text.size(), &line);
    nlohmann::json::sax_parse(first, last, &handler);
    return handler.builder.take();
}

}  // namespace infrastructure_sdk
