#include <nlohmann/json.hpp>

#include "config/fields.hpp"
#include "config/value.hpp"

namespace infrastructure_sdk {
namespace {

using nlohmann::ordered_json;

std::string table_cell(const std::string& text) {
    std::string cell;
    for (char c : text) cell += c == '|' ? std::string("\\|") : std::string(1, c);
    return cell;
}

std::string code(const std::string& text) { return text.empty() ? "" : "`" + text + "`"; }

}  // namespace

std::string config_json_schema() {
    ordered_json schema{{"$schema", "https://json-schema.org/draft/2020-12/schema"},
                        {"$id", "urn:infrastructure-sdk:configuration"},
                        {"title", "Infrastructure SDK configuration"},
                        {"type", "object"}};
    for (const auto& section : config_sections()) {
        ordered_json properties;
        for (const auto& field : fields_of(section.name)) {
            auto value = ordered_json::parse(value_schema(field));
            value["x-environment"] = environment_name(field);
            properties[leaf_name(field)] = std::move(value);
        }
        schema["properties"][section.name] = {{"type", {"object", "null"}},
                                              {"description", section.doc},
                                              {"properties", std::move(properties)},
                                              {"patternProperties", {{"^x-", true}}},
                                              {"additionalProperties", false}};
    }
    schema["patternProperties"] = {{"^x-", true}};
    schema["additionalProperties"] = false;
    return schema.dump(2);
}

std::string config_reference() {
    std::string page =
        "# Configuration\n\n"
        "Layers, the later wins: defaults, a file (YAML, TOML or JSON), the environment, arguments. Unknown keys are\n"
        "errors; keys that start with `x-` are ignored. Durations are written as `90s` or `1h30m`, quantities as\n"
        "`500m` or `4Gi`, secrets by reference as `env:NAME` or `file:/path`.\n";
    for (const auto& section : config_sections()) {
        page += "\n## " + std::string(section.name) + "\n\n" + section.doc + "\n\n";
        page += "| option | default | allowed | unit | environment | meaning |\n|---|---|---|---|---|---|\n";
        for (const auto& field : fields_of(section.name))
            page += "| `" + leaf_name(field) + "` | " + table_cell(code(field.default_text)) + " | " +
                    table_cell(allowed_values(field)) + " | " + field.unit + " | `" + environment_name(field) + "` | " +
                    table_cell(field.doc) + " |\n";
    }
    return page;
}

}  // namespace infrastructure_sdk
