#pragma once
// How benchmarks print: a table for people, or one JSON object a line.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace infrastructure_sdk {

class Rows {
public:
    explicit Rows(bool as_json) : as_json_(as_json) {
        if (!as_json) std::printf("%-36s%14s%14s %-12s%7s\n", "", "value", "reference", "unit", "ratio");
    }
    void add(const std::string& name, double value, const char* unit, std::optional<double> reference = {}) const {
        std::optional<double> ratio;
        if (reference && *reference != 0) ratio = value / *reference;
        if (as_json_) {
            auto field = [](std::optional<double> number) {
                return number ? nlohmann::ordered_json(*number) : nlohmann::ordered_json();
            };
            nlohmann::ordered_json line{{"name", name},
                                        {"value", value},
                                        {"unit", unit},
                                        {"reference", field(reference)},
                                        {"ratio", field(ratio)}};
            std::printf("%s\n", line.dump().c_str());
        } else if (ratio) {
            std::printf("%-36s%14.6g%14.6g %-12s%7.2f\n", name.c_str(), value, *reference, unit, *ratio);
        } else {
            std::printf("%-36s%14.6g%14s %s\n", name.c_str(), value, "", unit);
        }
        std::fflush(stdout);
    }

private:
    bool as_json_;
};

/// Of the whole process.
inline double cpu_seconds() {
    timespec spent{};
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &spent);
    return static_cast<double>(spent.tv_sec) + static_cast<double>(spent.tv_nsec) * 1e-9;
}

struct BenchArguments {
    std::size_t sessions;
    bool as_json = false;
};

/// Reads `[--sessions N] [--json]`; ends the program on anything else.
inline BenchArguments read_arguments(int argc, char** argv, std::size_t sessions) {
    BenchArguments arguments{sessions};
    for (int i = 1; i < argc; ++i) {
        if (std::strcmp(argv[i], "--json") == 0) arguments.as_json = true;
        else if (std::strcmp(argv[i], "--sessions") == 0 && i + 1 < argc)
            arguments.sessions = std::strtoul(argv[++i], nullptr, 10);
        else {
            std::fprintf(stderr, "usage: %s [--sessions N] [--json]\n", argv[0]);
            std::exit(2);
        }
    }
    return arguments;
}

inline double median(std::vector<double> values) {
    auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    return *middle;
}

}  // namespace infrastructure_sdk
