#pragma once
// The sources as text, for tests of how they hang together.

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace infrastructure_sdk::test {

struct Include {
    std::string name;
    bool quoted = false;
};

struct SourceFile {
    std::string path;  ///< from the root of the project
    std::string text;
    std::vector<Include> includes() const {
        static const std::regex directive(R"(^\s*#\s*include\s*([<"])([^>"]+)[>"])");
        std::vector<Include> found;
        std::istringstream lines(text);
        std::smatch match;
        for (std::string line; std::getline(lines, line);)
            if (std::regex_search(line, match, directive)) found.push_back({match[2], match[1] == "\""});
        return found;
    }
};

/// The root of the project.
std::filesystem::path source_root();

/// Every .cpp and .hpp below a folder, in order of path.
inline std::vector<SourceFile> sources_below(const std::string& folder) {
    std::vector<SourceFile> found;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(source_root() / folder)) {
        auto extension = entry.path().extension();
        if (extension != ".cpp" && extension != ".hpp") continue;
        std::ifstream file(entry.path(), std::ios::binary);
        std::stringstream text;
        text << file.rdbuf();
        found.push_back({entry.path().lexically_relative(source_root()).generic_string(), text.str()});
    }
    std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.path < b.path; });
    return found;
}

/// The code without comments, texts and include lines; line ends stay.
inline std::string code_of(std::string_view text) {
    std::string code;
    auto skip_to = [&](std::size_t at, std::string_view end) {
        auto found = text.find(end, at);
        return found == std::string_view::npos ? text.size() : found + end.size();
    };
    auto is_word = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; };
    for (std::size_t at = 0; at < text.size();) {
        auto rest = text.substr(at);
        bool after_word = at > 0 && is_word(text[at - 1]);
        std::size_t next = at + 1;
        if (rest.starts_with("//") || rest.starts_with("#include")) {
            next = std::min(text.find('\n', at), text.size());
        } else if (rest.starts_with("/*")) {
            next = skip_to(at + 2, "*/");
        } else if (rest.starts_with("R\"") && !after_word) {
            auto open = text.find('(', at);
            next = skip_to(open, ")" + std::string(text.substr(at + 2, open - at - 2)) + "\"");
        } else if (rest[0] == '"' || (rest[0] == '\'' && !after_word)) {  // 1'000 is a number
            while (next < text.size() && text[next] != rest[0]) next += text[next] == '\\' ? 2 : 1;
            ++next;
        } else {
            code += rest[0];
            at = next;
            continue;
        }
        next = std::min(next, text.size());
        auto skipped = text.substr(at, next - at);
        code.append(static_cast<std::size_t>(std::count(skipped.begin(), skipped.end(), '\n')), '\n');
        code += ' ';
        at = next;
    }
    return code;
}

}  // namespace infrastructure_sdk::test
