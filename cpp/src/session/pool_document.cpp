#include <algorithm>
#include <array>
#include <map>
#include <string>

#include "config/value.hpp"
#include "core/did_you_mean.hpp"
#include <infrastructure_sdk/duration.hpp>
#include <infrastructure_sdk/error.hpp>
#include <infrastructure_sdk/session/pool.hpp>

namespace infrastructure_sdk {
namespace {

using enum ConfigType;

constexpr const char* time_grammar = "([01][0-9]|2[0-3]):[0-5][0-9]|24:00";
constexpr ConfigField fields[] = {
    {"name", text, "", "", "", "", "", "The pool's name.", "[a-z0-9][a-z0-9._-]{0,62}"},
    {"template", text, "", "", "", "", "", "The template of its units.", "[a-z0-9][a-z0-9._-]{0,62}"},
    {"min", integer, "1", "0", "1000", "", "", "How many units are kept ready."},
    {"max", integer, "", "0", "1000", "", "", "How many units there may be, booting and ready."},
    {"max_age", duration, "4h", "1m", "8760h", "", "", "How old a unit may be when it is handed out."},
};
constexpr ConfigField window_fields[] = {
    {"days", list, "", "", "", "mon|tue|wed|thu|fri|sat|sun", "", "The days on which it begins."},
    {"from", text, "", "", "", "", "", "A time of day, UTC.", time_grammar},
    {"to", text, "", "", "", "", "", "A time of day, UTC.", time_grammar},
    {"min", integer, "", "0", "1000", "", "", "How many units are kept ready."},
};
constexpr std::array<const char*, 7> day_names{"mon", "tue", "wed", "thu", "fri", "sat", "sun"};

bool has(const Node& map, const std::string& name) {
    return std::any_of(map.children.begin(), map.children.end(), [&](const Node& node) { return node.key == name; });
}

int minute_of(const std::string& text) { return std::stoi(text.substr(0, 2)) * 60 + std::stoi(text.substr(3, 2)); }

std::vector<int> days_of(const std::string& list) {
    std::vector<int> days;
    for (std::size_t i = 0; i < day_names.size(); ++i)
        if (list.find(day_names[i]) != std::string::npos) days.push_back(static_cast<int>(i));
    return days;
}

/// Reads the items of the list and collects what is wrong with them.
class PoolsReader {
public:
    explicit PoolsReader(ProblemList& problems) : problems_(problems) {}

    void read(const Node& item, std::size_t position) {
        auto path = "pools[" + std::to_string(position) + "]";
        if (item.kind != Node::Kind::map)
            return problem(path, {}, "a mapping of fields", "it is " + std::string(describe(item.kind)), item.line);
        // The list of windows is no scalar: it is read apart.
        Node plain = item;
        std::erase_if(plain.children, [](const Node& node) { return node.key == "schedule"; });
        Pool pool;
        bool max_given = false;
        for (const auto& value : read_values(plain, path + ".", fields, problems_)) {
            if (value.text.empty()) continue;
            auto name = leaf_name(*value.field);
            if (name == "name") pool.name = value.text;
            if (name == "template") pool.template_name = value.text;
            if (name == "min") pool.min = std::stoul(value.text);
            if (name == "max") pool.max = std::stoul(value.text);
            if (name == "max_age") pool.max_age = parse_duration(value.text, name);
            max_given = max_given || name == "max";
        }
        for (const char* needed : {"name", "template"})
            if (!has(item, needed)) problem(path + "." + needed, {}, "a name", "it is missing", item.line);
        for (const auto& child : item.children)
            if (child.key == "schedule") read_schedule(pool, child, path + ".schedule");
        auto highest = pool.min;
        for (const auto& window : pool.schedule) highest = std::max(highest, window.min);
        if (!max_given) pool.max = highest;
        if (highest > pool.max)
            problem(path + ".max", std::to_string(pool.max), "at least " + std::to_string(highest), "a min is above it",
                    item.line);
        if (!pool.name.empty()) {
            auto [earlier, is_new] = lines_.emplace(pool.name, item.line);
            if (!is_new)
                problem(path + ".name", pool.name, {},
                        "it is the name of the pool at " + problems_.origin(earlier->second) + " already", item.line);
        }
        pools_.push_back(std::move(pool));
    }

    std::vector<Pool> take() { return std::move(pools_); }

private:
    void read_schedule(Pool& pool, const Node& list, const std::string& path) {
        if (list.kind != Node::Kind::list)
            return problem(path, {}, "a list of windows", "it is " + std::string(describe(list.kind)), list.line);
        std::size_t position = 0;
        for (const auto& item : list.children) {
            auto here = path + "[" + std::to_string(position++) + "]";
            if (item.kind != Node::Kind::map) {
                problem(here, {}, "a mapping of fields", "it is " + std::string(describe(item.kind)), item.line);
                continue;
            }
            PoolWindow window;
            for (const auto& value : read_values(item, here + ".", window_fields, problems_)) {
                if (value.text.empty()) continue;
                auto name = leaf_name(*value.field);
                if (name == "days") window.days = days_of(value.text);
                if (name == "from") window.from_minute = minute_of(value.text);
                if (name == "to") window.to_minute = minute_of(value.text);
                if (name == "min") window.min = std::stoul(value.text);
            }
            for (const char* needed : {"from", "to", "min"})
                if (!has(item, needed)) problem(here + "." + needed, {}, {}, "it is missing", item.line);
            if (window.from_minute >= 24 * 60)
                problem(here + ".from", "24:00", "00:00 to 23:59", "no day begins so late", item.line);
            pool.schedule.push_back(std::move(window));
        }
    }

    void problem(const std::string& path, const std::string& value, const std::string& allowed,
                 const std::string& message, int line) {
        problems_.add({path, value, allowed, problems_.origin(line), {}, message});
    }

    ProblemList& problems_;
    std::vector<Pool> pools_;
    std::map<std::string, int> lines_;
};

/// Null, and a problem, when there is none.
const Node* find_list(const Node& root, ProblemList& problems) {
    const Node* list = nullptr;
    if (root.kind == Node::Kind::map)
        for (const auto* member : known_members(root, "", {"pools"}, problems)) list = member;
    if (list && list->kind == Node::Kind::list) return list;
    // A document that could not be read at all has told why.
    if (problems.empty())
        problems.add({"pools",
                      {},
                      "a list of pools",
                      problems.origin(list ? list->line : root.line),
                      {},
                      list ? "it is " + std::string(describe(list->kind)) : "it is missing"});
    return nullptr;
}

}  // namespace

std::vector<Pool> parse_pools(const std::string& yaml, const std::string& source) {
    auto document = parse_yaml(yaml);
    ProblemList problems(source);
    problems.add(document);
    PoolsReader reader(problems);
    if (const auto* list = find_list(document.root, problems)) {
        std::size_t position = 0;
        for (const auto& item : list->children) reader.read(item, position++);
    }
    if (auto all = problems.take(); !all.empty()) refuse_document("pools " + source, all);
    return reader.take();
}

void check_pools(const std::vector<Pool>& pools, const std::map<std::string, Template>& templates) {
    auto refuse = [](const Pool& pool, const std::string& allowed, const std::string& hint) {
        throw Error(Errc::validation,
                    "pool '" + pool.name + "': template '" + pool.template_name + "' is not allowed; " + allowed +
                        (hint.empty() ? std::string() : "; did you mean '" + hint + "'?"),
                    {{"field", "pools.template"}, {"value", pool.template_name}, {"allowed", allowed}});
    };
    std::vector<std::string> names;
    std::string known = "known:";
    for (const auto& entry : templates) {
        names.push_back(entry.first);
        known += " " + entry.first;
    }
    for (const auto& pool : pools) {
        auto found = templates.find(pool.template_name);
        if (found == templates.end()) refuse(pool, known, did_you_mean(pool.template_name, names));
        const auto& channels = found->second.channels;
        bool has_agent = std::find(channels.begin(), channels.end(), "agent") != channels.end();
        if (found->second.os != "linux" || !has_agent)
            refuse(pool, "a Linux template with the channel agent, which gives a claimed unit its identity", {});
    }
}

}  // namespace infrastructure_sdk
