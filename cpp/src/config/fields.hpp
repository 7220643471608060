#pragma once

#include <string>
#include <vector>

#include <infrastructure_sdk/config/config.hpp>

namespace infrastructure_sdk {

struct ConfigSection {
    const char* name;
    const char* doc;
};
const std::vector<ConfigSection>& config_sections();

/// "vm" of "vm.boot_timeout".
std::string section_of(const ConfigField& field);
/// The fields of one section, in the order of the table.
std::vector<ConfigField> fields_of(const std::string& section);
/// Null when there is none.
const ConfigField* find_field(const std::string& path);

}  // namespace infrastructure_sdk
