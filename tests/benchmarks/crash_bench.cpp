// Seeded deaths of the owner on the simulator: how many, and what was wrong afterwards.
//
//     crash_bench [--trials N] [--json]

#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>

#include "support/story.hpp"

namespace {

using infrastructure_sdk::SimulatorFaults;
using infrastructure_sdk::test::Story;

struct Tally {
    std::size_t deaths = 0;
    std::size_t sessions = 0;
    std::map<std::string, std::size_t> wrong{{"orphan", 0}, {"double VM", 0}, {"lost", 0}, {"stuck", 0}, {"other", 0}};
};

/// Stories until the owner has died `trials` times. Every second one is on a host with faults.
Tally run(std::size_t trials) {
    Tally tally;
    const SimulatorFaults faults{50'000, 50'000, 20'000, 30'000, 20'000, 50'000, 0};
    for (std::uint64_t seed = 1; tally.deaths < trials; ++seed) {
        Story story(seed, seed % 2 ? SimulatorFaults{} : faults, 10);
        for (int i = 0; i < 60 && tally.deaths + story.deaths < trials; ++i) story.act();
        auto faults_found = story.end();
        tally.deaths += story.deaths;
        tally.sessions += story.known.size();
        for (const auto& fault : faults_found) {
            auto kind = fault.substr(0, fault.find(':'));
            ++tally.wrong[tally.wrong.contains(kind) ? kind : "other"];
            std::fprintf(stderr, "seed %llu: %s\n", static_cast<unsigned long long>(seed), fault.c_str());
        }
    }
    return tally;
}

}  // namespace

int main(int count, char** arguments) {
    std::size_t trials = 1000;
    bool as_json = false;
    for (int i = 1; i < count; ++i) {
        std::string word = arguments[i];
        if (word == "--json") as_json = true;
        else if (word == "--trials" && i + 1 < count) trials = std::strtoul(arguments[++i], nullptr, 10);
        else return std::fprintf(stderr, "usage: crash_bench [--trials N] [--json]\n"), 2;
    }
    auto tally = run(trials);
    auto line = [as_json](const char* name, std::size_t value, const char* unit) {
        if (as_json)
            std::printf(
                "{\"name\": \"crash.%s\", \"value\": %zu, \"unit\": \"%s\", \"reference\": null, \"ratio\": null}\n",
                name, value, unit);
        else std::printf("%-16s %8zu %s\n", name, value, unit);
    };
    line("deaths", tally.deaths, "count");
    line("sessions", tally.sessions, "count");
    std::size_t sum = 0;
    for (const auto& [kind, found] : tally.wrong) {
        line(kind.c_str(), found, "count");
        sum += found;
    }
    return sum == 0 ? 0 : 1;
}
